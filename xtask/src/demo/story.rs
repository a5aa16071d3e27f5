//! The story: each step does something, waits for what must come of it, and checks the actual objects.
//!
//! Waiting is kubectl's, as a user would do it; checking is on the JSON of the objects. What is not as told is an error.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{SHOP, teller::Teller};
use crate::stage::{Call, Cluster, Printed, STARTED, Simulator, call::kubectl, eventually};

const DB: &str = "prod/shop/db";
const SMTP: &str = "prod/shop/smtp";

// The passwords of three versions. Of six characters each: kubectl cannot wait for a value whose base64 ends with `=`.
const FIRST: &str = "violet";
const SECOND: &str = "indigo";
const THIRD: &str = "orange";

pub(super) struct Story<'a> {
    pub(super) tell: &'a Teller,
    pub(super) cluster: &'a Cluster,
    pub(super) simulator: &'a Simulator,
}

const APP: &str = r"apiVersion: okms-operator.io/v1alpha1
kind: OkmsSecret
metadata: {name: app}
spec:
  sources:
  - {path: prod/shop/db}
  - {path: prod/shop/smtp, prefix: SMTP_}
  target:
    template:
      data:
        app.env: |
          DB_URL=postgres://{{ user }}:{{ password | urlencode }}@db/shop
          SMTP_PASSWORD={{ SMTP_password | quote_dotenv }}
";

/// Of an object: `status`, `reason` and `message` of its condition Ready.
struct Ready {
    status: String,
    reason: String,
    message: String,
}

impl Story<'_> {
    pub(super) async fn tell(&self) -> Result<()> {
        self.show(kubectl("create namespace").arg(SHOP)).await?;
        self.show(kubectl("config set-context --current --namespace").arg(SHOP)).await?;
        self.first_sync().await.context("first sync")?;
        self.new_version().await.context("a new version")?;
        self.pin().await.context("a pin")?;
        self.deactivated().await.context("deactivated")?;
        self.reactivated().await.context("reactivated")?;
        self.edited().await.context("edited by hand")?;
        self.somebody_elses().await.context("somebody else's Secret")?;
        self.outage().await.context("OKMS is down")?;
        self.recovery().await.context("OKMS is back")?;
        self.consent().await.context("consent")?;
        self.template().await.context("a template")?;
        self.bill().await
    }

    async fn first_sync(&self) -> Result<()> {
        self.tell.title("1. A first Secret");
        self.put(DB, FIRST).await?;
        self.tell.say("An application team asks for it:");
        let since = Instant::now();
        self.show(ask_for("db", DB)).await?;
        self.show(wait("okmssecret/db", "condition=Ready")).await?;
        self.holds("db", FIRST).await?;
        self.tell.came("the Secret db is there", Some(since.elapsed()));
        self.show_password().await?;
        let secret = self.secret("db").await?.context("no Secret")?;
        let owner = secret.pointer("/metadata/ownerReferences/0/kind");
        must_be(owner == Some(&json!("OkmsSecret")), "the OkmsSecret owns its Secret")?;
        self.show(kubectl("get okmssecrets")).await?;
        Ok(())
    }

    async fn new_version(&self) -> Result<()> {
        self.tell.title("2. A new version in OKMS");
        let since = Instant::now();
        self.put(DB, SECOND).await?;
        self.wait_for_source("prod/shop/db@2").await?;
        self.holds("db", SECOND).await?;
        self.tell.came("the Secret follows, at the next check (each second here)", Some(since.elapsed()));
        self.show_password().await?;
        Ok(())
    }

    async fn pin(&self) -> Result<()> {
        self.tell.title("3. A pin");
        let since = Instant::now();
        self.patch_spec(r#"{"spec":{"version":1}}"#).await?;
        self.wait_for_source("prod/shop/db@1").await?;
        self.holds("db", FIRST).await?;
        self.tell.came("the Secret is back at version 1", Some(since.elapsed()));
        let since = Instant::now();
        self.put(DB, THIRD).await?;
        self.show(wait("okmssecret/db", "jsonpath={.status.sources[0].currentVersion}=3")).await?;
        self.holds("db", FIRST).await?;
        self.tell.came("the status shows that version 3 exists; the Secret stays at the pin", Some(since.elapsed()));
        let since = Instant::now();
        self.patch_spec(r#"{"spec":{"version":null}}"#).await?;
        self.wait_for_source("prod/shop/db@3").await?;
        self.holds("db", THIRD).await?;
        self.tell.came("without the pin it follows again", Some(since.elapsed()));
        Ok(())
    }

    async fn deactivated(&self) -> Result<()> {
        self.tell.title("4. A version is deactivated");
        self.tell.say("In OKMS, somebody deactivates version 3 of prod/shop/db.");
        let since = Instant::now();
        self.simulator.set_state(DB, 3, "deactivated").await?;
        self.show(wait("okmssecret/db", "condition=Ready=False")).await?;
        let gone = self.show_any(kubectl("get secret db")).await?;
        must_be(!gone.ok && self.secret("db").await?.is_none(), "the Secret db is gone")?;
        self.tell.came("the Secret is gone", Some(since.elapsed()));
        self.ready("okmssecret", "db", "False", "VersionDeactivated").await?;
        self.show_reason("db").await
    }

    async fn reactivated(&self) -> Result<()> {
        self.tell.title("5. … and reactivated");
        self.tell.say("In OKMS, somebody reactivates it.");
        let since = Instant::now();
        self.simulator.set_state(DB, 3, "active").await?;
        self.show(wait("okmssecret/db", "condition=Ready")).await?;
        self.holds("db", THIRD).await?;
        self.tell.came("the Secret is back", Some(since.elapsed()));
        Ok(())
    }

    async fn edited(&self) -> Result<()> {
        self.tell.title("6. Somebody edits the Secret by hand");
        let since = Instant::now();
        self.show(kubectl("patch secret db -p").arg(r#"{"stringData":{"password":"by hand"}}"#)).await?;
        let password = BASE64_STANDARD.encode(THIRD);
        self.show(wait("secret/db", &format!("jsonpath={{.data.password}}={password}"))).await?;
        self.holds("db", THIRD).await?;
        self.tell.came("repaired", Some(since.elapsed()));
        eventually("the event that tells of the repair", STARTED, async || {
            let events = self.cluster.get("events --field-selector reason=Repaired").await?;
            let events = events.as_ref().and_then(|events| events.get("items")?.as_array());
            Ok(events.is_some_and(|events| !events.is_empty()).then_some(()))
        })
        .await?;
        self.show(kubectl("get events --field-selector reason=Repaired")).await?;
        Ok(())
    }

    async fn somebody_elses(&self) -> Result<()> {
        self.tell.title("7. A Secret of somebody else");
        self.tell.say("Somebody has a Secret smtp:");
        self.show(kubectl("create secret generic smtp --from-literal=password=theirs")).await?;
        let before = self.secret("smtp").await?;
        self.put(SMTP, "ours").await?;
        self.tell.say("An OkmsSecret that would write to it:");
        let since = Instant::now();
        self.show(ask_for("smtp", SMTP)).await?;
        self.show(wait("okmssecret/smtp", "condition=Ready=False")).await?;
        self.ready("okmssecret", "smtp", "False", "TargetNotOwned").await?;
        must_be(self.secret("smtp").await? == before, "the Secret smtp is untouched")?;
        self.tell.came("it is refused, and their Secret is untouched", Some(since.elapsed()));
        self.show_reason("smtp").await
    }

    async fn outage(&self) -> Result<()> {
        self.tell.title("8. OKMS is down");
        self.tell.say("From now on it refuses connections.");
        let before = self.secret("db").await?;
        let since = Instant::now();
        self.simulator.stop().await?;
        self.show(wait("clusterokmsstore/default", "condition=Ready=False")).await?;
        self.ready("clusterokmsstore", "default", "False", "OkmsUnavailable").await?;
        self.tell.came("the store says so", Some(since.elapsed()));
        self.tell.say("What is new cannot be synced, and says why:");
        self.show(ask_for("late", DB)).await?;
        self.show(wait("okmssecret/late", "condition=Ready=False")).await?;
        self.ready("okmssecret", "late", "False", "StoreNotReady").await?;
        self.show_reason("late").await?;
        must_be(self.secret("late").await?.is_none(), "there is no Secret late")?;
        must_be(self.secret("db").await? == before, "the Secret db is untouched")?;
        let ready = self.condition("okmssecret", "db").await?;
        must_be(ready.status == "True", "db was checked within the last five minutes")?;
        self.tell.came("nothing is lost: the Secret db is untouched", None);
        self.tell.say(
            "db is still Ready: it was equal to its source when last checked, seconds ago. After five minutes without a check it \
             would no longer claim so.",
        );
        self.show(kubectl("get okmssecrets")).await?;
        Ok(())
    }

    async fn recovery(&self) -> Result<()> {
        self.tell.title("9. OKMS is back");
        self.tell.say("It serves again.");
        let since = Instant::now();
        self.simulator.restart().await?;
        self.show(wait("okmssecret/late", "condition=Ready")).await?;
        self.holds("late", THIRD).await?;
        self.show(wait("clusterokmsstore/default", "condition=Ready")).await?;
        self.holds("db", THIRD).await?;
        self.tell.came("what waited is synced", Some(since.elapsed()));
        self.show(kubectl("get okmssecrets")).await?;
        Ok(())
    }

    async fn consent(&self) -> Result<()> {
        self.tell.title("10. Consent");
        self.tell.say("The Secret smtp of step 7 is given to the operator, as the message said:");
        let since = Instant::now();
        self.show(kubectl("annotate secret smtp okms-operator.io/allow=smtp")).await?;
        self.show(wait("okmssecret/smtp", "condition=Ready")).await?;
        self.holds("smtp", "ours").await?;
        self.tell.came("it is taken over, and follows OKMS from now on", Some(since.elapsed()));
        Ok(())
    }

    async fn template(&self) -> Result<()> {
        self.tell.title("11. Two secrets and a template");
        self.tell.say("An application wants one file of both:");
        let since = Instant::now();
        self.show(kubectl("apply -f -").input(APP.to_owned())).await?;
        self.show(wait("okmssecret/app", "condition=Ready")).await?;
        let template = r#"go-template={{index .data "app.env"|base64decode}}"#;
        let made = self.show(kubectl("get secret app -o").arg(template)).await?;
        must_be(
            made == format!("DB_URL=postgres://shop:{THIRD}@db/shop\nSMTP_PASSWORD=\"ours\"\n"),
            "the file is as told",
        )?;
        self.tell.came("it is made of both, and made anew when one changes", Some(since.elapsed()));
        Ok(())
    }

    /// What all of this cost OKMS.
    async fn bill(&self) -> Result<()> {
        let calls = self.simulator.calls().await?;
        must_be(calls.with_data > 0 && calls.with_data < calls.all, "most checks move no secret data")?;
        self.tell.title("What it asked OKMS for");
        self.tell.came(
            &format!(
                "{} requests in all, checks each second; {} of them moved secret data",
                calls.all, calls.with_data
            ),
            None,
        );
        Ok(())
    }

    async fn put(&self, path: &str, password: &str) -> Result<()> {
        let version = self.simulator.put(path, json!({"user": "shop", "password": password})).await?;
        self.tell.say(&format!("In OKMS, somebody writes version {version} of {path}: the password is `{password}`."));
        Ok(())
    }

    async fn show(&self, call: Call) -> Result<String> {
        self.tell.show(self.cluster, call).await
    }

    async fn show_any(&self, call: Call) -> Result<Printed> {
        self.tell.show_any(self.cluster, &call).await
    }

    async fn show_password(&self) -> Result<()> {
        let template = "go-template={{.data.password|base64decode}}{{println}}";
        self.show(kubectl("get secret db -o").arg(template)).await.map(drop)
    }

    /// Shows what the condition Ready says, as a user would ask.
    async fn show_reason(&self, name: &str) -> Result<()> {
        let message = r#"jsonpath={.status.conditions[?(@.type=="Ready")].message}"#;
        self.show(kubectl("get okmssecret").arg(name).arg("-o").arg(message)).await.map(drop)
    }

    async fn patch_spec(&self, patch: &str) -> Result<()> {
        self.show(kubectl("patch okmssecret db --type=merge -p").arg(patch)).await.map(drop)
    }

    async fn wait_for_source(&self, summary: &str) -> Result<()> {
        self.show(wait("okmssecret/db", &format!("jsonpath={{.status.summary}}={summary}"))).await.map(drop)
    }

    async fn secret(&self, name: &str) -> Result<Option<Value>> {
        self.cluster.get(&format!("secret {name}")).await
    }

    /// The Secret has exactly the keys `user` and `password`, and this password; and its `OkmsSecret` says that it is synced.
    async fn holds(&self, name: &str, password: &str) -> Result<()> {
        self.ready("okmssecret", name, "True", "Synced").await?;
        let secret = self.secret(name).await?.with_context(|| format!("not as told: there is no Secret {name}"))?;
        let expected = json!({"user": BASE64_STANDARD.encode("shop"), "password": BASE64_STANDARD.encode(password)});
        must_be(secret.get("data") == Some(&expected), &format!("the Secret {name} holds the password `{password}`"))
    }

    async fn ready(&self, kind: &str, name: &str, status: &str, reason: &str) -> Result<()> {
        let ready = self.condition(kind, name).await?;
        if ready.status == status && ready.reason == reason {
            return Ok(());
        }
        let Ready { status: is, reason: why, message } = ready;
        bail!("not as told: {kind} {name} is Ready={is} {why} ({message}) instead of Ready={status} {reason}")
    }

    async fn condition(&self, kind: &str, name: &str) -> Result<Ready> {
        let object = self.cluster.get(&format!("{kind} {name}")).await?;
        let object = object.with_context(|| format!("there is no {kind} {name}"))?;
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let ready =
            conditions.and_then(|all| all.iter().find(|condition| condition.get("type") == Some(&json!("Ready"))));
        let ready = ready.with_context(|| format!("{kind} {name} has no condition Ready"))?;
        let text = |field| ready.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Ready { status: text("status"), reason: text("reason"), message: text("message") })
    }
}

fn must_be(is_so: bool, what: &str) -> Result<()> {
    if is_so { Ok(()) } else { bail!("not as told: it is not so that {what}") }
}

/// The whole of a common `OkmsSecret`.
fn ask_for(name: &str, path: &str) -> Call {
    kubectl("apply -f -").input(format!(
        "apiVersion: okms-operator.io/v1alpha1
kind: OkmsSecret
metadata: {{name: {name}}}
spec: {{path: {path}}}
"
    ))
}

fn wait(object: &str, until: &str) -> Call {
    kubectl("wait").arg(object).arg(format!("--for={until}")).arg("--timeout=2m")
}
