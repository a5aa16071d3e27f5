//! A page of the list of all secrets of a domain, as far as it can show that a secret is unchanged.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Mark, Path};

/// One page of the list of all secrets that an identity may see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The secrets that the page shows with their current version, and it active. What a list leaves out, or shows otherwise, proves
    /// nothing at all, so nothing is kept of it.
    pub secrets: Vec<Listed>,
    /// Where the next page begins; absent after the last. An empty page may have a next one.
    pub next: Option<Cursor>,
}

/// A secret in a list, with its current version, which is active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub path: Path,
    pub version: super::Version,
    /// In whole seconds, as lists tell times.
    pub created_at: Timestamp,
    pub deactivates_at: Option<Timestamp>,
}

impl Listed {
    /// Whether this shows the same content as a mark that a check of the path brought, as far as whole seconds can tell: a secret that
    /// was made again within the second of the mark would look the same. So whoever asks has to know that this is not so.
    pub fn shows(&self, mark: &Mark) -> bool {
        self.version == mark.version && mark.created_at.is_some_and(|time| same_second(time, self.created_at))
    }

    /// Whether this tells the same end of the version.
    pub fn ends_at(&self, deactivates_at: Option<Timestamp>) -> bool {
        match (self.deactivates_at, deactivates_at) {
            (None, None) => true,
            (Some(one), Some(other)) => same_second(one, other),
            _ => false,
        }
    }
}

fn same_second(one: Timestamp, other: Timestamp) -> bool {
    one.as_second() == other.as_second()
}

/// Where a page begins, in the words of OKMS, which mean nothing to anybody else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(Arc<str>);

impl Cursor {
    /// The longest that is believed: the longest path takes 340 characters of base64.
    const MAX_LENGTH: usize = 1024;

    /// `None` for what cannot be sent back in a header.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(created_at: &str) -> Listed {
        Listed {
            path: "db".parse().unwrap(),
            version: 3.try_into().unwrap(),
            created_at: created_at.parse().unwrap(),
            deactivates_at: None,
        }
    }

    #[test]
    fn a_list_shows_a_version_as_precisely_as_a_second() {
        let mark = |version: u32, at: Option<&str>| Mark {
            version: version.try_into().unwrap(),
            created_at: at.map(|at| at.parse().unwrap()),
        };
        for (version, at, same) in [
            (3, Some("2026-01-02T03:04:05.999999999Z"), true),
            (3, Some("2026-01-02T03:04:05Z"), true),
            (3, Some("2026-01-02T03:04:06Z"), false),
            (3, Some("2026-01-02T03:04:04.999Z"), false),
            (2, Some("2026-01-02T03:04:05Z"), false),
            (3, None, false),
        ] {
            for told in ["2026-01-02T03:04:05Z", "2026-01-02T05:04:05+02:00"] {
                assert_eq!(listed(told).shows(&mark(version, at)), same, "{version} of {at:?}");
            }
        }
    }

    #[test]
    fn an_end_that_only_one_side_knows_is_not_the_same() {
        let (end, other) = ("2027-01-01T00:00:00Z".parse().ok(), "2027-01-01T00:00:01Z".parse().ok());
        let ends = Listed { deactivates_at: end, ..listed("2026-01-02T03:04:05Z") };
        let endless = listed("2026-01-02T03:04:05Z");
        assert!(ends.ends_at(end) && endless.ends_at(None));
        assert!(!ends.ends_at(None) && !endless.ends_at(end) && !ends.ends_at(other));
    }

    #[test]
    fn a_cursor_fits_into_a_header() {
        assert!(Cursor::new("c29tZS1wYXRo_-=").is_some());
        for bad in ["", "a b", "a\nb", "é", &"x".repeat(1025)] {
            assert_eq!(Cursor::new(bad), None);
        }
    }
}
