//! The OKMS simulator as a process of its own, steered by its admin port.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use test_cluster::supervise::{Folder, Process};

use super::{STARTED, eventually};

/// A running simulator, ended when it is dropped.
pub(crate) struct Simulator {
    process: Process,
    http: reqwest::Client,
    endpoint: String,
    admin: String,
    /// ca.crt, tls.crt and tls.key.
    files: PathBuf,
}

/// What OKMS was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calls {
    pub(crate) all: u64,
    /// Those for a page of the list of all secrets.
    pub(crate) pages: u64,
    /// Those that were answered with the data of a secret.
    pub(crate) with_data: u64,
    /// TLS handshakes that were completed.
    pub(crate) handshakes: u64,
}

impl Calls {
    /// Those since then.
    pub(crate) fn since(self, then: Self) -> Self {
        Self {
            all: self.all - then.all,
            pages: self.pages - then.pages,
            with_data: self.with_data - then.with_data,
            handshakes: self.handshakes - then.handshakes,
        }
    }
}

impl Simulator {
    pub(crate) async fn start(folder: &Folder, binary: &Path) -> Result<Self> {
        let files = folder.path().join("okms");
        let mut command = Command::new(binary);
        command.arg("--dir").arg(&files);
        let mut process = folder.run("okms-sim", &command)?;
        let log = process.log().to_owned();
        let ready = eventually("the simulator's ready line", STARTED, async || {
            process.check()?;
            let log = fs::read_to_string(&log).unwrap_or_default();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            Ok(lines.into_iter().find(|line| line.get("ready") == Some(&Value::Bool(true))))
        })
        .await?;
        let place = |name| ready.get(name)?.as_str().map(str::to_owned);
        Ok(Self {
            process,
            http: reqwest::Client::builder().no_proxy().build().context("making an HTTP client")?,
            endpoint: place("endpoint").context("the simulator does not say where it is")?,
            admin: place("admin").context("the simulator does not say where its admin port is")?,
            files,
        })
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The URL of the admin port.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// A file of what a client needs: `ca.crt`, `tls.crt`, `tls.key`.
    pub(crate) fn file(&self, name: &str) -> String {
        self.files.join(name).display().to_string()
    }

    /// Writes a new version of a secret, as an administrator of OKMS would, and returns its number.
    pub(crate) async fn put(&self, path: &str, data: Value) -> Result<u64> {
        let answer = self.post("/domains/first/secrets", &json!({"path": path, "data": data})).await?;
        answer.get("version").and_then(Value::as_u64).context("the simulator does not say which version it wrote")
    }

    /// Writes a first version of so many secrets, at paths that begin so and end with a number from 0 on.
    pub(crate) async fn seed(&self, prefix: &str, count: usize, data: Value) -> Result<()> {
        let asked = json!({"count": count, "prefix": prefix, "data": data});
        self.post("/domains/first/secrets/seed", &asked).await.map(drop)
    }

    /// `active`, `deactivated` or `deleted`.
    pub(crate) async fn set_state(&self, path: &str, version: u64, state: &str) -> Result<()> {
        let asked = json!({"path": path, "version": version, "state": state});
        self.post("/domains/first/secrets/state", &asked).await.map(drop)
    }

    /// Connections are refused from now on.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.post("/stop", &json!({})).await.map(drop)
    }

    pub(crate) async fn restart(&self) -> Result<()> {
        self.post("/restart", &json!({})).await.map(drop)
    }

    pub(crate) async fn calls(&self) -> Result<Calls> {
        let counters = self.get("/counters").await?;
        let rows = counters.get("requests").and_then(Value::as_array).context("the simulator counts no requests")?;
        let sum = |of: &dyn Fn(&Value) -> bool| {
            rows.iter().filter(|row| of(row)).filter_map(|row| row.get("count")?.as_u64()).sum()
        };
        let pages = sum(&|row| row.get("operation").is_some_and(|operation| operation == "ListSecretV2"));
        let count = |name: &str| {
            let count = counters.get(name).and_then(Value::as_u64);
            count.with_context(|| format!("the simulator does not count {name}"))
        };
        Ok(Calls { all: sum(&|_| true), pages, with_data: count("dataReads")?, handshakes: count("handshakes")? })
    }

    /// The secret and all its versions are gone; what is written there afterwards begins at version 1.
    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        self.post("/domains/first/secrets/delete", &json!({"path": path})).await.map(drop)
    }

    /// Asks the admin port, whose routes the simulator's documentation lists.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.send(self.http.get(format!("{}{path}", self.admin))).await
    }

    /// The same with the method POST.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(self.http.post(format!("{}{path}", self.admin)).json(body)).await
    }

    /// The same with the method PUT.
    pub(crate) async fn put_json(&self, path: &str, body: &Value) -> Result<()> {
        self.send(self.http.put(format!("{}{path}", self.admin)).json(body)).await.map(drop)
    }

    /// The same with the method PATCH.
    pub(crate) async fn patch_json(&self, path: &str, body: &Value) -> Result<()> {
        self.send(self.http.patch(format!("{}{path}", self.admin)).json(body)).await.map(drop)
    }

    /// The same with the method DELETE.
    pub(crate) async fn delete_json(&self, path: &str) -> Result<()> {
        self.send(self.http.delete(format!("{}{path}", self.admin))).await.map(drop)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let answer = request.send().await.context("asking the simulator's admin port")?;
        let status = answer.status();
        let text = answer.text().await.context("reading from the simulator's admin port")?;
        if !status.is_success() {
            bail!("the simulator's admin port refuses ({status}): {text}");
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).context("the simulator's admin port answers with something that is no JSON")
    }
}
