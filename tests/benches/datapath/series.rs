//! Many measurements of one thing on a busy machine.

/// What was measured, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<u32>);

impl Series {
    /// Adds one.
    pub(crate) fn push(&mut self, nanoseconds: u32) {
        self.0.push(nanoseconds);
    }

    /// The least: what it costs if nothing comes in between.
    pub(crate) fn least(&self) -> f64 {
        self.percentile(0)
    }

    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// What so many percent are not above; not a number if nothing was measured.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = sorted.len().saturating_sub(1) * percent / 100;
        sorted.get(index).map_or(f64::NAN, |nanoseconds| f64::from(*nanoseconds))
    }
}

impl FromIterator<u32> for Series {
    fn from_iter<I: IntoIterator<Item = u32>>(iterator: I) -> Self {
        Self(iterator.into_iter().collect())
    }
}
