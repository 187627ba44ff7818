//! Names that users write for the ends of a connection: `NS/POD`, `NS/WORKLOAD`, `TYPE/NAME`, a service, an address.
//!
//! Precedence of a plain name: pod, workload, service, node. What else it could have meant is said.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use policy_compiler::facts::{Cluster, Phase, Pod, Service};
use policy_compiler::object::PodKey;
use strsim::osa_distance;

use crate::clean::clean;

/// What a name means, and what has to be said about that.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) meant: Meant,
    pub(crate) notes: Vec<String>,
}

/// What a name means.
#[derive(Debug, PartialEq)]
pub(crate) enum Meant {
    /// A pod, or a workload: all its pods.
    Pods {
        /// `Deployment prod/web`
        name: String,
        pods: Vec<PodKey>,
    },
    /// A service.
    Service(Arc<Service>),
    /// Addresses that are no pod's by name: of a node, or written out.
    Addresses {
        /// `node n1`
        name: String,
        addresses: Vec<IpAddr>,
    },
}

/// A kind, by the words that kubectl has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Pod,
    Workload(&'static str),
    Service,
    Node,
}

const TYPES: &[(&[&str], Type)] = &[
    (&["pod", "pods", "po"], Type::Pod),
    (&["deployment", "deployments", "deploy"], Type::Workload("Deployment")),
    (&["statefulset", "statefulsets", "sts"], Type::Workload("StatefulSet")),
    (&["daemonset", "daemonsets", "ds"], Type::Workload("DaemonSet")),
    (&["replicaset", "replicasets", "rs"], Type::Workload("ReplicaSet")),
    (&["replicationcontroller", "replicationcontrollers", "rc"], Type::Workload("ReplicationController")),
    (&["job", "jobs"], Type::Workload("Job")),
    (&["cronjob", "cronjobs", "cj"], Type::Workload("CronJob")),
    (&["service", "services", "svc"], Type::Service),
    (&["node", "nodes", "no"], Type::Node),
];

/// Finds what a name means, in the given namespace unless it says another. The error is ready to be shown.
pub(crate) fn find(cluster: &Cluster, text: &str, namespace: &str) -> anyhow::Result<Found> {
    if let Ok(address) = text.parse::<IpAddr>() {
        // On the wire an IPv4-mapped address is the IPv4 address; as IPv6 no prefix for it would match.
        return Ok(of_address(cluster, address.to_canonical()));
    }
    let parts: Vec<&str> = text.split('/').collect();
    match &parts[..] {
        [name] if !name.is_empty() => bare(cluster, name, namespace),
        [first, name] => match type_of(first) {
            Some(kind) => {
                let mut found = typed(cluster, kind, namespace, name)
                    .ok_or_else(|| unknown(cluster, text, namespace, name))?;
                if !pods_in(cluster, first).is_empty() {
                    found.notes.push(format!(
                        "{text} is read as a type and a name; for namespace {first}, write {first}/pod/{name}"
                    ));
                }
                Ok(found)
            }
            None => named(cluster, first, name)?.ok_or_else(|| unknown(cluster, text, first, name)),
        },
        [namespace, kind, name] => {
            let kind = type_of(kind).ok_or_else(|| {
                anyhow::anyhow!(
                    "{} is not a type; expected pod, deployment, service or another of kubectl's",
                    clean(kind)
                )
            })?;
            typed(cluster, kind, namespace, name).ok_or_else(|| unknown(cluster, text, namespace, name))
        }
        _ => anyhow::bail!("{} names nothing; expected NAMESPACE/NAME, TYPE/NAME or an address", clean(text)),
    }
}

fn type_of(word: &str) -> Option<Type> {
    let word = word.to_ascii_lowercase();
    TYPES.iter().find(|(words, _)| words.contains(&&*word)).map(|(_, kind)| *kind)
}

/// An address is itself, but the address of a service stands for its backends.
fn of_address(cluster: &Cluster, address: IpAddr) -> Found {
    let service = cluster.services.values().find(|service| service.addresses.contains(&address));
    if let Some(service) = service {
        let note = format!("{address} is an address of service {}/{}", service.namespace, service.name);
        return Found { meant: Meant::Service(Arc::clone(service)), notes: vec![note] };
    }
    Found {
        meant: Meant::Addresses { name: address.to_string(), addresses: vec![address] },
        notes: Vec::new(),
    }
}

/// A name without a namespace: of the one that was given; else of the only one that has it; else a node.
fn bare(cluster: &Cluster, name: &str, namespace: &str) -> anyhow::Result<Found> {
    if let Some(found) = named(cluster, namespace, name)? {
        return Ok(found);
    }
    let node = typed(cluster, Type::Node, namespace, name);
    let mut elsewhere = Vec::new();
    for other in namespaces(cluster) {
        if let Some(found) = named(cluster, &other, name)? {
            elsewhere.push((other, found));
        }
    }
    match (&mut elsewhere[..], node) {
        ([], Some(node)) => Ok(node),
        ([], None) => Err(unknown(cluster, name, namespace, name)),
        ([(other, _)], node) => {
            let mut notes =
                vec![format!("{name} is taken from namespace {other}: namespace {namespace} has none")];
            notes.extend(node.map(|_| format!("{name} is also a node: node/{name}")));
            let (_, mut found) = elsewhere.remove(0);
            notes.append(&mut found.notes);
            Ok(Found { notes, ..found })
        }
        (several, _) => {
            let all: Vec<String> = several.iter().map(|(other, _)| format!("{other}/{name}")).collect();
            anyhow::bail!(
                "{} is in several namespaces, and not in {}; expected one of {}",
                clean(name),
                clean(namespace),
                clean(&all.join(", "))
            )
        }
    }
}

/// A name in a namespace, whatever it is.
fn named(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<Option<Found>> {
    let pod = cluster.pods.get(&PodKey::new(namespace, name));
    let kinds: BTreeSet<Arc<str>> = pods_in(cluster, namespace)
        .into_iter()
        .filter(|pod| *pod.workload.name == *name && &*pod.workload.kind != "Pod")
        .map(|pod| Arc::clone(&pod.workload.kind))
        .collect();
    let service = cluster.services.get(&(namespace.into(), name.into()));
    // A pod that stands for the workload of its name is not a second meaning.
    let stands_for = pod.filter(|pod| kinds.contains(&pod.workload.kind) && *pod.workload.name == *name);
    let single = pod.filter(|_| stands_for.is_none());
    let workloads: Vec<Found> =
        kinds.iter().filter_map(|kind| workload(cluster, kind, namespace, name)).collect();
    if single.is_none() && workloads.len() > 1 {
        let all: Vec<String> =
            kinds.iter().map(|kind| format!("{namespace}/{}/{name}", kind.to_lowercase())).collect();
        anyhow::bail!(
            "{} is more than one workload; expected one of {}",
            clean(name),
            clean(&all.join(", "))
        );
    }
    let also =
        |what: &str, word: &str| format!("{namespace}/{name} is also a {what}: {namespace}/{word}/{name}");
    let found = match (single, workloads.into_iter().next(), service) {
        (Some(pod), workload, service) => {
            let mut found = just(pod);
            found.notes.extend(workload.and(kinds.first()).map(|kind| also(kind, &kind.to_lowercase())));
            found.notes.extend(service.map(|_| also("service", "svc")));
            Some(found)
        }
        (None, Some(mut workload), service) => {
            // The service in front of a workload usually has its name; that is worth a word only if it is not that.
            let pods = match &workload.meant {
                Meant::Pods { pods, .. } => pods.clone(),
                Meant::Service(_) | Meant::Addresses { .. } => Vec::new(),
            };
            let other =
                service.filter(|service| backends(cluster, service).is_none_or(|found| found != pods));
            workload.notes.extend(other.map(|_| also("service", "svc")));
            Some(workload)
        }
        (None, None, Some(service)) => {
            Some(Found { meant: Meant::Service(Arc::clone(service)), notes: Vec::new() })
        }
        (None, None, None) => None,
    };
    Ok(found)
}

fn typed(cluster: &Cluster, kind: Type, namespace: &str, name: &str) -> Option<Found> {
    let plain = |meant| Found { meant, notes: Vec::new() };
    match kind {
        Type::Pod => cluster.pods.get(&PodKey::new(namespace, name)).map(just),
        Type::Workload(kind) => workload(cluster, kind, namespace, name),
        Type::Service => {
            let service = cluster.services.get(&(namespace.into(), name.into()))?;
            Some(plain(Meant::Service(Arc::clone(service))))
        }
        Type::Node => {
            let node = cluster.nodes.get(name)?;
            let addresses = node.addresses.iter().copied().collect();
            Some(plain(Meant::Addresses { name: format!("node {name}"), addresses }))
        }
    }
}

fn just(pod: &Arc<Pod>) -> Found {
    Found {
        meant: Meant::Pods { name: format!("pod {}", pod.key), pods: vec![pod.key.clone()] },
        notes: Vec::new(),
    }
}

/// The pods of a workload; those that are finished only if no other is left.
fn workload(cluster: &Cluster, kind: &str, namespace: &str, name: &str) -> Option<Found> {
    let its = |pod: &&Arc<Pod>| *pod.workload.kind == *kind && *pod.workload.name == *name;
    let all: Vec<&Arc<Pod>> = pods_in(cluster, namespace).into_iter().filter(its).collect();
    let live: Vec<PodKey> =
        all.iter().filter(|pod| pod.phase != Phase::Finished).map(|pod| pod.key.clone()).collect();
    let pods = if live.is_empty() { all.iter().map(|pod| pod.key.clone()).collect() } else { live };
    let name = format!("{kind} {namespace}/{name}");
    (!all.is_empty()).then(|| Found { meant: Meant::Pods { name, pods }, notes: Vec::new() })
}

/// The pods that a service selects; `None` if it has no selector.
pub(crate) fn backends(cluster: &Cluster, service: &Service) -> Option<Vec<PodKey>> {
    let selector = service.selector.as_ref()?;
    let meant = |pod: &&Arc<Pod>| {
        pod.phase != Phase::Finished
            && selector.iter().all(|(key, value)| pod.labels.get(key) == Some(&**value))
    };
    Some(pods_in(cluster, &service.namespace).into_iter().filter(meant).map(|pod| pod.key.clone()).collect())
}

fn pods_in<'a>(cluster: &'a Cluster, namespace: &str) -> Vec<&'a Arc<Pod>> {
    let from = cluster.pods.range(PodKey::new(namespace, "")..);
    from.take_while(|(key, _)| *key.namespace == *namespace).map(|(_, pod)| pod).collect()
}

/// Every namespace that something is in.
fn namespaces(cluster: &Cluster) -> BTreeSet<Arc<str>> {
    let pods = cluster.pods.keys().map(|key| Arc::clone(&key.namespace));
    let services = cluster.services.keys().map(|(namespace, _)| Arc::clone(namespace));
    pods.chain(services).collect()
}

/// The error for a name that nothing has, with names that come near.
fn unknown(cluster: &Cluster, text: &str, namespace: &str, name: &str) -> anyhow::Error {
    let pods = cluster.pods.values().map(|pod| (&pod.key.namespace, &pod.key.name));
    let workloads = cluster.pods.values().map(|pod| (&pod.key.namespace, &pod.workload.name));
    let services = cluster.services.keys().map(|(namespace, name)| (namespace, name));
    let mut near: Vec<(usize, usize, String)> = pods
        .chain(workloads)
        .chain(services)
        .map(|(of, called)| {
            // A slip in the namespace counts like one in the name; another namespace altogether, a little.
            let place = if **of == *namespace { 0 } else { osa_distance(of, namespace).min(2) };
            // Of equal slips, letters of the same number are more likely.
            (osa_distance(called, name) + place, called.len().abs_diff(name.len()), format!("{of}/{called}"))
        })
        .filter(|(slips, ..)| *slips <= 2.max(name.chars().count() / 3))
        .collect();
    near.sort();
    near.dedup();
    let near: Vec<String> = near.into_iter().take(3).map(|(.., name)| name).collect();
    let hint = if near.is_empty() {
        "expected a pod, workload, service, node or address".to_owned()
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    let place =
        if text == name { format!("{namespace} or any other namespace") } else { namespace.to_owned() };
    anyhow::anyhow!("nothing is called {} in {}; {}", clean(name), clean(&place), clean(&hint))
}

#[cfg(test)]
mod tests;
