//! The 11 operations of the REST v2 family (`/v2/secret…`), camel case, whole seconds.
//!
//! Names, shapes and success statuses are OpenAPI 2.14.0's; that a read of a deactivated version is a 200 without data,
//! and the form of times, are what okms-cli's live tests show.

use jiff::Timestamp;

use super::answer::{Answer, Object};
use super::fields::{Fields, SettingNames};
use super::page::Page;
use super::refusal::{Code, Refusal};
use super::route::Call;
use super::{Context, Operation, Payload, Visible, lifetime_text};
use crate::grants::Action;
use crate::path;
use crate::store::{Data, MetadataChange, Secret, State, Update, Version};

const NAMES: SettingNames =
    SettingNames { cas_required: "casRequired", lifetime: &["deactivateVersionAfter"], max_versions: "maxVersions" };

pub(super) fn answer(context: &mut Context<'_>, call: &Call, payload: &Payload<'_>) -> Result<Answer, Refusal> {
    let body = payload.body;
    match call.operation {
        Operation::ListSecretV2 => list(context, payload),
        Operation::PostSecretV2 => create(context, body),
        Operation::GetSecretV2 => read(context, call),
        Operation::PutSecretV2 => update(context, call, body),
        Operation::DeleteSecretV2 => delete(context, call),
        Operation::ListSecretVersionV2 => list_versions(context, call, payload),
        Operation::PostSecretVersionV2 => create_version(context, call, body),
        Operation::GetSecretVersionV2 => read_version(context, call),
        Operation::PutSecretVersionV2 => set_state(context, call, body),
        Operation::GetSecretConfigV2 => config(context),
        Operation::PutSecretConfigV2 => set_config(context, body),
        _ => Err(Refusal::new(404, Code::NOT_FOUND, "no such route")),
    }
}

/// All secrets that the identity may `get`, whatever their folder. A row has its current version by switch only, and never its data.
fn list(context: &Context<'_>, payload: &Payload<'_>) -> Result<Answer, Refusal> {
    let all = |visible: Visible<'_>| context.store.paths().filter(|path| visible(path)).map(str::to_owned).collect();
    let (paths, cursor) = context.page(payload, all)?;
    let rows: Vec<_> = paths
        .iter()
        .filter_map(|path| Some((path, context.store.get(path).ok()?)))
        .map(|(path, secret)| {
            let row = context.object().with("path", path).with("metadata", context.metadata_v2(path, secret));
            if !context.switches.list_versions {
                return row;
            }
            let current = secret.version(None).ok().map(|(number, version)| context.version_v2(number, version, None));
            row.with("version", current)
        })
        .collect();
    Ok(Answer::json(200, &rows).with_next_cursor(cursor))
}

fn create(context: &mut Context<'_>, body: &[u8]) -> Result<Answer, Refusal> {
    let mut fields = context.fields(body)?;
    let asked = fields.value::<String>("path")?.ok_or_else(|| Refusal::argument("the field \"path\" is missing"))?;
    let path = path::checked(&asked, context.switches.odd_paths)
        .map_err(|text| Refusal::new(context.switches.bad_path_status, Code::ARGUMENT, text))?;
    context.require(Action::SecretCreate, Some(&path))?;
    let data = version_field(&mut fields)?.ok_or_else(|| Refusal::argument("the field \"version\" is missing"))?;
    let change = metadata_field(&mut fields)?.unwrap_or_default();
    fields.finish()?;
    let data = context.within_limit(data)?;
    context.store.create(&path, data, change, context.now).map_err(|error| context.refusal(error))?;
    context.secret_written(&path)
}

fn read(context: &Context<'_>, call: &Call) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    let include_data = context.may_read(call, path)?;
    let secret = context.store.get(path).map_err(|error| context.refusal(error))?;
    let asked = call.version()?;
    let mut has_data = false;
    let version = if asked.is_none() && secret.versions.is_empty() {
        None
    } else {
        let (number, version) = secret.version(asked).map_err(|error| context.refusal(error))?;
        let data = version.data(context.now).filter(|_| include_data);
        has_data = data.is_some();
        Some(context.version_v2(number, version, data))
    };
    let body = context
        .object()
        .with("path", path)
        .with("metadata", context.metadata_v2(path, secret))
        .with("version", version);
    Ok(Answer::json(200, &body).with_data(has_data))
}

fn update(context: &mut Context<'_>, call: &Call, body: &[u8]) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    let mut fields = context.fields(body)?;
    let data = version_field(&mut fields)?;
    let metadata = metadata_field(&mut fields)?;
    fields.finish()?;
    if data.is_some() {
        context.require(Action::VersionCreate, Some(path))?;
    }
    if metadata.is_some() || data.is_none() {
        context.require(Action::SecretUpdateMetadata, Some(path))?;
    }
    let data = data.map(|data| context.within_limit(data)).transpose()?;
    let update = Update { metadata, data, cas: call.cas()? };
    context.store.update(path, update, context.now).map_err(|error| context.refusal(error))?;
    context.secret_written(path)
}

fn delete(context: &mut Context<'_>, call: &Call) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    context.require(Action::SecretDelete, Some(path))?;
    context.store.delete(path).map_err(|error| context.refusal(error))?;
    Ok(Answer::no_content())
}

fn list_versions(context: &Context<'_>, call: &Call, payload: &Payload<'_>) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    context.require(Action::SecretGet, Some(path))?;
    let secret = context.store.get(path).map_err(|error| context.refusal(error))?;
    // Padded, so that the order of the texts is the order of the numbers.
    let keys = secret.versions.keys().map(|key| format!("{key:05}")).collect();
    let (keys, cursor) = Page::parse(payload, context.switches)?.cut(keys);
    let rows: Vec<_> = keys
        .iter()
        .filter_map(|key| secret.versions.get_key_value(&key.parse().ok()?))
        .map(|(number, version)| context.version_v2(*number, version, None))
        .collect();
    Ok(Answer::json(200, &rows).with_next_cursor(cursor))
}

fn create_version(context: &mut Context<'_>, call: &Call, body: &[u8]) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    context.require(Action::VersionCreate, Some(path))?;
    let mut fields = context.fields(body)?;
    let data = fields.data()?;
    fields.finish()?;
    let update = Update { metadata: None, data: Some(context.within_limit(data)?), cas: call.cas()? };
    context.store.update(path, update, context.now).map_err(|error| context.refusal(error))?;
    context.version_written(path, None)
}

fn read_version(context: &Context<'_>, call: &Call) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    let include_data = context.may_read(call, path)?;
    let (_, number, version) = context.find(path, Some(call.path_version()?))?;
    let data = version.data(context.now).filter(|_| include_data);
    let answer = Answer::json(200, &context.version_v2(number, version, data));
    Ok(answer.with_data(data.is_some()))
}

fn set_state(context: &mut Context<'_>, call: &Call, body: &[u8]) -> Result<Answer, Refusal> {
    let path = call.secret()?;
    let mut fields = context.fields(body)?;
    let asked = fields.value::<String>("state")?;
    fields.finish()?;
    let (state, action) = match asked.as_deref() {
        Some("active") => (State::Active, Action::VersionActivate),
        Some("deactivated") => (State::Deactivated, Action::VersionDeactivate),
        Some("deleted") => (State::Deleted, Action::VersionDelete),
        _ => {
            return Err(Refusal::argument("the field \"state\" is none of active, deactivated, deleted"));
        }
    };
    context.require(action, Some(path))?;
    let number = call.path_version()?;
    context.store.set_state(path, number, state, context.now).map_err(|error| context.refusal(error))?;
    context.version_written(path, Some(number))
}

fn config(context: &Context<'_>) -> Result<Answer, Refusal> {
    context.require(Action::ConfigGet, None)?;
    Ok(Answer::json(200, &context.config_v2()))
}

fn set_config(context: &mut Context<'_>, body: &[u8]) -> Result<Answer, Refusal> {
    context.require(Action::ConfigUpdate, None)?;
    let mut fields = context.fields(body)?;
    let change = fields.settings(&NAMES)?;
    fields.finish()?;
    context.store.set_config(change);
    let body = context.config_v2().with("warnings", &context.switches.warnings);
    Ok(Answer::json(200, &body))
}

fn version_field(fields: &mut Fields<'_>) -> Result<Option<Data>, Refusal> {
    let Some(mut version) = fields.object("version")? else {
        return Ok(None);
    };
    let data = version.data()?;
    version.finish()?;
    Ok(Some(data))
}

fn metadata_field(fields: &mut Fields<'_>) -> Result<Option<MetadataChange>, Refusal> {
    let Some(mut metadata) = fields.object("metadata")? else {
        return Ok(None);
    };
    let change = MetadataChange { settings: metadata.settings(&NAMES)?, custom: metadata.custom("customMetadata")? };
    metadata.finish()?;
    Ok(Some(change))
}

fn seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}

impl Context<'_> {
    /// Whether the request asks for data; refuses what it may not.
    fn may_read(&self, call: &Call, path: &str) -> Result<bool, Refusal> {
        self.require(Action::SecretGet, Some(path))?;
        let include_data = call.flag("includeData")?;
        if include_data {
            self.require(Action::VersionGetData, Some(path))?;
        }
        Ok(include_data)
    }

    fn config_v2(&self) -> Object {
        let config = self.store.config();
        self.object()
            .with("casRequired", config.cas_required(config))
            .with("deactivateVersionAfter", lifetime_text(config.lifetime(config)))
            .with("maxVersions", config.max_versions(config))
    }

    fn metadata_v2(&self, path: &str, secret: &Secret) -> Object {
        let config = self.store.config();
        self.object()
            .with("casRequired", secret.settings.cas_required(config))
            .with("createdAt", seconds(secret.created))
            .with("currentVersion", secret.current)
            .with("customMetadata", &secret.custom_metadata)
            .with("urn", self.urn(path))
            .with("deactivateVersionAfter", lifetime_text(secret.settings.lifetime(config)))
            .with("maxVersions", secret.settings.max_versions(config))
            .with("oldestVersion", secret.oldest)
            .with("updatedAt", seconds(secret.updated))
    }

    fn version_v2(&self, number: u32, version: &Version, data: Option<&Data>) -> Object {
        let state = match version.state(self.now) {
            State::Active => "active",
            State::Deactivated => "deactivated",
            State::Deleted => "deleted",
        };
        let shown = self
            .object()
            .with("id", number)
            .with("state", state)
            .with("createdAt", seconds(version.created))
            .with("deactivatedAt", self.deactivated(version).map(seconds));
        match data {
            Some(data) => shown.with("data", data),
            None => shown,
        }
    }

    fn secret_written(&self, path: &str) -> Result<Answer, Refusal> {
        let secret = self.store.get(path).map_err(|error| self.refusal(error))?;
        let body = self
            .object()
            .with("path", path)
            .with("metadata", self.metadata_v2(path, secret))
            .with("warnings", &self.switches.warnings);
        Ok(Answer::json(200, &body))
    }

    fn version_written(&self, path: &str, number: Option<u32>) -> Result<Answer, Refusal> {
        let (_, number, version) = self.find(path, number)?;
        let body = self.version_v2(number, version, None).with("warnings", &self.switches.warnings);
        Ok(Answer::json(200, &body))
    }
}
