//! Whether a Secret holds what its evidence says, whether that is what was asked for, and whether it was current.

use jiff::Timestamp;

use super::{
    claims::{Evidence, evidence_of},
    okms::{Meaning, Version},
    past::{Past, namespace_key},
    render::{Data, render},
    wanted::{Source, Wanted, grants},
};
use crate::chaos::history::Kind;

/// For each source, the version that the evidence names for it.
pub(super) fn versions<'p>(
    past: &'p Past<'_>,
    wanted: &Wanted,
    evidence: &[Evidence],
) -> Result<Vec<Option<&'p Version>>, String> {
    let stranger =
        evidence.iter().find(|one| one.okms_id != past.history.okms_id || wanted.source(&one.path, one.pin).is_none());
    if let Some(stranger) = stranger {
        return Err(format!("it names {}@{:?}, which is no source", stranger.path, stranger.pin));
    }
    let of = |source: &Source| {
        let Some(named) = evidence_of(evidence, source) else {
            return if source.optional { Ok(None) } else { Err(format!("it names nothing of {}", source.path)) };
        };
        if source.pin.is_some_and(|pin| pin != named.version) {
            return Err(format!("{} is pinned to {:?} and read at {}", source.path, source.pin, named.version));
        }
        let created = named.created.unwrap_or_default();
        let version = past.truth.created(&source.path, named.version, created);
        version.map(Some).ok_or_else(|| format!("{}@{} was never made at {created}", source.path, named.version))
    };
    wanted.sources.iter().map(of).collect()
}

/// Whether the data is exactly one rendering of what the evidence names.
pub(super) fn is_rendering(past: &Past<'_>, wanted: &Wanted, evidence: &[Evidence], data: &Data) -> Result<(), String> {
    let versions = versions(past, wanted, evidence)?;
    let contents: Vec<_> = versions.iter().map(|version| version.map(|version| &*version.content)).collect();
    match render(wanted, &contents) {
        Ok(rendered) if rendered == *data => Ok(()),
        Ok(rendered) => {
            Err(format!("its data is not the rendering of {}: {}", named(evidence), difference(&rendered, data)))
        }
        Err(reason) => Err(format!("{} makes no Secret ({reason}), and one was written", named(evidence))),
    }
}

/// Whether each version could be what its source meant when it was read, and whether what is left out could be absent.
pub(super) fn is_current(past: &Past<'_>, wanted: &Wanted, evidence: &[Evidence], at: Timestamp) -> Result<(), String> {
    // What is never checked by itself may be told of by an old answer.
    if past.is_never_checked(wanted, at) {
        return Ok(());
    }
    let since = past.read_since(wanted, at);
    for (source, version) in wanted.sources.iter().zip(versions(past, wanted, evidence)?) {
        let mut meanings = past.truth.between(&source.path, since, at).map(|era| era.meaning(source.pin));
        let explained = match version {
            None => meanings.any(|meaning| !matches!(meaning, Meaning::Active(_))),
            Some(version) => meanings.any(|meaning| {
                matches!(meaning, Meaning::Active(active)
                    if active.number == version.number && active.created == version.created)
            }),
        };
        // A path that was never written is not in the history.
        if !explained && (version.is_some() || past.truth.last(&source.path).is_some()) {
            let what = match version {
                Some(version) => format!("version {} of {} was not current", version.number, source.path),
                None => format!("{} was readable all the time and is left out", source.path),
            };
            return Err(format!("{what} since {}", past.history.moment(since)));
        }
    }
    Ok(())
}

/// Whether a store may have been seen that lets the namespace read every source.
pub(super) fn may_be_read(past: &Past<'_>, wanted: &Wanted, at: Timestamp) -> bool {
    let since = past.seen_since(at);
    let namespaces = past.between(Kind::Namespace, &namespace_key(&wanted.object.namespace), since, at);
    let mut stores = past.stores(wanted, since, at);
    stores.any(|store| {
        namespaces
            .iter()
            .filter_map(|namespace| namespace.object.as_deref())
            .any(|namespace| wanted.sources.iter().all(|source| grants(store, namespace, &source.path)))
    })
}

pub(super) fn named(evidence: &[Evidence]) -> String {
    evidence.iter().map(|one| format!("{}@{}", one.path, one.version)).collect::<Vec<_>>().join(", ")
}

/// The first key in which two differ. The values are made up.
pub(super) fn difference(expected: &Data, seen: &Data) -> String {
    let keys = expected.keys().chain(seen.keys());
    let Some(key) = keys.into_iter().find(|key| expected.get(*key) != seen.get(*key)) else {
        return "nothing".to_owned();
    };
    let shown = |data: &Data| data.get(key).map(|value| String::from_utf8_lossy(value).into_owned());
    format!("key {key}: expected {:?}, seen {:?}", shown(expected), shown(seen))
}
