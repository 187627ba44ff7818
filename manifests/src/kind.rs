//! Which kinds of objects are read, in which versions of the API, and which of their fields.

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    NetworkPolicy,
    ClusterNetworkPolicy,
    AdminNetworkPolicy,
    BaselineAdminNetworkPolicy,
    Namespace,
    Node,
    Pod,
    Service,
    EndpointSlice,
    /// Something that makes pods from a template.
    Workload,
}

/// What a kind and a version of the API say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recognition {
    /// It is read.
    Read(Kind),
    /// It has the name of a policy, but is of another version: to skip it in silence would not do.
    OtherPolicy {
        /// The version that is read.
        expected: &'static str,
    },
    /// It is skipped.
    Skipped,
}

const APPS: &[&str] = &["apps/v1", "apps/v1beta2", "apps/v1beta1", "extensions/v1beta1"];

/// Kind, versions, and what it is read as. Old versions stay here where the fields that are read are the same.
const KINDS: &[(&str, &[&str], Kind)] = &[
    ("NetworkPolicy", &["networking.k8s.io/v1"], Kind::NetworkPolicy),
    ("ClusterNetworkPolicy", &["policy.networking.k8s.io/v1alpha2"], Kind::ClusterNetworkPolicy),
    ("AdminNetworkPolicy", &["policy.networking.k8s.io/v1alpha1"], Kind::AdminNetworkPolicy),
    ("BaselineAdminNetworkPolicy", &["policy.networking.k8s.io/v1alpha1"], Kind::BaselineAdminNetworkPolicy),
    ("Namespace", &["v1"], Kind::Namespace),
    ("Node", &["v1"], Kind::Node),
    ("Pod", &["v1"], Kind::Pod),
    ("Service", &["v1"], Kind::Service),
    ("EndpointSlice", &["discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"], Kind::EndpointSlice),
    ("Deployment", APPS, Kind::Workload),
    ("StatefulSet", APPS, Kind::Workload),
    ("DaemonSet", APPS, Kind::Workload),
    ("ReplicaSet", APPS, Kind::Workload),
    ("ReplicationController", &["v1"], Kind::Workload),
    ("Job", &["batch/v1"], Kind::Workload),
    ("CronJob", &["batch/v1", "batch/v1beta1"], Kind::Workload),
];

/// Finds out what an object is.
pub(crate) fn recognise(api_version: &str, kind: &str) -> Recognition {
    let Some(&(_, versions, read_as)) = KINDS.iter().find(|(name, ..)| *name == kind) else {
        return Recognition::Skipped;
    };
    if versions.contains(&api_version) {
        return Recognition::Read(read_as);
    }
    match versions {
        [expected, ..] if read_as.is_policy() => Recognition::OtherPolicy { expected },
        _ => Recognition::Skipped,
    }
}

impl Kind {
    pub(crate) const fn is_policy(self) -> bool {
        matches!(
            self,
            Self::NetworkPolicy
                | Self::ClusterNetworkPolicy
                | Self::AdminNetworkPolicy
                | Self::BaselineAdminNetworkPolicy
        )
    }

    pub(crate) const fn is_namespaced(self) -> bool {
        matches!(self, Self::NetworkPolicy | Self::Pod | Self::Service | Self::EndpointSlice | Self::Workload)
    }

    /// What is read of it.
    pub(crate) const fn keep(self) -> Keep {
        match self {
            Self::NetworkPolicy
            | Self::ClusterNetworkPolicy
            | Self::AdminNetworkPolicy
            | Self::BaselineAdminNetworkPolicy => POLICY,
            Self::Namespace => NAMESPACE,
            Self::Node => NODE,
            Self::Pod => POD,
            Self::Service => SERVICE,
            Self::EndpointSlice => ENDPOINT_SLICE,
            Self::Workload => WORKLOAD,
        }
    }
}

/// What is kept of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep {
    /// All of it.
    All,
    /// It, if it is a time; dumps of other tools write times in other forms.
    Time,
    /// These keys of a map. Anything but a map stays, to be complained about.
    Keys(&'static [(&'static str, Keep)]),
    /// All keys of a map but these.
    Except(&'static [(&'static str, Keep)]),
    /// Nothing. Only within `Except`.
    Nothing,
    /// This of each item of a list.
    Items(&'static Keep),
}

use Keep::{All, Except, Items, Keys, Nothing, Time};

/// A policy is read whole, for a field that is not understood may be the one that matters. What the API server writes
/// into it says nothing; `status` and `clusterName` were once fields and still are in old dumps.
const POLICY: Keep = Except(&[
    ("apiVersion", Nothing),
    ("kind", Nothing),
    ("status", Nothing),
    ("metadata", Except(&[("managedFields", Nothing), ("clusterName", Nothing)])),
]);

const METADATA: Keep = Keys(&[
    ("name", All),
    ("generateName", All),
    ("namespace", All),
    ("uid", All),
    ("labels", All),
    ("creationTimestamp", Time),
    ("deletionTimestamp", All),
    (
        "ownerReferences",
        Items(&Keys(&[("apiVersion", All), ("kind", All), ("name", All), ("controller", All)])),
    ),
]);

const NAMESPACE: Keep = Keys(&[("metadata", METADATA), ("status", Keys(&[("phase", All)]))]);

const NODE: Keep = Keys(&[
    ("metadata", METADATA),
    ("status", Keys(&[("addresses", Items(&Keys(&[("type", All), ("address", All)])))])),
]);

const CONTAINERS: Keep = Items(&Keys(&[
    ("restartPolicy", All),
    ("ports", Items(&Keys(&[("name", All), ("containerPort", All), ("protocol", All)]))),
]));

const POD_SPEC: Keep = Keys(&[
    ("nodeName", All),
    ("hostNetwork", All),
    ("containers", CONTAINERS),
    ("initContainers", CONTAINERS),
]);

const POD: Keep = Keys(&[
    ("metadata", METADATA),
    ("spec", POD_SPEC),
    ("status", Keys(&[("phase", All), ("podIP", All), ("podIPs", Items(&Keys(&[("ip", All)])))])),
]);

const SERVICE: Keep = Keys(&[
    ("metadata", METADATA),
    (
        "spec",
        Keys(&[
            ("selector", All),
            ("clusterIP", All),
            ("clusterIPs", All),
            ("externalIPs", All),
            ("loadBalancerIP", All),
            ("ports", Items(&Keys(&[("name", All), ("protocol", All), ("port", All), ("targetPort", All)]))),
        ]),
    ),
    ("status", Keys(&[("loadBalancer", Keys(&[("ingress", Items(&Keys(&[("ip", All)])))]))])),
]);

const ENDPOINT_SLICE: Keep = Keys(&[
    ("metadata", METADATA),
    ("addressType", All),
    ("endpoints", Items(&Keys(&[("addresses", All)]))),
    ("ports", Items(&Keys(&[("name", All), ("protocol", All), ("port", All)]))),
]);

const TEMPLATE: Keep = Keys(&[("metadata", Keys(&[("labels", All)])), ("spec", POD_SPEC)]);

/// One form for all of them: `jobTemplate` is the `CronJob`'s.
const WORKLOAD: Keep = Keys(&[
    ("metadata", METADATA),
    (
        "spec",
        Keys(&[
            ("replicas", All),
            ("parallelism", All),
            ("template", TEMPLATE),
            ("jobTemplate", Keys(&[("spec", Keys(&[("parallelism", All), ("template", TEMPLATE)]))])),
        ]),
    ),
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_of_another_version_is_never_skipped() {
        for (api_version, kind, expected) in [
            ("networking.k8s.io/v1", "NetworkPolicy", Recognition::Read(Kind::NetworkPolicy)),
            (
                "extensions/v1beta1",
                "NetworkPolicy",
                Recognition::OtherPolicy { expected: "networking.k8s.io/v1" },
            ),
            ("", "NetworkPolicy", Recognition::OtherPolicy { expected: "networking.k8s.io/v1" }),
            (
                "policy.networking.k8s.io/v1alpha2",
                "AdminNetworkPolicy",
                Recognition::OtherPolicy { expected: "policy.networking.k8s.io/v1alpha1" },
            ),
            ("apps/v1beta1", "Deployment", Recognition::Read(Kind::Workload)),
            ("apps/v2", "Deployment", Recognition::Skipped),
            ("serving.knative.dev/v1", "Service", Recognition::Skipped),
            ("networking.k8s.io/v1", "Ingress", Recognition::Skipped),
        ] {
            assert_eq!(recognise(api_version, kind), expected, "{api_version} {kind}");
        }
    }
}
