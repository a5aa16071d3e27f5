//! What the API server wrote down: who changed what, in which order.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;

/// What the operators of one namespace changed.
pub(super) struct Audit {
    changes: Vec<Change>,
    /// What they would have changed, if the API server had let them.
    refused: Vec<Change>,
}

/// A request that changed something.
pub(super) struct Change {
    /// Whose token it was.
    by: String,
    began: Timestamp,
    ended: Timestamp,
    /// Such as `patch okmssecrets/status`.
    pub(super) what: String,
    name: String,
    sent: Value,
    made: bool,
}

const LEASE: [&str; 2] = ["create leases", "update leases"];

impl Change {
    fn of(event: &Value) -> Option<Self> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let time = |pointer: &str| text(pointer)?.parse::<Timestamp>().ok();
        if text("/requestURI")?.contains("dryRun") {
            return None;
        }
        let credential = event["user"]["extra"]["authentication.kubernetes.io/credential-id"][0].as_str()?;
        let part = text("/objectRef/subresource").map(|part| format!("/{part}")).unwrap_or_default();
        Some(Self {
            by: credential.to_owned(),
            began: time("/requestReceivedTimestamp")?,
            ended: time("/stageTimestamp")?,
            what: format!("{} {}{part}", text("/verb")?, text("/objectRef/resource")?),
            name: text("/objectRef/name").unwrap_or_default().to_owned(),
            sent: event.get("requestObject").cloned().unwrap_or_default(),
            made: event.pointer("/responseStatus/code")?.as_u64()? < 300,
        })
    }

    fn is_of_lease(&self) -> bool {
        LEASE.contains(&self.what.as_str())
    }

    fn shown(&self) -> String {
        format!("{} {} at {}", self.what, self.name, self.began)
    }
}

impl Audit {
    /// Of the `ServiceAccount`s of a namespace.
    pub(super) fn read(log: &Path, namespace: &str) -> Self {
        let user = format!("system:serviceaccount:{namespace}:");
        let text = fs::read_to_string(log).unwrap();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ours =
            events.filter(|event| event["user"]["username"].as_str().is_some_and(|name| name.starts_with(&user)));
        let mut changes: Vec<Change> = ours.filter_map(|event| Change::of(&event)).collect();
        changes.sort_by_key(|change| change.began);
        let (changes, refused) = changes.into_iter().partition(|change| change.made);
        Self { changes, refused }
    }

    fn by(&self, credential: &str) -> impl DoubleEndedIterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.by == credential)
    }

    /// What somebody changed, but for the Lease.
    pub(super) fn written_by(&self, credential: &str) -> Vec<String> {
        self.by(credential).filter(|change| !change.is_of_lease()).map(Change::shown).collect()
    }

    pub(super) fn last_of(&self, credential: &str) -> &Change {
        self.by(credential).next_back().expect("it changed something")
    }

    /// How many changes of a kind there were.
    pub(super) fn count(&self, what: &str) -> usize {
        self.changes.iter().filter(|change| change.what == what).count()
    }

    /// From the last word of one about the Lease, which others may hear as soon as it has begun, to when another had it.
    pub(super) fn hand_over(&self, from: &str, to: &str) -> Duration {
        let left = self.by(from).rfind(|change| change.is_of_lease()).expect("it had the Lease");
        let taken = self.by(to).find(|change| change.is_of_lease() && change.began > left.began);
        let taken = taken.expect("another one took it");
        Duration::try_from(taken.ended.duration_since(left.began)).unwrap_or_default()
    }

    /// What somebody changed after another one had taken the Lease from it, the Lease included; and what it tried to, but for the Lease.
    pub(super) fn written_after_its_term(&self, credential: &str) -> Vec<String> {
        let last = self.by(credential).rfind(|change| change.is_of_lease()).expect("it led").began;
        let taken =
            self.changes.iter().find(|change| change.is_of_lease() && change.by != credential && change.began > last);
        let taken = taken.expect("another one took over").began;
        let tried = self.refused.iter().filter(|change| change.by == credential && !change.is_of_lease());
        self.by(credential).chain(tried).filter(|change| change.began > taken).map(Change::shown).collect()
    }

    /// Whoever changes something is who changed the Lease last.
    #[track_caller]
    pub(super) fn assert_one_leader_at_a_time(&self) {
        let mut leader = None;
        assert!(self.changes.iter().any(|change| !change.is_of_lease()), "nothing was written down");
        for change in &self.changes {
            if change.is_of_lease() {
                leader = Some(&change.by);
            }
            assert_eq!(Some(&change.by), leader, "{} by one that does not lead", change.shown());
        }
    }

    /// No Secret was made from the same versions twice, and no status said the same twice.
    #[track_caller]
    pub(super) fn assert_nothing_is_written_twice(&self) {
        let mut seen: BTreeMap<(&str, &str), HashSet<String>> = BTreeMap::new();
        for change in &self.changes {
            let (kind, content) = match change.what.as_str() {
                "create secrets" | "update secrets" => {
                    ("secret", change.sent["metadata"]["annotations"]["okms-operator.io/source"].to_string())
                }
                "patch okmssecrets/status" => ("status", change.sent["status"].to_string()),
                _ => continue,
            };
            let first = seen.entry((kind, &change.name)).or_default().insert(content.clone());
            assert!(first, "{} wrote again: {content}", change.shown());
        }
    }
}
