//! The dependency rule: which room of the crate may use which, and what those may not use that decide without I/O.
//!
//! Read from the text of `src/`, without its comments and its unit tests: a path that begins with `crate::` is a use of a room, and
//! a path that begins with a crate's name a use of that crate.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each room and the rooms that it may use. The entry (`main.rs`, `cli.rs`, `lib.rs`) may use all.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("api", &["model"]),
    ("okms", &["model"]),
    ("feed", &["model", "okms"]),
    ("plan", &["model", "api"]),
    ("k8s", &["model", "api", "plan"]),
    ("election", &["k8s"]),
    ("controller", &["model", "api", "okms", "feed", "plan", "k8s", "election"]),
    ("process", &["controller", "k8s"]),
    ("cli", &["api", "okms", "controller", "process"]),
];

/// What decides has no I/O and no clock; who calls OKMS knows no Kubernetes, and the other way round. The longest folder that a
/// file is in counts.
const BANS: &[(&str, &[&str])] = &[
    (
        "model",
        &[
            "kube::",
            "k8s_openapi::",
            "tokio::",
            "reqwest::",
            "axum::",
            "Instant::now",
            "Timestamp::now",
            "SystemTime::now",
        ],
    ),
    (
        "api",
        &["kube::Client", "kube::Api", "tokio::", "reqwest::", "Instant::now", "Timestamp::now", "SystemTime::now"],
    ),
    (
        "plan",
        &["kube::Client", "kube::Api", "tokio::", "reqwest::", "Instant::now", "Timestamp::now", "SystemTime::now"],
    ),
    ("okms", &["kube::", "k8s_openapi::"]),
    ("feed", &["kube::", "k8s_openapi::", "reqwest::"]),
    (
        "feed/ledger",
        &["kube::", "k8s_openapi::", "reqwest::", "tokio::", "Instant::now", "Timestamp::now", "SystemTime::now"],
    ),
    ("k8s", &["reqwest::"]),
    (
        "election/decide.rs",
        &["kube::", "tokio::", "Moment::now", "Instant::now", "Timestamp::now", "SystemTime::now", "rand::"],
    ),
    // What writes asks a Term first, and that is done in one room.
    ("controller", &["PostParams", "PatchParams", "DeleteParams"]),
];

#[test]
fn every_room_uses_only_the_rooms_below_it() {
    let mut broken = Vec::new();
    for file in files(&source()) {
        let Some(room) = room_of(&file) else { continue };
        let (_, allowed) = ROOMS
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("src/{room}/ is a new room: say in ROOMS what it may use"));
        for used in rooms_used(&code(&file)) {
            if used != room && !allowed.contains(&used.as_str()) && ROOMS.iter().any(|(name, _)| *name == used) {
                let allowed = if allowed.is_empty() { "no other room".to_owned() } else { allowed.join(", ") };
                broken.push(format!("{} uses {used}, but {room} may use {allowed}", shown(&file)));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "the dependency rule is broken (ARCHITECTURE.md says why it is there):\n{}",
        broken.join("\n")
    );
}

#[test]
fn what_decides_does_no_io_and_either_side_knows_only_itself() {
    let mut broken = Vec::new();
    for file in files(&source()) {
        let place = file.strip_prefix(source()).unwrap();
        let bans = BANS.iter().filter(|(folder, _)| place.starts_with(folder)).max_by_key(|(folder, _)| folder.len());
        let Some((folder, banned)) = bans else { continue };
        let code = code(&file);
        for name in *banned {
            if uses(&code, name) {
                broken.push(format!("{} uses {name}, which src/{folder}/ must do without", shown(&file)));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_table_names_every_room_and_no_other() {
    let folders = fs::read_dir(source()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let folders: BTreeSet<_> = folders.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(folders, ROOMS.iter().map(|(name, _)| (*name).to_owned()).collect());
}

#[test]
fn the_entry_stays_short() {
    let lines = fs::read_to_string(source().join("main.rs")).unwrap().lines().count();
    assert!(lines <= 30, "src/main.rs has {lines} lines: what it does belongs to a room");
}

/// The check itself: what it sees, and what it does not take for a use.
#[test]
fn a_use_is_seen_however_it_is_written() {
    let code = without_comments(
        r#"
        use crate::model::Path; // crate::process
        use crate::{
            api::{self, names::{GROUP, VERSION}},
            feed as books,
            k8s,
        };
        /// [`crate::controller`]
        fn f() -> crate::plan::Rendering { "https://example.com"; pub(in crate::okms) }
        "#,
    );
    let seen: Vec<_> = rooms_used(&code).into_iter().collect();
    assert_eq!(seen, ["api", "feed", "k8s", "model", "okms", "plan"]);
    assert!(uses("use kube::Client;", "kube::") && !uses("use test_kube::Client;", "kube::"));
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn shown(file: &Path) -> String {
    format!("src/{}", file.strip_prefix(source()).unwrap().display())
}

/// The first folder below `src/`; none for the entry.
fn room_of(file: &Path) -> Option<String> {
    let place = file.strip_prefix(source()).unwrap();
    (place.components().count() > 1).then(|| place.iter().next().unwrap().to_str().unwrap().to_owned())
}

/// The text of a file up to its unit tests, which come last, without comments. Files that a `#[cfg(test)]` brings in are called
/// `tests.rs` or `properties.rs`.
fn code(file: &Path) -> String {
    if file.file_name().is_some_and(|name| name == "tests.rs" || name == "properties.rs") {
        return String::new();
    }
    let text = fs::read_to_string(file).unwrap();
    without_comments(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default())
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| {
        // A `//` after a colon is the middle of a URL.
        let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
        comment.map_or(line, |(at, _)| &line[..at])
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The first names of all paths that begin with `crate::`, those in braces included.
fn rooms_used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        let rest = code[at + start.len()..].trim_start();
        let Some(group) = rest.strip_prefix('{') else {
            used.insert(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                _ if begins && !character.is_whitespace() => {
                    used.insert(identifier(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    used
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

/// Whether a name stands there as a name of its own, not as the end of another.
fn uses(code: &str, name: &str) -> bool {
    code.match_indices(name)
        .any(|(at, _)| !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':'))
}
