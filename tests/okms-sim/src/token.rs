//! The token endpoint of OVHcloud's control plane: OAuth 2.0 with client credentials (RFC 6749, 4.4).
//!
//! Pure but for the tokens that it hands out: a form goes in, an answer comes out. That a request without `scope=all` is refused was seen on
//! the real one; the rest is the RFC's.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode_str;
use serde_json::json;
use uuid::Uuid;

use crate::grants::Grants;
use crate::switches::Switches;
use crate::wire::answer::Answer;
use crate::world::{Identity, World, locked};

/// Its path.
pub(crate) const PATH: &str = "/auth/oauth2/token";

/// How long a token lives that does not say so.
const UNSAID: i64 = 3_600;

/// Answers a form.
pub(crate) fn answer(world: &World, switches: &Switches, form: &[u8]) -> Answer {
    let refused =
        |status, code: &str, text: &str| Answer::json(status, &json!({"error": code, "error_description": text}));
    let Some(form) = fields(form) else {
        return refused(400, "invalid_request", "the body is not a form");
    };
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    match field("grant_type") {
        "client_credentials" => {}
        "" => return refused(400, "invalid_request", "the parameter grant_type is missing"),
        _ => return refused(400, "unsupported_grant_type", "only client_credentials is supported"),
    }
    let Some(domain) = world.account(field("client_id"), field("client_secret")) else {
        return refused(
            switches.invalid_client_status,
            "invalid_client",
            "the client is unknown or its secret is wrong",
        );
    };
    if field("scope") != "all" {
        return refused(400, "invalid_scope", "the scope must be all");
    }
    let now = world.clock.now();
    let life = SignedDuration::from_secs(switches.token_seconds.unwrap_or(UNSAID));
    let mut identity = Identity::new(Grants::nothing(), now.saturating_add(life).unwrap_or(Timestamp::MAX));
    identity.account = Some(field("client_id").to_owned());
    let token = format!("sim.{}", Uuid::new_v4().simple());
    let mut tokens = locked(&domain.tokens);
    tokens.retain(|_, identity| now < identity.not_after);
    tokens.insert(token.clone(), identity);
    let mut body = json!({"access_token": token, "token_type": "Bearer", "scope": "all"});
    if let (Some(seconds), Some(body)) = (switches.token_seconds, body.as_object_mut()) {
        body.insert("expires_in".to_owned(), json!(seconds));
    }
    Answer::json(200, &body)
}

/// The fields of a form; `None` if it is none.
fn fields(form: &[u8]) -> Option<BTreeMap<String, String>> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8().map(std::borrow::Cow::into_owned).ok()
    };
    let pairs = std::str::from_utf8(form).ok()?.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((decoded(name)?, decoded(value)?))
        })
        .collect()
}
