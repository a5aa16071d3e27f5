//! `cargo xtask cluster` as a person uses it.

use std::{
    collections::HashMap,
    path::Path,
    process::{Command, Output},
};

#[test]
fn up_returns_with_a_working_control_plane_and_down_ends_it() {
    let place = tempfile::tempdir().unwrap();
    let started = answer(&cluster("up", place.path()));
    let namespaces = kubectl(&started);
    assert!(namespaces.status.success(), "{}", text(&namespaces.stderr));
    assert!(text(&namespaces.stdout).contains("kube-system"));

    // Up again is the same one.
    assert_eq!(answer(&cluster("up", place.path())), started);

    let ended = cluster("down", place.path());
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(!place.path().exists());
    // Down again has nothing to do.
    let again = cluster("down", place.path());
    assert!(again.status.success());
    assert!(text(&again.stderr).contains("No control plane is running"));
}

fn cluster(task: &str, place: &Path) -> Output {
    let xtask = env!("CARGO_BIN_EXE_xtask");
    Command::new(xtask).args(["cluster", task, "--folder"]).arg(place).output().expect("xtask runs")
}

/// The assignments that `up` prints for a shell.
fn answer(up: &Output) -> HashMap<String, String> {
    assert!(up.status.success(), "{}", text(&up.stderr));
    let lines = text(&up.stdout);
    let pairs = lines.lines().map(|line| line.split_once('=').expect("only assignments are printed"));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn kubectl(answer: &HashMap<String, String>) -> Output {
    let mut command = Command::new(&answer["kubectl"]);
    // Not in the home folder, where it would outlive this control plane.
    let cache = tempfile::tempdir().expect("a temporary folder");
    command.args(["get", "namespaces"]).env("KUBECONFIG", &answer["KUBECONFIG"]);
    command.env("KUBECACHEDIR", cache.path()).output().expect("kubectl runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
