//! Beside thousands of large Secrets that are nobody's: the operator must not hold them.

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{StreamExt, TryStreamExt, stream};
use http::{Request, header::CONTENT_TYPE};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use tokio::time::sleep;

use super::restart;
use crate::bench::{
    figures::Sheet,
    floor,
    scene::{self, NEIGHBOURS, Scene},
    usage::Memory,
};

/// Together half a gigabyte, of the two that etcd takes by default.
const SECRETS: usize = 5000;

const BYTES: usize = 100_000;

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    sheet.count("Secrets of others, 100 KB each", SECRETS);
    sheet.bytes("memory (RSS) before", Memory::of(scene.process()?)?.now);
    create(&scene.client).await?;
    scene.neighbours = SECRETS;
    sleep(scene.interval).await;
    sheet.bytes("memory (RSS) beside them", Memory::of(scene.process()?)?.now);
    restart::stop(scene).await?;
    let took = restart::start(scene).await?;
    let memory = Memory::of(scene.process()?)?;
    sheet.seconds("a restart beside them, until every path is checked", took.checked);
    sheet.bytes("memory (RSS) after it", memory.now);
    sheet.bytes("most memory (RSS) during it", memory.most);
    Ok(())
}

/// Deletes them, by name, because the answer to the deletion of a collection would hold all of them.
pub(super) async fn clear(scene: &mut Scene) -> Result<()> {
    let names = (0..std::mem::take(&mut scene.neighbours)).map(name);
    scene::delete_each::<Secret>(&scene.client, NEIGHBOURS, names).await.context("deleting Secrets")
}

/// As text that is made once: to write half a gigabyte as JSON takes more of the processors than the operator ever does.
async fn create(client: &Client) -> Result<()> {
    let url = format!("/api/v1/namespaces/{NEIGHBOURS}/secrets");
    let data = BASE64_STANDARD.encode(bytes());
    stream::iter(0..SECRETS)
        .map(async |secret| {
            let body = format!(
                r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":"{}"}},"data":{{"blob":"{data}"}}}}"#,
                name(secret)
            );
            let request = Request::post(&url).header(CONTENT_TYPE, "application/json").body(body.into_bytes());
            client.request_text(request.context("making a request")?).await.context("creating a Secret")
        })
        .buffer_unordered(floor::concurrency())
        .try_for_each(async |_| Ok(()))
        .await
}

fn name(secret: usize) -> String {
    format!("neighbour-{secret}")
}

/// Bytes without an order that anything could make small (xorshift).
fn bytes() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(BYTES).collect()
}
