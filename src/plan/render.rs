//! From the values of sources to the data of the Secret: the only place where the text of a secret is taken apart.
//!
//! Guarantees: a key comes from a source or not at all; either everything that is required is there or nothing is rendered; no error
//! holds any part of a value. The work is bounded by the length of the values, the buffers are overwritten when dropped.
//! Next: [`SecretType`], which has the last word on the content.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt::Write as _};

use k8s_openapi::ByteString;
use zeroize::Zeroizing;

use super::{
    Content, KeyPlan, KeyRule, SecretKey, Selector, Templates, Wanted, WantedSource,
    decode::decode,
    json::{Json, MAX_DEPTH, Malformed, Object},
    template::{Renderer, TemplateError, TemplateErrorKind},
};
use crate::{
    api::{Decode, OnKeyConflict, TemplateMode},
    model::{Path, Value},
};

/// The most bytes that the values of one Secret may have together: `MaxSecretSize` of Kubernetes, whose API server counts the values
/// alone (`ValidateSecret`).
pub const MAX_DATA_SIZE: usize = 1024 * 1024;

/// Makes the content of a Secret from one reading of each source that contributes to it, in the order of the spec.
///
/// `salt` is what makes hashed passwords of templates differ between objects, such as their namespace and name. It is not secret.
pub fn render(wanted: &Wanted, readings: &[(&WantedSource, &Value)], salt: &str) -> Result<Rendering, RenderError> {
    let mut draft = Draft { on_key_conflict: wanted.on_key_conflict, ..Draft::default() };
    for (source, value) in readings {
        draft.add_source(source, value)?;
    }
    draft.finish(wanted, readings, salt)
}

/// The content of a Secret, complete and fit for its type; its data is never empty. It has no `Debug`.
#[derive(Default)]
pub struct Rendering {
    data: BTreeMap<SecretKey, Zeroizing<Vec<u8>>>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Rendering {
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(|bytes| bytes.as_slice())
    }

    /// The keys, sorted.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &SecretKey> {
        self.data.keys()
    }

    /// The content as the Kubernetes types have it. From here on nobody overwrites it, so make it only for a comparison or a write.
    pub fn into_content(self) -> Content {
        // The buffer itself moves on, so that no copy is left behind.
        let bytes =
            |(key, mut bytes): (SecretKey, Zeroizing<Vec<u8>>)| (key.into(), ByteString(std::mem::take(&mut *bytes)));
        Content { data: self.data.into_iter().map(bytes).collect(), labels: self.labels, annotations: self.annotations }
    }
}

/// Why sources do not make the Secret. The message names paths and keys, says what to do, and never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RenderError {
    pub kind: RenderErrorKind,
    pub message: String,
}

/// The class of a [`RenderError`]; each is the reason of a `Ready` condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RenderErrorKind {
    /// A required key is made of something that the source does not have.
    KeyNotFound,
    /// A field's own name cannot be a key of a Secret.
    InvalidKey,
    /// Two rules give the same key.
    KeyConflict,
    /// The text of a secret is not a JSON object of Unicode strings, or a field is not what is to be decoded.
    DecodeFailed,
    /// A template cannot be rendered.
    TemplateFailed,
    /// More bytes than a Secret can have, or nested too deeply.
    TooLarge,
    /// The content is not what the type of the Secret asks for.
    InvalidForType,
    /// There is nothing to put into the Secret.
    EmptySource,
}

fn error(kind: RenderErrorKind, message: String) -> RenderError {
    RenderError { kind, message }
}

/// The keys that are there so far, each with the path that gave it.
#[derive(Default)]
struct Draft<'a> {
    on_key_conflict: OnKeyConflict,
    data: BTreeMap<SecretKey, (&'a Path, Zeroizing<Vec<u8>>)>,
    size: usize,
}

impl<'a> Draft<'a> {
    fn add_source(&mut self, wanted: &'a WantedSource, value: &Value) -> Result<(), RenderError> {
        let path = &wanted.source.path;
        if value.is_null() {
            if wanted.optional {
                return Ok(());
            }
            let message = format!("{path} has no data: write a version with at least one field");
            return Err(error(RenderErrorKind::EmptySource, message));
        }
        let object = Object::parse(value.expose()).map_err(|malformed| unreadable(path, malformed))?;
        match &wanted.keys {
            KeyPlan::All => self.add_fields(wanted, &object),
            KeyPlan::Selected(rules) => rules.iter().try_for_each(|rule| self.add_selected(path, &object, rule)),
        }
    }

    fn add_fields(&mut self, wanted: &'a WantedSource, object: &Object<'_>) -> Result<(), RenderError> {
        let path = &wanted.source.path;
        if object.fields().len() == 0 && !wanted.optional {
            return Err(error(
                RenderErrorKind::EmptySource,
                format!("{path} has no fields: write at least one into it"),
            ));
        }
        object.fields().try_for_each(|(name, value)| {
            let key = format!("{}{name}", wanted.prefix).parse().map_err(|_| illegal_name(wanted, name))?;
            self.add(path, key, value.to_bytes())
        })
    }

    fn add_selected(&mut self, path: &'a Path, object: &Object<'_>, rule: &KeyRule) -> Result<(), RenderError> {
        let bytes = match &rule.from {
            Selector::Whole => object.to_compact(),
            Selector::Field(from) => match object.find(from) {
                Some(value) => decoded(path, rule, from, value)?,
                None if rule.optional => return Ok(()),
                None => return Err(not_found(path, &rule.to, from, object)),
            },
        };
        self.add(path, rule.to.clone(), bytes)
    }

    fn add(&mut self, path: &'a Path, key: SecretKey, bytes: Zeroizing<Vec<u8>>) -> Result<(), RenderError> {
        if let Some((first, old)) = self.data.get(&key) {
            if self.on_key_conflict == OnKeyConflict::Error {
                return Err(conflict(&key, first, path));
            }
            self.size -= old.len();
        }
        self.size += bytes.len();
        if self.size > MAX_DATA_SIZE {
            return Err(error(
                RenderErrorKind::TooLarge,
                format!(
                    "with the key {key} from {path} the Secret would hold {} bytes, and {MAX_DATA_SIZE} is all that Kubernetes takes: \
                     select fewer with keys, or split the secret",
                    self.size
                ),
            ));
        }
        self.data.insert(key, (path, bytes));
        Ok(())
    }

    fn finish(
        self,
        wanted: &Wanted,
        readings: &[(&WantedSource, &Value)],
        salt: &str,
    ) -> Result<Rendering, RenderError> {
        let type_ = &wanted.target.type_;
        let paths = || enumerate(readings.iter().map(|(wanted, _)| wanted.source.path.as_str()), str::to_owned);
        let keys = self.data.into_iter().map(|(key, (_, bytes))| (key, bytes)).collect();
        let rendering = shaped(&wanted.templates, keys, salt)?;
        if rendering.data.is_empty() {
            let message = format!(
                "{} has nothing for any of the keys, all of them optional: write at least one of their fields, or correct from",
                paths()
            );
            return Err(error(RenderErrorKind::EmptySource, message));
        }
        type_.check(|key| rendering.get(key)).map_err(|problem| {
            let keys = enumerate(rendering.keys().map(SecretKey::as_str), str::to_owned);
            let message = format!("{} makes no Secret of type {type_}: {problem} (keys now: {keys})", paths());
            error(RenderErrorKind::InvalidForType, message)
        })?;
        Ok(rendering)
    }
}

/// The keys that the sources give, as the templates shape them.
fn shaped(
    templates: &Templates,
    keys: BTreeMap<SecretKey, Zeroizing<Vec<u8>>>,
    salt: &str,
) -> Result<Rendering, RenderError> {
    if let Some((kind, message)) = templates.added.as_ref().and_then(|added| added.problem.clone()) {
        return Err(error(kind, message));
    }
    if templates.is_empty() {
        return Ok(Rendering { data: keys, ..Rendering::default() });
    }
    let mut made = Rendering::default();
    let mut renderer = Renderer::new(keys.iter().map(|(key, bytes)| (key.as_str(), bytes.as_slice())), salt);
    for (key, text) in &templates.data {
        let mut text = renderer.render(&format!("the template of key {key}"), text)?;
        made.data.insert(key.clone(), Zeroizing::new(std::mem::take(&mut *text).into_bytes()));
    }
    for (key, text) in &templates.labels {
        let what = format!("the template of label {key}");
        let value = renderer.render(&what, text)?;
        if !is_label_value(&value) {
            let message = format!(
                "{what} makes no value of a label, which has up to 63 letters, digits, '-', '_' and '.': use an annotation for other text"
            );
            return Err(error(RenderErrorKind::TemplateFailed, message));
        }
        made.labels.insert(key.clone(), value.to_string());
    }
    for (key, text) in &templates.annotations {
        let value = renderer.render(&format!("the template of annotation {key}"), text)?;
        made.annotations.insert(key.clone(), value.to_string());
    }
    drop(renderer);
    if templates.data.is_empty() || templates.mode == TemplateMode::Merge {
        for (key, bytes) in keys {
            made.data.entry(key).or_insert(bytes);
        }
    }
    let size: usize = made.data.values().map(|bytes| bytes.len()).sum();
    if size > MAX_DATA_SIZE {
        let message = format!(
            "with its templates the Secret would hold {size} bytes, and {MAX_DATA_SIZE} is all that Kubernetes takes: make less of it"
        );
        return Err(error(RenderErrorKind::TooLarge, message));
    }
    Ok(made)
}

/// What Kubernetes takes as the value of a label (`IsValidLabelValue` in apimachinery).
fn is_label_value(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    let allowed = |c: char| ends(c) || matches!(c, '-' | '_' | '.');
    text.len() <= 63
        && text.chars().all(allowed)
        && (text.is_empty() || (text.starts_with(ends) && text.ends_with(ends)))
}

impl From<TemplateError> for RenderError {
    fn from(failed: TemplateError) -> Self {
        let kind = match failed.kind {
            TemplateErrorKind::Failed => RenderErrorKind::TemplateFailed,
            TemplateErrorKind::TooLarge => RenderErrorKind::TooLarge,
        };
        error(kind, failed.message)
    }
}

fn unreadable(path: &Path, malformed: Malformed) -> RenderError {
    match malformed {
        Malformed::NotAnObject => error(
            RenderErrorKind::DecodeFailed,
            format!("the data of {path} is not a JSON object of Unicode text: write the secret again"),
        ),
        Malformed::TooDeep => error(
            RenderErrorKind::TooLarge,
            format!("{path} is nested more than {MAX_DEPTH} levels deep: store the inner part as a string"),
        ),
    }
}

/// What a key gets: the field as it is, or what it stands for.
fn decoded(path: &Path, rule: &KeyRule, from: &str, value: &Json<'_>) -> Result<Zeroizing<Vec<u8>>, RenderError> {
    let Some(how) = rule.decode else { return Ok(value.to_bytes()) };
    let bytes = match value {
        Json::Text(_) => decode(how, value.to_bytes()),
        Json::Object(_) | Json::Array(_) | Json::Plain(_) => None,
    };
    bytes.ok_or_else(|| {
        let name = match how {
            Decode::Base64 => "Base64",
            Decode::Base64Url => "Base64URL",
            Decode::Auto => "text",
        };
        let message = format!(
            "{} of {path}, for the key {}, is not {name}: correct it, or the decode of the key",
            quote(from),
            rule.to
        );
        error(RenderErrorKind::DecodeFailed, message)
    })
}

fn illegal_name(wanted: &WantedSource, name: &str) -> RenderError {
    let path = &wanted.source.path;
    let (shown, suggestion) = (quote(name), SecretKey::suggestion(name));
    error(
        RenderErrorKind::InvalidKey,
        format!(
            "{path} has a field {shown}, which cannot be a key of a Secret (1 to {} characters a-z A-Z 0-9 - . _): \
             name the keys, such as keys: [{{to: {suggestion}, from: {shown}}}]",
            SecretKey::MAX_LENGTH
        ),
    )
}

fn not_found(path: &Path, key: &SecretKey, from: &str, object: &Object<'_>) -> RenderError {
    let fields = match object.fields().len() {
        0 => "it has no fields".to_owned(),
        // Their names are no secret: without `keys` each is a key that `kubectl describe secret` shows.
        _ => format!("its fields are {}", enumerate(object.fields().map(|(name, _)| name), quote)),
    };
    // Other tools write the way into an object with dots.
    let outer = from.split(['.', '/']).next().filter(|outer| *outer != from && object.find(outer).is_some());
    let pointer = outer.map(|_| {
        let pointer = format!("/{}", from.replace('.', "/"));
        format!(", where a field within another is named like {}", quote(&pointer))
    });
    error(
        RenderErrorKind::KeyNotFound,
        format!(
            "{path} has no {} for the key {key} ({fields}): correct from{}, or make the key optional",
            quote(from),
            pointer.unwrap_or_default()
        ),
    )
}

fn conflict(key: &SecretKey, first: &Path, second: &Path) -> RenderError {
    let from = if first == second {
        format!("comes twice from {first}")
    } else {
        format!("comes from {first} and from {second}")
    };
    error(
        RenderErrorKind::KeyConflict,
        format!(
            "the key {key} {from}: give one of them another name with keys or prefix, or set onKeyConflict to LastWins"
        ),
    )
}

/// Lists the first ten, each shown by `show`, and the number of the others.
pub(super) fn enumerate<'n>(names: impl ExactSizeIterator<Item = &'n str>, show: impl Fn(&str) -> String) -> String {
    const SHOWN: usize = 10;
    let others = names.len().saturating_sub(SHOWN);
    let mut list = names.take(SHOWN).map(show).collect::<Vec<_>>().join(", ");
    if others > 0 {
        write!(list, " and {others} more").expect("a String takes all that is written to it");
    }
    list
}

/// A name of any length and characters, fit for a message: quoted, escaped, cut after 64 characters.
pub(super) fn quote(name: &str) -> String {
    match name.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}", format!("{}…", name.split_at(end).0)),
        None => format!("{name:?}"),
    }
}
