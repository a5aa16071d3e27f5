//! Looks at one store as the operator does, without being one: each thing that has to be right, one after the other ([`Report`]).
//!
//! It uses the same code that connects a store: what it says is what a status would say. It writes nothing anywhere, and reads from
//! OKMS the root list and, if asked to, one secret, of which it keeps nothing.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use kube::{Api, Client as Kubernetes};
use serde::Serialize;

use super::{
    Config,
    store::{Asked, Problem, Reader, Stage, allowed, options_of, own_domain, stage},
};
use crate::{
    api::{ClusterOkmsStore, OkmsStore, Store, StoreReason, condition, condition::kind},
    model::{OkmsId, Path, StoreTrouble},
    okms::{
        Client, ClientOptions, Credential, Endpoint, Error, ErrorKind, Identity, Observer, Operation, Outcome, Roots,
    },
};

/// Which store to look at.
#[derive(Debug, Clone)]
pub enum Subject {
    ClusterOkmsStore(String),
    OkmsStore { namespace: String, name: String },
}

/// A connection that no store describes yet.
#[derive(Clone)]
pub struct Draft {
    pub endpoint: String,
    pub okms_id: Option<String>,
    /// The files of a credential by their names in a Secret, such as `tls.crt`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Certificate authorities in PEM; absent: the public roots.
    pub ca: Option<Vec<u8>>,
}

/// Everything that was looked at, in its order.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub subject: String,
    pub findings: Vec<Finding>,
}

/// One thing that has to be right.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub verdict: Verdict,
    /// What was found, and what to do where it is not right.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Right,
    /// It works, and will not for ever.
    Warning,
    Wrong,
    /// It could not be looked at, because something before it is wrong.
    Skipped,
}

impl Report {
    fn of(subject: String) -> Self {
        Self { subject, findings: Vec::new() }
    }

    pub fn is_right(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::Wrong)
    }

    fn say(&mut self, check: &'static str, verdict: Verdict, message: impl Into<String>) {
        self.findings.push(Finding { check, verdict, message: message.into() });
    }

    /// What was found is right, or the report ends here.
    fn keep<T>(
        &mut self,
        check: &'static str,
        found: Result<T, Problem>,
        right: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match found {
            Ok(found) => {
                self.say(check, Verdict::Right, right(&found));
                Some(found)
            }
            Err(
                Problem::Stop(StoreTrouble { message, .. })
                | Problem::Unusable(StoreTrouble { message, .. })
                | Problem::Unknown(message),
            ) => {
                self.say(check, Verdict::Wrong, message);
                None
            }
        }
    }
}

/// For people: one line for each thing.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.subject)?;
        for Finding { check, verdict, message } in &self.findings {
            let mark = match verdict {
                Verdict::Right => '✓',
                Verdict::Warning => '!',
                Verdict::Wrong => '✗',
                Verdict::Skipped => '–',
            };
            writeln!(f, "  {mark} {check}: {message}")?;
        }
        Ok(())
    }
}

/// Looks at a store of a cluster. Answers with an error only where the cluster does not answer.
pub async fn store(
    client: &Kubernetes,
    config: &Config,
    subject: &Subject,
    path: Option<&Path>,
) -> Result<Report, kube::Error> {
    let found = match subject {
        Subject::ClusterOkmsStore(name) => {
            let api: Api<ClusterOkmsStore> = Api::all(client.clone());
            api.get_opt(name).await?.map(|store| Store::Cluster(store.into()))
        }
        Subject::OkmsStore { namespace, name } => {
            let api: Api<OkmsStore> = Api::namespaced(client.clone(), namespace);
            api.get_opt(name).await?.map(|store| Store::Namespaced(store.into()))
        }
    };
    let mut report = Report::of(subject.to_string());
    let Some(store) = found else {
        report.say("store", Verdict::Wrong, "it does not exist: create it, or correct --store and --namespace");
        return Ok(report);
    };
    report.say("store", Verdict::Right, "it exists");
    let connected = connected(&mut report, client, config, &store).await;
    ask(&mut report, connected, path).await;
    told(&mut report, &store);
    Ok(report)
}

/// Looks at what is not a store yet.
pub async fn draft(config: &Config, draft: &Draft, path: Option<&Path>) -> Report {
    let mut report = Report::of(draft.endpoint.clone());
    let connected = drafted(&mut report, config, draft);
    ask(&mut report, connected, path).await;
    report
}

/// What a client is made of.
struct Connection {
    endpoint: Endpoint,
    okms_id: OkmsId,
    credential: Credential,
    roots: Roots,
    options: ClientOptions,
}

async fn connected(report: &mut Report, client: &Kubernetes, config: &Config, store: &Store) -> Option<Connection> {
    let asked = Asked::of(store).and_then(|asked| match (store, &config.namespaced_stores) {
        // Whoever made the store chose where the credential goes.
        (Store::Namespaced(own), Some(settings)) => allowed(settings, own, &asked.endpoint).map(|()| asked),
        _ => Ok(asked),
    });
    let asked = report.keep("spec", asked, |asked| format!("it names {}", asked.endpoint))?;
    let reader = Reader::new(client, config, store);
    let connection = store.connection();
    let mount = connection.auth.client_certificate.as_ref().and_then(|auth| auth.mount.as_ref());
    let credential = match mount {
        Some(mount) if !config.mount_root.join(mount).exists() => Err(Problem::gone(format!(
            "it is mounted into the operator's pod as {mount}, and not here: run this there, with kubectl exec, or give \
             --mount-root"
        ))),
        _ => reader.credential(&connection.auth, asked.okms_id.as_ref()).await,
    };
    let credential = keep_credential(report, config, credential);
    let roots = reader.roots("spec.ca", connection.ca.as_ref()).await;
    let roots = report.keep("authorities", roots, describe_roots);
    let credential = credential?;
    let okms_id = keep_domain(report, asked.okms_id, &credential)?;
    Some(Connection { endpoint: asked.endpoint, okms_id, credential, roots: roots?, options: options_of(store) })
}

fn drafted(report: &mut Report, config: &Config, draft: &Draft) -> Option<Connection> {
    let endpoint = draft.endpoint.parse().map_err(|error| Problem::spec(format!("{error}")));
    let endpoint: Option<Endpoint> = report.keep("endpoint", endpoint, |_| "it is an address".to_owned());
    let asked = draft.okms_id.as_ref().map(|id| id.parse::<OkmsId>()).transpose();
    let asked = asked.map_err(|error| Problem::spec(format!("--okms-id: {error}")));
    let credential = Identity::from_files(&draft.files).and_then(|identity| {
        identity.validity(config.clock.now())?;
        if let Ok(Some(asked)) = &asked {
            identity.belongs_to(asked)?;
        }
        Ok(Credential::from(identity))
    });
    let credential = credential.map_err(|error| Problem::credential(error.to_string()));
    let credential = keep_credential(report, config, credential);
    let roots = draft.ca.clone().map_or(Roots::Web, Roots::Pem);
    let checked = roots.check().map(|()| roots).map_err(|error| Problem::credential(error.to_string()));
    let roots = report.keep("authorities", checked, describe_roots);
    let credential = credential?;
    let okms_id = match asked {
        Ok(asked) => keep_domain(report, asked, &credential)?,
        Err(problem) => report.keep("domain", Err(problem), OkmsId::to_string)?,
    };
    Some(Connection { endpoint: endpoint?, okms_id, credential, roots: roots?, options: ClientOptions::default() })
}

fn describe_roots(roots: &Roots) -> String {
    match roots {
        Roots::Web => "the public roots are trusted".to_owned(),
        Roots::Pem(_) => "those that were given are trusted, and no others".to_owned(),
    }
}

fn keep_credential(
    report: &mut Report,
    config: &Config,
    credential: Result<Credential, Problem>,
) -> Option<Credential> {
    let credential = report.keep("credential", credential, |credential| match credential {
        Credential::Certificate(identity) => {
            format!("client certificate {}, valid until {}", identity.serial(), identity.not_after())
        }
        Credential::Token(_) => "a token".to_owned(),
        Credential::ServiceAccount(account) => format!("service account {}", account.client_id()),
    })?;
    if let Some(identity) = credential.identity()
        && let Some(Stage::Within(days)) = stage(identity.not_after(), config.clock.now())
    {
        let day = if days == 1 { "day" } else { "days" };
        report.say(
            "expiry",
            Verdict::Warning,
            format!("the client certificate ends within {days} {day}: create a new access certificate and replace it"),
        );
    }
    Some(credential)
}

fn keep_domain(report: &mut Report, asked: Option<OkmsId>, credential: &Credential) -> Option<OkmsId> {
    let (domain, whose) = match asked {
        Some(id) => (Ok(id), "by okmsId"),
        None => (own_domain(credential).cloned(), "by the client certificate"),
    };
    report.keep("domain", domain, |id| format!("{id}, {whose}"))
}

const ASKED: [&str; 3] = ["connection", "identity", "clock"];

/// Asks OKMS.
async fn ask(report: &mut Report, connection: Option<Connection>, path: Option<&Path>) {
    let Some(Connection { endpoint, okms_id, credential, roots, options }) = connection else {
        for check in ASKED {
            report.say(check, Verdict::Skipped, "not looked at, because of what is wrong above");
        }
        return;
    };
    let client = match Client::new(&endpoint, &okms_id, &roots, &credential, options, Arc::new(Unobserved)) {
        Ok(client) => client,
        Err(error) => return report.say("connection", Verdict::Wrong, error.to_string()),
    };
    let accepted = listed(report, &client.list_root().await);
    match client.clock_offset() {
        None => report.say("clock", Verdict::Skipped, "not known, since no answer said what time it is"),
        Some(offset) => match client.clock().problem() {
            None => {
                report.say("clock", Verdict::Right, format!("within {} s of that of OKMS", offset.abs().as_secs() + 1));
            }
            Some(problem) => {
                report.say("clock", Verdict::Wrong, format!("{problem} (by {} s)", offset.abs().as_secs()));
            }
        },
    }
    let Some(path) = path.filter(|_| accepted) else { return };
    let failed = |error: &Error| (Verdict::Wrong, error.to_string());
    let (verdict, message) = match client.metadata(path).await {
        Ok(facts) => match facts.current {
            Some(version) => (Verdict::Right, format!("{path} is at version {version}")),
            None => (Verdict::Wrong, format!("{path} has no version: write one in OKMS")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            (Verdict::Wrong, format!("OKMS has no secret at {path}: create it, or correct --path"))
        }
        Err(error) => failed(&error),
    };
    report.say("metadata", verdict, message);
    let (verdict, message) = match client.data(path, None).await {
        Ok(crate::model::Reading::Data { mark, .. }) => {
            (Verdict::Right, format!("version {} of {path} can be read", mark.version))
        }
        Ok(crate::model::Reading::Unreadable { version, .. }) => {
            (Verdict::Wrong, format!("version {version} of {path} is deactivated or destroyed: write a new one"))
        }
        Err(error) => failed(&error),
    };
    report.say("data", verdict, message);
}

/// What the root list tells of the connection and of the identity; answers whether both are right.
fn listed(report: &mut Report, listed: &Result<(), Error>) -> bool {
    let works = "OKMS answers over TLS";
    match listed {
        Ok(()) => {
            report.say("connection", Verdict::Right, works);
            report.say("identity", Verdict::Right, "OKMS accepts the credential");
            true
        }
        // As for a store's probe: who may not list is known all the same.
        Err(error) if error.status() == Some(403) && error.is_of_okms() => {
            report.say("connection", Verdict::Right, works);
            let message = "OKMS knows the credential, which may not list the secrets; that is not needed";
            report.say("identity", Verdict::Right, message);
            true
        }
        Err(error) if error.kind() == ErrorKind::Refused => {
            report.say("connection", Verdict::Right, works);
            report.say("identity", Verdict::Wrong, error.to_string());
            false
        }
        Err(error) => {
            report.say("connection", Verdict::Wrong, error.to_string());
            report.say("identity", Verdict::Skipped, "not looked at, because of the connection");
            false
        }
    }
}

/// What the operator says itself: it may be elsewhere, and may have been told not to serve the store.
fn told(report: &mut Report, store: &Store) {
    let Some(status) = store.status().filter(|status| status.observed_generation == store.generation()) else {
        let message = "the operator has not looked at this store, or not since it was changed: see whether it runs";
        return report.say("operator", Verdict::Warning, message);
    };
    match condition::find(&status.conditions, kind::READY) {
        Some(ready) if ready.status == "True" => {
            report.say("operator", Verdict::Right, "it says that the store is Ready");
        }
        Some(ready) => {
            let progresses = ready.reason == StoreReason::Progressing.as_str();
            let verdict = if progresses { Verdict::Warning } else { Verdict::Wrong };
            report.say("operator", verdict, format!("it says {}: {}", ready.reason, ready.message));
        }
        None => report.say("operator", Verdict::Warning, "it has not said how the store stands"),
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterOkmsStore(name) => write!(f, "ClusterOkmsStore {name}"),
            Self::OkmsStore { namespace, name } => write!(f, "OkmsStore {name} of namespace {namespace}"),
        }
    }
}

struct Unobserved;

impl Observer for Unobserved {
    fn request(&self, _: Operation, _: Outcome, _: Duration) {}

    fn handshake(&self) {}
}
