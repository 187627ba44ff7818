//! Policies that change nothing for anybody.

use datapath::abi::Direction;

use super::Remark;
use super::selection::Selection;
use super::selectors::is_network_policy;
use crate::policy::Policy;
use crate::problem::{Problem, Severity};

/// The id of the warning about a policy that can have no effect.
pub(super) const POLICY_WITHOUT_EFFECT: &str = "policy-without-effect";

pub(super) fn review(policy: &Policy, selection: &Selection<'_>, found: &mut Vec<Problem>) {
    let (severity, id) = (Severity::Warning, POLICY_WITHOUT_EFFECT);
    let mut remark = |path: &str, message: String, expected: &str| {
        found.push(Remark { severity, id, path, message, expected: expected.to_owned() }.of(policy));
    };
    let is_silent = |direction| {
        let block = policy.block(direction);
        !block.isolates && block.rules.is_empty()
    };
    if Direction::ALL.into_iter().all(is_silent) {
        remark("spec", "the policy has no rules: it says nothing".to_owned(), "rules in ingress or egress");
    }
    let namespaces = selection.namespaces(&policy.subject.namespaces);
    let pods = namespaces.iter().flat_map(|name| selection.pods_in(name));
    let (mut on_host, mut finished) = (0, 0);
    for pod in pods.filter(|pod| policy.subject.pods.matches(&pod.labels)) {
        match pod {
            pod if pod.owns_addresses() => return,
            pod if pod.host_network => on_host += 1,
            _ => finished += 1,
        }
    }
    let path = if is_network_policy(policy) { "spec.podSelector" } else { "spec.subject" };
    if on_host > 0 {
        let message = match on_host {
            1 => "the one pod that is selected is on the host network, where no policy applies".to_owned(),
            _ => format!(
                "all {on_host} pods that are selected are on the host network, where no policy applies"
            ),
        };
        remark(path, message, "pods with addresses of their own");
    } else if finished > 0 {
        let message = "all pods that are selected have finished, and have no address any more".to_owned();
        remark(path, message, "pods that are pending or running");
    }
}
