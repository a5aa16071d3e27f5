//! What one `OkmsSecret` asks for, parsed: its sources, the keys to make of each, the shape of the target.
//!
//! These types hold names, never values of secrets. They cannot be wrong once they are made, so nothing behind them checks again.
//! Next: [`render`](super::render()), which turns them and the values into data.

use std::{borrow::Borrow, collections::BTreeMap, fmt, iter, str::FromStr, sync::Arc};

use sha2::{Digest, Sha256};

use super::{RenderErrorKind, SecretType};
use crate::{
    api::{CreationPolicy, Decode, OnKeyConflict, TemplateMode},
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
    pub templates: Templates,
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

/// The templates that the content of the target is made by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Templates {
    /// By the key that each makes. Where there is none, the keys that the sources give stay as they are.
    pub data: BTreeMap<SecretKey, String>,
    pub mode: TemplateMode,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// What was added from ConfigMaps.
    pub added: Option<Added>,
}

/// Templates that do not stand in the spec: they may change without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Names exactly what was added, so that a target can be held against it. A hash; templates are no secret.
    pub digest: String,
    /// Why they cannot be had, or not all together. A sentence.
    pub problem: Option<(RenderErrorKind, String)>,
}

impl Templates {
    /// Adds the templates of ConfigMaps: for each its name, its chosen keys (none: all), and what it holds or why that is not known.
    pub fn add<'m>(
        &mut self,
        maps: impl Iterator<Item = (&'m str, Option<&'m [String]>, Result<BTreeMap<String, String>, String>)>,
    ) {
        let (mut hash, mut problem, mut any) = (Sha256::new(), None, false);
        for (name, keys, held) in maps {
            any = true;
            let held = held.map_err(|problem| (RenderErrorKind::TemplateFailed, problem));
            let outcome = held.and_then(|held| self.add_one(&mut hash, name, keys, held));
            if let Err(found) = outcome {
                hash.update(found.1.as_bytes());
                problem.get_or_insert(found);
            }
        }
        let digest = hash.finalize().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        self.added = any.then_some(Added { digest, problem });
    }

    fn add_one(
        &mut self,
        hash: &mut Sha256,
        map: &str,
        keys: Option<&[String]>,
        held: BTreeMap<String, String>,
    ) -> Result<(), (RenderErrorKind, String)> {
        let failed = |what: String| (RenderErrorKind::TemplateFailed, what);
        if let Some(key) = keys.unwrap_or_default().iter().find(|key| !held.contains_key(*key)) {
            return Err(failed(format!("ConfigMap {map} has no key {key}: add it, or correct templateFrom")));
        }
        for (key, text) in held.into_iter().filter(|(key, _)| keys.is_none_or(|keys| keys.contains(key))) {
            for part in [key.as_bytes(), text.as_bytes()] {
                hash.update(part.len().to_le_bytes());
                hash.update(part);
            }
            let key: SecretKey = key.parse().map_err(|error| failed(format!("{key} of ConfigMap {map}: {error}")))?;
            if self.data.contains_key(&key) {
                let message = format!(
                    "ConfigMap {map} has a template of the key {key}, and so has another or template.data: choose keys in \
                     templateFrom"
                );
                return Err((RenderErrorKind::KeyConflict, message));
            }
            self.data.insert(key, text);
        }
        Ok(())
    }

    /// Whether something is made by templates.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && self.labels.is_empty() && self.annotations.is_empty() && self.added.is_none()
    }

    pub(super) fn digest(&self) -> Option<&str> {
        self.added.as_ref().map(|added| added.digest.as_str())
    }
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
