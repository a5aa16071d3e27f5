//! A domain's handle: what its administrator does, without a request.
//!
//! Acts on the store directly: no rights, no limits, no faults, no counters.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::grants::Grants;
use crate::pki::{ClientCertificate, Naming, Validity};
use crate::store::{CustomChange, Data, Lifetime, MetadataChange, SettingsChange, State, StoreError};
use crate::switches::RevokedConnections;
use crate::world::{Account, DomainState, Identity, World, locked};

/// Why an administrator's call did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DomainError {
    SecretMissing,
    VersionMissing,
    /// Not one or more of `<digits><d|h|m|s>`.
    BadDuration,
    /// No certificate has this serial, no token is this one, no service account has this id.
    UnknownIdentity,
    /// A path has 24,000 versions at most.
    VersionsExhausted,
}

impl std::fmt::Display for DomainError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::SecretMissing => "the secret does not exist",
            Self::VersionMissing => "the version does not exist",
            Self::BadDuration => "the duration is not like 1d, 10h30m or 0s",
            Self::UnknownIdentity => {
                "no certificate has this serial, no token is this one, no service account has this id"
            }
            Self::VersionsExhausted => "the secret has no version number left",
        })
    }
}

impl std::error::Error for DomainError {}

impl From<StoreError> for DomainError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::VersionMissing => Self::VersionMissing,
            StoreError::VersionsExhausted => Self::VersionsExhausted,
            // The rest are answers to `cas` and to creation, which an administrator's calls don't use.
            _ => Self::SecretMissing,
        }
    }
}

/// A service account of OVHcloud. It has no `Debug`: the secret is one, even here.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccount {
    pub client_id: String,
    pub client_secret: String,
}

/// Settings and custom metadata to set; `None` leaves a field as it is.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metadata {
    pub cas_required: Option<bool>,
    /// Replaces all there is.
    pub custom_metadata: Option<BTreeMap<String, String>>,
    /// Such as `1d` or `10h30m`; `0s`: never.
    pub delete_version_after: Option<String>,
    pub max_versions: Option<u32>,
}

/// One OKMS domain of a simulator. Clones are the same domain.
#[derive(Clone)]
pub struct Domain {
    world: Arc<World>,
    state: Arc<DomainState>,
}

impl Domain {
    pub(crate) const fn new(world: Arc<World>, state: Arc<DomainState>) -> Self {
        Self { world, state }
    }

    /// The domain's UUID, as text.
    pub fn okms_id(&self) -> String {
        self.state.okms_id.to_string()
    }

    pub fn uuid(&self) -> Uuid {
        self.state.okms_id
    }

    /// Issues a client certificate. It may do everything until [`Domain::grant`] says otherwise.
    pub fn issue_client_certificate(&self, validity: Validity) -> Result<ClientCertificate> {
        self.issue_client_certificate_named(Naming::Documented, validity)
    }

    /// The same, saying something else of the domain than is documented.
    pub fn issue_client_certificate_named(&self, naming: Naming, validity: Validity) -> Result<ClientCertificate> {
        let now = self.world.clock.now();
        let issued = self
            .world
            .users_authority()
            .issue_client(self.state.okms_id, naming, validity, now)
            .context("issuing a client certificate")?;
        let mut identity = Identity::new(Grants::everything(), issued.not_after);
        identity.anywhere = naming == Naming::AnyDomain;
        locked(&self.state.certificates).insert(issued.serial.clone(), identity);
        Ok(issued)
    }

    /// Issues a bearer token of 365 days. It may do everything until [`Domain::grant`] says otherwise.
    pub fn issue_token(&self) -> String {
        self.issue_token_for(std::time::Duration::from_hours(365 * 24))
    }

    /// Issues a bearer token that ends after this time of the simulator's clock.
    pub fn issue_token_for(&self, lifetime: std::time::Duration) -> String {
        let token = format!("sim.{}", Uuid::new_v4().simple());
        let lifetime = SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX);
        let not_after = self.world.clock.now().saturating_add(lifetime).unwrap_or(Timestamp::MAX);
        locked(&self.state.tokens).insert(token.clone(), Identity::new(Grants::everything(), not_after));
        token
    }

    /// Makes a service account. It may do everything until [`Domain::grant`] says otherwise.
    pub fn issue_service_account(&self) -> ServiceAccount {
        let client_id = format!("EU.{}", Uuid::new_v4().simple());
        let client_secret = Uuid::new_v4().simple().to_string();
        let identity = Identity::new(Grants::everything(), Timestamp::MAX);
        let account = Account { secret: client_secret.clone(), identity };
        locked(&self.state.accounts).insert(client_id.clone(), account);
        ServiceAccount { client_id, client_secret }
    }

    /// Revokes the access tokens of a service account, which stays and may ask for others.
    pub fn revoke_access_tokens(&self, client_id: &str) {
        locked(&self.state.tokens).retain(|_, identity| identity.account.as_deref() != Some(client_id));
    }

    /// Replaces what an identity may do: a certificate by its serial, a token by itself, a service account by its client id.
    pub fn grant(&self, identity: &str, grants: Grants) -> Result<(), DomainError> {
        self.change(identity, |identity| identity.grants = grants)
    }

    /// Revokes a certificate by its serial, a token by itself, or a service account with its tokens by its client id. New handshakes fail; open connections of the certificate
    /// are closed, unless [`Switches::revoked_connections`](crate::Switches::revoked_connections) keeps them.
    pub fn revoke(&self, identity: &str) -> Result<(), DomainError> {
        self.change(identity, |identity| identity.revoked = true)?;
        match self.world.switches().revoked_connections {
            RevokedConnections::Close => self.world.connections.close(identity),
            RevokedConnections::Keep => {}
        }
        Ok(())
    }

    /// Writes a new version and returns its number. `null` can be stored, too.
    ///
    /// # Panics
    /// When the path's 24,000 version numbers are used up.
    #[allow(clippy::needless_pass_by_value)] // So that callers write `json!({…})` without an ampersand.
    pub fn put(&self, path: &str, data: Value) -> u32 {
        self.try_put(path, &data).expect("a test writes fewer than 24,000 versions of a path")
    }

    pub(crate) fn try_put(&self, path: &str, data: &Value) -> Result<u32, DomainError> {
        let now = self.world.clock.now();
        let data = Data::from_value(data);
        let mut store = locked(&self.state.store);
        // An administrator need not say the current version: say it for them.
        let current = store.get(path).map_or(0, |secret| secret.current);
        Ok(store.write(path, data, Some(current), now)?)
    }

    /// Writes one version of `count` secrets; the function makes path and data from 0, 1, ….
    pub fn seed(&self, count: usize, mut make: impl FnMut(usize) -> (String, Value)) {
        for index in 0..count {
            let (path, data) = make(index);
            self.put(&path, data);
        }
    }

    /// The current version's number; 0 for a secret without a version, `None` for no secret.
    pub fn current_version(&self, path: &str) -> Option<u32> {
        let store = locked(&self.state.store);
        store.get(path).ok().map(|secret| secret.current)
    }

    /// KV2's delete of one version: it is hidden, and can be activated again.
    pub fn deactivate(&self, path: &str, version: u32) -> Result<(), DomainError> {
        self.set_state(path, version, State::Deactivated)
    }

    /// KV2's undelete.
    pub fn activate(&self, path: &str, version: u32) -> Result<(), DomainError> {
        self.set_state(path, version, State::Active)
    }

    /// KV2's destroy: the data is gone for good.
    pub fn destroy(&self, path: &str, version: u32) -> Result<(), DomainError> {
        self.set_state(path, version, State::Deleted)
    }

    /// The secret and all its versions are gone; a new one begins at version 1.
    pub fn delete(&self, path: &str) -> Result<(), DomainError> {
        Ok(locked(&self.state.store).delete(path)?)
    }

    /// Sets how many versions are kept; the next version prunes (as in HashiCorp Vault). Makes a missing secret.
    pub fn set_max_versions(&self, path: &str, max_versions: u32) -> Result<(), DomainError> {
        self.set_metadata(path, Metadata { max_versions: Some(max_versions), ..Metadata::default() })
    }

    /// Sets settings and custom metadata; makes a missing secret, without a version.
    pub fn set_metadata(&self, path: &str, metadata: Metadata) -> Result<(), DomainError> {
        let now = self.world.clock.now();
        let change = MetadataChange {
            settings: settings(&metadata)?,
            custom: metadata.custom_metadata.map_or(CustomChange::Keep, CustomChange::Replace),
        };
        Ok(locked(&self.state.store).set_metadata(path, change, true, now)?)
    }

    /// Sets the defaults of the domain's secrets; custom metadata does not apply.
    pub fn set_config(&self, config: &Metadata) -> Result<(), DomainError> {
        let change = settings(config)?;
        locked(&self.state.store).set_config(change);
        Ok(())
    }

    fn set_state(&self, path: &str, version: u32, state: State) -> Result<(), DomainError> {
        let now = self.world.clock.now();
        Ok(locked(&self.state.store).set_state(path, version, state, now)?)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Identity)) -> Result<(), DomainError> {
        let mut certificates = locked(&self.state.certificates);
        let mut tokens = locked(&self.state.tokens);
        let mut accounts = locked(&self.state.accounts);
        let identity = certificates
            .get_mut(name)
            .or_else(|| tokens.get_mut(name))
            .or_else(|| accounts.get_mut(name).map(|account| &mut account.identity))
            .ok_or(DomainError::UnknownIdentity)?;
        change(identity);
        Ok(())
    }
}

fn settings(metadata: &Metadata) -> Result<SettingsChange, DomainError> {
    let lifetime = metadata
        .delete_version_after
        .as_deref()
        .map(|text| Lifetime::parse(text).ok_or(DomainError::BadDuration))
        .transpose()?;
    Ok(SettingsChange { cas_required: metadata.cas_required, lifetime, max_versions: metadata.max_versions })
}
