//! What can be answered.

use serde::{Deserialize, Serialize};

use crate::flow::FlowLine;
use crate::judgement::Answer;
use crate::status::Status;
use crate::verification::Verification;
use crate::wait::InForce;
use crate::world::World;

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To `status` and `resync`.
    Status(Box<Status>),
    /// To `world`: a part of it, see [`crate::world::join`].
    World(World),
    /// To `judge`.
    Answers(Vec<Answer>),
    /// To `verify`.
    Verification(Verification),
    /// To `wait`.
    InForce(InForce),
    /// To `release`.
    Released,
    /// To `flows`.
    Flow(FlowLine),
    /// To `flows`: the client was too slow, and so many lines at this place are lost to it.
    Lost {
        /// How many.
        lines: u64,
    },
}
