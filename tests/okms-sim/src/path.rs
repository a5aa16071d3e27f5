//! Rules for the paths of secrets, and patterns over them.
//!
//! Pure. Alphabet and length are OpenAPI 2.14.0's; a `%` is in its expression for the encoded form only, so a decoded
//! path has none.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::switches::OddPaths;

const MAX_LENGTH: usize = 255;

/// Everything but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A path by OKMS's rules, or the sentence why it is not one.
pub(crate) fn checked(path: &str, odd: OddPaths) -> Result<String, &'static str> {
    let path = match odd {
        OddPaths::Refuse => path.to_owned(),
        OddPaths::Clean => path.split('/').filter(|segment| !segment.is_empty()).collect::<Vec<_>>().join("/"),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:/=@-".contains(&byte);
    if path.is_empty() {
        Err("the path is empty")
    } else if path.len() > MAX_LENGTH {
        Err("the path is longer than 255 characters")
    } else if !path.bytes().all(allowed) {
        Err("the path has a character outside a-z A-Z 0-9 _ . : / = @ -")
    } else if path.starts_with('/') || path.ends_with('/') || path.contains("//") {
        Err("the path has a slash at an end or a double slash")
    } else {
        Ok(path)
    }
}

/// `prod/db` as it stands in a URN: `prod%2Fdb`.
pub(crate) fn encoded(path: &str) -> String {
    utf8_percent_encode(path, ENCODED).to_string()
}

/// Which paths: `x/y` itself, `x/*` everything below `x`, `*` everything. No other use of `*`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathPattern(String);

impl PathPattern {
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    pub fn matches(&self, path: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some("") => true,
            Some(folder) if folder.ends_with('/') => path.len() > folder.len() && path.starts_with(folder),
            _ => self.0 == path,
        }
    }
}

impl From<&str> for PathPattern {
    fn from(pattern: &str) -> Self {
        Self::new(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_the_specification_hold() {
        let longest = "a".repeat(255);
        for good in ["a", "prod/shop/db", "a.b:c=d@e-f_9", "..", &longest] {
            assert_eq!(checked(good, OddPaths::Refuse).as_deref(), Ok(good));
        }
        let too_long = "a".repeat(256);
        for bad in ["", "a b", "a+b", "a%2Fb", "é", "/a", "a/", "a//b", &too_long] {
            assert!(checked(bad, OddPaths::Refuse).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn odd_slashes_can_be_cleaned() {
        assert_eq!(checked("/a//b/", OddPaths::Clean).as_deref(), Ok("a/b"));
    }

    #[test]
    fn patterns_mean_one_path_a_folder_or_everything() {
        let matches = |pattern: &str, path| PathPattern::new(pattern).matches(path);
        assert!(matches("*", "a/b"));
        assert!(matches("a/*", "a/b") && matches("a/*", "a/b/c"));
        assert!(!matches("a/*", "a") && !matches("a/*", "ab/c") && !matches("a/*", "a/"));
        assert!(matches("a/b", "a/b") && !matches("a/b", "a/bc"));
        assert!(!matches("a*", "ab"));
    }

    #[test]
    fn a_urn_encodes_the_slash() {
        assert_eq!(encoded("prod/my-db_1.x"), "prod%2Fmy-db_1.x");
    }
}
