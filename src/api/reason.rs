//! Why an object is in the state it is in: the one table of reasons, for conditions, events, metrics and the documentation.
//!
//! A reason is for programs and for good; what it means for one object, and what to do, is in the condition's message.

use crate::model::{StoreTroubleKind, TroubleKind, Withdrawal};

use super::condition::Progress;

/// Defines an enum of reasons from rows of name, kstatus progress and meaning.
macro_rules! reasons {
    ($(#[$doc:meta])* $Type:ident { $($Name:ident $progress:ident $help:literal)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $Type {
            $(#[doc = $help] $Name,)*
        }

        impl $Type {
            /// Every reason, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$Name),*];

            /// The reason as it stands in a condition.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$Name => stringify!($Name),)* }
            }

            /// What stands beside `Ready` with this reason.
            pub fn progress(self) -> Progress {
                match self { $(Self::$Name => Progress::$progress,)* }
            }

            /// Whether a person has to act before anything changes.
            pub fn is_stalled(self) -> bool {
                self.progress() == Progress::Stalled
            }

            /// What it means, as the documentation says it.
            pub fn help(self) -> &'static str {
                match self { $(Self::$Name => $help,)* }
            }
        }

        impl std::fmt::Display for $Type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

reasons! {
    /// The reasons of an `OkmsSecret`'s `Ready` condition.
    Reason {
        Synced Settled "The Secret equals the rendering of exactly the source versions that the status shows."
        Progressing Reconciling "The first synchronisation, or that of a changed spec, is under way."
        Suspended Settled "spec.suspend is true: nothing is read, written or deleted."
        InvalidSpec Stalled "The spec holds something that the CRD of this release refuses. Correct it, and install the CRDs of this release."
        StoreNotFound Stalled "The store that storeRef names does not exist."
        StoreNotReady Settled "The store as a whole does not work; its own Ready condition says why. The Secret is kept."
        AccessDenied Stalled "No access rule of the store covers this namespace and path. The Secret is kept, but not repaired."
        PathNotFound Stalled "OKMS has no secret at this path, and none was ever read from there into this Secret."
        VersionNotFound Stalled "The pinned version was never made."
        NoVersion Stalled "The secret exists in OKMS, but has no version."
        Forbidden Stalled "OKMS refuses this path while others can be read; the message names the missing IAM action."
        VersionDeactivated Stalled "The version was deactivated in OKMS; withdrawalPolicy says what became of the Secret."
        VersionDestroyed Stalled "The version was destroyed in OKMS; withdrawalPolicy says what became of the Secret."
        VersionPruned Stalled "The pinned version was pruned in OKMS to make room for newer ones; withdrawalPolicy says what became of the Secret."
        SecretDeleted Stalled "The secret was deleted in OKMS; withdrawalPolicy says what became of the Secret."
        WithdrawalHeld Stalled "The withdrawal exceeds the store's maxWithdrawalsPerHour and waits to be confirmed on the store. The Secret is kept."
        WithdrawalUnconfirmed Settled "OKMS said once that the secret is gone; the Secret is kept until a second answer confirms it."
        PinnedVersionReplaced Stalled "The secret was deleted and made again, so that the pinned number now means other content. The Secret is kept."
        KeyNotFound Stalled "A required key has no such field in the secret. The Secret is kept."
        InvalidKey Stalled "A field name cannot be a key of a Secret: name a legal one under spec.keys. The Secret is kept."
        KeyConflict Stalled "Two values claim the same key of the Secret. The Secret is kept."
        DecodeFailed Stalled "The secret cannot be taken apart as JSON; the message says where. The Secret is kept."
        TemplateFailed Stalled "A template cannot be rendered; the message says which, where and why. The Secret is kept."
        TooLarge Stalled "The content is larger than a Secret, or an answer of OKMS, may be. The Secret is kept."
        InvalidForType Stalled "The content does not fit the type of the Secret; the message names the missing or wrong key. The Secret is kept."
        EmptySource Stalled "The secret has no content, and an empty Secret is never written. The Secret is kept."
        TargetNotOwned Stalled "A Secret of that name exists and belongs to somebody else; it is never touched without consent."
        TargetMissing Stalled "With creationPolicy Merge: the Secret to merge into does not exist."
        TargetConflict Stalled "Somebody else keeps changing the Secret back, or has keys of the same name in a merged one; the operator stopped writing them."
        TargetRefused Stalled "The API server refuses the Secret; the message holds its reason."
        TargetDrifted Settled "The Secret differs from its source, or cannot be looked at, and cannot be repaired right now."
        OkmsUnavailable Settled "OKMS does not answer for this path alone. The Secret is kept."
        UnexpectedAnswer Settled "OKMS answers for this path with something that cannot be understood. The Secret is kept."
    }
}

impl Reason {
    /// Whether this is what OKMS said, or that it said nothing; not what Kubernetes did or somebody wrote.
    pub fn is_about_okms(self) -> bool {
        !matches!(
            self,
            Self::Progressing
                | Self::Suspended
                | Self::InvalidSpec
                | Self::StoreNotFound
                | Self::AccessDenied
                | Self::TargetNotOwned
                | Self::TargetMissing
        )
    }

    /// Whether the content that was read does not make the Secret: that stays so until the content or the spec changes.
    pub fn is_about_content(self) -> bool {
        matches!(
            self,
            Self::KeyNotFound
                | Self::InvalidKey
                | Self::KeyConflict
                | Self::DecodeFailed
                | Self::TemplateFailed
                | Self::TooLarge
                | Self::InvalidForType
                | Self::EmptySource
        )
    }

    /// Whether OKMS took back what the Secret was made from.
    pub fn is_withdrawal(self) -> bool {
        matches!(
            self,
            Self::VersionDeactivated
                | Self::VersionDestroyed
                | Self::VersionPruned
                | Self::SecretDeleted
                | Self::WithdrawalHeld
        )
    }
}

reasons! {
    /// The reasons of a store's `Ready` condition.
    StoreReason {
        Reachable Settled "OKMS answers and accepts the credential."
        Progressing Reconciling "The store is new or was changed, and OKMS has not answered yet."
        InvalidSpec Stalled "The spec holds something that the CRD of this release refuses. Correct it, and install the CRDs of this release."
        InvalidCredential Stalled "The credential is missing, malformed, expired or of another domain: no request can be made."
        RateLimited Settled "OKMS asks to slow down."
        OkmsUnavailable Settled "OKMS does not answer, or reports an error of its own."
        TlsFailed Stalled "The TLS connection fails: the server's certificate is not trusted, or the client's is not accepted."
        Refused Stalled "OKMS does not accept the identity: the certificate is revoked, or has no rights in the domain."
        UnexpectedAnswer Settled "Something answers that is not this OKMS domain."
    }
}

/// The reasons of events about a change of the target. An event about a failure carries the condition's [`Reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetChange {
    /// The Secret was created.
    Created,
    /// It was given the content of other source versions, or what a changed spec asks for.
    Updated,
    /// Somebody had changed or deleted it, and it was put right.
    Repaired,
    /// It was deleted and created again, because its type cannot be changed.
    Replaced,
    /// It was deleted, because its source was withdrawn or the target was renamed.
    Deleted,
}

impl TargetChange {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Updated => "Updated",
            Self::Repaired => "Repaired",
            Self::Replaced => "Replaced",
            Self::Deleted => "Deleted",
        }
    }
}

impl From<Withdrawal> for Reason {
    fn from(how: Withdrawal) -> Self {
        match how {
            Withdrawal::VersionDeactivated => Self::VersionDeactivated,
            Withdrawal::VersionDestroyed => Self::VersionDestroyed,
            Withdrawal::VersionPruned => Self::VersionPruned,
            Withdrawal::SecretDeleted => Self::SecretDeleted,
        }
    }
}

impl From<TroubleKind> for Reason {
    fn from(kind: TroubleKind) -> Self {
        match kind {
            TroubleKind::Forbidden => Self::Forbidden,
            TroubleKind::OkmsUnavailable => Self::OkmsUnavailable,
            TroubleKind::UnexpectedAnswer => Self::UnexpectedAnswer,
            TroubleKind::TooLarge => Self::TooLarge,
        }
    }
}

impl From<StoreTroubleKind> for StoreReason {
    fn from(kind: StoreTroubleKind) -> Self {
        match kind {
            StoreTroubleKind::InvalidCredential => Self::InvalidCredential,
            StoreTroubleKind::RateLimited => Self::RateLimited,
            StoreTroubleKind::OkmsUnavailable => Self::OkmsUnavailable,
            StoreTroubleKind::TlsFailed => Self::TlsFailed,
            StoreTroubleKind::Refused => Self::Refused,
            StoreTroubleKind::UnexpectedAnswer => Self::UnexpectedAnswer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_trouble_keeps_its_name() {
        for kind in [
            StoreTroubleKind::InvalidCredential,
            StoreTroubleKind::RateLimited,
            StoreTroubleKind::OkmsUnavailable,
            StoreTroubleKind::TlsFailed,
            StoreTroubleKind::Refused,
            StoreTroubleKind::UnexpectedAnswer,
        ] {
            assert_eq!(StoreReason::from(kind).as_str(), kind.reason());
        }
    }

    #[test]
    fn a_withdrawn_source_needs_a_person() {
        for how in [
            Withdrawal::VersionDeactivated,
            Withdrawal::VersionDestroyed,
            Withdrawal::VersionPruned,
            Withdrawal::SecretDeleted,
        ] {
            assert!(Reason::from(how).is_stalled(), "{how:?}");
        }
    }

    #[test]
    fn every_meaning_is_a_sentence() {
        let help = Reason::ALL.iter().map(|reason| reason.help());
        let store_help = StoreReason::ALL.iter().map(|reason| reason.help());
        for text in help.chain(store_help) {
            assert!(
                text.ends_with('.') && text.starts_with(|c: char| c.is_ascii_uppercase() || text.starts_with("spec.")),
                "{text}"
            );
        }
    }
}
