//! Templates: texts with the values of a secret in them, such as a configuration file or a connection string.
//!
//! Guarantees: a template sees the keys of its Secret and nothing else, no file, network, clock, environment or random number; the same
//! keys give the same text; what all templates of one Secret cost together is bounded, also for one made to do harm; no error holds any
//! part of a value; every copy of a value is overwritten when it is dropped.
//! Next: [`syntax`] (text to tree), [`eval`] (tree to text), [`table`] (what can be called), [`budget`] (what it may cost).

mod budget;
mod encode;
mod eval;
mod expression;
mod functions;
mod htpasswd;
mod json;
mod pem;
mod problem;
#[cfg(test)]
mod properties;
mod quote;
mod scope;
mod syntax;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod value;

use zeroize::Zeroizing;

use self::{
    budget::Budget,
    functions::Session,
    problem::Problem,
    value::{Text, Value},
};

pub use self::functions::{FunctionDoc, FunctionKind, functions};

/// What a byte of a template's text spends: it is taken apart twice, and the tree is many times as large.
const PARSING: usize = 8;

/// Renders the templates of one Secret over its keys, with one budget for all of them. It has no `Debug`.
pub struct Renderer<'k> {
    data: Value<'k>,
    session: Session,
}

impl<'k> Renderer<'k> {
    /// `data` are the keys that the sources give. `salt` is what makes the results of `htpasswd` differ between objects, such as their
    /// namespace and name; it is not secret.
    pub fn new(data: impl IntoIterator<Item = (&'k str, &'k [u8])>, salt: &str) -> Self {
        let value = |key, bytes| match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(Text::Borrowed(text)),
            Err(_) => Value::Bytes(key),
        };
        let entries = data.into_iter().map(|(key, bytes)| (Text::Borrowed(key), value(key, bytes)));
        let data = Value::keys(entries.collect());
        Self { data, session: Session { budget: Budget::new(), salt: salt.to_owned(), hashes: 0 } }
    }

    /// `what` names the template to people, such as "the template of key application.properties".
    pub fn render(&mut self, what: &str, text: &str) -> Result<Zeroizing<String>, TemplateError> {
        self.try_render(text).map_err(|problem| {
            let place = problem.offset.map(|offset| place(text, offset)).unwrap_or_default();
            TemplateError { kind: problem.kind, message: format!("{what}{place}: {}", problem.message) }
        })
    }

    fn try_render(&mut self, text: &str) -> Result<Zeroizing<String>, Problem> {
        self.session.budget.spend_bytes(text.len().min(syntax::MAX_TEXT).saturating_mul(PARSING))?;
        let template = syntax::parse(text)?;
        eval::render(&template, self.data.clone(), &mut self.session)
    }
}

/// Why a template makes nothing. The message names the template and the place in it, says what to do, and holds no part of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    pub kind: TemplateErrorKind,
    pub message: String,
}

/// The class of a [`TemplateError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TemplateErrorKind {
    /// The template, or what it is applied to, is not right.
    Failed,
    /// What the templates of a Secret make is more than a Secret can hold.
    TooLarge,
}

/// Where a byte of a text is, as editors count: lines and characters from 1.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.split('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(", line {line}, column {column}")
}
