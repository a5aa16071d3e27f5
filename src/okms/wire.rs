//! The bodies of answers: KV2's JSON, and of REST v2 the list of all secrets (OpenAPI 2.14.0), become [`Facts`], [`Reading`] and [`Listed`].
//!
//! Tolerant where the service is not documented (every field may be absent or null, unknown fields are left alone), strict where a
//! wrong guess could delete something: a time or a version that cannot be read is an error, never "none". No text of an answer goes
//! into an error: `serde_json` quotes what it could not read, so its errors end here. Data is never parsed, only found.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::error::Malformed;
use crate::model::{Facts, Listed, Mark, Path, Reading, Value, Version, VersionFacts};

/// The answer to `GET metadata/{path}`.
pub(super) fn metadata(body: &[u8]) -> Result<Facts, Malformed> {
    #[derive(Deserialize)]
    struct Metadata {
        created_time: Option<IgnoredAny>,
        current_version: Option<u32>,
        oldest_version: Option<u32>,
        versions: Option<BTreeMap<Version, Option<VersionMetadata>>>,
    }
    let Metadata { created_time, current_version, oldest_version, versions } =
        envelope(body)?.ok_or(Malformed::NotMetadata)?;
    // A list answer has the same envelope and none of these.
    if created_time.is_none() && current_version.is_none() && versions.is_none() {
        return Err(Malformed::NotMetadata);
    }
    let versions = versions.map(|versions| {
        versions.into_iter().map(|(number, metadata)| (number, metadata.unwrap_or_default().facts())).collect()
    });
    Ok(Facts { current: numbered(current_version)?, oldest: numbered(oldest_version)?, versions })
}

/// The answer to `GET data/{path}`, for the version asked for or, without one, the current version.
pub(super) fn data(body: &[u8], asked: Option<Version>) -> Result<Reading, Malformed> {
    let DataBody { data, metadata } = envelope(body)?.ok_or(Malformed::NoData)?;
    let metadata = metadata.unwrap_or_default();
    let version = metadata.number(asked)?.ok_or(Malformed::NoVersion)?;
    let facts = metadata.facts();
    match data {
        None if facts.deletion_time.is_some() || facts.destroyed => Ok(Reading::Unreadable { version, facts }),
        // Whether OKMS sends null fields or leaves them out is not known, so both mean that the version was written without data.
        None => Ok(Reading::Data { mark: Mark { version, created_at: facts.created_at }, facts, value: Value::null() }),
        Some(_) if facts.destroyed => Err(Malformed::Contradiction),
        Some(data) if data.get().starts_with('{') => {
            let value = Value::from_json_object(Zeroizing::new(data.get().as_bytes().to_vec()));
            Ok(Reading::Data { mark: Mark { version, created_at: facts.created_at }, facts, value })
        }
        Some(_) => Err(Malformed::NotObject),
    }
}

/// The answer to `GET metadata?list=true`: that it is one is all that is asked.
pub(super) fn list(body: &[u8]) -> Result<(), Malformed> {
    #[derive(Deserialize)]
    struct List {
        #[serde(rename = "keys")]
        _keys: Option<Vec<IgnoredAny>>,
    }
    envelope::<List>(body)?.map(|_| ()).ok_or(Malformed::NotList)
}

/// The answer to REST v2's `GET secret`: what it shows at its current version, and that active. Only such a row proves anything, so a row
/// that is anything else, or cannot be read, is passed over.
pub(super) fn secrets(body: &[u8]) -> Result<Vec<Listed>, Malformed> {
    let rows: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| Malformed::NotList)?;
    Ok(rows.into_iter().filter_map(|row| listed(row.get())).collect())
}

fn listed(row: &str) -> Option<Listed> {
    #[derive(Deserialize)]
    struct Row {
        path: Path,
        metadata: Metadata,
        version: RowVersion,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        current_version: Version,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RowVersion {
        id: Version,
        state: String,
        #[serde(deserialize_with = "time")]
        created_at: Option<Timestamp>,
        #[serde(default, deserialize_with = "time")]
        deactivated_at: Option<Timestamp>,
    }
    let Row { path, metadata, version } = object(row.as_bytes()).ok()?;
    // In lower case on the data plane (asserted by OVHcloud's own tests), in upper case on the control plane.
    let active = version.state.eq_ignore_ascii_case("active");
    let current = metadata.current_version == version.id;
    let created_at = version.created_at.filter(|_| active && current)?;
    Some(Listed { path, version: version.id, created_at, deactivates_at: version.deactivated_at })
}

/// What a body that came with an error status tells.
#[derive(Default)]
pub(super) struct Refusal {
    code: Option<i64>,
    /// Only of the characters that an id has; anything else is dropped.
    pub(super) request_id: Option<String>,
}

impl Refusal {
    /// Nothing is told by a body that is not an error of OKMS.
    pub(super) fn parse(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct ErrorBody {
            error_code: Option<i64>,
            request_id: Option<String>,
        }
        let is_id = |id: &String| {
            (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        object(body).map_or_else(
            |_| Self::default(),
            |body: ErrorBody| Self { code: body.error_code, request_id: body.request_id.filter(is_id) },
        )
    }

    /// Whether this is an error of OKMS at all: each has a code (OpenAPI 2.14.0, `ErrorResponse`).
    pub(super) fn is_of_okms(&self) -> bool {
        self.code.is_some()
    }

    /// Whether the Secret Manager itself says that it has no such thing. The code has 8 bits for the service (1, CCM), 8 for its part
    /// (5, Secret Manager), 4 for the category (5, not found) and 12 for the case (OVHcloud Go SDK 0.5.3, `errors.go`); 17125377 is the one
    /// that its published clients know. A domain that does not exist (16994305) differs in the part.
    pub(super) fn is_not_found(&self) -> bool {
        self.code.is_some_and(|code| code >> 12 == (1 << 12 | 5 << 4 | 5))
    }
}

/// The version that a not-found of `GET data/{path}` carries the metadata of: it is there, but deactivated or destroyed. `None` where the
/// body carries none, or none that says anything.
pub(super) fn unreadable(body: &[u8], asked: Option<Version>) -> Result<Option<Reading>, Malformed> {
    let metadata = match envelope(body)? {
        Some(DataBody { data: Some(_), .. }) => return Err(Malformed::Contradiction),
        Some(DataBody { data: None, metadata: Some(metadata) }) => metadata,
        _ => return Ok(None),
    };
    let facts = metadata.facts();
    match metadata.number(asked)? {
        Some(version) if facts.deletion_time.is_some() || facts.destroyed => {
            Ok(Some(Reading::Unreadable { version, facts }))
        }
        Some(_) => Err(Malformed::ActiveNotFound),
        None if facts == VersionFacts::default() => Ok(None),
        None => Err(Malformed::NoVersion),
    }
}

/// What is under `data`, if anything.
fn envelope<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<Option<T>, Malformed> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let Envelope { data } = object(body)?;
    data.map(|data| object(data.get().as_bytes())).transpose()
}

/// A JSON object. `serde` alone would also take an array for a struct.
fn object<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, Malformed> {
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(Malformed::NotAsDescribed);
    }
    serde_json::from_slice(text).map_err(|_| Malformed::NotAsDescribed)
}

#[derive(Deserialize)]
struct DataBody<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    metadata: Option<VersionMetadata>,
}

#[derive(Default, Deserialize)]
struct VersionMetadata {
    version: Option<u32>,
    #[serde(default, deserialize_with = "time")]
    created_time: Option<Timestamp>,
    #[serde(default, deserialize_with = "time")]
    deletion_time: Option<Timestamp>,
    destroyed: Option<bool>,
}

impl VersionMetadata {
    fn facts(&self) -> VersionFacts {
        VersionFacts {
            created_at: self.created_time,
            deletion_time: self.deletion_time,
            destroyed: self.destroyed.unwrap_or(false),
        }
    }

    fn number(&self, asked: Option<Version>) -> Result<Option<Version>, Malformed> {
        let number = numbered(self.version)?;
        match (number, asked) {
            (Some(number), Some(asked)) if number != asked => Err(Malformed::OtherVersion),
            _ => Ok(number),
        }
    }
}

/// 0 stands for none: so `oldest_version` is before anything was pruned (asserted by OVHcloud's own tests).
fn numbered(number: Option<u32>) -> Result<Option<Version>, Malformed> {
    match number {
        None | Some(0) => Ok(None),
        Some(number) => Version::try_from(number).map(Some).map_err(|_| Malformed::NotAsDescribed),
    }
}

/// RFC 3339, with nanoseconds or an offset. None is written as an empty text, or as null; the year 1 is how Go writes a time that was
/// never set, however many digits and whatever offset it has, and taking that for a deactivation long past would be a disaster.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    const YEAR_2: Timestamp = Timestamp::constant(-62_104_060_800, 0);
    let text = Option::<String>::deserialize(deserializer)?;
    let time = text.filter(|text| !text.is_empty()).map(|text| text.parse::<Timestamp>()).transpose();
    time.map(|time| time.filter(|time| *time >= YEAR_2)).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
