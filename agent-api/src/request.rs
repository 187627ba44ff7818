//! What can be asked.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::flow::FlowVerdict;
use crate::judgement::Question;
use crate::wait::{Pod, Wait};

/// One request, one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", content = "of", rename_all = "snake_case")]
pub enum Request {
    /// How the agent is: one [`crate::reply::Reply::Status`].
    Status,
    /// The documents in force: [`crate::reply::Reply::World`], one or more.
    World,
    /// What the kernel's maps say of these: one [`crate::reply::Reply::Answers`], in the order of the questions.
    Judge(Vec<Question>),
    /// Compare intent and kernel: one [`crate::reply::Reply::Verification`].
    Verify,
    /// Flows, one [`crate::reply::Reply::Flow`] each.
    Flows(Flows),
    /// Read the outside anew and compare the kernel with intent now: [`crate::reply::Reply::Status`] when that is done.
    Resync,
    /// The network of a pod is made: [`crate::reply::Reply::InForce`] when its policy is in force.
    Wait(Wait),
    /// The network of a pod is taken down, and what `wait` said of it is void: [`crate::reply::Reply::Released`].
    Release(Pod),
}

/// Which flows are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flows {
    /// Go on with flows as they come; else it ends with the last that is known.
    pub follow: bool,
    /// Only those at or after this time, as far back as the agent remembers. Absent: all that it remembers, or with
    /// `follow` only those to come.
    pub since: Option<Timestamp>,
    /// Only those with this pod (`namespace/name`) at one end.
    pub pod: Option<String>,
    /// Only those with this verdict.
    pub verdict: Option<FlowVerdict>,
}
