//! Why what a store says cannot be used, and what that means for what it said before.

use crate::model::{StoreTrouble, StoreTroubleKind};

/// What a store says, or what it refers to, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::controller) enum Problem {
    /// It is gone, or may not be used: neither may what was used before.
    Stop(StoreTrouble),
    /// It is there and cannot be used: what was used before may still be.
    Unusable(StoreTrouble),
    /// It cannot be looked at now.
    Unknown(String),
}

impl Problem {
    /// A credential, or what else a store refers to, is not there.
    pub fn gone(message: String) -> Self {
        Self::Stop(StoreTrouble { kind: StoreTroubleKind::InvalidCredential, message })
    }

    pub fn not_allowed(message: String) -> Self {
        Self::Stop(StoreTrouble { kind: StoreTroubleKind::NotAllowed, message })
    }

    pub fn credential(message: String) -> Self {
        Self::Unusable(StoreTrouble { kind: StoreTroubleKind::InvalidCredential, message })
    }

    /// The spec says what the CRD of this release would have refused.
    pub fn spec(message: String) -> Self {
        Self::Unusable(StoreTrouble { kind: StoreTroubleKind::InvalidSpec, message })
    }
}
