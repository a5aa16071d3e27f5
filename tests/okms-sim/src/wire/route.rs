//! From method and raw path to an operation.
//!
//! Works on the path as it was sent, because `%2F` and `/` name the same secret but not the same route: in REST v2
//! `/a/version` is a list of versions and `/a%2Fversion` a secret. No redirect, ever.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::Method;
use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::Operation;
use super::refusal::{Code, Refusal};
use crate::path;
use crate::store::MAX_VERSION;
use crate::switches::Switches;

/// A request that is known to be one of the operations.
pub(crate) struct Call {
    pub(crate) okms_id: Uuid,
    pub(crate) operation: Operation,
    path: Option<String>,
    /// The version in the path of REST v2's version operations.
    version: Option<u32>,
    query: BTreeMap<String, String>,
}

impl Call {
    /// The path of the secret or folder; `None` for the root and for the configuration.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The path where the route cannot be without one.
    pub(super) fn secret(&self) -> Result<&str, Refusal> {
        self.path().ok_or_else(|| Refusal::argument("the path is missing"))
    }

    pub(super) fn path_version(&self) -> Result<u32, Refusal> {
        self.version.ok_or_else(|| Refusal::argument("the version is missing"))
    }

    /// `version` of the query: 1 … 24000.
    pub(super) fn version(&self) -> Result<Option<u32>, Refusal> {
        self.number("version", 1)
    }

    /// `cas` of the query: 0 … 24000.
    pub(super) fn cas(&self) -> Result<Option<u32>, Refusal> {
        self.number("cas", 0)
    }

    pub(super) fn depth(&self) -> Result<u32, Refusal> {
        self.query.get("depth").map_or(Ok(0), |text| {
            text.parse().map_err(|_| Refusal::argument("the parameter \"depth\" is not a number"))
        })
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.query.get(name).map(String::as_str) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::argument(format!("the parameter {name:?} is neither true nor false"))),
        }
    }

    fn number(&self, name: &str, least: u32) -> Result<Option<u32>, Refusal> {
        self.query
            .get(name)
            .map(|text| {
                text.parse().ok().filter(|number| (least..=MAX_VERSION).contains(number)).ok_or_else(|| {
                    Refusal::argument(format!("the parameter {name:?} is not a number from {least} to {MAX_VERSION}"))
                })
            })
            .transpose()
    }
}

/// Finds the operation of a request. The refusal of a malformed one has no operation to its name.
pub(crate) fn route(method: &Method, raw_path: &str, raw_query: &str, switches: &Switches) -> Result<Call, Refusal> {
    let rest = raw_path.strip_prefix("/api/").ok_or_else(|| no_route(raw_path))?;
    let (okms_id, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let okms_id = okms_id.parse().map_err(|_| Refusal::argument("the okmsId in the path is not a UUID"))?;
    let mut query = parse_query(raw_query)?;
    let method = vault_method(method, rest, &mut query, switches);
    let found = find(&method, rest, switches)?.ok_or_else(|| no_route(raw_path))?;
    let path = match found.raw_path {
        "" => None,
        raw => Some(decode_path(raw, switches)?),
    };
    Ok(Call { okms_id, operation: found.operation, path, version: found.version, query })
}

/// An operation, with the raw path of the secret.
struct Found<'a> {
    operation: Operation,
    raw_path: &'a str,
    version: Option<u32>,
}

impl<'a> Found<'a> {
    const fn new(operation: Operation, raw_path: &'a str) -> Self {
        Self { operation, raw_path, version: None }
    }
}

fn find<'a>(method: &Method, rest: &'a str, switches: &Switches) -> Result<Option<Found<'a>>, Refusal> {
    if let Some(rest) = rest.strip_prefix("v1/secret/") {
        Ok(find_kv2(method, rest))
    } else if rest == "v2/secretConfig" {
        let operation = match *method {
            Method::GET => Operation::GetSecretConfigV2,
            Method::PUT => Operation::PutSecretConfigV2,
            _ => return Ok(None),
        };
        Ok(Some(Found::new(operation, "")))
    } else if let Some(rest) = rest.strip_prefix("v2/secret") {
        find_v2(method, rest)
    } else if rest == "v1/auth/token/lookup-self" && *method == Method::GET {
        let found = Found::new(Operation::TokenLookupSelf, "");
        Ok(switches.token_lookup_self.then_some(found))
    } else {
        Ok(None)
    }
}

fn find_kv2<'a>(method: &Method, rest: &'a str) -> Option<Found<'a>> {
    let (family, raw_path) = rest.split_once('/').unwrap_or((rest, ""));
    let operation = match (family, method.as_str(), raw_path.is_empty()) {
        ("config", "GET", true) => Operation::GetSecretConfig,
        ("config", "POST", true) => Operation::PostSecretConfig,
        ("metadata", "GET", true) => Operation::ListSecretsMetadata,
        ("data", "GET", false) => Operation::GetSecretRequest,
        ("data", "POST", false) => Operation::PostSecretRequest,
        ("data", "PATCH", false) => Operation::PatchSecretRequest,
        ("data", "DELETE", false) => Operation::DeleteSecretRequest,
        ("delete", "POST", false) => Operation::DeleteSecretVersions,
        ("undelete", "POST", false) => Operation::PostSecretUndelete,
        ("destroy", "PUT", false) => Operation::PutSecretDestroy,
        ("subkeys", "GET", false) => Operation::GetSecretSubkeys,
        ("metadata", "GET", false) => Operation::GetSecretsMetadata,
        ("metadata", "POST", false) => Operation::PostSecretMetadata,
        ("metadata", "PATCH", false) => Operation::PatchSecretMetadata,
        ("metadata", "DELETE", false) => Operation::DeleteSecretMetadata,
        _ => return None,
    };
    Some(Found::new(operation, raw_path))
}

fn find_v2<'a>(method: &Method, rest: &'a str) -> Result<Option<Found<'a>>, Refusal> {
    let raw_path = match rest.strip_prefix('/') {
        Some(raw_path) => raw_path,
        None if rest.is_empty() => "",
        None => return Ok(None),
    };
    if let Some(raw_path) = raw_path.strip_suffix("/version") {
        let operation = match *method {
            Method::GET => Operation::ListSecretVersionV2,
            Method::POST => Operation::PostSecretVersionV2,
            _ => return Ok(None),
        };
        return Ok(Some(Found::new(operation, raw_path)));
    }
    if let Some((raw_path, digits)) = raw_path.rsplit_once("/version/")
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
    {
        let operation = match *method {
            Method::GET => Operation::GetSecretVersionV2,
            Method::PUT => Operation::PutSecretVersionV2,
            _ => return Ok(None),
        };
        let version = digits
            .parse()
            .ok()
            .filter(|version| (1..=MAX_VERSION).contains(version))
            .ok_or_else(|| Refusal::argument("the version in the path is not one"))?;
        return Ok(Some(Found { operation, raw_path, version: Some(version) }));
    }
    let operation = match (method.as_str(), raw_path.is_empty()) {
        ("GET", true) => Operation::ListSecretV2,
        ("POST", true) => Operation::PostSecretV2,
        ("GET", false) => Operation::GetSecretV2,
        ("PUT", false) => Operation::PutSecretV2,
        ("DELETE", false) => Operation::DeleteSecretV2,
        _ => return Ok(None),
    };
    Ok(Some(Found::new(operation, raw_path)))
}

/// With the switch, what Vault's clients send becomes what the specification has.
fn vault_method(method: &Method, rest: &str, query: &mut BTreeMap<String, String>, switches: &Switches) -> Method {
    let family =
        rest.strip_prefix("v1/secret/").and_then(|rest| rest.split('/').next()).filter(|_| switches.vault_verbs);
    match (family, method.as_str()) {
        (Some("metadata"), "LIST") => {
            query.insert("list".to_owned(), "true".to_owned());
            Method::GET
        }
        (Some("config" | "data" | "metadata" | "delete" | "undelete"), "PUT") => Method::POST,
        _ => method.clone(),
    }
}

fn decode_path(raw: &str, switches: &Switches) -> Result<String, Refusal> {
    let refused = |text: &str| Refusal::new(switches.bad_path_status, Code::ARGUMENT, text.to_owned());
    let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| refused("the path is not UTF-8"))?;
    path::checked(&decoded, switches.odd_paths).map_err(refused)
}

fn parse_query(raw: &str) -> Result<BTreeMap<String, String>, Refusal> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8()
            .map(Cow::into_owned)
            .map_err(|_| Refusal::argument("the query is not UTF-8"))
    };
    raw.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

fn no_route(raw_path: &str) -> Refusal {
    let text =
        if raw_path.starts_with("//") { "no such route: the path begins with a double slash" } else { "no such route" };
    Refusal::new(404, Code::NOT_FOUND, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1f0c3a5e-7d55-4c52-9a51-2b6f0c2d3e4f";

    fn routed(method: &str, tail: &str) -> Option<(Operation, Option<String>, Option<u32>)> {
        routed_with(method, tail, &Switches::default())
    }

    fn routed_with(method: &str, tail: &str, switches: &Switches) -> Option<(Operation, Option<String>, Option<u32>)> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let call = route(&method, &format!("/api/{ID}/{tail}"), "", switches).ok()?;
        Some((call.operation, call.path, call.version))
    }

    #[test]
    fn both_encodings_name_the_same_secret() {
        for tail in ["v1/secret/data/prod/db", "v1/secret/data/prod%2Fdb"] {
            assert_eq!(routed("GET", tail), Some((Operation::GetSecretRequest, Some("prod/db".to_owned()), None)));
        }
    }

    #[test]
    fn rest_v2_routes_by_the_raw_suffix() {
        let cases = [
            ("v2/secret/a/version", Operation::ListSecretVersionV2, "a", None),
            ("v2/secret/a/version/3", Operation::GetSecretVersionV2, "a", Some(3)),
            ("v2/secret/a%2Fversion", Operation::GetSecretV2, "a/version", None),
            ("v2/secret/a%2Fversion%2F3", Operation::GetSecretV2, "a/version/3", None),
            ("v2/secret/a/version/b", Operation::GetSecretV2, "a/version/b", None),
            ("v2/secret/version", Operation::GetSecretV2, "version", None),
        ];
        for (tail, operation, secret, version) in cases {
            assert_eq!(routed("GET", tail), Some((operation, Some(secret.to_owned()), version)), "{tail}");
        }
        assert_eq!(routed("GET", "v2/secret/a/version/24001"), None);
    }

    #[test]
    fn the_root_is_listed_with_and_without_a_slash() {
        for tail in ["v1/secret/metadata", "v1/secret/metadata/"] {
            assert_eq!(routed("GET", tail), Some((Operation::ListSecretsMetadata, None, None)));
        }
    }

    #[test]
    fn what_is_not_a_route_is_refused() {
        for (method, tail) in [
            ("GET", "v1/secret/prod/data"),
            ("GET", "v1/secret"),
            ("POST", "v1/secret/data/"),
            ("PUT", "v1/secret/data/a"),
            ("LIST", "v1/secret/metadata/a"),
            ("GET", "v2/secrets"),
            ("GET", "v1/auth/token/lookup-self"),
            ("GET", "v1/secret/data//a"),
            ("GET", "v1/secret/data/a%2F"),
            ("GET", "v1/secret/data/a%252Fb"),
            ("GET", "v1/secret/data/%ff"),
        ] {
            assert_eq!(routed(method, tail), None, "{method} {tail}");
        }
        let slashes = format!("//api/{ID}/v1/secret/config");
        assert!(route(&Method::GET, &slashes, "", &Switches::default()).is_err());
    }

    #[test]
    fn vaults_verbs_are_a_switch() {
        let switches = Switches { vault_verbs: true, ..Switches::default() };
        assert_eq!(
            routed_with("PUT", "v1/secret/data/a", &switches),
            Some((Operation::PostSecretRequest, Some("a".to_owned()), None))
        );
        assert_eq!(
            routed_with("LIST", "v1/secret/metadata/a", &switches),
            Some((Operation::GetSecretsMetadata, Some("a".to_owned()), None))
        );
    }
}
