//! Any answer of OKMS, or of whoever answers in its place: what is concluded from it is in it, and *not found* only where the Secret
//! Manager says so.
//!
//! An input is a line with the status, the version that was asked for or `-`, and the type of the content; a line with `Retry-After`;
//! and the body, which has the canary where it says `@`.

#![no_main]

use std::{collections::BTreeMap, error::Error as _, time::Duration};

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use jiff::Timestamp;
use libfuzzer_sys::{Corpus, fuzz_target};
use okms_operator::{
    model::{Facts, Page, Reading, Version, VersionFacts},
    okms::{Answer, Error, ErrorKind},
};
use okms_operator_fuzz::{leaks, planted};
use serde_json::Value as Tree;
use zeroize::Zeroizing;

struct Input {
    status: u16,
    asked: Option<Version>,
    headers: HeaderMap,
    body: Vec<u8>,
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(input) = Input::parse(input) else { return Corpus::Reject };
    let tree = tree(&input.body);

    let metadata = input.answer().metadata();
    assert!(same(&metadata, &input.answer().metadata(), Facts::eq));
    match &metadata {
        Ok(facts) => check_facts(&input, tree.as_ref(), facts),
        Err(error) => check_error(&input, tree.as_ref(), error),
    }

    let reading = input.answer().data(input.asked);
    assert!(same(&reading, &input.answer().data(input.asked), is_same_reading));
    match &reading {
        Ok(reading) => check_reading(&input, tree.as_ref(), reading),
        Err(error) => check_error(&input, tree.as_ref(), error),
    }

    match input.answer().page() {
        Ok(page) => check_page(&input, tree.as_ref(), &page),
        Err(error) => check_error(&input, tree.as_ref(), &error),
    }

    match input.answer().list() {
        Ok(()) => assert!(input.status == 200 || input.status == 404 && input.says_not_found(tree.as_ref())),
        Err(error) => check_error(&input, tree.as_ref(), &error),
    }
    Corpus::Keep
});

impl Input {
    fn parse(input: &[u8]) -> Option<Self> {
        let mut parts = input.splitn(3, |byte| *byte == b'\n');
        let (first, retry_after, body) = (parts.next()?, parts.next()?, parts.next()?);
        let mut words = first.splitn(3, |byte| *byte == b' ');
        let status = text(words.next()?)?.parse().ok().filter(|status| (100..1000).contains(status))?;
        let asked = text(words.next()?)?.parse().ok().and_then(|number: u32| Version::try_from(number).ok());
        let mut headers = HeaderMap::new();
        headers.extend(HeaderValue::from_bytes(words.next()?).map(|value| (CONTENT_TYPE, value)));
        headers.extend(HeaderValue::from_bytes(retry_after).map(|value| (RETRY_AFTER, value)));
        (!leaks(input)).then(|| Self { status, asked, headers, body: planted(body) })
    }

    fn answer(&self) -> Answer {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        Answer::new(self.status, &self.headers, now).with_body(Zeroizing::new(self.body.clone()))
    }

    fn is_json(&self) -> bool {
        let name = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let name = name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        name == "application/json" || name.starts_with("application/") && name.ends_with("+json")
    }

    /// The rule on its own: a 404 in JSON with a code of the service 1, its part 5 and its category 5. Where the body is not known to
    /// be anything, it may be said.
    fn says_not_found(&self, tree: Option<&Tree>) -> bool {
        let of_secret_manager = |code: i64| code >> 24 == 1 && code >> 16 & 0xff == 5 && code >> 12 & 0xf == 5;
        let code = tree.map(|tree| tree.get("error_code").and_then(Tree::as_i64));
        self.status == 404 && self.is_json() && code.is_none_or(|code| code.is_some_and(of_secret_manager))
    }
}

/// Metadata is in the answer as it is told, and what is there is not overlooked.
fn check_facts(input: &Input, tree: Option<&Tree>, facts: &Facts) {
    assert!(input.status == 200 && input.is_json());
    for version in facts.versions.iter().flatten() {
        check_version(*version.1);
    }
    let Some(tree) = tree else { return };
    let data = &tree["data"];
    assert_eq!(number(&data["current_version"]), facts.current.map(Version::get));
    assert_eq!(number(&data["oldest_version"]), facts.oldest.map(Version::get));
    let told = facts.versions.as_ref().map(|versions| {
        versions.iter().map(|(version, facts)| (version.to_string(), *facts)).collect::<BTreeMap<_, _>>()
    });
    let there = data["versions"].as_object().map(|versions| {
        versions.iter().map(|(name, version)| (name.clone(), version_facts(version))).collect::<BTreeMap<_, _>>()
    });
    assert_eq!(told, there);
}

/// A time that is one, and set.
fn moment(value: &Tree) -> Option<Timestamp> {
    value.as_str()?.parse().ok().filter(|time| is_set(*time))
}

/// A secret is shown only where its row says that its current version is active.
fn check_page(input: &Input, tree: Option<&Tree>, page: &Page) {
    assert!(input.status == 200 && input.is_json() && page.next.is_none());
    let Some(tree) = tree else { return };
    for listed in &page.secrets {
        assert!(is_set(listed.created_at) && listed.deactivates_at.is_none_or(is_set));
        let shows = |row: &Tree| {
            let (version, number) = (&row["version"], Some(u64::from(listed.version.get())));
            row["path"] == listed.path.as_str()
                && row["metadata"]["currentVersion"].as_u64() == number
                && version["id"].as_u64() == number
                && version["state"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("active"))
                && moment(&version["createdAt"]) == Some(listed.created_at)
                && moment(&version["deactivatedAt"]) == listed.deactivates_at
        };
        assert!(tree.as_array().is_some_and(|rows| rows.iter().any(shows)), "{listed:?}");
    }
}

fn check_reading(input: &Input, tree: Option<&Tree>, reading: &Reading) {
    assert!(input.is_json());
    let (version, facts) = match reading {
        Reading::Data { mark, facts, value } => {
            assert_eq!(input.status, 200);
            assert!(!facts.destroyed);
            assert_eq!(mark.created_at, facts.created_at);
            let text = value.expose();
            if !value.is_null() {
                assert!(text.starts_with(b"{") && text.ends_with(b"}"));
                assert!(input.body.windows(text.len()).any(|window| window == text), "it is not in the body");
            }
            if let Some(tree) = tree {
                assert_eq!(serde_json::from_slice::<Tree>(text).expect("JSON"), tree["data"]["data"]);
            }
            (mark.version, facts)
        }
        Reading::Unreadable { version, facts } => {
            assert!(matches!(input.status, 200 | 404));
            assert!(facts.destroyed || facts.deletion_time.is_some());
            assert!(tree.is_none_or(|tree| tree["data"]["data"].is_null()), "there is data");
            (*version, facts)
        }
    };
    check_version(*facts);
    assert!(input.asked.is_none_or(|asked| asked == version));
    if let Some(tree) = tree {
        let metadata = &tree["data"]["metadata"];
        assert_eq!(number(&metadata["version"]), Some(version.get()));
        assert_eq!(version_facts(metadata), *facts);
    }
}

/// A time that was never set is none, however it is written.
fn check_version(facts: VersionFacts) {
    let mut times = facts.deletion_time.into_iter().chain(facts.created_at);
    assert!(times.all(is_set), "{facts:?}");
}

fn check_error(input: &Input, tree: Option<&Tree>, error: &Error) {
    let expected: &[ErrorKind] = match input.status {
        404 => &[ErrorKind::Unexpected, ErrorKind::NotFound],
        401 | 403 => &[ErrorKind::Refused],
        408 | 500..=599 => &[ErrorKind::Unavailable],
        429 => &[ErrorKind::RateLimited],
        _ => &[ErrorKind::Unexpected],
    };
    assert!(expected.contains(&error.kind()), "{error:?}");
    assert!(error.kind() != ErrorKind::NotFound || input.says_not_found(tree), "{error:?}");
    assert_eq!(error.status(), Some(input.status));
    assert!(error.retry_after().is_none_or(|wait| wait <= Duration::from_hours(24)));
    if let Some(tree) = tree {
        assert!(!error.is_of_okms() || tree["error_code"].is_i64());
        assert!(error.request_id().is_none_or(|id| tree["request_id"] == id));
    }
    let is_id = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let id = error.request_id().unwrap_or_default();
    assert!(id.len() <= 64 && id.chars().all(is_id));
    assert!(error.source().is_none() && !leaks(error.to_string().as_bytes()), "{error}");
    assert!(leaks(id.as_bytes()) || !leaks(format!("{error:?}").as_bytes()), "{error:?}");
}

/// A number that is there; 0 and null are none.
fn number(value: &Tree) -> Option<u32> {
    let number = value.as_u64().map(|number| u32::try_from(number).expect("a number that was taken"));
    number.filter(|number| *number != 0)
}

fn version_facts(version: &Tree) -> VersionFacts {
    VersionFacts {
        created_at: time(&version["created_time"]),
        deletion_time: time(&version["deletion_time"]),
        destroyed: version["destroyed"].as_bool().unwrap_or(false),
    }
}

fn time(value: &Tree) -> Option<Timestamp> {
    let text = value.as_str().filter(|text| !text.is_empty())?;
    let time: Timestamp = text.parse().expect("a time that was taken");
    Some(time).filter(|time| is_set(*time))
}

/// Go writes the year 1 for none.
fn is_set(time: Timestamp) -> bool {
    let text = time.to_string();
    !text.starts_with(['-']) && !text.starts_with("0000") && !text.starts_with("0001")
}

fn same<T>(one: &Result<T, Error>, two: &Result<T, Error>, equal: impl Fn(&T, &T) -> bool) -> bool {
    match (one, two) {
        (Ok(one), Ok(two)) => equal(one, two),
        (Err(one), Err(two)) => format!("{one:?}") == format!("{two:?}"),
        _ => false,
    }
}

fn is_same_reading(one: &Reading, two: &Reading) -> bool {
    match (one, two) {
        (Reading::Data { mark: m1, facts: f1, value: v1 }, Reading::Data { mark: m2, facts: f2, value: v2 }) => {
            m1 == m2 && f1 == f2 && v1.expose() == v2.expose()
        }
        (Reading::Unreadable { version: v1, facts: f1 }, Reading::Unreadable { version: v2, facts: f2 }) => {
            v1 == v2 && f1 == f2
        }
        _ => false,
    }
}

/// What `serde_json` makes of a body; not of one with the names that it uses itself.
fn tree(body: &[u8]) -> Option<Tree> {
    let own = body.windows(12).any(|window| window == b"$serde_json:");
    serde_json::from_slice(body).ok().filter(|_| !own)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
