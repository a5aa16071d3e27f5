//! Settings of a domain and of a secret, and durations as OKMS writes them.
//!
//! Pure. A secret's own setting wins over the domain's, which wins over the default.

use std::time::Duration;

use jiff::Timestamp;

use super::MAX_VERSION;

/// Versions kept when nobody said otherwise (OpenAPI 2.14.0).
pub(crate) const DEFAULT_MAX_VERSIONS: u32 = 10;

/// `delete_version_after` (KV2), `deactivateVersionAfter` (REST v2): kept verbatim, as okms-cli's live tests
/// read `"1d"` back as `"1d"`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lifetime {
    text: String,
    span: Duration,
}

impl Lifetime {
    /// One or more of `<digits><d|h|m|s>`, the form that the control panel accepts. `0s` means never.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut span = Duration::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let mut tail = tail.chars();
            let seconds = match tail.next()? {
                'd' => 86_400,
                'h' => 3_600,
                'm' => 60,
                's' => 1,
                _ => return None,
            };
            let part = number.parse::<u64>().ok()?.checked_mul(seconds)?;
            span = span.checked_add(Duration::from_secs(part))?;
            rest = tail.as_str();
        }
        (!text.is_empty()).then(|| Self { text: text.to_owned(), span })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// When a version made at `created` is deactivated; `None`: never.
    pub(crate) fn end(&self, created: Timestamp) -> Option<Timestamp> {
        if self.span.is_zero() { None } else { created.checked_add(self.span).ok() }
    }
}

/// What was set, on a domain or on a secret.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    cas_required: Option<bool>,
    lifetime: Option<Lifetime>,
    max_versions: Option<u32>,
}

/// The fields to change; `None` leaves a field as it is.
#[derive(Clone, Default)]
pub(crate) struct SettingsChange {
    pub(crate) cas_required: Option<bool>,
    pub(crate) lifetime: Option<Lifetime>,
    pub(crate) max_versions: Option<u32>,
}

impl Settings {
    pub(crate) fn apply(&mut self, change: SettingsChange) {
        self.cas_required = change.cas_required.or(self.cas_required);
        self.lifetime = change.lifetime.or(self.lifetime.take());
        self.max_versions = change.max_versions.or(self.max_versions);
    }

    /// A secret's `false` does not lift what its domain requires (HashiCorp Vault's rule; unknown of OKMS).
    pub(crate) fn cas_required(&self, config: &Self) -> bool {
        self.cas_required.unwrap_or(false) || config.cas_required.unwrap_or(false)
    }

    pub(crate) fn lifetime<'a>(&'a self, config: &'a Self) -> Option<&'a Lifetime> {
        self.lifetime.as_ref().or(config.lifetime.as_ref())
    }

    /// The number in force. What 0 means on OKMS is unknown; here as in HashiCorp Vault: not set.
    pub(crate) fn max_versions(&self, config: &Self) -> u32 {
        [self.max_versions, config.max_versions]
            .into_iter()
            .flatten()
            .find(|&number| number > 0)
            .unwrap_or(DEFAULT_MAX_VERSIONS)
    }

    pub(super) fn keep(&self, config: &Self) -> usize {
        usize::try_from(self.max_versions(config).min(MAX_VERSION)).unwrap_or(usize::MAX)
    }
}
