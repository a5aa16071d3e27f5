//! What an `OkmsSecret` asks for (a domain, a path, perhaps a pinned version) and what a target says it was made from.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a path, version or domain id cannot be one. The message says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(&'static str);

/// The path of a secret inside a domain: 1 to 255 characters of `a-zA-Z0-9_.:/=@-`, segments separated by single slashes.
///
/// The alphabet and the length are those of creation by the REST API v2 (OpenAPI 2.14.0); the rule on slashes is the control
/// panel's. `.` and `..` are refused because HTTP libraries and proxies resolve them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Path(Arc<str>);

impl Path {
    /// The longest path that OKMS takes, in characters, all of which are ASCII.
    pub const MAX_LENGTH: usize = 255;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as one URL segment, `/` percent-encoded, as OVHcloud's own clients send it and as a URN shows it.
    pub fn encoded(&self) -> String {
        percent_encoding::utf8_percent_encode(&self.0, SEGMENT).to_string()
    }
}

/// Everything but letters, digits and `-._~` (RFC 3986, unreserved).
const SEGMENT: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl FromStr for Path {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:/=@-".contains(c);
        if text.is_empty() || text.len() > Self::MAX_LENGTH {
            return Err(ParseError("a path has 1 to 255 characters"));
        }
        if !text.chars().all(allowed) {
            return Err(ParseError("a path has only the characters a-z A-Z 0-9 _ . : / = @ -"));
        }
        if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(ParseError("a path has no leading, trailing or double '/', and no '.' or '..' segment"));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Path {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.0.as_ref().to_owned()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a version of a secret, 1 to 24000 (OpenAPI 2.14.0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Version(u32);

impl Version {
    pub const MAX: u32 = 24_000;

    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Version {
    type Error = ParseError;
    fn try_from(number: u32) -> Result<Self, ParseError> {
        match number {
            1..=Self::MAX => Ok(Self(number)),
            _ => Err(ParseError("a version is a number from 1 to 24000")),
        }
    }
}

impl From<Version> for u32 {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of an OKMS domain, a UUID in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OkmsId(Arc<str>);

impl OkmsId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OkmsId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let groups = text.split('-').map(str::len);
        let hex = text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
        if hex && groups.eq([8, 4, 4, 4, 12]) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(ParseError("an OKMS domain id is a UUID, such as 1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb"))
        }
    }
}

impl TryFrom<String> for OkmsId {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<OkmsId> for String {
    fn from(id: OkmsId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for OkmsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One path, at its current version or pinned to one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    pub path: Path,
    pub pin: Option<Version>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pin {
            Some(pin) => write!(f, "{}@{pin}", self.path),
            None => self.path.fmt(f),
        }
    }
}

/// Which content a version is. The number alone is not enough: a secret that was deleted and made again starts at 1 again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    pub version: Version,
    /// Absent where OKMS did not say; nothing is concluded from its absence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
}

impl Mark {
    /// Whether `self` was surely created after `other`, by OKMS's own clock.
    pub fn is_newer_creation_than(&self, other: &Mark) -> bool {
        matches!((self.created_at, other.created_at), (Some(ours), Some(theirs)) if ours > theirs)
    }

    /// Whether both are the same content: the same number, and no sign that the secret was made again between them.
    pub fn is_same_as(&self, other: &Mark) -> bool {
        let contradict = matches!((self.created_at, other.created_at), (Some(ours), Some(theirs)) if ours != theirs);
        self.version == other.version && !contradict
    }

    /// Whether `self`, found at the current version, is only an old answer to somebody who has seen `seen` already.
    ///
    /// After a fail-over a lagging replica may serve an older version: a lower number is believed only with a newer creation time.
    pub fn is_stale_after(&self, seen: &Mark) -> bool {
        self.version < seen.version && !self.is_newer_creation_than(seen)
    }
}

/// What the `okms-operator.io/source` annotation of a target says of one source: the proof of what the target was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    pub okms_id: OkmsId,
    pub path: Path,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Version>,
    #[serde(flatten)]
    pub mark: Mark,
}

impl Evidence {
    /// Whether this names exactly the given source in the given domain.
    pub fn names(&self, okms_id: &OkmsId, source: &Source) -> bool {
        self.okms_id == *okms_id && self.path == source.path && self.pin == source.pin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_okms_cannot_hold_are_refused() {
        let long = "a".repeat(256);
        for bad in ["", "/a", "a/", "a//b", "a/../b", ".", "a/.", "a b", "a+b", "a%2Fb", "é", long.as_str()] {
            assert!(bad.parse::<Path>().is_err(), "{bad:?} was taken");
        }
        for good in ["a", "prod/shop/db", "a..b", "x@y=z:1_2.3-4", &long[..255]] {
            assert_eq!(good.parse::<Path>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_path_is_encoded_as_one_segment() {
        assert_eq!("prod/a=b@c:d".parse::<Path>().unwrap().encoded(), "prod%2Fa%3Db%40c%3Ad");
    }

    #[test]
    fn versions_end_at_24000() {
        assert!(Version::try_from(0).is_err() && Version::try_from(24_001).is_err());
        assert!(Version::try_from(1).is_ok() && Version::try_from(24_000).is_ok());
    }

    #[test]
    fn a_domain_id_is_a_uuid_in_lower_case() {
        let id: OkmsId = "1F0C3A5E-75b8-40a3-9b0e-71ffe5ff03cb".parse().unwrap();
        assert_eq!(id.as_str(), "1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb");
        assert!("1f0c3a5e75b840a39b0e71ffe5ff03cb".parse::<OkmsId>().is_err());
    }

    #[test]
    fn a_lower_version_is_news_only_when_created_later() {
        let mark = |version, second| Mark {
            version: Version::try_from(version).unwrap(),
            created_at: Some(Timestamp::from_second(second).unwrap()),
        };
        assert!(mark(1, 10).is_stale_after(&mark(2, 20)));
        assert!(!mark(1, 30).is_stale_after(&mark(2, 20)), "made again");
        assert!(!mark(3, 10).is_stale_after(&mark(2, 20)), "a higher number is always news");
        let unknown = Mark { created_at: None, ..mark(1, 0) };
        assert!(unknown.is_stale_after(&mark(2, 20)), "without a time a lower number proves nothing");
    }

    #[test]
    fn evidence_reads_back_as_it_was_written() {
        let text = r#"{"okmsId":"1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb","path":"prod/db","pin":7,"version":7,"createdAt":"2026-01-02T03:04:05.123456789Z"}"#;
        let evidence: Evidence = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&evidence).unwrap(), text);
    }
}
