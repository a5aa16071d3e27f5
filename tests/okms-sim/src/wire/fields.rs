//! Request bodies: an object's fields, taken one by one, so that what is left over is known.
//!
//! Refusals name fields, never values.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::refusal::Refusal;
use crate::store::{CustomChange, Data, Lifetime, MAX_VERSION, SettingsChange};

/// Entries, and characters of a value, of custom metadata (OpenAPI 2.14.0).
const MAX_CUSTOM_ENTRIES: usize = 64;
const MAX_CUSTOM_LENGTH: usize = 512;

pub(crate) struct Fields<'a> {
    fields: BTreeMap<String, &'a RawValue>,
    strict: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn parse(body: &'a [u8], strict: bool) -> Result<Self, Refusal> {
        let fields = serde_json::from_slice(body).map_err(|_| Refusal::argument("the body is not a JSON object"))?;
        Ok(Self { fields, strict })
    }

    /// An unknown field is refused, unless bodies are read leniently.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        match self.fields.keys().next() {
            Some(name) if self.strict => Err(Refusal::argument(format!("the body has an unknown field {name:?}"))),
            _ => Ok(()),
        }
    }

    /// A field as it stands; absent and null are the same.
    pub(crate) fn raw(&mut self, name: &str) -> Option<&'a RawValue> {
        self.fields.remove(name).filter(|value| value.get() != "null")
    }

    pub(crate) fn value<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        self.raw(name)
            .map(|value| serde_json::from_str(value.get()))
            .transpose()
            .map_err(|_| Refusal::argument(format!("the field {name:?} has a wrong type")))
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, Refusal> {
        let strict = self.strict;
        self.raw(name)
            .map(|value| Fields::parse(value.get().as_bytes(), strict))
            .transpose()
            .map_err(|_| Refusal::argument(format!("the field {name:?} is not an object")))
    }

    /// A version number or bound: 0 … 24000.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<u32>, Refusal> {
        match self.value::<u32>(name)? {
            Some(number) if number > MAX_VERSION => {
                Err(Refusal::argument(format!("the field {name:?} is above {MAX_VERSION}")))
            }
            number => Ok(number),
        }
    }

    /// Data that has to be a JSON object.
    pub(crate) fn data(&mut self) -> Result<Data, Refusal> {
        self.raw("data")
            .map(Data::new)
            .filter(Data::is_object)
            .ok_or_else(|| Refusal::argument("the data has to be a JSON object"))
    }

    pub(crate) fn settings(&mut self, names: &SettingNames) -> Result<SettingsChange, Refusal> {
        let mut lifetime = None;
        for &name in names.lifetime {
            if let Some(text) = self.value::<String>(name)? {
                lifetime = Some(
                    Lifetime::parse(&text)
                        .ok_or_else(|| Refusal::argument(format!("the field {name:?} is not a duration")))?,
                );
            }
        }
        Ok(SettingsChange {
            cas_required: self.value(names.cas_required)?,
            lifetime,
            max_versions: self.number(names.max_versions)?,
        })
    }

    /// Custom metadata that replaces what there is.
    pub(crate) fn custom(&mut self, name: &str) -> Result<CustomChange, Refusal> {
        let Some(map) = self.value::<BTreeMap<String, String>>(name)? else {
            return Ok(CustomChange::Keep);
        };
        if map.len() > MAX_CUSTOM_ENTRIES {
            return Err(Refusal::argument(format!("custom metadata has more than {MAX_CUSTOM_ENTRIES} entries")));
        }
        for (key, value) in &map {
            check_custom(key)?;
            check_custom(value)?;
        }
        Ok(CustomChange::Replace(map))
    }

    /// Custom metadata as a merge patch.
    pub(crate) fn custom_patch(&mut self, name: &str) -> Result<CustomChange, Refusal> {
        let Some(patch) = self.value::<BTreeMap<String, Option<String>>>(name)? else {
            return Ok(CustomChange::Keep);
        };
        for (key, value) in &patch {
            check_custom(key)?;
            value.as_deref().map_or(Ok(()), check_custom)?;
        }
        Ok(CustomChange::Merge(patch))
    }
}

/// What the settings are called in a family.
pub(crate) struct SettingNames {
    pub(crate) cas_required: &'static str,
    pub(crate) lifetime: &'static [&'static str],
    pub(crate) max_versions: &'static str,
}

/// The rule is published for values; a rule for keys exists, and is taken to be the same.
fn check_custom(text: &str) -> Result<(), Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:/=@%-".contains(&byte);
    if (1..=MAX_CUSTOM_LENGTH).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Refusal::argument(format!(
            "custom metadata has 1 to {MAX_CUSTOM_LENGTH} characters of a-z A-Z 0-9 _ . : / = @ % -"
        )))
    }
}
