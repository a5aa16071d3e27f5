//! The name of a store, a connection to one OKMS domain, and what can be wrong with one as a whole.

use std::{fmt, sync::Arc};

/// The two kinds of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreKind {
    ClusterOkmsStore,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterOkmsStore => "ClusterOkmsStore",
        })
    }
}

/// Which store: shown as `ClusterOkmsStore/default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreName {
    pub kind: StoreKind,
    pub name: Arc<str>,
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
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
    pub fn reason(self) -> &'static str {
        match self {
            Self::InvalidCredential => "InvalidCredential",
            Self::RateLimited => "RateLimited",
            Self::OkmsUnavailable => "OkmsUnavailable",
            Self::TlsFailed => "TlsFailed",
            Self::Refused => "Refused",
            Self::UnexpectedAnswer => "UnexpectedAnswer",
        }
    }
}
