//! From what was asked to single connections: pods of workloads, backends of services, address families, port names.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use policy_compiler::compiler::{Compiler, Event};
use policy_compiler::explain::{Party, Protocol, transport_name};
use policy_compiler::facts::{Cluster, Pod, Service, ServicePort, TargetPort};
use policy_compiler::object::PodKey;

use super::ask::{Number, Port};
use crate::clean::clean;
use crate::input::Input;
use crate::party::{Found, Meant, backends};

/// What is asked of each pair.
pub(crate) enum Asked {
    Port(Port),
    /// A protocol without ports, by its IANA number.
    Protocol(u8),
    /// Every protocol and port.
    All,
}

/// One question to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) from: Party,
    pub(crate) to: Party,
    /// `None`: every protocol and port.
    pub(crate) protocol: Option<Protocol>,
}

/// All questions, and what has to be said about how they came about.
#[expect(clippy::struct_field_names, reason = "they are what it is about")]
pub(crate) struct Units {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) units: Vec<Unit>,
    pub(crate) notes: Vec<String>,
}

/// A destination, and what is asked there.
struct Target {
    addresses: Vec<(Party, IpAddr)>,
    protocol: Option<Protocol>,
}

/// Every pair of one who may be meant by FROM and one who may be meant by TO.
pub(crate) fn units(input: &mut Input, from: Found, to: Found, asked: &Asked) -> anyhow::Result<Units> {
    let mut notes = from.notes;
    notes.extend(to.notes);
    let mut to = to.meant;
    if let Some(note) = add_sibling(input, &from.meant, &mut to) {
        notes.push(note);
    }
    let cluster = input.compiler.cluster();
    let from_name = name(&from.meant);
    let sources = match &from.meant {
        Meant::Service(service) => bail!(
            "service {}/{} opens no connections; expected the workload behind it as FROM",
            clean(&service.namespace),
            clean(&service.name)
        ),
        meant => ends(cluster, meant)?,
    };
    let targets = match &to {
        Meant::Service(service) => {
            notes.push(format!(
                "policy is judged at the backends of service {}/{}, never at its own address",
                service.namespace, service.name
            ));
            service_targets(&input.compiler, service, asked, &mut notes)?
        }
        meant => plain_targets(cluster, ends(cluster, meant)?, asked, &mut notes)?,
    };
    let mut units = Vec::new();
    for target in &targets {
        for source in &sources {
            pairs(source, target, &mut units);
        }
    }
    if units.is_empty() {
        bail!("{} and {} have no address family in common", clean(&from_name), clean(&name(&to)));
    }
    // A pod to itself says nothing about two pods of one workload.
    let is_other = |unit: &Unit| match (&unit.from, &unit.to) {
        (Party::Pod(from, _), Party::Pod(to, _)) => from != to,
        _ => true,
    };
    if units.iter().any(is_other) {
        units.retain(is_other);
    } else {
        notes.extend(to_itself(cluster, &units));
    }
    Ok(Units { from: from_name, to: name(&to), units, notes })
}

/// What has to be said if all that is asked is whether the only pod of a workload reaches itself.
fn to_itself(cluster: &Cluster, units: &[Unit]) -> Option<String> {
    let Party::Pod(key, _) = &units.first()?.from else { return None };
    // No policy decides about the host network, however many pods there are.
    let pod = cluster.pods.get(key).filter(|pod| !pod.host_network && &*pod.workload.kind != "Pod")?;
    Some(format!(
        "{} {}/{} has only one pod here, so that this is the pod reaching itself; with a second replica policy would \
         decide between the two",
        pod.workload.kind, key.namespace, pod.workload.name
    ))
}

fn name(meant: &Meant) -> String {
    match meant {
        Meant::Pods { name, .. } | Meant::Addresses { name, .. } => name.clone(),
        Meant::Service(service) => format!("service {}/{}", service.namespace, service.name),
    }
}

/// The addresses of each pod, or the addresses themselves; for each, one of each family.
fn ends(cluster: &Cluster, meant: &Meant) -> anyhow::Result<Vec<Vec<(Party, IpAddr)>>> {
    match meant {
        Meant::Pods { pods, .. } => pods.iter().map(|key| of_pod(cluster, key)).collect(),
        Meant::Addresses { name, addresses } => {
            if addresses.is_empty() {
                bail!("{} has no address", clean(name));
            }
            let parties = addresses.iter().map(|address| (Party::Address(*address), *address));
            // The addresses of a node are told apart by policy, so each is asked about.
            Ok(parties.map(|party| vec![party]).collect())
        }
        Meant::Service(_) => Ok(Vec::new()),
    }
}

fn of_pod(cluster: &Cluster, key: &PodKey) -> anyhow::Result<Vec<(Party, IpAddr)>> {
    let pod = cluster.pods.get(key).with_context(|| format!("no pod {}", clean(&key.to_string())))?;
    let node = pod.node.as_ref().and_then(|name| cluster.nodes.get(name));
    let addresses: Vec<IpAddr> = match (&pod.addresses[..], node) {
        ([], Some(node)) if pod.host_network => node.addresses.iter().copied().collect(),
        (own, _) => own.to_vec(),
    };
    let of = |v6: bool| addresses.iter().find(|address| address.is_ipv6() == v6);
    let found: Vec<_> = [false, true]
        .into_iter()
        .filter_map(|v6| of(v6).map(|address| (Party::Pod(key.clone(), *address), *address)))
        .collect();
    if found.is_empty() && pod.host_network {
        bail!(
            "pod {} is on its node's network, and which node that is is not known; expected the address of a node",
            clean(&key.to_string())
        );
    }
    if found.is_empty() {
        bail!("pod {} has no address", clean(&key.to_string()));
    }
    Ok(found)
}

/// One unit for each family that both have.
fn pairs(source: &[(Party, IpAddr)], target: &Target, units: &mut Vec<Unit>) {
    for (from, of) in source {
        for (to, address) in &target.addresses {
            if of.is_ipv6() == address.is_ipv6() {
                let protocol = match target.protocol {
                    // What `--protocol icmp` means depends on the family.
                    Some(Protocol::Other(1 | 58)) => Some(Protocol::Other(if of.is_ipv6() { 58 } else { 1 })),
                    other => other,
                };
                let unit = Unit { from: from.clone(), to: to.clone(), protocol };
                if !units.contains(&unit) {
                    units.push(unit);
                }
            }
        }
    }
}

fn pod_of<'a>(cluster: &'a Cluster, end: &[(Party, IpAddr)]) -> Option<&'a Arc<Pod>> {
    match end.first() {
        Some((Party::Pod(key, _), _)) => cluster.pods.get(key),
        _ => None,
    }
}

fn plain_targets(
    cluster: &Cluster,
    ends: Vec<Vec<(Party, IpAddr)>>,
    asked: &Asked,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Target>> {
    let port = match asked {
        Asked::All => None,
        Asked::Protocol(number) => Some(Protocol::Other(*number)),
        Asked::Port(port) => return named_targets(cluster, ends, port, notes),
    };
    Ok(ends.into_iter().map(|addresses| Target { addresses, protocol: port }).collect())
}

fn named_targets(
    cluster: &Cluster,
    ends: Vec<Vec<(Party, IpAddr)>>,
    port: &Port,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    let mut without = Vec::new();
    for addresses in ends {
        let pod = pod_of(cluster, &addresses);
        match port.at(pod.map(|pod| &**pod)) {
            Some(protocol) => targets.push(Target { addresses, protocol: Some(protocol) }),
            None => {
                without.push(pod.map_or_else(|| "an address".to_owned(), |pod| format!("pod {}", pod.key)));
            }
        }
    }
    let Number::Named(name) = &port.number else { return Ok(targets) };
    if targets.is_empty() {
        bail!("{} has no port named {}; expected a number", clean(&without.join(", ")), clean(name));
    }
    notes.extend(without.iter().map(|pod| format!("{pod} has no port named {name}, and is left out")));
    Ok(targets)
}

/// The backends of a service, with the ports behind its ports.
fn service_targets(
    compiler: &Compiler,
    service: &Service,
    asked: &Asked,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Target>> {
    let cluster = compiler.cluster();
    let name = format!("service {}/{}", service.namespace, service.name);
    let ports: Vec<&ServicePort> = match asked {
        Asked::Protocol(_) => {
            bail!("{} forwards only its ports; expected --port, or a pod as TO", clean(&name))
        }
        Asked::All => service.ports.iter().collect(),
        Asked::Port(port) => service.ports.iter().filter(|of| is_asked(of, port)).collect(),
    };
    if service.ports.is_empty() {
        bail!(
            "{} has no ports, so that nothing goes through it (ExternalName is an entry in DNS, no way to a pod); \
             expected what is behind it as TO",
            clean(&name)
        );
    }
    if ports.is_empty() {
        let all: Vec<String> = service.ports.iter().map(service_port).collect();
        bail!("{} has no such port; expected one of {}", clean(&name), clean(&all.join(", ")));
    }
    let mut targets = Vec::new();
    for port in ports {
        match backends(cluster, service) {
            Some(pods) => {
                for key in pods {
                    let pod = cluster.pods.get(&key);
                    match target_of(port, pod.map(|pod| &**pod)) {
                        Some(protocol) => {
                            targets
                                .push(Target { addresses: of_pod(cluster, &key)?, protocol: Some(protocol) });
                        }
                        None => {
                            notes.push(format!("pod {key} has no port for {} of {name}", service_port(port)));
                        }
                    }
                }
            }
            None => targets.extend(slice_targets(cluster, service, port)),
        }
    }
    if targets.is_empty() {
        let why = match backends(cluster, service) {
            None => "it has no selector, and no endpoint slice here has that port for it",
            Some(pods) if pods.is_empty() => "its selector finds no pod that runs",
            Some(_) => "none of its pods has a container port of the name that is its targetPort",
        };
        bail!("{} has no backend with that port: {why}", clean(&name));
    }
    Ok(targets)
}

fn is_asked(of: &ServicePort, asked: &Port) -> bool {
    let number = match &asked.number {
        Number::Is(number) => of.port == *number && of.transport == asked.transport.unwrap_or(of.transport),
        Number::Named(name) => of.name.as_deref() == Some(name),
    };
    number && asked.transport.is_none_or(|transport| of.transport == transport)
}

/// `80/TCP (http)`
fn service_port(port: &ServicePort) -> String {
    let name = port.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    format!("{}/{}{name}", port.port, transport_name(port.transport))
}

fn target_of(port: &ServicePort, pod: Option<&Pod>) -> Option<Protocol> {
    let number = match &port.target {
        TargetPort::Number(number) => *number,
        TargetPort::Name(name) => pod?.named_port(name, Some(port.transport))?.1,
    };
    Some(Protocol::Transport(port.transport, number))
}

/// The endpoints that somebody wrote by hand for a service without a selector.
fn slice_targets(cluster: &Cluster, service: &Service, port: &ServicePort) -> Vec<Target> {
    let slices = cluster.endpoint_slices.values().filter(|slice| {
        slice.namespace == service.namespace && slice.service.as_deref() == Some(&*service.name)
    });
    let mut found = BTreeSet::new();
    for slice in slices {
        let its = slice
            .ports
            .iter()
            .filter(|(name, transport, _)| *name == port.name && *transport == port.transport);
        for (_, transport, number) in its {
            found.extend(
                slice.addresses.iter().map(|address| (*address, Protocol::Transport(*transport, *number))),
            );
        }
    }
    let target = |(address, protocol)| Target {
        addresses: vec![(Party::Address(address), address)],
        protocol: Some(protocol),
    };
    found.into_iter().map(target).collect()
}

/// A workload to itself, of which the manifests show one pod that stands for several: another one is put beside it.
fn add_sibling(input: &mut Input, from: &Meant, to: &mut Meant) -> Option<String> {
    let (Meant::Pods { pods: from, .. }, Meant::Pods { pods, .. }) = (from, to) else { return None };
    let ([from], [only]) = (&from[..], &pods[..]) else { return None };
    let pod = input.compiler.cluster().pods.get(from).filter(|_| from == only)?;
    let workload = &pod.workload;
    let key = (Arc::clone(&pod.key.namespace), Arc::clone(&workload.kind), Arc::clone(&workload.name));
    if !pod.addresses_made_up || input.replicas.get(&key).is_none_or(|number| *number < 2) {
        return None;
    }
    let cluster = input.compiler.cluster();
    let taken: BTreeSet<IpAddr> =
        cluster.pods.values().flat_map(|pod| pod.addresses.iter().copied()).collect();
    let mut sibling = Pod::clone(pod);
    sibling.key.name = format!("{}-sibling", pod.key.name).into();
    sibling.node = None;
    sibling.addresses = pod.addresses.iter().filter_map(|address| beside(*address, &taken)).collect();
    if cluster.pods.contains_key(&sibling.key) {
        return None;
    }
    *pods = vec![sibling.key.clone()];
    let note = format!(
        "{} {}/{} has several pods: {} is another one of them",
        workload.kind, pod.key.namespace, workload.name, sibling.key
    );
    let _delta = input.compiler.apply([Event::Pod(Box::new(sibling))]);
    Some(note)
}

/// The next made-up address that nobody has.
fn beside(address: IpAddr, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let nth = |step: u32| match address {
        IpAddr::V4(v4) => v4.to_bits().checked_sub(step).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_add(step.into()).map(|bits| IpAddr::V6(bits.into())),
    };
    (1..=u32::try_from(taken.len()).unwrap_or(u32::MAX).saturating_add(1))
        .find_map(|step| nth(step).filter(|address| !taken.contains(address)))
}
