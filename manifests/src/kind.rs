//! Which kinds of objects are read, in which versions of the API, and which of their fields.

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// networking.k8s.io/v1
    NetworkPolicy,
    /// policy.networking.k8s.io/v1alpha2
    ClusterNetworkPolicy,
    /// policy.networking.k8s.io/v1alpha1
    AdminNetworkPolicy,
    /// policy.networking.k8s.io/v1alpha1
    BaselineAdminNetworkPolicy,
    /// polder.dev/v1alpha1
    PolderPolicy,
    /// polder.dev/v1alpha1
    ClusterPolderPolicy,
    /// v1
    Namespace,
    /// v1
    Node,
    /// v1
    Pod,
    /// v1
    Service,
    /// discovery.k8s.io/v1
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
    /// It is no kind of its group, but may be meant to be a policy: the API server refuses it.
    NoSuchKind {
        /// The kinds that may be meant.
        expected: &'static str,
    },
    /// It is skipped, though it has the name of a kind that is read: the groups of Kubernetes itself have it elsewhere.
    Misplaced {
        /// The version that is read.
        expected: &'static str,
        /// The name as it is spelled.
        kind: &'static str,
    },
    /// It is skipped.
    Skipped,
}

/// Groups in which there may be policies: all their kinds, and what is read of them. A kind that is not among these is
/// none, and to skip it would drop a policy for a slip of the pen.
const POLICY_GROUPS: &[(&str, &[&str], &str)] = &[
    (
        "networking.k8s.io",
        &[
            "Ingress",
            "IngressList",
            "IngressClass",
            "IngressClassList",
            "IPAddress",
            "IPAddressList",
            "ServiceCIDR",
            "ServiceCIDRList",
        ],
        "kind: NetworkPolicy, or another kind of this group (Ingress, IngressClass, IPAddress, ServiceCIDR)",
    ),
    (
        "policy.networking.k8s.io",
        &[],
        "kind: ClusterNetworkPolicy, AdminNetworkPolicy or BaselineAdminNetworkPolicy",
    ),
    (
        "polder.dev",
        &["PolderNode", "PolderNodeList", "PolicyTest"],
        "kind: PolderPolicy or ClusterPolderPolicy",
    ),
];

const APPS: &[&str] = &["apps/v1", "apps/v1beta2", "apps/v1beta1", "extensions/v1beta1"];

/// Kind, versions, and what it is read as. Old versions stay here where the fields that are read are the same.
const KINDS: &[(&str, &[&str], Kind)] = &[
    ("NetworkPolicy", &["networking.k8s.io/v1"], Kind::NetworkPolicy),
    ("ClusterNetworkPolicy", &["policy.networking.k8s.io/v1alpha2"], Kind::ClusterNetworkPolicy),
    ("AdminNetworkPolicy", &["policy.networking.k8s.io/v1alpha1"], Kind::AdminNetworkPolicy),
    ("BaselineAdminNetworkPolicy", &["policy.networking.k8s.io/v1alpha1"], Kind::BaselineAdminNetworkPolicy),
    ("PolderPolicy", &["polder.dev/v1alpha1"], Kind::PolderPolicy),
    ("ClusterPolderPolicy", &["polder.dev/v1alpha1"], Kind::ClusterPolderPolicy),
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
    // Whatever the case of its letters, it may be a policy.
    let known = KINDS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(kind));
    if let Some(&(name, versions, read_as)) = known {
        match (versions.contains(&api_version), name == kind, versions) {
            (true, true, _) => return Recognition::Read(read_as),
            (false, _, [expected, ..]) if read_as.is_policy() => {
                return Recognition::OtherPolicy { expected };
            }
            _ if read_as.is_policy() => return Recognition::NoSuchKind { expected: spelled(read_as) },
            _ => {}
        }
    }
    let group = group_of(api_version);
    let policies = POLICY_GROUPS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(group));
    match (policies, known) {
        (Some((_, others, _)), _) if others.contains(&kind) => Recognition::Skipped,
        (Some(&(_, _, expected)), _) => Recognition::NoSuchKind { expected },
        // Other projects have a Service or a Job of their own.
        (None, Some(&(name, [expected, ..], _))) if is_builtin(group) => {
            Recognition::Misplaced { expected, kind: name }
        }
        // Its items may be policies.
        (None, _) if kind.eq_ignore_ascii_case("List") && is_builtin(group) => {
            Recognition::NoSuchKind { expected: "kind: List" }
        }
        _ => Recognition::Skipped,
    }
}

/// The group of a version, and the version itself if it names none: `networking.k8s.io` alone is a group.
fn group_of(api_version: &str) -> &str {
    api_version.split('/').next().unwrap_or_default().trim()
}

/// Whether a group is one of Kubernetes itself. The old ones have no dot, and `v1` and nothing at all stand for the core.
fn is_builtin(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}

/// What to write for a policy.
const fn spelled(policy: Kind) -> &'static str {
    match policy {
        Kind::ClusterNetworkPolicy => "kind: ClusterNetworkPolicy",
        Kind::AdminNetworkPolicy => "kind: AdminNetworkPolicy",
        Kind::BaselineAdminNetworkPolicy => "kind: BaselineAdminNetworkPolicy",
        Kind::PolderPolicy => "kind: PolderPolicy",
        Kind::ClusterPolderPolicy => "kind: ClusterPolderPolicy",
        _ => "kind: NetworkPolicy",
    }
}

impl Kind {
    /// As in `kind:`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::AdminNetworkPolicy => "AdminNetworkPolicy",
            Self::BaselineAdminNetworkPolicy => "BaselineAdminNetworkPolicy",
            Self::PolderPolicy => "PolderPolicy",
            Self::ClusterPolderPolicy => "ClusterPolderPolicy",
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Workload => "Workload",
        }
    }

    /// As in `apiVersion:`.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::ClusterNetworkPolicy => "policy.networking.k8s.io/v1alpha2",
            Self::AdminNetworkPolicy | Self::BaselineAdminNetworkPolicy => {
                "policy.networking.k8s.io/v1alpha1"
            }
            Self::PolderPolicy | Self::ClusterPolderPolicy => "polder.dev/v1alpha1",
            Self::Namespace | Self::Node | Self::Pod | Self::Service => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::Workload => "apps/v1",
        }
    }

    /// Whether it is a policy of any dialect.
    pub const fn is_policy(self) -> bool {
        matches!(
            self,
            Self::NetworkPolicy
                | Self::ClusterNetworkPolicy
                | Self::AdminNetworkPolicy
                | Self::BaselineAdminNetworkPolicy
                | Self::PolderPolicy
                | Self::ClusterPolderPolicy
        )
    }

    /// Whether its objects are in namespaces.
    pub const fn is_namespaced(self) -> bool {
        matches!(
            self,
            Self::NetworkPolicy
                | Self::PolderPolicy
                | Self::Pod
                | Self::Service
                | Self::EndpointSlice
                | Self::Workload
        )
    }

    /// What is read of it.
    pub(crate) const fn keep(self) -> Keep {
        match self {
            Self::NetworkPolicy
            | Self::ClusterNetworkPolicy
            | Self::AdminNetworkPolicy
            | Self::BaselineAdminNetworkPolicy
            | Self::PolderPolicy
            | Self::ClusterPolderPolicy => POLICY,
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

impl Keep {
    /// What is kept of the value of a key.
    pub(crate) fn of_key(self, key: &str) -> Self {
        let (listed, otherwise) = match self {
            Self::Keys(listed) => (listed, Self::Nothing),
            Self::Except(listed) => (listed, Self::All),
            other => return other,
        };
        listed.iter().find(|(name, _)| *name == key).map_or(otherwise, |&(_, keep)| keep)
    }
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
            ("serving.knative.dev/v1", "Service", Recognition::Skipped),
            ("networking.k8s.io/v1", "Ingress", Recognition::Skipped),
        ] {
            assert_eq!(recognise(api_version, kind), expected, "{api_version} {kind}");
        }
    }

    #[test]
    fn a_misspelt_policy_is_never_skipped() {
        for (api_version, kind) in [
            ("networking.k8s.io/v1", "Networkpolicy"),
            ("networking.k8s.io/v1", "NetworkPolcy"),
            ("networking.k8s.io/v1", "NetworkPolicyList"),
            ("networking.k8s.io/v1", "networkpolicylist"),
            ("networking.k8s.io/v1", "Pod"),
            ("networking.k8s.io", "NetPol"),
            ("Networking.k8s.io/v1", "NetPol"),
            ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicies"),
            ("policy.networking.k8s.io/v1alpha2", "clusterNetworkPolicy"),
            ("policy.networking.k8s.io/v1alpha2", "Ingress"),
            ("v1", "list"),
        ] {
            let found = recognise(api_version, kind);
            assert!(matches!(found, Recognition::NoSuchKind { .. }), "{api_version} {kind}: {found:?}");
        }
        for (api_version, kind) in
            [("v1", "networkpolicy"), ("projectcalico.org/v3", "networkPolicy"), ("", "ADMINNETWORKPOLICY")]
        {
            let found = recognise(api_version, kind);
            assert!(matches!(found, Recognition::OtherPolicy { .. }), "{api_version} {kind}: {found:?}");
        }
        for kind in ["Ingress", "IngressClass", "IPAddress", "ServiceCIDR", "IngressList", "ServiceCIDRList"]
        {
            assert_eq!(recognise("networking.k8s.io/v1beta1", kind), Recognition::Skipped, "{kind}");
        }
    }

    #[test]
    fn a_kind_that_is_read_is_misplaced_only_in_groups_of_kubernetes() {
        let deployment = Recognition::Misplaced { expected: "apps/v1", kind: "Deployment" };
        for (api_version, kind, expected) in [
            ("v1", "Deployment", deployment),
            ("apps/v2", "Deployment", deployment),
            ("apps/v1", "deployment", deployment),
            ("", "Deployment", deployment),
            ("discovery.k8s.io/v1", "Pod", Recognition::Misplaced { expected: "v1", kind: "Pod" }),
            ("batch.volcano.sh/v1alpha1", "Job", Recognition::Skipped),
            ("v1", "ConfigMap", Recognition::Skipped),
        ] {
            assert_eq!(recognise(api_version, kind), expected, "{api_version} {kind}");
        }
    }
}
