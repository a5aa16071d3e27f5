//! Random answers of OKMS, as recipes: what holds a value cannot be printed.

use jiff::Timestamp;
use proptest::{collection::vec, prelude::*, sample::select};
use zeroize::Zeroizing;

use crate::model::{Finding, Mark, Source, Trouble, TroubleKind, Value, Verdict, Withdrawal};

pub(super) fn mark(version: u32, second: i64) -> Mark {
    Mark { version: version.try_into().unwrap(), created_at: Some(Timestamp::from_second(second).unwrap()) }
}

/// A verdict that can be printed.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Version, second of its creation, data.
    Active(u32, i64, Option<String>),
    Withdrawn(Withdrawal, u32, i64),
    Missing(bool),
    NoVersion,
    VersionNotFound,
    Trouble(TroubleKind),
}

impl Answer {
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Active(version, at, text) => {
                let value = |text: &String| Value::from_json_object(Zeroizing::new(text.as_bytes().to_vec()));
                Verdict::Active { mark: mark(*version, *at), deactivates_at: None, value: text.as_ref().map(value) }
            }
            Self::Withdrawn(how, version, at) => Verdict::Withdrawn { how: *how, mark: mark(*version, *at) },
            Self::Missing(confirmed) => Verdict::Missing { confirmed: *confirmed },
            Self::NoVersion => Verdict::NoVersion,
            Self::VersionNotFound => Verdict::VersionNotFound,
            Self::Trouble(kind) => Verdict::Trouble(Trouble { kind: *kind, message: "it failed".into() }),
        }
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self, Self::Active(..))
    }

    /// Whether OKMS said, in a way that counts, that what was there was taken back.
    pub(super) fn is_proof(&self) -> bool {
        matches!(self, Self::Withdrawn(..) | Self::Missing(true))
    }

    /// The same without data, as after a check.
    pub(super) fn checked(&self) -> Self {
        match self {
            Self::Active(version, at, _) => Self::Active(*version, *at, None),
            other => other.clone(),
        }
    }
}

pub(super) fn finding(source: &Source, answer: &Answer, held: Option<Withdrawal>) -> Finding {
    Finding { source: source.clone(), verdict: answer.verdict(), current: None, held }
}

pub(super) fn withdrawal() -> impl Strategy<Value = Withdrawal> {
    use Withdrawal::{SecretDeleted, VersionDeactivated, VersionDestroyed, VersionPruned};
    select(vec![VersionDeactivated, VersionDestroyed, VersionPruned, SecretDeleted])
}

/// The data of a secret: mostly such as makes keys.
pub(super) fn data() -> impl Strategy<Value = String> {
    let value = select(vec!["\"1\"", "\"2\"", "\"aGk=\"", "12.50", "null", "[1, {\"x\": \"y\"}]"]);
    let field = (select(vec!["v", "v", "w", "odd", "K", "tls.crt", "username"]), value)
        .prop_map(|(name, value)| format!("\"{name}\": {value}"));
    let deep = Just("\"deep\": {\"er\": \"x\"}".to_owned());
    let object = vec(prop_oneof![6 => field, 1 => deep], 0..4).prop_map(|fields| format!("{{{}}}", fields.join(", ")));
    let bad = select(vec!["null", "[]", "{\"a b\": 1}", "{", ""]).prop_map(str::to_owned);
    prop_oneof![8 => object, 1 => bad]
}

pub(super) fn answer(data: impl Strategy<Value = Option<String>>) -> impl Strategy<Value = Answer> {
    let kind = select(vec![
        TroubleKind::Forbidden,
        TroubleKind::OkmsUnavailable,
        TroubleKind::UnexpectedAnswer,
        TroubleKind::TooLarge,
    ]);
    prop_oneof![
        4 => (1_u32..4, 98_i64..103, data).prop_map(|(version, at, text)| Answer::Active(version, at, text)),
        2 => (withdrawal(), 1_u32..4, 98_i64..103).prop_map(|(how, version, at)| Answer::Withdrawn(how, version, at)),
        1 => any::<bool>().prop_map(Answer::Missing),
        1 => select(vec![Answer::NoVersion, Answer::VersionNotFound]),
        1 => kind.prop_map(Answer::Trouble),
    ]
}
