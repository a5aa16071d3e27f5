//! What one `OkmsSecret` asks for, parsed: its sources, the keys to make of each, the shape of the target.
//!
//! These types hold names, never values of secrets. They cannot be wrong once they are made, so nothing behind them checks again.
//! Next: [`render`](super::render()), which turns them and the values into data.

use std::{borrow::Borrow, collections::BTreeMap, fmt, iter, str::FromStr, sync::Arc};

use super::SecretType;
use crate::{
    api::{CreationPolicy, Decode, OnKeyConflict},
    model::Source,
};

/// Why a key or type of a Secret cannot be one. The message says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub(super) &'static str);

/// Everything that one `OkmsSecret` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub sources: SourceSet,
    pub on_key_conflict: OnKeyConflict,
    pub target: TargetShape,
}

/// The sources of one `OkmsSecret`, in the order of its spec; there is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSet {
    first: WantedSource,
    more: Vec<WantedSource>,
}

impl SourceSet {
    pub fn new(first: WantedSource, more: Vec<WantedSource>) -> Self {
        Self { first, more }
    }

    /// The same, from a list that may be empty.
    pub fn from_list(sources: Vec<WantedSource>) -> Option<Self> {
        let mut sources = sources.into_iter();
        Some(Self { first: sources.next()?, more: sources.collect() })
    }

    pub fn iter(&self) -> impl Iterator<Item = &WantedSource> {
        iter::once(&self.first).chain(&self.more)
    }
}

impl From<WantedSource> for SourceSet {
    fn from(only: WantedSource) -> Self {
        Self::new(only, Vec::new())
    }
}

/// One source and the keys to make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSource {
    /// Where the spec names it, for messages.
    pub place: Place,
    pub source: Source,
    pub keys: KeyPlan,
    /// Put before the name of every key of this source; made of characters that a key may have.
    pub prefix: String,
    /// Whether it contributes nothing, instead of failing the whole, while there is nothing to be read.
    pub optional: bool,
}

/// Where a spec names a source: shown as `spec` or `spec.sources[1]`, before the name of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the short form, beside everything else.
    Spec,
    /// In the n-th entry of `sources`.
    Entry(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spec => f.write_str("spec"),
            Self::Entry(n) => write!(f, "spec.sources[{n}]"),
        }
    }
}

/// Which keys a source becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlan {
    /// Every top-level field, under its own name.
    All,
    /// These and no others.
    Selected(Vec<KeyRule>),
}

/// One key of the target and the part of the source that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRule {
    pub to: SecretKey,
    pub from: Selector,
    /// Whether the key is left out, instead of failing the whole, where the source has no such part.
    pub optional: bool,
    /// How the part is decoded; absent: not at all.
    pub decode: Option<Decode>,
}

/// A part of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The whole secret, as compact JSON.
    Whole,
    /// The top-level field of exactly this name; if there is none and it begins with `/`, what it points at as a JSON pointer (RFC 6901).
    Field(String),
}

/// The target as it shall look, but for its data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetShape {
    pub name: String,
    pub type_: SecretType,
    /// As the user gave them; what the operator itself puts on every target is added when it is written, and wins.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub immutable: bool,
    pub policy: CreationPolicy,
}

/// A key of a Secret's `data`: 1 to 253 characters of `a-zA-Z0-9-._`, not `.`, and not beginning with `..`.
///
/// The rule is that of the Kubernetes API server (`IsConfigMapKey` in apimachinery), which keeps keys usable as file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey(Arc<str>);

impl SecretKey {
    /// The longest key that Kubernetes takes, in characters, all of which are ASCII.
    pub const MAX_LENGTH: usize = 253;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn allows(c: char) -> bool {
        c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')
    }

    /// A legal key that resembles a name which is not one, to propose to the user.
    pub(super) fn suggestion(name: &str) -> Self {
        let legal = |c| if Self::allows(c) { c } else { '_' };
        let text: String = name.trim_start_matches('.').chars().map(legal).take(Self::MAX_LENGTH).collect();
        Self(if text.is_empty() { "key".into() } else { text.into() })
    }
}

impl FromStr for SecretKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() || text.len() > Self::MAX_LENGTH {
            return Err(ParseError("a key of a Secret has 1 to 253 characters: choose a shorter name"));
        }
        if !text.chars().all(Self::allows) {
            return Err(ParseError("a key of a Secret has only the characters a-z A-Z 0-9 - . _: replace the others"));
        }
        if text == "." || text.starts_with("..") {
            return Err(ParseError("a key of a Secret is not '.' and does not begin with '..': choose another name"));
        }
        Ok(Self(text.into()))
    }
}

/// So that a map by key is asked with a plain string; the order of both is that of the bytes.
impl Borrow<str> for SecretKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<SecretKey> for String {
    fn from(key: SecretKey) -> Self {
        key.0.as_ref().to_owned()
    }
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_kubernetes_refuses_are_refused() {
        let long = "a".repeat(254);
        for bad in ["", ".", "..", "..data", "a b", "a/b", "é", "a\n", long.as_str()] {
            assert!(bad.parse::<SecretKey>().is_err(), "{bad:?} was taken");
        }
        for good in ["a", ".a", "a..b", ".dockerconfigjson", "tls.crt", "A_b-C.1", &long[..253]] {
            assert_eq!(good.parse::<SecretKey>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_suggested_key_is_legal_and_resembles_the_name() {
        for (name, suggestion) in
            [("db password", "db_password"), ("a/é", "a__"), ("..data", "data"), ("..", "key"), ("", "key")]
        {
            assert_eq!(SecretKey::suggestion(name).as_str(), suggestion);
        }
        assert!(SecretKey::suggestion(&"é".repeat(300)).as_str().parse::<SecretKey>().is_ok());
    }
}
