//! The name of a store, a connection to one OKMS domain, and what can be wrong with one as a whole.

use std::{fmt, sync::Arc};

/// Which store: one of the whole cluster, or one of a namespace.
///
/// Shown as `ClusterOkmsStore/default` and `OkmsStore/vault`, as whoever works in a namespace names them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreName {
    ClusterOkmsStore(Arc<str>),
    OkmsStore { namespace: Arc<str>, name: Arc<str> },
}

impl StoreName {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ClusterOkmsStore(_) => "ClusterOkmsStore",
            Self::OkmsStore { .. } => "OkmsStore",
        }
    }

    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::ClusterOkmsStore(name) | Self::OkmsStore { name, .. } => name,
        }
    }

    /// The namespace of a store that belongs to one.
    pub fn namespace(&self) -> Option<&Arc<str>> {
        match self {
            Self::ClusterOkmsStore(_) => None,
            Self::OkmsStore { namespace, .. } => Some(namespace),
        }
    }

    /// The name by which logs and metrics tell it from those of other namespaces: `OkmsStore/shop/vault`.
    pub fn full(&self) -> String {
        match self.namespace() {
            Some(namespace) => format!("{}/{namespace}/{}", self.kind(), self.name()),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind(), self.name())
    }
}

/// What is wrong with a store as a whole, so that nothing can be read through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreTrouble {
    pub kind: StoreTroubleKind,
    /// One sentence that says what happened and what to do. Stable: no times, no request ids, no text of a remote answer.
    pub message: String,
}

/// The class of a store's trouble; each is the reason of its `Ready` condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreTroubleKind {
    /// The spec says something that can never work.
    InvalidSpec,
    /// The operator was told not to serve such a store.
    NotAllowed,
    /// The credential is missing, malformed, expired or of another domain: no request can be made.
    InvalidCredential,
    /// OKMS asked to slow down (429).
    RateLimited,
    /// OKMS does not answer, or answers 5xx.
    OkmsUnavailable,
    /// The TLS handshake fails.
    TlsFailed,
    /// OKMS does not accept the identity (401 or 403 on everything).
    Refused,
    /// Something answers that is not this OKMS domain.
    UnexpectedAnswer,
}

impl StoreTroubleKind {
    pub const ALL: [Self; 8] = [
        Self::InvalidSpec,
        Self::NotAllowed,
        Self::InvalidCredential,
        Self::RateLimited,
        Self::OkmsUnavailable,
        Self::TlsFailed,
        Self::Refused,
        Self::UnexpectedAnswer,
    ];

    pub fn reason(self) -> &'static str {
        match self {
            Self::InvalidSpec => "InvalidSpec",
            Self::NotAllowed => "NotAllowed",
            Self::InvalidCredential => "InvalidCredential",
            Self::RateLimited => "RateLimited",
            Self::OkmsUnavailable => "OkmsUnavailable",
            Self::TlsFailed => "TlsFailed",
            Self::Refused => "Refused",
            Self::UnexpectedAnswer => "UnexpectedAnswer",
        }
    }
}
