//! What an explanation says. The JSON of `polctl explain` is these types: fields are added, never renamed
//! (`docs/reference/explain.md`).

use std::fmt;
use std::net::IpAddr;

use datapath::abi::Direction;
use datapath::lookup::Decision;
use datapath::verdict::{Reason, Verdict};
use serde::Serialize;
use serde_json::Value;

use super::HttpRequest;
use super::why::PeerMiss;
use crate::object::{ObjectRef, PodKey};
use crate::policy::{Action, Policy};

/// All there is to say about a connection.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Whether both ends allow it.
    pub allowed: bool,
    /// `allow`, `deny` or `reject`: what the first side that does not allow it says; `redirect` if what is asked decides, and was
    /// not said.
    pub verdict: &'static str,
    /// Who opens it.
    pub from: End,
    /// Who is called.
    pub to: End,
    /// `443/TCP`, `ICMP`
    pub protocol: String,
    /// What is asked over it, if that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRequest>,
    /// The name that TLS asks for, if that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Egress of the source, then ingress of the destination; each only if it is a pod that policy is about.
    pub sides: Vec<Side>,
    /// What else one should know.
    pub notes: Vec<String>,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// What it is.
    pub kind: EndKind,
    /// The pod's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod's or the node's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `Deployment/web`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Its address; `None` if it is not known, because the pod has none yet.
    pub address: Option<IpAddr>,
}

/// What an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndKind {
    /// A pod with addresses of its own.
    Pod,
    /// A pod on its node's network.
    HostNetworkPod,
    /// The address of a node.
    Node,
    /// Any other address.
    Address,
}

/// The judgement at one end.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// The pod that is judged.
    #[serde(serialize_with = "as_text")]
    pub pod: PodKey,
    /// `egress` or `ingress`, seen from that pod.
    pub direction: &'static str,
    /// `allow`, `deny`, `reject`, or `redirect` if what is asked decides, and was not said.
    pub verdict: &'static str,
    /// Why, by its stable name: `rule_denies`.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub summary: String,
    /// The rule that decided. `None` if none did, and for a default deny, which is no rule of an object.
    pub rule: Option<Place>,
    /// For a default deny, the policies that isolate the pod.
    pub isolated_by: Vec<Place>,
    /// The tiers, in the order in which they are asked. Empty if policy was not asked.
    pub tiers: Vec<TierWalk>,
    /// The allow rules that come closest to allowing what is denied, closest first.
    pub nearest_misses: Vec<NearestMiss>,
    /// Edits that would allow it at this side, smallest first; each was compiled and judged.
    pub changes: Vec<Change>,
    /// The verdict, as the tables gave it.
    #[serde(skip)]
    pub decision: Decision,
    /// The direction.
    #[serde(skip)]
    pub of: Direction,
}

/// What a tier says.
#[derive(Clone, Debug, Serialize)]
pub struct TierWalk {
    /// `admin`, `namespace` or `baseline`.
    pub tier: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// Its rules about this pod and direction, in the order in which they are asked.
    pub rules: Vec<RuleWalk>,
}

/// What comes of a tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// No policy of the tier speaks about this pod and direction.
    NoPolicy,
    /// No rule matches.
    NoMatch,
    /// The rule of this rank leaves the decision to the next tier.
    Passed {
        /// The rank.
        rank: u32,
    },
    /// The rule of this rank allows.
    Allowed {
        /// The rank.
        rank: u32,
    },
    /// The rule of this rank denies.
    Denied {
        /// The rank.
        rank: u32,
    },
    /// The rule of this rank rejects.
    Rejected {
        /// The rank.
        rank: u32,
    },
    /// The rule of this rank, which comes before any other, says something of requests only, and none is known.
    Undecided {
        /// The rank.
        rank: u32,
    },
    /// Rules allow only some requests of this peer on this port, and this is none of them.
    NotAmongAllowed {
        /// The rank of what closes the rest.
        rank: u32,
    },
    /// No rule allows, and these policies isolate the pod.
    DeniedByDefault {
        /// The rank of the default.
        rank: u32,
        /// The policies.
        policies: Vec<Place>,
    },
    /// An earlier tier decided.
    NotReached,
}

/// What a rule says.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the JSON that stands for itself")]
pub struct RuleWalk {
    /// Its place among all rules of the pod and direction; lower is asked first.
    pub rank: u32,
    /// Where it is written.
    pub place: Place,
    /// Its index in the object's list.
    pub index: usize,
    /// `allow`, `deny`, `pass` or `reject`.
    pub action: &'static str,
    /// Whether peer and port match, and what is asked.
    pub matched: bool,
    /// Whether the peer matches.
    pub peer: bool,
    /// Whether protocol and port match.
    pub port: bool,
    /// Whether what is asked matches. Absent if the rule does not ask, or nothing is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<bool>,
    /// What must be asked, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
    /// Whether it was asked: no rule before it had decided.
    pub reached: bool,
    /// Why it does not match, for each part that does not.
    pub why_not: Vec<Mismatch>,
    /// What it says.
    #[serde(skip)]
    pub does: Action,
    #[serde(skip)]
    pub(super) object: ObjectRef,
    #[serde(skip)]
    pub(super) misses: Vec<PeerMiss>,
}

/// A part of a rule that does not match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Which part of the rule it belongs to.
    pub part: Part,
    /// The field.
    pub path: String,
    /// Why.
    pub text: String,
}

/// A part of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The other end.
    Peer,
    /// Protocol and port.
    Port,
    /// What is asked.
    Request,
}

/// A rule that nearly allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NearestMiss {
    /// The rule.
    pub place: Place,
    /// What it would have taken, in a sentence.
    pub text: String,
}

/// An edit that would allow the connection at one side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What to do, in a sentence.
    pub title: String,
    /// The object and field to edit; for a new object, that object.
    pub place: Place,
    /// Where in the field: `append`, `before [1]`, `set`, `create`.
    pub position: String,
    /// What to put there.
    pub add: Value,
    /// The same, as YAML.
    pub yaml: String,
    /// What else it changes. `None`: not counted, because there are too many pairs.
    pub blast: Option<Blast>,
}

/// How many pairs of pods an edit changes, in this direction and on this protocol and port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Blast {
    /// Pairs that are denied now and would be allowed.
    pub opens: u64,
    /// Pairs that are allowed now and would be denied.
    pub closes: u64,
    /// Of how many.
    pub of: u64,
}

/// An object, a field of it, and the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// `NetworkPolicy`
    pub kind: String,
    /// Absent for objects of the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// `spec.ingress[0]`; empty for the object as a whole.
    pub path: String,
    /// The name of the rule, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_name: Option<String>,
    /// The file, as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it; 1 is the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

impl Side {
    /// Whether the walk leads to the verdict of the tables.
    pub fn is_consistent(&self) -> bool {
        let Some(rule) = self.decision.rule else { return self.decisive().is_none() };
        self.decisive() == Some(rule.rank)
    }

    /// The rank at which the walk ends, if it ends at a rule.
    pub fn decisive(&self) -> Option<u32> {
        self.tiers.iter().find_map(|tier| match tier.outcome {
            Outcome::Allowed { rank }
            | Outcome::Denied { rank }
            | Outcome::Rejected { rank }
            | Outcome::Undecided { rank }
            | Outcome::NotAmongAllowed { rank }
            | Outcome::DeniedByDefault { rank, .. } => Some(rank),
            Outcome::NoPolicy | Outcome::NoMatch | Outcome::Passed { .. } | Outcome::NotReached => None,
        })
    }

    /// Whether what is asked decides, or did.
    pub fn is_conditional(&self) -> bool {
        self.decision.verdict == Verdict::Redirect
            || self.decision.reason == Reason::OtherProtocol
            || self.reached().any(|rule| rule.peer && rule.port && rule.asks.is_some())
    }

    /// All rules that were asked.
    pub(super) fn reached(&self) -> impl Iterator<Item = &RuleWalk> {
        self.tiers.iter().flat_map(|tier| &tier.rules).filter(|rule| rule.reached)
    }
}

impl Place {
    /// An object that is not in a file.
    pub(super) fn object(object: &ObjectRef, path: &str) -> Self {
        Self {
            kind: object.kind.to_string(),
            namespace: object.namespace.as_ref().map(ToString::to_string),
            name: object.name.to_string(),
            path: path.to_owned(),
            rule_name: None,
            file: None,
            line: None,
        }
    }

    /// A field of a policy.
    pub(super) fn policy(policy: &Policy, path: &str) -> Self {
        let location = policy.locate(path);
        Self {
            file: location.as_ref().map(|location| location.file.to_string()),
            line: location.map(|location| location.line),
            ..Self::object(&policy.object, path)
        }
    }

    /// `NetworkPolicy prod/api`
    pub fn object_name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.kind, self.name),
            None => format!("{} {}", self.kind, self.name),
        }
    }

    /// `a.yaml:7`, if it is in a file.
    pub fn location(&self) -> Option<String> {
        Some(format!("{}:{}", self.file.as_ref()?, self.line?))
    }
}

impl fmt::Display for Place {
    /// `NetworkPolicy prod/api spec.ingress[0] "from-web"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object_name())?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        match &self.rule_name {
            Some(name) => write!(f, " \"{name}\""),
            None => Ok(()),
        }
    }
}

/// `allow`, as JSON has it.
pub(super) const fn action_name(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Pass => "pass",
        Action::Reject => "reject",
    }
}

fn as_text<S: serde::Serializer>(key: &PodKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}
