//! Whether the agent is alive and ready.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the task with the state may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// What probes ask. The task that owns the state says it.
#[derive(Debug)]
pub struct Health {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    heard: Instant,
    /// `None`: ready.
    unready: Option<Vec<String>>,
}

impl Default for Health {
    /// Alive as of now, and not ready.
    fn default() -> Self {
        let unready = Some(vec!["the first world is not compiled yet".to_owned()]);
        Self { state: Mutex::new(State { heard: Instant::now(), unready }) }
    }
}

impl Health {
    /// The task that owns the state is not stuck: to be said at least every few seconds.
    pub fn beat(&self) {
        self.lock().heard = Instant::now();
    }

    /// Why the agent is not ready; ready without a reason.
    pub fn set_reasons(&self, reasons: Vec<String>) {
        self.lock().unready = Some(reasons).filter(|reasons| !reasons.is_empty());
    }

    /// An error says since when nothing was heard.
    pub fn alive(&self) -> Result<(), String> {
        self.alive_at(Instant::now())
    }

    fn alive_at(&self, now: Instant) -> Result<(), String> {
        let silent = now.saturating_duration_since(self.lock().heard);
        if silent < SILENCE {
            return Ok(());
        }
        Err(format!(
            "the control task has been silent for {} s; expected a sign within {} s",
            silent.as_secs(),
            SILENCE.as_secs()
        ))
    }

    /// An error says why not.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        match &self.lock().unready {
            None => Ok(()),
            Some(reasons) => Err(reasons.clone()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_death_and_a_beat_is_life() {
        let health = Health::default();
        let now = Instant::now();
        assert_eq!(health.alive_at(now), Ok(()));
        let error = health.alive_at(now + SILENCE + Duration::from_secs(1)).unwrap_err();
        assert!(error.contains("silent for 1"), "{error}");
        health.beat();
        assert_eq!(health.alive(), Ok(()));
    }

    #[test]
    fn ready_is_the_absence_of_reasons() {
        let health = Health::default();
        assert!(health.ready().is_err());
        health.set_reasons(Vec::new());
        assert_eq!(health.ready(), Ok(()));
        health.set_reasons(vec!["prod/api is held".to_owned()]);
        assert_eq!(health.ready(), Err(vec!["prod/api is held".to_owned()]));
    }
}
