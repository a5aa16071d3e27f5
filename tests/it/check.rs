//! `okms-operator check`, as somebody runs it from a shell: what it says of a store that works and of each thing that may be wrong, and the
//! exit code for scripts.

use std::{fs, path::Path, process::Command};

use okms_sim::{Action, ClientCertificate, Grants, Sim, Validity};
use serde_json::{Value, json};

use crate::{
    cluster,
    world::{World, by_secret},
};

/// What one run printed and how it ended.
struct Checked {
    code: i32,
    out: String,
    err: String,
}

impl Checked {
    async fn run(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_okms-operator"));
        command.arg("check").args(arguments);
        tokio::task::spawn_blocking(move || {
            let output = command.env("KUBECONFIG", cluster::shared().kubeconfig()).output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
        })
        .await
        .unwrap()
    }

    /// The line of one check.
    fn line(&self, mark: char, check: &str) -> &str {
        let start = format!("  {mark} {check}: ");
        let line = self.out.lines().find(|line| line.starts_with(&start));
        line.unwrap_or_else(|| panic!("no line {start:?} in\n{}{}", self.out, self.err))
    }
}

fn write(folder: &Path, certificate: &ClientCertificate, ca: &str) -> [String; 3] {
    [("tls.crt", &*certificate.cert_pem), ("tls.key", &*certificate.key_pem), ("ca.crt", ca)].map(|(name, content)| {
        let file = folder.join(name);
        fs::write(&file, content).unwrap();
        file.to_str().unwrap().to_owned()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_works_is_right_in_every_line() {
    let mut world = World::without_operator("check").await;
    world.put_credential(&world.domain.issue_client_certificate(Validity::days(90)).unwrap()).await;
    world.create_store(by_secret()).await;
    world.domain.put("prod/db", json!({"password": "not-to-be-shown"}));
    let name = world.name.clone();
    let arguments = ["--store", &name, "--operator-namespace", &name, "--path", "prod/db"];

    let early = Checked::run(&arguments).await;
    assert_eq!(early.code, 0, "{}{}", early.out, early.err);
    assert!(early.line('!', "operator").contains("has not looked at this store"));

    world.start();
    world.store_ready("True", "Reachable").await;
    let checked = Checked::run(&arguments).await;
    assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
    for check in [
        "store",
        "spec",
        "credential",
        "authorities",
        "domain",
        "connection",
        "identity",
        "clock",
        "metadata",
        "data",
        "operator",
    ] {
        checked.line('✓', check);
    }
    assert!(checked.line('✓', "domain").contains(&world.domain.okms_id()));
    assert!(!checked.out.contains("not-to-be-shown"), "{}", checked.out);

    let json = Checked::run(&[&arguments[..], &["-o", "json"]].concat()).await;
    let report: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((report["right"].clone(), json.code), (json!(true), 0));
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["verdict"] == "right"), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_store_is_said_in_the_line_of_the_thing() {
    let mut world = World::without_operator("check-bad").await;
    world.start();
    world.domain.put("prod/db", json!({"v": "1"}));
    let other = Sim::start(okms_sim::Options::default()).await.unwrap();
    let expired = world.domain.issue_client_certificate(Validity::expired()).unwrap();
    let revoked = world.domain.issue_client_certificate(Validity::days(90)).unwrap();
    world.domain.revoke(&revoked.serial).unwrap();
    let soon = world.domain.issue_client_certificate(Validity::days(5)).unwrap();
    let files =
        |certificate: &ClientCertificate| json!({"tls.crt": certificate.cert_pem, "tls.key": certificate.key_pem});
    let good = || files(&world.certificate);
    for (n, (files, spec, path, mark, check, words)) in [
        (json!({"tls.crt": "x", "tls.key": "x"}), json!({}), "prod/db", '✗', "credential", "holds no certificate"),
        (files(&expired), json!({}), "prod/db", '✗', "credential", "has expired"),
        (files(&expired), json!({}), "prod/db", '–', "connection", "because of what is wrong above"),
        (files(&revoked), json!({}), "prod/db", '✗', "connection", "revoked"),
        (files(&soon), json!({}), "prod/db", '!', "expiry", "within 7 days"),
        (
            good(),
            json!({"ca": {"pem": other.server_ca_pem()}}),
            "prod/db",
            '✗',
            "connection",
            "not signed by a trusted CA",
        ),
        (good(), json!({"endpoint": "https://127.0.0.1:1"}), "prod/db", '✗', "connection", "refuses connections"),
        (good(), json!({"endpoint": "https://localhost:99999"}), "prod/db", '✗', "spec", "spec.endpoint"),
        (good(), json!({}), "prod/nothing", '✗', "metadata", "no secret at prod/nothing"),
    ]
    .into_iter()
    .enumerate()
    {
        let store = format!("s{n}");
        world.put_credential_files(files).await;
        world.create_okms_store(&world.name, &store, spec).await;
        let about = ["--store", &store, "--namespace", &world.name];
        let checked =
            Checked::run(&[&about[..], &["--path", path, "--allowed-endpoint", "https://127.0.0.1:*"]].concat()).await;
        let line = checked.line(mark, check);
        assert!(line.contains(words), "{n}: {line}");
        assert_eq!(checked.code, i32::from(mark != '!'), "{n}\n{}", checked.out);
        let api = world.okms_stores(&world.name);
        api.delete(&store, &kube::api::DeleteParams::default()).await.unwrap();
    }
    world.stop().await;
    // Whoever looks at it must not send the credential where its owner likes.
    world.put_credential(&world.certificate).await;
    world.create_okms_store(&world.name, "elsewhere", json!({})).await;
    let connections = world.sim.counters().connections;
    let checked = Checked::run(&["--store", "elsewhere", "--namespace", &world.name]).await;
    assert!(checked.line('✗', "spec").contains("--allowed-endpoint"), "{}", checked.out);
    assert_eq!((checked.code, world.sim.counters().connections), (1, connections));
    world.create_store(json!({})).await;
    let mounted = Checked::run(&["--store", &world.name]).await;
    assert_eq!(mounted.code, 1);
    assert!(mounted.line('✗', "credential").contains("run this there, with kubectl exec"), "{}", mounted.out);
    let nothing = Checked::run(&["--store", "nothing", "--namespace", &world.name]).await;
    assert_eq!(nothing.code, 1);
    assert!(nothing.line('✗', "store").contains("does not exist"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_tried_without_a_cluster() {
    let world = World::without_operator("check-draft").await;
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key, ca] = write(folder.path(), &world.certificate, &world.sim.server_ca_pem());
    let endpoint = world.sim.endpoint();
    world.domain.put("prod/db", json!({"v": "1"}));
    let draft = ["--endpoint", &endpoint, "--cert", &certificate, "--key", &key, "--ca", &ca];
    let right = Checked::run(&[&draft[..], &["--path", "prod/db"]].concat()).await;
    assert_eq!(right.code, 0, "{}{}", right.out, right.err);
    right.line('✓', "data");
    let by_folder = ["--endpoint", &endpoint, "--credential", folder.path().to_str().unwrap(), "--ca", &ca];
    assert_eq!(Checked::run(&by_folder).await.code, 0);

    // Without the right to the data the line says which is missing, and on what.
    world.domain.grant(&world.certificate.serial, Grants::of(&[Action::SecretGet])).unwrap();
    let half = Checked::run(&[&draft[..], &["--path", "prod/db"]].concat()).await;
    assert_eq!(half.code, 1, "{}", half.out);
    half.line('✓', "metadata");
    let line = half.line('✗', "data");
    assert!(line.contains("okms:apikms:secret/version/getData") && line.contains(&world.domain.okms_id()), "{line}");

    let other = world.sim.add_domain().okms_id();
    let wrong = Checked::run(&[&draft[..], &["--okms-id", &other]].concat()).await;
    assert_eq!(wrong.code, 1);
    assert!(wrong.line('✗', "credential").contains("is of OKMS domain"));
    let unreadable = Checked::run(&["--endpoint", &endpoint, "--cert", "nowhere", "--key", &key]).await;
    assert_eq!(unreadable.code, 2);
    assert!(unreadable.err.contains("--cert") && unreadable.err.contains("nowhere"), "{}", unreadable.err);
    let path = Checked::run(&[&draft[..], &["--path", "/prod"]].concat()).await;
    assert_eq!(path.code, 2, "{}", path.err);

    world.sim.with_switches(|switches| switches.date_skew_seconds = Some(7200));
    let skewed = Checked::run(&draft).await;
    assert_eq!(skewed.code, 1);
    assert!(skewed.line('✗', "clock").contains("more than five minutes"));
}
