//! Intent compared with the kernel.

use serde::{Deserialize, Serialize};

/// What was compared, and what differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The generation in force.
    pub generation: u64,
    /// How many entries of each map were compared.
    pub compared: Vec<Compared>,
    /// Entries that are not as they should be.
    pub differences: Vec<Difference>,
    /// How many differences there are beyond those listed.
    pub more_differences: u64,
    /// How many questions (endpoint, direction, peer, port) were put to both.
    pub pairs: u64,
    /// Those that the kernel's maps answer otherwise than intent.
    pub disagreements: Vec<Disagreement>,
    /// How many disagreements there are beyond those listed.
    pub more_disagreements: u64,
}

/// A map, and how many entries of it were compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The map's name.
    pub map: String,
    /// How many entries there are in intent or kernel.
    pub entries: u64,
}

/// An entry that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The map's name.
    pub map: String,
    /// The entry's key, in words.
    pub key: String,
    /// What should be there; `None`: nothing.
    pub wanted: Option<String>,
    /// What is there; `None`: nothing.
    pub found: Option<String>,
}

/// A question that the kernel's maps answer otherwise than intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    /// What was asked.
    pub question: crate::judgement::Question,
    /// What the compiler's tables say.
    pub wanted: crate::judgement::Answer,
    /// What the kernel's maps say.
    pub found: crate::judgement::Answer,
}

impl Verification {
    /// Whether intent and kernel agree.
    pub fn agrees(&self) -> bool {
        self.differences.is_empty()
            && self.disagreements.is_empty()
            && self.more_differences == 0
            && self.more_disagreements == 0
    }
}
