//! The policy kinds that come in. `NetworkPolicy` is k8s-openapi's; the others are custom resources, typed here.

pub mod admin_network_policy;
pub mod cluster_network_policy;
#[cfg(feature = "schema")]
pub mod definition;
pub mod polder_policy;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};

use crate::object::ObjectRef;

/// A policy object of any dialect.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyObject {
    /// networking.k8s.io/v1
    NetworkPolicy(NetworkPolicy),
    /// policy.networking.k8s.io/v1alpha2
    ClusterNetworkPolicy(cluster_network_policy::ClusterNetworkPolicy),
    /// policy.networking.k8s.io/v1alpha1
    AdminNetworkPolicy(admin_network_policy::AdminNetworkPolicy),
    /// policy.networking.k8s.io/v1alpha1
    BaselineAdminNetworkPolicy(admin_network_policy::BaselineAdminNetworkPolicy),
    /// polder.dev/v1alpha1
    PolderPolicy(polder_policy::PolderPolicy),
    /// polder.dev/v1alpha1
    ClusterPolderPolicy(polder_policy::ClusterPolderPolicy),
}

impl PolicyObject {
    /// Its kind, namespace and name. A namespaced policy without a namespace is in `default`, as with kubectl. An object
    /// without a name has the empty one.
    pub fn object(&self) -> ObjectRef {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        match self {
            Self::NetworkPolicy(policy) => ObjectRef::namespaced(
                "NetworkPolicy",
                namespace(&policy.metadata),
                &name(&policy.metadata.name),
            ),
            Self::ClusterNetworkPolicy(policy) => {
                ObjectRef::cluster("ClusterNetworkPolicy", &name(&policy.metadata.name))
            }
            Self::AdminNetworkPolicy(policy) => {
                ObjectRef::cluster("AdminNetworkPolicy", &name(&policy.metadata.name))
            }
            Self::BaselineAdminNetworkPolicy(policy) => {
                ObjectRef::cluster("BaselineAdminNetworkPolicy", &name(&policy.metadata.name))
            }
            Self::PolderPolicy(policy) => {
                let namespace = namespace(&policy.metadata);
                ObjectRef::namespaced("PolderPolicy", namespace, &name(&policy.metadata.name))
            }
            Self::ClusterPolderPolicy(policy) => {
                ObjectRef::cluster("ClusterPolderPolicy", &name(&policy.metadata.name))
            }
        }
    }
}

/// The namespace of a namespaced object: `default` if it says none, as with kubectl.
pub(crate) fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

/// Reads an explicit `null` as an absent field. Required fields are read this way too: lowering then names all that
/// are missing, where serde would stop at the first.
fn null_is_absent<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
