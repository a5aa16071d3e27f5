//! What an identity may do: the `okms:apikms:` actions, on all paths or on some.
//!
//! Only data and one question. Which action an operation needs is said in `wire`. That OKMS can limit a policy to
//! paths is unknown; the simulator can, so that a client's behaviour under such a policy can be tested.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::path::PathPattern;

const PREFIX: &str = "okms:apikms:";

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// An IAM action of the data plane (OpenAPI 2.14.0). As text: `okms:apikms:secret/get`; the prefix may be left out.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Action { $($(#[$doc])* $name,)* }

        impl Action {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Without the prefix.
            pub const fn short_name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

actions! {
    SecretGet = "secret/get",
    SecretCreate = "secret/create",
    SecretDelete = "secret/delete",
    SecretUpdateMetadata = "secret/updateMetadata",
    SubKeysGet = "secret/subKeys/get",
    VersionCreate = "secret/version/create",
    VersionGetData = "secret/version/getData",
    VersionActivate = "secret/version/activate",
    VersionDeactivate = "secret/version/deactivate",
    VersionDelete = "secret/version/delete",
    ConfigGet = "secretConfig/get",
    ConfigUpdate = "secretConfig/update",
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}{}", self.short_name())
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let short = text.strip_prefix(PREFIX).unwrap_or(text);
        Self::ALL
            .iter()
            .copied()
            .find(|action| action.short_name() == short)
            .ok_or_else(|| format!("{text:?} is not an action of the OKMS data plane"))
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One grant: these actions, on these paths. No path pattern means every path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    pub actions: Vec<Action>,
    #[serde(default)]
    pub paths: Vec<PathPattern>,
}

/// All that an identity may do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grants(Vec<Grant>);

impl Grants {
    /// Every action on every path.
    pub fn everything() -> Self {
        Self::of(Action::ALL)
    }

    /// Nothing at all.
    pub const fn nothing() -> Self {
        Self(Vec::new())
    }

    /// These actions on every path.
    pub fn of(actions: &[Action]) -> Self {
        Self::nothing().and(actions, &[])
    }

    /// What a reader needs: `secret/get` and `secret/version/getData`.
    pub fn read_only() -> Self {
        Self::of(&[Action::SecretGet, Action::VersionGetData])
    }

    /// Also these actions, on these paths (empty: every path).
    #[must_use]
    pub fn and(mut self, actions: &[Action], paths: &[&str]) -> Self {
        self.0.push(Grant { actions: actions.to_vec(), paths: paths.iter().copied().map(PathPattern::from).collect() });
        self
    }

    /// Whether `action` is granted on `path`; `None` is the domain itself, which no path pattern covers.
    pub fn allow(&self, action: Action, path: Option<&str>) -> bool {
        self.0.iter().any(|grant| {
            let covered = || path.is_some_and(|path| grant.paths.iter().any(|pattern| pattern.matches(path)));
            grant.actions.contains(&action) && (grant.paths.is_empty() || covered())
        })
    }
}

impl Default for Grants {
    fn default() -> Self {
        Self::everything()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_on_paths_covers_only_them() {
        let grants = Grants::nothing().and(&[Action::SecretGet], &["prod/*"]);
        assert!(grants.allow(Action::SecretGet, Some("prod/db")));
        assert!(!grants.allow(Action::SecretGet, Some("test/db")));
        assert!(!grants.allow(Action::SecretGet, None));
        assert!(!grants.allow(Action::SecretDelete, Some("prod/db")));
    }

    #[test]
    fn actions_are_read_with_and_without_the_prefix() {
        assert_eq!("okms:apikms:secret/get".parse(), Ok(Action::SecretGet));
        assert_eq!("secret/version/getData".parse(), Ok(Action::VersionGetData));
        assert!("okms:apiovh:secret/get".parse::<Action>().is_err());
    }
}
