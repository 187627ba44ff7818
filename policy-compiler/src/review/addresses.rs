//! Addresses that several pods claim.

use crate::compiler::Compiler;
use crate::object::ObjectRef;
use crate::problem::{Problem, Severity};

/// The id of the warning about a pod one of whose addresses is another pod's.
pub(super) const ADDRESS_CONTESTED: &str = "address-contested";

pub(super) fn review(compiler: &Compiler, found: &mut Vec<Problem>) {
    for (address, losers) in compiler.contested() {
        let Some(owner) = compiler.owner(address) else { continue };
        for key in losers {
            let object = ObjectRef::namespaced("Pod", &key.namespace, &key.name);
            let message = format!(
                "the address {address} is also pod {}'s, and counts as that one's: policy takes traffic of this pod for its",
                owner.key
            );
            let expected = "an address of its own; of a pod that is gone, no manifest";
            let invalid = Problem::invalid(&object, "status.podIPs", message, expected);
            found.push(Problem { severity: Severity::Warning, id: ADDRESS_CONTESTED, ..invalid });
        }
    }
}
