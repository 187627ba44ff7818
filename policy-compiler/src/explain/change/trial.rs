//! Trying an edit out.

use std::collections::BTreeMap;
use std::sync::Arc;

use datapath::abi::Direction;
use datapath::lookup::{Origin, Query};

use super::Edit;
use crate::compiler::{Compiler, Scope};
use crate::explain::Protocol;
use crate::explain::answer::Blast;
use crate::facts::{Cluster, Namespace, Pod};
use crate::labels::{Labels, Space};
use crate::policy::Policy;
use crate::tables::address;

/// More pairs than these are not counted.
const MOST_PAIRS: usize = 250_000;

/// The same cluster and policies, with one edit.
pub(super) fn compile(compiler: &Compiler, edit: &Edit) -> Compiler {
    let mut cluster = compiler.cluster().clone();
    let mut policies: Vec<Arc<Policy>> = compiler.policies().cloned().collect();
    match edit {
        Edit::Policy(policy) => {
            policies.retain(|known| known.object != policy.object);
            policies.push(Arc::new((**policy).clone()));
        }
        Edit::Pods(pods, labels) => {
            for key in pods {
                if let Some(pod) = cluster.pods.get_mut(key) {
                    let labels = with(&pod.labels, labels);
                    *pod = Arc::new(Pod { labels, ..Pod::clone(pod) });
                }
            }
        }
        Edit::Namespace(name, labels) => label_namespace(&mut cluster, name, labels),
    }
    Compiler::compile(Scope::All, &cluster, policies)
}

fn label_namespace(cluster: &mut Cluster, name: &Arc<str>, labels: &BTreeMap<Arc<str>, Arc<str>>) {
    let known = cluster.namespaces.get(name).map(|known| Namespace::clone(known));
    let known = known.unwrap_or_else(|| Namespace::new(name, [], false));
    let labels = with(&known.labels, labels);
    cluster.namespaces.insert(Arc::clone(name), Arc::new(Namespace { labels, ..known }));
}

fn with<S: Space>(labels: &Labels<S>, more: &BTreeMap<Arc<str>, Arc<str>>) -> Labels<S> {
    Labels::new(labels.pairs().chain(more.iter().map(|(key, value)| (Arc::clone(key), Arc::clone(value)))))
}

/// How many pairs (pod, peer pod) are judged differently before and after; `None` if there are too many.
pub(super) fn blast(
    before: &Compiler,
    after: &Compiler,
    direction: Direction,
    protocol: Protocol,
) -> Option<Blast> {
    let pods: Vec<&Arc<Pod>> = before.cluster().pods.values().filter(|pod| pod.owns_addresses()).collect();
    if pods.len().checked_mul(pods.len())? > MOST_PAIRS {
        return None;
    }
    let mut blast = Blast::default();
    for pod in &pods {
        for peer in pods.iter().filter(|peer| peer.key != pod.key) {
            blast.of += 1;
            let verdicts =
                peer.addresses.iter().filter(|address| !pod.addresses.contains(address)).map(|of| {
                    let query = Query {
                        direction,
                        peer: address(*of),
                        port: protocol.port(),
                        origin: Origin::Elsewhere,
                    };
                    let allows = |compiler: &Compiler| compiler.judge(&pod.key, &query).verdict.is_allow();
                    (allows(before), allows(after))
                });
            // A pair counts once, however many addresses the peer has.
            let (opens, closes) = verdicts.fold((false, false), |(opens, closes), (before, after)| {
                (opens || (!before && after), closes || (before && !after))
            });
            blast.opens += u64::from(opens);
            blast.closes += u64::from(closes);
        }
    }
    Some(blast)
}
