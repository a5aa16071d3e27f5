//! Makes the noise: carries a plan out, and ends every fault at the end of it.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use test_cluster::Component;

use super::{
    action::{Action, Key},
    history::{Kind, text},
    kubernetes::base64,
    scene::{self, ADMITTED, Scene},
    world::{DEFAULT, OWN, SECOND, WITH_STORE},
};

/// Carries one action out; answers whether there was something to do it to.
pub(super) async fn perform(scene: &mut Scene, action: &Action) -> Result<bool> {
    perform_inner(scene, action).await.with_context(|| action.to_string())
}

async fn perform_inner(scene: &mut Scene, action: &Action) -> Result<bool> {
    let kubernetes = &scene.kubernetes;
    match action {
        Action::Put { path, data } => scene.okms.put(path, data).await?,
        Action::SetState { path, version, state } => scene.okms.set_state(path, *version, *state).await?,
        Action::DeleteSecret { path } => scene.okms.delete(path).await?,
        Action::Forbid { paths } => scene.okms.forbid(paths).await?,
        Action::RotateCertificate => scene.mount.rotate(&mut scene.okms).await?,
        Action::OkmsFault { id, fault } => scene.okms.fault(*id, fault).await?,
        Action::OkmsFaultEnds { id } => scene.okms.end_fault(*id).await?,
        Action::OkmsStops => scene.okms.stop().await?,
        Action::OkmsReturns => scene.okms.restart().await?,
        Action::Create { object, spec } => {
            return kubernetes.create(Kind::OkmsSecret, object, json!({"spec": spec})).await;
        }
        Action::Edit { object, spec, .. } => return kubernetes.set_spec(Kind::OkmsSecret, object, spec).await,
        Action::Delete { object } => return kubernetes.delete(Kind::OkmsSecret, object).await,
        Action::Refresh { object, value } => {
            return annotate(scene, Kind::OkmsSecret, object, "okms-operator.io/refresh", Some(value)).await;
        }
        Action::Hand { secret, how } => return kubernetes.hand(secret, *how).await,
        Action::CreateForeign { secret, data, allow } => {
            let data: serde_json::Map<_, _> = data
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), base64(value.as_str().unwrap_or_default())))
                .collect();
            let annotations = allow.as_ref().map(|names| json!({"okms-operator.io/allow": names}));
            let secret_object = json!({"metadata": {"annotations": annotations}, "data": data});
            return kubernetes.create(Kind::Secret, secret, secret_object).await;
        }
        Action::EditForeign { secret, value } => {
            return kubernetes.merge(Kind::Secret, secret, &json!({"data": {"own": base64(value)}})).await;
        }
        Action::DeleteForeign { secret } => return kubernetes.delete(Kind::Secret, secret).await,
        Action::Allow { secret, allow } => {
            return annotate(scene, Kind::Secret, secret, "okms-operator.io/allow", allow.as_deref()).await;
        }
        Action::Label { namespace, admitted } => {
            let key = Key { namespace: String::new(), name: namespace.clone() };
            let labels = json!({"metadata": {"labels": {ADMITTED: admitted.then_some("true")}}});
            return kubernetes.merge(Kind::Namespace, &key, &labels).await;
        }
        Action::Access { store, paths } => {
            return edit_store(scene, store, json!({"access": scene::access(paths)})).await;
        }
        Action::StoreEdit { store, field, value } => return edit_store(scene, store, json!({*field: value})).await,
        Action::StoreDelete { store } => {
            let (kind, key) = store_key(store);
            return kubernetes.delete(kind, &key).await;
        }
        Action::StoreCreate { store } => {
            let (kind, key) = store_key(store);
            let spec = json!({"spec": scene.second});
            return kubernetes.create(kind, &key, spec).await;
        }
        Action::Confirm => return confirm(scene).await,
        Action::ApiFault { id, fault } => scene.api.fault(*id, fault.clone()),
        Action::ApiFaultEnds { id } => scene.api.end_fault(*id),
        Action::CutWatches => scene.api.cut_watches(),
        Action::ExpireWatches => scene.api.expire_watches(),
        Action::KillApiServer => return Ok(scene.plane.kill(Component::ApiServer)),
        Action::KillEtcd => return Ok(scene.plane.kill(Component::Etcd)),
        Action::Revive => return Ok(scene.plane.revive()),
        Action::Kill => return scene.operators.kill(),
        Action::KillStandby => return scene.operators.kill_standby(),
        Action::Terminate => return scene.operators.terminate(),
        Action::Start => scene.operators.start(),
        Action::Pause => return scene.operators.pause(),
        Action::Continue => scene.operators.go_on()?,
    }
    Ok(true)
}

/// Ends every fault, and has asked for what is never checked by itself.
pub(super) async fn calm(scene: &mut Scene) -> Result<()> {
    scene.okms.calm().await?;
    scene.api.calm();
    scene.operators.go_on()?;
    scene.operators.start();
    let objects: Vec<Key> = {
        let history = scene.recorder.open();
        let present = history.present();
        let objects = present.all(Kind::OkmsSecret);
        let never = objects.filter(|object| {
            object.object.as_deref().is_some_and(|object| text(object, "/spec/refreshInterval") == "0s")
        });
        never.map(|object| object.key.clone()).collect()
    };
    for object in objects {
        annotate(scene, Kind::OkmsSecret, &object, "okms-operator.io/refresh", Some("at the end")).await?;
    }
    Ok(())
}

/// Confirms what the stores hold; answers whether they held something.
pub(super) async fn confirm(scene: &Scene) -> Result<bool> {
    let mut any = false;
    for store in [DEFAULT, SECOND, OWN] {
        let (kind, key) = store_key(store);
        let Some(object) = scene.kubernetes.get(kind, &key).await? else { continue };
        let id = text(&object, "/status/withdrawalHeld/id");
        if !id.is_empty() {
            any |= annotate(scene, kind, &key, "okms-operator.io/confirm-withdrawal", Some(id)).await?;
        }
    }
    Ok(any)
}

async fn annotate(scene: &Scene, kind: Kind, key: &Key, name: &str, value: Option<&str>) -> Result<bool> {
    scene.kubernetes.merge(kind, key, &json!({"metadata": {"annotations": {name: value}}})).await
}

async fn edit_store(scene: &Scene, store: &str, fields: Value) -> Result<bool> {
    let (kind, key) = store_key(store);
    scene.kubernetes.merge(kind, &key, &json!({"spec": fields})).await
}

fn store_key(store: &str) -> (Kind, Key) {
    let (kind, name) = store.split_once('/').unwrap_or_default();
    let kind = Kind::by_name(kind).unwrap_or(Kind::ClusterOkmsStore);
    let namespace = if kind == Kind::OkmsStore { WITH_STORE } else { "" };
    (kind, Key { namespace: namespace.to_owned(), name: name.to_owned() })
}
