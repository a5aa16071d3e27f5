//! The 15 operations of the KV2 family (`/v1/secret/…`), snake case.
//!
//! Names, shapes and success statuses are OpenAPI 2.14.0's. What a read of a deactivated version answers (404 with the
//! version's metadata) is the purpose of the specification's `GetErrorResponseWithMetadata`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{Answer, Object};
use super::fields::{Fields, SettingNames};
use super::refusal::{Code, Refusal};
use super::route::Call;
use super::{Context, Operation, Payload, Visible, lifetime_text};
use crate::grants::Action;
use crate::store::{Data, MetadataChange, Secret, State, Version};
use crate::switches::EmptyList;

const NAMES: SettingNames =
    SettingNames { cas_required: "cas_required", lifetime: &["delete_version_after"], max_versions: "max_versions" };

/// The guide's name for the lifetime beside the specification's.
const GUIDE_NAMES: SettingNames =
    SettingNames { lifetime: &["delete_version_after", "deactivate_version_after"], ..NAMES };

pub(super) fn answer(context: &mut Context<'_>, call: &Call, payload: &Payload<'_>) -> Result<Answer, Refusal> {
    let body = payload.body;
    match call.operation {
        Operation::GetSecretConfig => config(context),
        Operation::PostSecretConfig => set_config(context, body),
        Operation::GetSecretRequest => read(context, call),
        Operation::PostSecretRequest => write(context, call, body),
        Operation::PatchSecretRequest => patch(context, call, body),
        Operation::DeleteSecretRequest => delete_latest(context, call),
        Operation::DeleteSecretVersions => {
            set_states(context, call, body, Action::VersionDeactivate, State::Deactivated)
        }
        Operation::PostSecretUndelete => set_states(context, call, body, Action::VersionActivate, State::Active),
        Operation::PutSecretDestroy => set_states(context, call, body, Action::VersionDelete, State::Deleted),
        Operation::GetSecretSubkeys => subkeys(context, call),
        Operation::ListSecretsMetadata => list(context, "", payload),
        Operation::GetSecretsMetadata if call.flag("list")? => list(context, call.secret()?, payload),
        Operation::GetSecretsMetadata => metadata(context, call),
        Operation::PostSecretMetadata => set_metadata(context, call, body, false),
        Operation::PatchSecretMetadata => set_metadata(context, call, body, true),
        Operation::DeleteSecretMetadata => delete(context, call),
        Operation::TokenLookupSelf => Ok(lookup_self(context)),
        _ => Err(Refusal::new(404, Code::NOT_FOUND, "no such route")),
    }
}

fn config(context: &Context<'_>) -> Result<Answer, Refusal> {
    context.require(Action::ConfigGet, None)?;
    let config = context.store.config();
    let data = context
        .object()
        .with("cas_required", config.cas_required(config))
        .with("delete_version_after", lifetime_text(config.lifetime(config)))
        .with("max_versions", config.max_versions(config));
    Ok(context.envelope(data))
}

fn set_config(context: &mut Context<'_>, body: &[u8]) -> Result<Answer, Refusal> {
    context.require(Action::ConfigUpdate, None)?;
    let mut fields = context.fields(body)?;
    let change = fields.settings(context.setting_names())?;
    fields.finish()?;
    context.store.set_config(change);
    Ok(Answer::no_content())
}

fn read(context: &Context<'_>, call: &Call) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    context.require(Action::VersionGetData, Some(path))?;
    let (secret, number, version) = context.find(path, call.version()?)?;
    let metadata = context.version_metadata(secret, number, version);
    let Some(data) = version.data(context.now) else {
        return Err(context.withdrawn(json!({"data": null, "metadata": metadata})));
    };
    let body = context.object().with("data", data).with("metadata", metadata);
    Ok(context.envelope(body).with_data(true))
}

fn write(context: &mut Context<'_>, call: &Call, body: &[u8]) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    let action = match context.store.get(path) {
        Ok(_) => Action::VersionCreate,
        Err(_) => Action::SecretCreate,
    };
    context.require(action, Some(path))?;
    let mut fields = context.fields(body)?;
    // The specification lets the data be null here, and only here.
    let data = fields.raw("data").map_or_else(|| Data::from_value(&Value::Null), Data::new);
    if !data.is_object() && !data.is_null() {
        return Err(Refusal::argument("the data has to be a JSON object"));
    }
    let cas = cas_option(&mut fields)?;
    fields.finish()?;
    let data = context.within_limit(data)?;
    let number = context.store.write(path, data, cas, context.now).map_err(|error| context.refusal(error))?;
    context.written(path, number)
}

fn patch(context: &mut Context<'_>, call: &Call, body: &[u8]) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    context.require(Action::VersionCreate, Some(path))?;
    let mut fields = context.fields(body)?;
    let changes = fields
        .raw("data")
        .filter(|changes| changes.get().starts_with('{'))
        .ok_or_else(|| Refusal::argument("the data of a patch has to be a JSON object"))?;
    let cas = cas_option(&mut fields)?;
    fields.finish()?;
    let (secret, number, version) = context.find(path, None)?;
    let Some(data) = version.data(context.now) else {
        return Err(context.withdrawn(context.version_metadata(secret, number, version)));
    };
    let merged = data.merged(changes, context.switches.merge_null_removes);
    let merged = context.within_limit(merged)?;
    let number = context.store.write(path, merged, cas, context.now).map_err(|error| context.refusal(error))?;
    context.written(path, number)
}

fn delete_latest(context: &mut Context<'_>, call: &Call) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    context.require(Action::VersionDeactivate, Some(path))?;
    let (_, number, _) = context.find(path, None)?;
    context.store.set_state(path, number, State::Deactivated, context.now).map_err(|error| context.refusal(error))?;
    Ok(Answer::no_content())
}

/// Versions that do not exist are passed over, as HashiCorp Vault does.
fn set_states(
    context: &mut Context<'_>,
    call: &Call,
    body: &[u8],
    action: Action,
    state: State,
) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    context.require(action, Some(path))?;
    let mut fields = context.fields(body)?;
    let versions = if context.switches.string_versions {
        fields.value::<Vec<Value>>("versions")?.map(|versions| {
            versions
                .iter()
                .map(|version| match version {
                    Value::String(text) => text.parse().ok(),
                    other => other.as_u64().and_then(|number| number.try_into().ok()),
                })
                .collect::<Option<Vec<u32>>>()
        })
    } else {
        fields.value("versions")?.map(Some)
    };
    let versions = versions
        .flatten()
        .filter(|versions| !versions.is_empty())
        .ok_or_else(|| Refusal::argument("the field \"versions\" has to name versions"))?;
    fields.finish()?;
    context.store.get(path).map_err(|error| context.refusal(error))?;
    for version in versions {
        // The secret exists, so the only error is a version that does not.
        let _passed_over = context.store.set_state(path, version, state, context.now);
    }
    Ok(Answer::no_content())
}

fn subkeys(context: &Context<'_>, call: &Call) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    context.require(Action::SubKeysGet, Some(path))?;
    let depth = call.depth()?;
    let (secret, number, version) = context.find(path, call.version()?)?;
    let metadata = context.version_metadata(secret, number, version);
    let Some(data) = version.data(context.now) else {
        return Err(context.withdrawn(json!({"data": null, "metadata": metadata})));
    };
    let body = context.object().with("metadata", metadata).with("subkeys", data.subkeys(depth));
    Ok(context.envelope(body))
}

/// Lists one level. Secrets that the identity may not `get` are left out.
fn list(context: &Context<'_>, folder: &str, payload: &Payload<'_>) -> Result<Answer, Refusal> {
    let all = |visible: Visible<'_>| context.store.children(folder, visible);
    let (keys, cursor) = context.page(payload, all)?;
    let body = match (keys.is_empty(), context.switches.empty_list) {
        (true, EmptyList::NotFound) => {
            return Err(Refusal::new(404, Code::SECRET_NOT_FOUND, "there is nothing below this path"));
        }
        (true, EmptyList::Null) => context.object().with("keys", ()),
        _ => context.object().with("keys", keys),
    };
    Ok(context.envelope(body).with_next_cursor(cursor))
}

fn metadata(context: &Context<'_>, call: &Call) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    context.require(Action::SecretGet, Some(path))?;
    let secret = context.store.get(path).map_err(|error| context.refusal(error))?;
    let config = context.store.config();
    let versions: BTreeMap<_, _> = secret
        .versions
        .iter()
        .map(|(number, version)| {
            let shown = context
                .object()
                .with("created_time", nanoseconds(version.created))
                .with("deletion_time", context.deletion_time(version))
                .with("destroyed", version.destroyed);
            (number.to_string(), shown)
        })
        .collect();
    let body = context
        .object()
        .with("cas_required", secret.settings.cas_required(config))
        .with("created_time", nanoseconds(secret.created))
        .with("current_version", secret.current)
        .with("custom_metadata", &secret.custom_metadata)
        .with("urn", context.urn(path))
        .with("delete_version_after", lifetime_text(secret.settings.lifetime(config)))
        .with("max_versions", secret.settings.max_versions(config))
        .with("oldest_version", secret.oldest)
        .with("updated_time", nanoseconds(secret.updated))
        .with("versions", versions);
    Ok(context.envelope(body))
}

fn set_metadata(context: &mut Context<'_>, call: &Call, body: &[u8], merges: bool) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    context.require(Action::SecretUpdateMetadata, Some(path))?;
    let mut fields = context.fields(body)?;
    let settings = fields.settings(context.setting_names())?;
    let custom = if merges { fields.custom_patch("custom_metadata")? } else { fields.custom("custom_metadata")? };
    fields.finish()?;
    let change = MetadataChange { settings, custom };
    let create = context.switches.metadata_creates && !merges;
    context.store.set_metadata(path, change, create, context.now).map_err(|error| context.refusal(error))?;
    if context.switches.warnings.is_empty() {
        Ok(Answer::no_content())
    } else {
        let body = context.object().with("warnings", &context.switches.warnings);
        Ok(Answer::json(200, &body))
    }
}

fn delete(context: &mut Context<'_>, call: &Call) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    context.require(Action::SecretDelete, Some(path))?;
    context.store.delete(path).map_err(|error| context.refusal(error))?;
    Ok(Answer::no_content())
}

/// What External Secrets' Vault provider looks at; the real body is unknown.
fn lookup_self(context: &Context<'_>) -> Answer {
    context.envelope(json!({"type": "service", "ttl": 0, "expire_time": null}))
}

fn cas_option(fields: &mut Fields<'_>) -> Result<Option<u32>, Refusal> {
    let Some(mut options) = fields.object("options")? else {
        return Ok(None);
    };
    let cas = options.number("cas")?;
    options.finish()?;
    Ok(cas)
}

fn nanoseconds(at: Timestamp) -> String {
    format!("{at:.9}")
}

impl Context<'_> {
    pub(super) const fn object(&self) -> Object {
        Object::new(self.switches.omit_nulls)
    }

    pub(super) fn fields<'b>(&self, body: &'b [u8]) -> Result<Fields<'b>, Refusal> {
        Fields::parse(body, self.switches.strict_bodies)
    }

    const fn setting_names(&self) -> &'static SettingNames {
        if self.switches.deactivate_version_after { &GUIDE_NAMES } else { &NAMES }
    }

    fn envelope(&self, data: impl serde::Serialize) -> Answer {
        let body = self.object().with("request_id", self.request_id).with("data", data);
        Answer::json(200, &body)
    }

    pub(super) fn find(&self, path: &str, version: Option<u32>) -> Result<(&Secret, u32, &Version), Refusal> {
        let secret = self.store.get(path).map_err(|error| self.refusal(error))?;
        let (number, version) = secret.version(version).map_err(|error| self.refusal(error))?;
        Ok((secret, number, version))
    }

    fn written(&self, path: &str, number: u32) -> Result<Answer, Refusal> {
        let (secret, number, version) = self.find(path, Some(number))?;
        let body = self
            .object()
            .with("request_id", self.request_id)
            .with("warnings", &self.switches.warnings)
            .with("data", self.version_metadata(secret, number, version));
        Ok(Answer::json(200, &body))
    }

    fn withdrawn(&self, data: Value) -> Refusal {
        let code = Code(self.switches.withdrawn_error_code);
        Refusal::new(404, code, "the version is deactivated or destroyed").with_data(data)
    }

    fn deletion_time(&self, version: &Version) -> String {
        self.deactivated(version).map(nanoseconds).unwrap_or_default()
    }

    /// `SecretVersionMetadata`. Vault's Go client fails without `custom_metadata`, so null is sent too.
    fn version_metadata(&self, secret: &Secret, number: u32, version: &Version) -> Value {
        let metadata = self
            .object()
            .with("created_time", nanoseconds(version.created))
            .with("custom_metadata", &secret.custom_metadata)
            .with("deletion_time", self.deletion_time(version))
            .with("destroyed", version.destroyed)
            .with("version", number);
        serde_json::to_value(metadata).expect("metadata has string keys only, so it serializes")
    }
}
