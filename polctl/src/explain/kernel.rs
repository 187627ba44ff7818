//! The kernel's own verdict on what was explained.
//!
//! Every judgement behind an answer (egress at the source, ingress at the destination) whose pod is on the agent's node
//! is put to the kernel's maps. Verdict and reason have to be the same. Numbers of rules and rule sets are not compared:
//! they are the compiler's own, and another choice of pods may number otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use agent_api::client::{Client, Error};
use agent_api::judgement::{self, Question};
use agent_api::status::Status;
use owo_colors::OwoColorize;
use policy_compiler::compiler::Compiler;
use policy_compiler::explain::{
    Connection, Direction, Party, Protocol, Transport, direction_name, judge, verdict_name,
};
use policy_compiler::object::PodKey;
use serde::Serialize;

use super::group::{Answers, address};
use super::units::Unit;
use crate::clean::clean;
use crate::print::put;
use crate::verify;

/// How many questions are put at most: a workload to a workload on every port may be millions.
const MOST: usize = 20_000;

/// How many go in one request: with the longest names they stay below its bound.
const BATCH: usize = 1000;

/// The reason by which a pod is reached from its own node.
const OWN_NODE: &str = "own_node";

/// How many differences are written out.
const SHOWN: usize = 5;

/// What the kernel says of an answer.
#[derive(Debug, Default, Serialize)]
pub(super) struct Kernel {
    /// The node whose kernel it is.
    node: String,
    /// Whether it does what the policies say; absent if there was nothing to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    agrees: Option<bool>,
    /// The generation that was in force; absent if there was nothing to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    /// How many judgements were compared.
    asked: usize,
    /// Those that are not the same.
    differences: Vec<Difference>,
    /// What was not asked, and why.
    notes: Vec<String>,
}

/// A judgement that is not the same.
#[derive(Debug, Serialize)]
struct Difference {
    question: Question,
    wanted: Said,
    found: Said,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Said {
    verdict: &'static str,
    reason: String,
}

/// All questions, each with the answer it belongs to and what the policies say.
pub(super) struct Questions {
    questions: Vec<(usize, Question, Said)>,
    /// For each answer.
    kernels: Vec<Kernel>,
}

impl Questions {
    /// What can be asked of the agent's kernel. `elsewhere`: pods that other agents are asked about.
    pub(super) fn of(
        compiler: &Compiler,
        status: &Status,
        elsewhere: &BTreeSet<&str>,
        answers: &Answers,
    ) -> Self {
        let mut asking = Asking {
            compiler,
            local: local(status).collect(),
            elsewhere,
            node: &status.node,
            questions: Vec::new(),
            notes: BTreeMap::new(),
        };
        let mut kernels = Vec::new();
        for (index, answer) in answers.answers.iter().enumerate() {
            for unit in &answer.units {
                asking.unit(index, unit);
            }
            let notes = std::mem::take(&mut asking.notes);
            let notes = notes.into_iter().map(|(why, of)| note(&why, &of)).collect();
            kernels.push(Kernel { node: status.node.clone(), notes, ..Kernel::default() });
        }
        Self { questions: asking.questions, kernels }
    }

    /// Puts them, and compares.
    pub(super) fn put(&mut self, client: &mut Client) -> Result<(), Error> {
        let mut rest = std::mem::take(&mut self.questions);
        while !rest.is_empty() {
            let batch: Vec<_> = rest.drain(..BATCH.min(rest.len())).collect();
            let found = client.judge(batch.iter().map(|(_, question, _)| question.clone()).collect())?;
            for ((index, question, wanted), found) in batch.into_iter().zip(found) {
                let Some(kernel) = self.kernels.get_mut(index) else { continue };
                kernel.take(question, wanted, found);
            }
        }
        Ok(())
    }

    /// Writes what came of it beside the answers.
    pub(super) fn beside(self, answers: &mut Answers) {
        for (answer, kernel) in answers.answers.iter_mut().zip(self.kernels) {
            answer.kernels.push(kernel);
        }
    }
}

/// The pods of an agent's node.
pub(super) fn local(status: &Status) -> impl Iterator<Item = &str> {
    status.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_deref())
}

/// `egress of shop/a, shop/b not asked: not on node n1`
fn note(why: &str, of: &BTreeSet<String>) -> String {
    let mut names: Vec<&str> = of.iter().take(SHOWN).map(String::as_str).collect();
    if of.len() > SHOWN {
        names.push("...");
    }
    if names.is_empty() { why.to_owned() } else { format!("{}: {why}", names.join(", ")) }
}

struct Asking<'a> {
    compiler: &'a Compiler,
    /// The pods of the agent's node.
    local: BTreeSet<&'a str>,
    elsewhere: &'a BTreeSet<&'a str>,
    node: &'a str,
    questions: Vec<(usize, Question, Said)>,
    /// Why something is not asked, and of whom that is so.
    notes: BTreeMap<String, BTreeSet<String>>,
}

impl Asking<'_> {
    fn unit(&mut self, index: usize, unit: &Unit) {
        let protocols = unit.protocol.map_or_else(|| self.protocols(), |protocol| vec![protocol]);
        for protocol in protocols {
            let connection =
                Connection { from: unit.from.clone(), to: unit.to.clone(), protocol, request: None };
            let judged = judge(self.compiler, &connection);
            if judged.is_empty() {
                self.note("no policy is asked about this connection", None);
            }
            for (pod, direction, decision) in judged {
                let side = format!("{} of {pod}", direction_name(direction));
                let peer = if direction == Direction::Egress { &unit.to } else { &unit.from };
                let name = pod.to_string();
                if !self.local.contains(&*name) && self.elsewhere.contains(&*name) {
                    continue;
                }
                if let Some(why) = self.why_not(&pod, peer) {
                    self.note(&why, Some(side));
                } else if self.questions.len() >= MOST {
                    self.note(&format!("only the first {MOST} questions are asked"), None);
                } else {
                    let question = question(&pod, direction, *address(peer), protocol);
                    let wanted = Said {
                        verdict: verdict_name(decision.verdict),
                        reason: decision.reason.name().to_owned(),
                    };
                    self.questions.push((index, question, wanted));
                }
            }
        }
    }

    /// Why a judgement cannot be put to this kernel.
    fn why_not(&self, pod: &PodKey, peer: &Party) -> Option<String> {
        let made_up =
            |pod: &PodKey| self.compiler.cluster().pods.get(pod).is_some_and(|pod| pod.addresses_made_up);
        if !self.local.contains(&*pod.to_string()) {
            return Some(format!("not on node {}", self.node));
        }
        match peer {
            Party::Pod(key, _) if made_up(key) => {
                Some(format!("the other end, pod {key}, has no address yet"))
            }
            Party::Pod(..) | Party::Address(_) => None,
        }
    }

    fn note(&mut self, why: &str, of: Option<String>) {
        self.notes.entry(why.to_owned()).or_default().extend(of);
    }

    /// One port of each range that rules tell apart, one of the others, and a protocol without ports.
    fn protocols(&self) -> Vec<Protocol> {
        let mut protocols = vec![Protocol::Other(1)];
        for transport in Transport::ALL {
            let atoms = &self.compiler.tables().ports[transport as usize];
            protocols.extend(atoms.keys().map(|first| Protocol::Transport(transport, *first)));
            let rest = (1..=u16::MAX).find(|port| self.compiler.tables().atom(transport, *port) == 0);
            protocols.extend(rest.map(|port| Protocol::Transport(transport, port)));
        }
        protocols
    }
}

fn question(pod: &PodKey, direction: Direction, peer: IpAddr, protocol: Protocol) -> Question {
    Question {
        pod: pod.to_string(),
        direction: match direction {
            Direction::Ingress => judgement::Direction::Ingress,
            Direction::Egress => judgement::Direction::Egress,
        },
        peer,
        port: protocol.port().map(|(transport, port)| {
            let protocol = match transport {
                Transport::Tcp => judgement::Protocol::Tcp,
                Transport::Udp => judgement::Protocol::Udp,
                Transport::Sctp => judgement::Protocol::Sctp,
            };
            (protocol, port)
        }),
    }
}

impl Kernel {
    fn take(&mut self, question: Question, wanted: Said, found: judgement::Answer) {
        self.generation = Some(found.generation);
        self.asked += 1;
        let found = Said { verdict: verify::verdict(found.verdict), reason: found.reason };
        // The agent sees all addresses that its node has, such as the gateway of its pods; Node objects name some.
        if found.reason == OWN_NODE && wanted.reason != OWN_NODE {
            self.agrees.get_or_insert(true);
            let note = format!(
                "{} is an address of node {} itself, though no Node object says so: a pod is always reached from its own node",
                question.peer, self.node
            );
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
            return;
        }
        let same = wanted == found;
        self.agrees = Some(self.agrees.unwrap_or(true) && same);
        if !same {
            self.differences.push(Difference { question, wanted, found });
        }
    }

    /// Whether nothing was asked of it, and for no reason.
    pub(super) fn is_empty(&self) -> bool {
        self.asked == 0 && self.notes.is_empty()
    }

    /// Whether it does otherwise than the policies say.
    pub(super) fn differs(&self) -> bool {
        self.agrees == Some(false)
    }

    /// `kernel: agrees (generation 12)`; of one among several: `kernel of node n1: agrees (generation 12)`
    pub(super) fn text(&self, several: bool) -> String {
        let kernel =
            if several { format!("kernel of node {}", clean(&self.node)) } else { "kernel".to_owned() };
        let generation = self.generation.unwrap_or_default();
        let mut out = String::new();
        match self.agrees {
            None => {
                let why =
                    if self.notes.is_empty() { "nothing to ask".to_owned() } else { self.notes.join("; ") };
                return format!("{}\n", format!("{kernel}: not asked: {}", clean(&why)).dimmed());
            }
            Some(true) => {
                // Both sides of a pair are what everybody expects.
                let many =
                    if self.asked > 2 { format!("; {} judgements", self.asked) } else { String::new() };
                put(
                    &mut out,
                    format_args!("{kernel}: {} (generation {generation}{many})\n", "agrees".green()),
                );
            }
            Some(false) => {
                for Difference { question, wanted, found } in self.differences.iter().take(SHOWN) {
                    put(
                        &mut out,
                        format_args!(
                            "{kernel}: {}: {}: the policies say {} ({}), the kernel says {} ({}) (generation {generation})\n",
                            "DIFFERS".red().bold(),
                            verify::question(question),
                            wanted.verdict,
                            wanted.reason,
                            found.verdict,
                            clean(&found.reason),
                        ),
                    );
                }
                if self.differences.len() > SHOWN {
                    put(&mut out, format_args!("  and {} more\n", self.differences.len() - SHOWN));
                }
            }
        }
        for note in &self.notes {
            put(&mut out, format_args!("{}\n", format!("  not asked: {}", clean(note)).dimmed()));
        }
        out
    }
}

#[cfg(test)]
mod tests;
