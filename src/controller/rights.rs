//! What the operator may do in the cluster: the one table, which the start checks and the chart's roles must grant.
//!
//! It lists what the operator cannot work without. What it merely uses (events, Secrets of credentials in its own namespace) is
//! granted by the chart as well, but its absence is told where it is missed.

pub use crate::api::names::GROUP;

/// The API that has to be served: `okms-operator.io/v1alpha1`.
pub const GROUP_VERSION: &str = "okms-operator.io/v1alpha1";

/// Everything that the operator cannot work without.
pub const RIGHTS: &[Right] = &[
    Right { group: GROUP, resource: "okmssecrets", verbs: &["get", "list", "watch"], scope: Scope::Watched },
    Right { group: GROUP, resource: "okmssecrets/status", verbs: &["patch"], scope: Scope::Watched },
    // Where they are not served, that has to be told.
    Right { group: GROUP, resource: "okmsstores", verbs: &["get", "list", "watch"], scope: Scope::Watched },
    Right { group: GROUP, resource: "okmsstores/status", verbs: &["patch"], scope: Scope::Watched },
    Right { group: GROUP, resource: "clusterokmsstores", verbs: &["get", "list", "watch"], scope: Scope::Cluster },
    Right { group: GROUP, resource: "clusterokmsstores/status", verbs: &["patch"], scope: Scope::Cluster },
    Right { group: "", resource: "namespaces", verbs: &["list", "watch"], scope: Scope::Cluster },
    Right {
        group: "",
        resource: "secrets",
        verbs: &["get", "list", "watch", "create", "update", "patch", "delete"],
        scope: Scope::Watched,
    },
    Right {
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["get", "list", "watch", "create", "update"],
        scope: Scope::Lease,
    },
];

/// Verbs on one kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Empty for the core group.
    pub group: &'static str,
    /// The plural, with a subresource after a slash: `okmssecrets/status`.
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
    pub scope: Scope,
}

/// Where a right is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In each watched namespace, or in all.
    Watched,
    /// On objects without a namespace.
    Cluster,
    /// In the operator's own namespace, on the Lease of the leader election, where there is one. Only creating cannot be granted for
    /// one name.
    Lease,
}

#[cfg(test)]
mod tests {
    use kube::Resource;

    use super::*;
    use crate::api::{ClusterOkmsStore, OkmsSecret, OkmsStore};

    #[test]
    fn the_kinds_are_called_as_their_types_say() {
        let api_version = OkmsSecret::api_version(&());
        assert_eq!(api_version, GROUP_VERSION);
        for plural in [OkmsSecret::plural(&()), ClusterOkmsStore::plural(&()), OkmsStore::plural(&())] {
            assert!(RIGHTS.iter().any(|right| right.group == GROUP && right.resource == plural), "{plural}");
        }
    }
}
