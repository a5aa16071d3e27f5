//! Why an object is in the state it is in: the one table of reasons, for conditions, events, metrics and the documentation.
//!
//! A reason is for programs and for good; what it means for one object, and what to do, is in the condition's message.

use crate::model::{StoreTroubleKind, TroubleKind, Withdrawal};

use super::condition::Progress;

/// Defines an enum of reasons from rows of name, kstatus progress, meaning and remedy.
macro_rules! reasons {
    ($(#[$doc:meta])* $Type:ident { $($Name:ident $progress:ident $help:literal $remedy:literal)* }) => {
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

            /// What a person does about it, as the documentation says it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$Name => $remedy,)* }
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
            "Nothing."
        Progressing Reconciling "The first synchronisation, or that of a changed spec, is under way."
            "Wait. If it lasts for minutes, look at the Ready condition of the store, and at the operator's log."
        Suspended Settled "spec.suspend is true: nothing is read, written or deleted."
            "Remove spec.suspend, or set it to false, to go on."
        InvalidSpec Stalled "The spec holds something that the CRD of this release refuses."
            "Correct the field that the message names, and install the CRDs of this release."
        StoreNotFound Stalled "The store that storeRef names does not exist."
            "Correct spec.storeRef, or have the store created: kubectl get clusterokmsstores shows those there are."
        StoreNotReady Settled "The store as a whole does not work; its own Ready condition says why. The Secret is kept."
            "Mend the store, by its own reason."
        AccessDenied Stalled "No access rule of the store covers this namespace and path. The Secret is kept, but not repaired."
            "Have the owner of the store add a rule to its spec.access, or correct the path."
        PathNotFound Stalled "OKMS has no secret at this path, and none was ever read from there into this Secret."
            "Correct the path, or create the secret in OKMS."
        VersionNotFound Stalled "OKMS has no version of the pinned number: it was never made, or the secret was deleted and made again. A Secret that was made from it is kept."
            "Correct the pin, version, or remove it to follow the current version."
        NoVersion Stalled "The secret exists in OKMS, but has no version."
            "Write a version in OKMS."
        Forbidden Stalled "OKMS refuses this path while others can be read. The Secret is kept."
            "Grant the identity of the store's credential the IAM actions that the message names, on the resource that it names."
        VersionDeactivated Stalled "The version was deactivated in OKMS; withdrawalPolicy says what became of the Secret."
            "Reactivate the version, or write a new one; where it is pinned, move the pin. If it was meant for good, delete the OkmsSecret."
        VersionDestroyed Stalled "The version was destroyed in OKMS; withdrawalPolicy says what became of the Secret."
            "Write a new version; where it is pinned, move the pin. If it was meant for good, delete the OkmsSecret."
        VersionPruned Stalled "The pinned version was pruned in OKMS to make room for newer ones; withdrawalPolicy says what became of the Secret."
            "Move the pin, version, to one that is still there, or remove it to follow the current version."
        SecretDeleted Stalled "The secret was deleted in OKMS; withdrawalPolicy says what became of the Secret."
            "Write the secret in OKMS again. If it was meant for good, delete the OkmsSecret."
        WithdrawalHeld Stalled "The withdrawal exceeds the store's maxWithdrawalsPerHour and waits to be confirmed on the store. The Secret is kept."
            "Look whether so many withdrawals were meant, then confirm them on the store with the command in its condition WithdrawalHeld. What was not meant, undo in OKMS."
        WithdrawalUnconfirmed Settled "OKMS said once that the secret is gone; the Secret is kept until a second answer confirms it."
            "Wait for the second answer, or write the secret in OKMS again."
        PinnedVersionReplaced Stalled "The secret was deleted and made again, so that the pinned number now means other content. The Secret is kept."
            "To take the new content, delete the Secret or change the pin, version."
        KeyNotFound Stalled "A required key is made from a field that the secret does not have. The Secret is kept."
            "Correct from, make the key optional, or add the field in OKMS. The message lists the fields that are there."
        InvalidKey Stalled "The name of a field cannot be a key of a Secret. The Secret is kept."
            "Name the keys, in the keys of this source: spec.keys or spec.sources[].keys. The message shows how."
        KeyConflict Stalled "Two sources, or two templates, give the same key. The Secret is kept."
            "Give one of them another name with keys or prefix, set onKeyConflict to LastWins, or choose the keys of the ConfigMap in templateFrom."
        DecodeFailed Stalled "A field is not what decode says, such as Base64, or the secret is not a JSON object of Unicode text. The Secret is kept."
            "Correct the field in OKMS or the decode of the key; the message names both."
        TemplateFailed Stalled "A template cannot be rendered, or its ConfigMap cannot be read. The Secret is kept."
            "Correct the template at the line and column that the message names, or the ConfigMap."
        TooLarge Stalled "The content is larger than a Secret, or an answer of OKMS, may be: 1 MiB. Or it is nested too deeply. The Secret is kept."
            "Select fewer fields with keys, or split the secret in OKMS. Store a deep part as a string."
        InvalidForType Stalled "The content does not fit the type of the Secret. The Secret is kept."
            "Make the missing or wrong key that the message names, with keys or a template, or correct spec.target.type."
        EmptySource Stalled "There is nothing to put into the Secret, and an empty Secret is never written. The Secret is kept."
            "Write at least one field in OKMS and, where keys selects fields, one that it selects."
        TargetNotOwned Stalled "A Secret of that name exists and belongs to somebody else; it is never touched without consent."
            "Delete it, choose another spec.target.name, or give consent with the command that the message shows."
        TargetMissing Stalled "With creationPolicy Merge: the Secret to merge into does not exist."
            "Create the Secret, with the annotation okms-operator.io/allow, or correct spec.target.name."
        TargetConflict Stalled "Somebody else keeps changing the Secret back, or has keys of the same name in a merged one; the operator stopped writing them."
            "Stop the other writer, whom the message names, choose another spec.target.name, or give the keys other names."
        TargetRefused Stalled "The API server refuses the Secret; the message holds its reason."
            "Do what the API server says: a quota, a policy or a missing right of the operator."
        TargetDrifted Settled "The Secret differs from its source, or cannot be looked at, and cannot be repaired right now."
            "Mend what the message names. The Secret is repaired as soon as its source can be read."
        OkmsUnavailable Settled "OKMS does not answer for this path alone, or could not be asked for too long. The Secret is kept."
            "Wait: it is tried again. If it lasts, look at the state of the OKMS service."
        UnexpectedAnswer Settled "OKMS answers for this path with something that cannot be understood, or with an older version than before. The Secret is kept."
            "Wait: it is tried again. If it lasts, report it with the message."
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
            "Nothing."
        Progressing Reconciling "The store is new or was changed, and OKMS has not answered yet."
            "Wait. If it lasts for minutes, look at the operator's log."
        InvalidSpec Stalled "The spec holds something that the CRD of this release refuses."
            "Correct the field that the message names, and install the CRDs of this release."
        NotAllowed Stalled "This operator does not serve the store: its endpoint is not among the allowed ones, its namespace has too many stores, or stores of namespaces are switched off."
            "Read from an allowed endpoint, or delete a store that is not needed; or have whoever installed the operator allow it, with --allowed-endpoint, --max-stores-per-namespace or --namespaced-stores."
        InvalidCredential Stalled "The credential or the certificate authority is missing, malformed, expired or of another domain: no request can be made."
            "Provide what the message names; it is taken up without a restart."
        RateLimited Settled "OKMS asks to slow down."
            "Wait. If it comes back, lower spec.limits.requestsPerSecond or make the intervals longer."
        OkmsUnavailable Settled "OKMS does not answer, or reports an error of its own."
            "Check spec.endpoint and the way there: DNS, firewall, network policy. If they are right, wait: it is tried again."
        TlsFailed Stalled "The TLS connection fails: the server's certificate is not trusted, or the client's is not accepted."
            "Do what the message says: it tells apart whose certificate is not accepted, and why."
        Refused Stalled "OKMS, or the token endpoint, does not accept the identity, such as one that was revoked. One that OKMS knows and that may read nothing leaves the store Ready, and what reads through it Forbidden."
            "Grant the IAM actions that the message names, or provide another credential."
        UnexpectedAnswer Settled "Something answers that is not this OKMS domain."
            "Check spec.endpoint, spec.okmsId, the token endpoint, and what stands between, such as a proxy."
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
            StoreTroubleKind::InvalidSpec => Self::InvalidSpec,
            StoreTroubleKind::NotAllowed => Self::NotAllowed,
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
        for kind in StoreTroubleKind::ALL {
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
    fn every_meaning_and_every_remedy_is_a_sentence() {
        let texts = Reason::ALL.iter().map(|reason| [reason.help(), reason.remedy()]);
        let store_texts = StoreReason::ALL.iter().map(|reason| [reason.help(), reason.remedy()]);
        for text in texts.chain(store_texts).flatten() {
            assert!(
                text.ends_with('.') && text.starts_with(|c: char| c.is_ascii_uppercase() || text.starts_with("spec.")),
                "{text}"
            );
        }
    }
}
