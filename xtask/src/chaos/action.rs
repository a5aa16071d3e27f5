//! What the noise is made of: every change and every fault, as data that can be planned, carried out and told.

use std::{fmt, time::Duration};

use api_proxy::Fault;
use serde_json::Value;

/// Something that is done at a time after the begin of the noise.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) action: Action,
}

/// An object by its namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// A new version in OKMS.
    Put {
        path: String,
        data: Value,
    },
    SetState {
        path: String,
        version: u32,
        state: VersionState,
    },
    DeleteSecret {
        path: String,
    },
    /// The identities of the stores may read everything but these from now on.
    Forbid {
        paths: Vec<String>,
    },
    /// A new client certificate is mounted; the old one is revoked at the next rotation.
    RotateCertificate,
    /// OKMS's faults are named by the plan, so that each can be ended.
    OkmsFault {
        id: u32,
        fault: Value,
    },
    OkmsFaultEnds {
        id: u32,
    },
    /// OKMS refuses connections.
    OkmsStops,
    OkmsReturns,

    Create {
        object: Key,
        spec: Value,
    },
    /// The spec becomes this.
    Edit {
        object: Key,
        what: &'static str,
        spec: Value,
    },
    Delete {
        object: Key,
    },
    Refresh {
        object: Key,
        value: String,
    },
    /// Somebody changes a target by hand.
    Hand {
        secret: Key,
        how: Hand,
    },
    /// A Secret that is nobody's target appears.
    CreateForeign {
        secret: Key,
        data: Value,
        allow: Option<String>,
    },
    EditForeign {
        secret: Key,
        value: String,
    },
    DeleteForeign {
        secret: Key,
    },
    /// Somebody gives a Secret to an `OkmsSecret`, or takes that back.
    Allow {
        secret: Key,
        allow: Option<String>,
    },
    /// A namespace gets or loses the label that the stores' access rules ask for.
    Label {
        namespace: String,
        admitted: bool,
    },
    /// The shared store lets others read only these from now on.
    Access {
        store: &'static str,
        paths: Vec<String>,
    },
    /// Another part of a store's spec.
    StoreEdit {
        store: &'static str,
        field: &'static str,
        value: Value,
    },
    StoreDelete {
        store: &'static str,
    },
    StoreCreate {
        store: &'static str,
    },
    /// What the stores hold of withdrawals is confirmed.
    Confirm,

    /// The API server's faults, on the operator's way there.
    ApiFault {
        id: u32,
        fault: Fault,
    },
    ApiFaultEnds {
        id: u32,
    },
    /// Every watch that the operator has is cut, or told that it is too old.
    CutWatches,
    ExpireWatches,

    /// SIGKILL to the API server.
    KillApiServer,
    KillEtcd,
    /// The one that is dead starts again.
    Revive,

    /// SIGKILL to the process that leads.
    Kill,
    /// SIGKILL to one that stands by.
    KillStandby,
    /// SIGTERM to the process that leads.
    Terminate,
    /// As many processes run as there should be.
    Start,
    /// SIGSTOP to the process that leads.
    Pause,
    Continue,
}

/// KV2's states of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VersionState {
    Active,
    Deactivated,
    Destroyed,
}

impl VersionState {
    /// What the simulator's admin port calls it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Destroyed => "deleted",
        }
    }
}

/// What somebody does to a target. The number makes each change a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    ChangeValue(usize),
    AddKey(usize),
    RemoveKey(usize),
    Delete,
    /// Owner reference, owner annotation and label are gone: it is nobody's then.
    StripOwnership(usize),
    /// The label alone is gone, which proves nothing.
    StripLabel(usize),
    /// An annotation of somebody else's.
    Annotate(usize),
}

impl Action {
    /// Whether it is done to Kubernetes, or needs an answer from there.
    pub(super) fn is_for_kubernetes(&self) -> bool {
        matches!(
            self,
            Self::Create { .. }
                | Self::Edit { .. }
                | Self::Delete { .. }
                | Self::Refresh { .. }
                | Self::Hand { .. }
                | Self::CreateForeign { .. }
                | Self::EditForeign { .. }
                | Self::DeleteForeign { .. }
                | Self::Allow { .. }
                | Self::Label { .. }
                | Self::Access { .. }
                | Self::StoreEdit { .. }
                | Self::StoreDelete { .. }
                | Self::StoreCreate { .. }
                | Self::Confirm
        )
    }

    /// What the summary counts it as.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Put { .. } => "new versions",
            Self::SetState { state: VersionState::Active, .. } => "reactivations",
            Self::SetState { state: VersionState::Deactivated, .. } => "deactivations",
            Self::SetState { state: VersionState::Destroyed, .. } => "destructions",
            Self::DeleteSecret { .. } => "deletions in OKMS",
            Self::Forbid { .. } => "changes of grants",
            Self::RotateCertificate => "rotations of the certificate",
            Self::OkmsFault { .. } | Self::OkmsStops => "faults of OKMS",
            Self::ApiFault { .. } | Self::CutWatches | Self::ExpireWatches => "faults of the API server",
            Self::OkmsFaultEnds { .. }
            | Self::OkmsReturns
            | Self::ApiFaultEnds { .. }
            | Self::Revive
            | Self::Continue
            | Self::Start => "ends of a fault",
            Self::Create { .. } => "creations",
            Self::Edit { .. } => "edits of a spec",
            Self::Delete { .. } => "deletions",
            Self::Refresh { .. } => "refreshes",
            Self::Hand { .. } => "edits of a target by hand",
            Self::CreateForeign { .. } | Self::EditForeign { .. } | Self::DeleteForeign { .. } => {
                "changes of foreign Secrets"
            }
            Self::Allow { .. } => "changes of consent",
            Self::Label { .. } | Self::Access { .. } => "changes of access",
            Self::StoreEdit { .. } | Self::StoreDelete { .. } | Self::StoreCreate { .. } => "changes of stores",
            Self::Confirm => "confirmations",
            Self::KillApiServer => "kills of the API server",
            Self::KillEtcd => "kills of etcd",
            Self::Kill | Self::KillStandby => "kills of an operator",
            Self::Terminate => "restarts of an operator",
            Self::Pause => "pauses of an operator",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { path, data } => write!(f, "OKMS: write {path} {data}"),
            Self::SetState { path, version, state } => write!(f, "OKMS: {path}@{version} becomes {}", state.word()),
            Self::DeleteSecret { path } => write!(f, "OKMS: delete {path}"),
            Self::Forbid { paths } if paths.is_empty() => f.write_str("OKMS: grant everything"),
            Self::Forbid { paths } => write!(f, "OKMS: forbid {}", paths.join(", ")),
            Self::RotateCertificate => f.write_str("rotate the client certificate"),
            Self::OkmsFault { id, fault } => write!(f, "OKMS: fault {id} {fault}"),
            Self::OkmsFaultEnds { id } => write!(f, "OKMS: fault {id} ends"),
            Self::OkmsStops => f.write_str("OKMS: refuse connections"),
            Self::OkmsReturns => f.write_str("OKMS: take connections"),
            Self::Create { object, spec } => write!(f, "create OkmsSecret {object} {spec}"),
            Self::Edit { object, what, spec } => write!(f, "edit OkmsSecret {object}, {what}: {spec}"),
            Self::Delete { object } => write!(f, "delete OkmsSecret {object}"),
            Self::Refresh { object, value } => write!(f, "refresh OkmsSecret {object}: {value}"),
            Self::Hand { secret, how } => write!(f, "by hand, Secret {secret}: {how:?}"),
            Self::CreateForeign { secret, data, allow } => {
                write!(f, "create foreign Secret {secret}, allow {allow:?}: {data}")
            }
            Self::EditForeign { secret, value } => write!(f, "edit foreign Secret {secret}: {value}"),
            Self::DeleteForeign { secret } => write!(f, "delete foreign Secret {secret}"),
            Self::Allow { secret, allow } => write!(f, "Secret {secret}: allow {allow:?}"),
            Self::Label { namespace, admitted } => write!(f, "namespace {namespace}: admitted {admitted}"),
            Self::Access { store, paths } => write!(f, "store {store}: access to {}", paths.join(", ")),
            Self::StoreEdit { store, field, value } => write!(f, "store {store}: {field} {value}"),
            Self::StoreDelete { store } => write!(f, "store {store}: delete"),
            Self::StoreCreate { store } => write!(f, "store {store}: create"),
            Self::Confirm => f.write_str("confirm what is held"),
            Self::ApiFault { id, fault } => write!(f, "Kubernetes: fault {id} {fault:?}"),
            Self::ApiFaultEnds { id } => write!(f, "Kubernetes: fault {id} ends"),
            Self::CutWatches => f.write_str("Kubernetes: cut the watches"),
            Self::ExpireWatches => f.write_str("Kubernetes: expire the watches"),
            Self::KillApiServer => f.write_str("kill the API server"),
            Self::KillEtcd => f.write_str("kill etcd"),
            Self::Revive => f.write_str("have the control plane run"),
            Self::Kill => f.write_str("kill the leader"),
            Self::KillStandby => f.write_str("kill one that stands by"),
            Self::Terminate => f.write_str("terminate the leader"),
            Self::Start => f.write_str("have all operators run"),
            Self::Pause => f.write_str("pause the leader"),
            Self::Continue => f.write_str("let all operators go on"),
        }
    }
}
