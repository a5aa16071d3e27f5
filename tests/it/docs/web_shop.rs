//! Runs `docs/examples/web-shop.yaml`: with OKMS as its comments say, every `OkmsSecret` in it makes its Secret.

use futures::future::join_all;
use okms_sim::Validity;
use serde_json::json;

use super::blocks;
use crate::world::{World, eventually};

/// The Secrets and their keys.
const MADE: [(&str, &[&str]); 12] = [
    ("database", &["DATABASE_URL"]),
    ("redis", &["redis-password"]),
    ("smtp", &["SMTP_HOST", "SMTP_PASSWORD", "SMTP_USER"]),
    ("web-tls", &["tls.crt", "tls.key"]),
    ("registry", &[".dockerconfigjson"]),
    ("orders-env", &[".env"]),
    ("deploy-key", &["known_hosts", "ssh-privatekey"]),
    ("invoice-keystore", &["application.properties", "keystore.jks", "password"]),
    ("payment", &["PAYMENT_API_KEY"]),
    ("shop-settings", &["LOG_LEVEL", "ca.crt"]),
    ("features", &["features.json"]),
    ("admin-users", &["auth"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_web_shop_gets_its_twelve_secrets() {
    let world = World::new("web-shop").await;
    let pair = world.domain.issue_client_certificate(Validity::days(1)).unwrap();
    for (path, data) in [
        ("prod/shop/db", json!({"user": "shop", "password": "p@ss/word", "host": "db.example.com", "port": 5432})),
        ("prod/shop/redis", json!({"password": "x"})),
        ("prod/shop/smtp", json!({"host": "smtp.example.com", "user": "shop", "password": "x"})),
        ("prod/shop/web/certificate", json!({"pem": pair.cert_pem})),
        ("prod/shop/web/key", json!({"pem": pair.key_pem})),
        ("prod/shop/registry", json!({"user": "shop", "password": "x"})),
        ("prod/shop/orders", json!({"password": "a$b", "session_key": "x"})),
        ("prod/shop/deploy-key", json!({"private": "x\n", "known_hosts": "x\n"})),
        ("prod/shop/keystore", json!({"jks": "/u3+7Q==", "password": "x"})),
        ("shared/ca", json!({"pem": "x\n"})),
        ("prod/shop/features", json!({"checkout": {"express": true}, "partners": ["x"]})),
        ("prod/shop/admin", json!({"anna": "x", "ben": "y"})),
    ] {
        world.domain.put(path, data);
    }
    for version in 1..=4 {
        world.domain.put("prod/shop/payment", json!({"api_key": version.to_string()}));
    }
    let chart = json!({"stringData": {"LOG_LEVEL": "info"},
        "metadata": {"name": "shop-settings", "annotations": {"okms-operator.io/allow": "shared-ca"}}});
    world.secrets().create(&kube::api::PostParams::default(), &serde_json::from_value(chart).unwrap()).await.unwrap();

    let [block] =
        blocks::read(&"docs/examples/web-shop.yaml".into()).try_into().unwrap_or_else(|_| panic!("one block"));
    let objects = block.manifests();
    assert_eq!(objects.len(), MADE.len());
    for object in &objects {
        let mut spec = object["spec"].clone();
        spec["storeRef"] = json!({"name": world.name});
        world.apply(object["metadata"]["name"].as_str().unwrap(), spec).await;
    }
    join_all(objects.iter().map(|object| world.ready(object["metadata"]["name"].as_str().unwrap(), "True", "Synced")))
        .await;
    let text = async |name: &str, key: &str| {
        let secret = world.secret(name).await.unwrap();
        String::from_utf8(secret.data.unwrap()[key].0.clone()).unwrap()
    };
    for (name, keys) in MADE {
        eventually(&format!("the Secret {name} has its keys"), async || {
            let data = world.secret(name).await.and_then(|secret| secret.data).ok_or("it has no data")?;
            if data.keys().eq(keys) { Ok(()) } else { Err("it has others") }
        })
        .await;
    }
    assert_eq!(text("database", "DATABASE_URL").await, "postgres://shop:p%40ss%2Fword@db.example.com:5432/shop");
    assert_eq!(text("payment", "PAYMENT_API_KEY").await, "3");
    assert!(text("orders-env", ".env").await.contains("\nADMIN_PASSWORD=\"a\\$b\"\n"));
    let auth = text("admin-users", "auth").await;
    let users: Vec<_> = auth.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(users, ["anna", "ben"], "{auth}");
}
