//! Whether a reading is taken, and what changes by it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agent_api::world::Document;
use manifests::gather::Loaded;
use manifests::parse::parse;
use manifests::world::{MADE_UP_ADDRESSES, World};
use policy_compiler::facts::{Cluster, Pod};
use policy_compiler::lower::lower;
use policy_compiler::object::{ObjectRef, Source};
use policy_compiler::policy::Policy;
use policy_compiler::problem::{Problem, Severity};

use super::Update;
use super::difference;
use super::read::Reading;

/// The id of the note about a pod, or a workload that stands for pods, without an address.
pub const NOT_AN_ENDPOINT: &str = "not-an-endpoint";

/// The id of the warning that changes of the directory are noticed late.
const NOT_WATCHED: &str = "not-watched";

/// The facts and policies of an accepted reading.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    pub(super) cluster: Cluster,
    pub(super) policies: BTreeMap<ObjectRef, Policy>,
}

/// What was accepted last, and what was read last.
#[derive(Debug, Default)]
pub(super) struct Acceptance {
    pub(super) accepted: Accepted,
    /// Text, and what could not be read; `None` before the first reading.
    last: Option<(Arc<Vec<Document>>, Vec<Problem>)>,
}

impl Acceptance {
    /// What there is to say about a reading; nothing if it is the same as the one before.
    pub(super) fn take(&mut self, reading: Reading) -> Option<Update> {
        let Reading { documents, mut failures, watched } = reading;
        let unwatched = watched.failure.map(|(path, error)| Problem {
            severity: Severity::Warning,
            id: NOT_WATCHED,
            object: ObjectRef::cluster("File", &path.to_string_lossy()),
            path: String::new(),
            message: format!("changes in it are seen only when it is read again: {error}"),
            expected: "a directory that can be watched (fs.inotify.max_user_watches)".to_owned(),
            location: None,
        });
        failures.sort();
        if let Some((before, failed)) = &self.last
            && **before == documents
            && *failed == failures
        {
            return None;
        }
        let documents = Arc::new(documents);
        self.last = Some((Arc::clone(&documents), failures.clone()));
        let (accepted, mut remarks) = match world(&documents, failures) {
            Ok(taken) => taken,
            Err(problems) => return Some(Update::Refused { problems }),
        };
        remarks.extend(unwatched);
        let events = difference::events(&self.accepted, &accepted);
        let moved = difference::moved(&self.accepted, &accepted);
        self.accepted = accepted;
        Some(Update::Changed { events, moved, documents, remarks })
    }
}

/// Facts, policies and remarks; or all problems, if there is an error among them.
fn world(documents: &[Document], failures: Vec<Problem>) -> Result<(Accepted, Vec<Problem>), Vec<Problem>> {
    let mut loaded =
        Loaded::gather(documents.iter().map(|document| parse(&document.name, document.text.as_bytes())));
    let mut problems = failures;
    problems.append(&mut loaded.problems);
    let world = loaded.world();
    // Pods with such addresses are kept out.
    problems.extend(world.problems.iter().filter(|problem| problem.id != MADE_UP_ADDRESSES).cloned());
    let mut policies = BTreeMap::new();
    for (object, source) in &world.policies {
        match lower(object, Some(source)) {
            Ok(lowered) => {
                policies.insert(lowered.policy.object.clone(), lowered.policy);
                problems.extend(lowered.remarks);
            }
            Err(errors) => problems.extend(errors),
        }
    }
    let cluster = without_stand_ins(world, &loaded, &mut problems);
    problems.sort();
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(problems);
    }
    Ok((Accepted { cluster, policies }, problems))
}

/// Pods without an address of their own cannot be endpoints of a node, nor peers.
fn without_stand_ins(world: World, loaded: &Loaded, problems: &mut Vec<Problem>) -> Cluster {
    let World { mut cluster, replicas, .. } = world;
    let sources: HashMap<&ObjectRef, &Arc<Source>> =
        loaded.objects.iter().map(|object| (&object.object, &object.source)).collect();
    let remark = |pod: &Pod| {
        let namespace = &pod.key.namespace;
        let (object, expected) = if replicas.contains_key(&pod.key) {
            let workload = &pod.workload;
            (ObjectRef::namespaced(&workload.kind, namespace, &workload.name), "its pods, with status.podIPs")
        } else {
            (ObjectRef::namespaced("Pod", namespace, &pod.key.name), "status.podIPs")
        };
        let problem = Problem {
            severity: Severity::Note,
            id: NOT_AN_ENDPOINT,
            path: String::new(),
            message: "it has no address, so that no interface is known for it and no peer is it".to_owned(),
            expected: expected.to_owned(),
            location: None,
            object,
        };
        let source = sources.get(&problem.object).copied();
        problem.located(source)
    };
    cluster.pods.retain(|_, pod| {
        if pod.addresses_made_up {
            problems.push(remark(pod));
        }
        !pod.addresses_made_up
    });
    cluster
}
