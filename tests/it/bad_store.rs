//! Stores that cannot work: each says why, in a sentence that names what is wrong and what to do, and so do its objects. Nothing is
//! lost, and once it is mended all goes on by itself.

use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use okms_sim::{Sim, Validity};
use serde_json::{Value, json};

use crate::{
    bad_input::{fails, has},
    cluster,
    kept::{History, Kept},
    world::World,
};

/// A store that cannot work: its spec, why, and words of its sentence.
pub(crate) struct BadStore {
    pub(crate) name: &'static str,
    spec: Value,
    pub(crate) reason: &'static str,
    words: &'static [&'static str],
}

impl BadStore {
    /// What it is called in the cluster.
    pub(crate) fn store(&self, world: &World) -> String {
        format!("{}-{}", world.name, self.name)
    }

    /// Creates it, and an `OkmsSecret` of its name that reads through it.
    pub(crate) async fn create(&self, world: &World) {
        let limits = json!({"limits": {"timeout": "1s"}});
        world.create_store_named(&self.store(world), merged(limits, &self.spec)).await;
        world.apply(self.name, json!({"path": "db", "storeRef": {"name": self.store(world)}})).await;
    }
}

async fn put_secret(world: &World, name: &str, files: &[(&str, &str)]) {
    let data: BTreeMap<_, _> = files.iter().copied().collect();
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": name}, "stringData": data})).unwrap();
    world.secrets().create(&PostParams::default(), &secret).await.unwrap();
}

/// A port of this machine where something answers, but not in TLS.
async fn plain_http() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    format!("https://{address}")
}

/// A port where connections are taken and nothing is ever said.
async fn silence() -> (String, tokio::net::TcpListener) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    (format!("https://{}", listener.local_addr().unwrap()), listener)
}

/// Creates everything that [`bad_stores`] refer to.
async fn create_credentials(world: &World) {
    let neighbour = world.sim.add_domain().issue_client_certificate(Validity::days(1)).unwrap();
    let foreign = world.sim.foreign_domain().issue_client_certificate(Validity::days(1)).unwrap();
    let expired = world.domain.issue_client_certificate(Validity::expired()).unwrap();
    let early = world.domain.issue_client_certificate(Validity::not_yet()).unwrap();
    let good = world.certificate.clone();
    let pair = |certificate: &okms_sim::ClientCertificate| {
        [("tls.crt", certificate.cert_pem.clone()), ("tls.key", certificate.key_pem.clone())]
    };
    let secrets: Vec<(&str, Vec<(&str, String)>)> = vec![
        ("nothing", vec![]),
        ("hollow", vec![("tls.crt", String::new()), ("tls.key", good.key_pem.clone())]),
        ("half", vec![("tls.crt", good.cert_pem.clone())]),
        ("junk", vec![("tls.crt", "hello".to_owned()), ("tls.key", good.key_pem.clone())]),
        ("unmatched", vec![("tls.crt", good.cert_pem.clone()), ("tls.key", neighbour.key_pem.clone())]),
        ("expired", pair(&expired).to_vec()),
        ("early", pair(&early).to_vec()),
        ("neighbour", pair(&neighbour).to_vec()),
        ("foreign", pair(&foreign).to_vec()),
        ("double", [pair(&good).to_vec(), vec![("client.p12", "x".to_owned())]].concat()),
    ];
    for (name, files) in &secrets {
        let files: Vec<_> = files.iter().map(|(name, content)| (*name, content.as_str())).collect();
        put_secret(world, &format!("{name}-credential"), &files).await;
    }
    world.mount_files_at("double", &[("tls.crt", &good.cert_pem), ("credential.json", "{}")]);
    world.mount_files_at("unmatched", &[("tls.crt", &good.cert_pem), ("tls.key", &neighbour.key_pem)]);
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.name);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let map = json!({"metadata": {"name": "authorities"}, "data": {"empty": "", "broken": broken}});
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
}

/// What stores are pointed at; it is there until this is dropped.
pub(crate) struct Elsewhere {
    okms_id: String,
    silent: String,
    plain: String,
    region: String,
    region_ca: String,
    plane: String,
    plane_ca: String,
    _there: (Sim, tokio::net::TcpListener),
}

impl Elsewhere {
    pub(crate) async fn of(world: &World) -> Self {
        let another_sim = Sim::start(okms_sim::Options::default()).await.unwrap();
        create_credentials(world).await;
        let (silent, listener) = silence().await;
        let plane = tokio::task::spawn_blocking(cluster::shared).await.unwrap();
        Self {
            okms_id: world.domain.okms_id(),
            silent,
            plain: plain_http().await,
            region: another_sim.endpoint(),
            region_ca: another_sim.server_ca_pem(),
            plane: plane.server_url().to_owned(),
            plane_ca: plane.ca_pem().to_owned(),
            _there: (another_sim, listener),
        }
    }
}

pub(crate) fn bad_stores(elsewhere: &Elsewhere) -> Vec<BadStore> {
    let by_secret = |name: &str| {
        let reference = json!({"name": format!("{name}-credential")});
        json!({"auth": {"clientCertificate": {"mount": null, "secretRef": reference}}})
    };
    let by_mount = |mount: &str| json!({"auth": {"clientCertificate": {"mount": mount}}});
    let at = |endpoint: &str| json!({"endpoint": endpoint});
    let with_ca = |key: &str| json!({"ca": {"pem": null, "configMapRef": {"name": "authorities", "key": key}}});
    let bad = |name, spec, reason, words| BadStore { name, spec, reason, words };
    let (unusable, untrusted, other) = ("InvalidCredential", "TlsFailed", "OkmsUnavailable");
    vec![
        bad("absent", by_secret("absent"), unusable, &["/absent-credential does not exist", "create it"]),
        bad(
            "nothing",
            by_secret("nothing"),
            unusable,
            &["/nothing", "no client certificate", "provide tls.crt and tls.key"],
        ),
        bad("hollow", by_secret("hollow"), unusable, &["/hollow", "tls.crt is empty", "provide"]),
        bad("half", by_secret("half"), unusable, &["/half", "no tls.key", "provide"]),
        bad("junk", by_secret("junk"), unusable, &["/junk", "tls.crt holds no certificate", "-----BEGIN CERTIFICATE"]),
        bad("unmatched", by_secret("unmatched"), unusable, &["tls.key is not the key of the first", "provide"]),
        bad("expired", by_secret("expired"), unusable, &["/expired", "has expired", "replace it"]),
        bad("early", by_secret("early"), unusable, &["/early", "not valid yet", "check the clock"]),
        bad(
            "neighbour",
            merged(by_secret("neighbour"), &json!({"okmsId": elsewhere.okms_id})),
            unusable,
            &["is of OKMS domain", "provide one of the domain in okmsId"],
        ),
        bad("foreign", by_secret("foreign"), untrusted, &["client certificate is refused", "check"]),
        bad("double", by_secret("double"), unusable, &["several forms", "tls.crt, client.p12", "keep one"]),
        bad("mount-absent", by_mount("absent"), unusable, &["nothing is mounted", "mount absent", "mount a Secret"]),
        bad("mount-double", by_mount("double"), unusable, &["several forms", "tls.crt, credential.json", "keep one"]),
        bad("mount-unmatched", by_mount("unmatched"), unusable, &["credential unmatched", "tls.key is not the key"]),
        // The CRD's rules cannot count.
        bad("port", at("https://okms.example:99999"), "InvalidSpec", &["spec.endpoint"]),
        bad(
            "nobody",
            // A busy machine may take its time to refuse.
            merged(at("https://127.0.0.1:1"), &json!({"limits": {"timeout": "10s"}})),
            other,
            &["no connection", "refuses connections"],
        ),
        bad("silent", at(&elsewhere.silent), other, &["within the time limit"]),
        bad("plain", at(&elsewhere.plain), untrusted, &["the endpoint does not speak TLS", "check its port"]),
        bad(
            "kubernetes",
            merged(at(&elsewhere.plane), &json!({"ca": {"pem": elsewhere.plane_ca}})),
            "Refused",
            &["refuses the request", "okms:apikms:secret/get", "check the endpoint"],
        ),
        bad("region", at(&elsewhere.region), untrusted, &["not signed by a trusted CA", "ca"]),
        bad(
            "wrong-ca",
            json!({"ca": {"pem": elsewhere.region_ca}}),
            untrusted,
            &["not signed by a trusted CA", "put the CA of the endpoint into ca"],
        ),
        bad("web-ca", json!({"ca": null}), untrusted, &["not signed by a trusted CA", "put the CA"]),
        bad("empty-ca", with_ca("empty"), unusable, &["spec.ca", "holds no certificate", "must be PEM"]),
        bad("broken-ca", with_ca("broken"), unusable, &["spec.ca", "damaged"]),
        bad(
            "no-ca-key",
            with_ca("absent"),
            unusable,
            &["/authorities has no key absent", "add it, or correct spec.ca"],
        ),
        bad(
            "no-ca-map",
            json!({"ca": {"pem": null, "configMapRef": {"name": "none", "key": "ca"}}}),
            unusable,
            &["/none does not exist", "create it, or correct spec.ca"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_work_says_why_and_works_once_mended() {
    let mut world = World::without_operator("bad-store").await;
    let history = History::of(&world).await;
    let elsewhere = Elsewhere::of(&world).await;
    let cases = bad_stores(&elsewhere);
    let mut config = world.config();
    config.cluster_stores = cases.iter().map(|case| case.store(&world)).collect();
    world.domain.put("db", json!({"v": "1"}));
    for case in &cases {
        case.create(&world).await;
    }
    world.start_with(config);

    join_all(cases.iter().map(async |case| {
        let said = world.store_named_ready(&case.store(&world), "False", case.reason).await;
        assert!(has(&said, case.words), "{}: {:?} are not all in {said:?}", case.name, case.words);
        fails(&world, case.name, "StoreNotReady", &["the store is not ready", &said]).await;
        assert!(world.secret(case.name).await.is_none(), "{} got a Secret", case.name);
    }))
    .await;
    for case in &cases {
        history.assert_never_ready(case.name).await;
        let stored = world.stores().get(&case.store(&world)).await.unwrap();
        assert!(stored.status.unwrap().certificate.is_none(), "{} shows a certificate in use", case.name);
    }

    let spec = json!({
        "endpoint": world.sim.endpoint(),
        "auth": {"clientCertificate": {"mount": world.name, "secretRef": null}},
        "ca": {"pem": world.sim.server_ca_pem(), "configMapRef": null},
    });
    join_all(cases.iter().map(async |case| {
        world.patch_store_named(&case.store(&world), json!({"spec": spec})).await;
        world.store_named_ready(&case.store(&world), "True", "Reachable").await;
        world.synced(case.name, &[("v", "1")]).await;
    }))
    .await;
}

fn merged(mut one: Value, more: &Value) -> Value {
    for (field, value) in more.as_object().unwrap() {
        one[field] = value.clone();
    }
    one
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_outlives_the_store_and_the_credential_that_it_came_through() {
    let world = World::new("lost-store").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let kept = Kept::of(&world, "db").await;

    world.mount_files(&[]);
    world.store_ready("False", "InvalidCredential").await;
    fails(&world, "db", "StoreNotReady", &["nothing is mounted"]).await;
    kept.assert(&world, "without a credential").await;
    world.mount(&world.certificate);
    world.synced("db", &[("v", "1")]).await;

    world.stores().delete(&world.name, &DeleteParams::default()).await.unwrap();
    fails(&world, "db", "StoreNotFound", &[&world.name, "does not exist"]).await;
    kept.assert(&world, "without its store").await;
    world.create_store(json!({})).await;
    world.synced("db", &[("v", "1")]).await;
    kept.assert(&world, "with its store again").await;
}
