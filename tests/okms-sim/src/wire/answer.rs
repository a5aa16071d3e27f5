//! Answers: status, JSON body, the next page's cursor.
//!
//! No `Debug`, since a body may carry values.

use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `None`: no body at all, as with 204.
    pub(crate) body: Option<Bytes>,
    pub(crate) next_cursor: Option<String>,
    /// Whether the body carries the data of a secret.
    pub(crate) has_data: bool,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("answers have string keys only, so they serialize");
        Self { status, body: Some(body.into()), next_cursor: None, has_data: false }
    }

    pub(crate) const fn no_content() -> Self {
        Self { status: 204, body: None, next_cursor: None, has_data: false }
    }

    pub(crate) fn with_next_cursor(mut self, cursor: Option<String>) -> Self {
        self.next_cursor = cursor;
        self
    }

    pub(crate) const fn with_data(mut self, has_data: bool) -> Self {
        self.has_data = has_data;
        self
    }
}

/// A JSON object in the order of writing, whose null fields can be left out.
pub(crate) struct Object {
    omit_nulls: bool,
    fields: Vec<(&'static str, Box<RawValue>)>,
}

impl Object {
    pub(crate) const fn new(omit_nulls: bool) -> Self {
        Self { omit_nulls, fields: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        let value = to_raw_value(&value).expect("answers have string keys only, so they serialize");
        if !(self.omit_nulls && value.get() == "null") {
            self.fields.push((name, value));
        }
        self
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
