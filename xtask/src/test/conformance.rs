//! OVHcloud's official SDK for Go against the simulator: what the simulator says is what the SDK expects of OKMS.
//!
//! The checks are in tests/okms-sim/conformance; here the two are built and brought together.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use test_cluster::{
    go,
    supervise::{Folder, Process},
};

use crate::{cargo, run, workspace};

/// It makes a few keys and binds two ports; a busy machine may take many times the usual 100 milliseconds.
const READY: Duration = Duration::from_mins(1);

pub(super) fn run() -> Result<()> {
    let simulator = cargo::binary("okms-sim", &[])?;
    let folder = Folder::create("okms-conformance-")?;
    go::Build {
        module: &workspace::root().join("tests/okms-sim/conformance"),
        packages: &["."],
        ldflags: "",
        into: folder.path(),
        what: "the conformance checks",
        usually: "under a minute",
    }
    .run()?;

    let files = folder.path().join("okms");
    fs::create_dir(&files).context("creating a folder for the simulator's files")?;
    let mut command = run::program(simulator);
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--dir"]).arg(&files);
    let mut process = folder.run("okms-sim", &command)?;
    let ready = ready(&mut process)?;
    let told = |key| ready.get(key).and_then(Value::as_str).with_context(|| format!("the simulator told no {key}"));

    let mut checks = run::program(folder.path().join("conformance"));
    checks.args(["-endpoint", told("endpoint")?, "-okms-id", told("okmsId")?]);
    for (flag, file) in [("-ca", "ca.crt"), ("-cert", "tls.crt"), ("-key", "tls.key")] {
        checks.arg(flag).arg(files.join(file));
    }
    run::run(&mut checks)
}

/// The line of JSON that the simulator prints when it serves.
fn ready(process: &mut Process) -> Result<Value> {
    let deadline = Instant::now() + READY;
    while Instant::now() < deadline {
        process.check()?;
        if let Some(line) = ready_line(process.log()) {
            return Ok(line);
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("the simulator printed no ready line within {} seconds", READY.as_secs())
}

fn ready_line(log: &Path) -> Option<Value> {
    let log = fs::read_to_string(log).ok()?;
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find(|line| line.get("ready") == Some(&Value::Bool(true)))
}
