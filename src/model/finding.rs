//! What OKMS said about a secret ([`Facts`], [`Reading`]) and what that means for one source ([`Finding`]).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Mark, Source, Value, Version};

/// One metadata answer: everything about a secret but its data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Absent for a secret without a version.
    pub current: Option<Version>,
    /// The smallest version that was kept when older ones were pruned; absent until something was pruned (OKMS sends 0 then).
    pub oldest: Option<Version>,
    /// Absent where the answer carries no map of versions; then nothing is known of their states.
    pub versions: Option<BTreeMap<Version, VersionFacts>>,
}

/// What is known of one version besides its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VersionFacts {
    pub created_at: Option<Timestamp>,
    /// When the version was, or will be, deactivated. A time in the future is a plan, not a fact.
    pub deletion_time: Option<Timestamp>,
    pub destroyed: bool,
}

impl VersionFacts {
    pub fn state(&self, now: Timestamp) -> State {
        if self.destroyed {
            State::Destroyed
        } else if self.deletion_time.is_some_and(|time| time <= now) {
            State::Deactivated
        } else {
            State::Active
        }
    }
}

/// The state of a version; `delete` of KV2 is called deactivation by OKMS, `destroy` deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    Active,
    Deactivated,
    Destroyed,
}

/// One answer to a read of data.
pub enum Reading {
    /// The data of a version that is active.
    Data { mark: Mark, facts: VersionFacts, value: Value },
    /// A not-found that carries the metadata of the version: it is there, but it is deactivated or destroyed.
    Unreadable { version: Version, facts: VersionFacts },
}

/// What was found out about one source of one `OkmsSecret`. Holds a value only while somebody waits for it.
#[derive(Clone)]
pub struct Finding {
    pub source: Source,
    pub verdict: Verdict,
    /// The current version of the secret where it is known; for a pin it may be newer than the pin.
    pub current: Option<Version>,
    /// Set when the version that the target was made from, though not the one the source means now, has itself been withdrawn.
    pub held: Option<Withdrawal>,
}

#[derive(Clone)]
pub enum Verdict {
    /// The version that the source means can be read.
    Active {
        mark: Mark,
        deactivates_at: Option<Timestamp>,
        /// Absent when the target was said to hold this version already.
        value: Option<Value>,
    },
    /// OKMS showed, in an answer that counts as proof, that the version was taken back.
    Withdrawn { how: Withdrawal, mark: Mark },
    /// OKMS says that it has no secret at this path. It proves a deletion only once it is confirmed: seen twice, far enough apart,
    /// while the store works. Whether anything was ever read from there is not known here.
    Missing { confirmed: bool },
    /// The secret is there and has no version.
    NoVersion,
    /// The pinned version was never made.
    VersionNotFound,
    /// This path alone cannot be read.
    Trouble(Trouble),
}

impl Verdict {
    /// Which content was found, whether it can be read or not.
    pub fn mark(&self) -> Option<&Mark> {
        match self {
            Self::Active { mark, .. } | Self::Withdrawn { mark, .. } => Some(mark),
            _ => None,
        }
    }

    /// Whether OKMS says that there is nothing to be read.
    pub fn is_absence(&self) -> bool {
        !matches!(self, Self::Active { .. } | Self::Trouble(_))
    }

    /// Whether this is not an answer of OKMS, but the lack of one.
    pub fn is_trouble(&self) -> bool {
        matches!(self, Self::Trouble(_))
    }
}

/// How a source was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Withdrawal {
    VersionDeactivated,
    VersionDestroyed,
    VersionPruned,
    SecretDeleted,
}

/// What is wrong with one path while its store works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub kind: TroubleKind,
    /// One sentence. Stable: no times, no request ids, no text of a remote answer.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TroubleKind {
    Forbidden,
    OkmsUnavailable,
    UnexpectedAnswer,
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_time_in_the_future_is_not_yet_a_deactivation() {
        let time = |second| Timestamp::from_second(second).unwrap();
        let facts = VersionFacts { deletion_time: Some(time(100)), ..VersionFacts::default() };
        assert_eq!(facts.state(time(99)), State::Active);
        assert_eq!(facts.state(time(100)), State::Deactivated);
        assert_eq!(VersionFacts { destroyed: true, ..facts }.state(time(99)), State::Destroyed);
    }
}
