//! Why a template fails, before the template and the place in it are named.
//!
//! A message is made of fixed words and of what the text of the template or the names of the keys say, never of a value: nothing here
//! takes one. Next: [`TemplateError`](super::TemplateError), which is what users read.

use std::borrow::Cow;

use minijinja::machinery::Span;

use super::TemplateErrorKind;

/// What is wrong and, once it is known, where.
#[derive(Debug)]
pub(super) struct Problem {
    pub kind: TemplateErrorKind,
    pub message: Cow<'static, str>,
    /// The byte of the template's text where it is.
    pub offset: Option<usize>,
}

impl Problem {
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: TemplateErrorKind::Failed, message: message.into(), offset: None }
    }

    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: TemplateErrorKind::TooLarge, ..Self::new(message) }
    }

    /// Adds the place, unless a more exact one is known.
    pub fn at(mut self, offset: usize) -> Self {
        self.offset.get_or_insert(offset);
        self
    }
}

/// Where a node of a template begins.
pub(super) fn start(span: Span) -> usize {
    usize::try_from(span.start_offset).unwrap_or(usize::MAX)
}
