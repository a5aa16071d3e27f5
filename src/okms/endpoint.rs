//! Where things are: the address of an OKMS region ([`Endpoint`]), the names of a domain and of a secret ([`domain_urn`],
//! [`secret_urn_path`]). Where tokens are had is in `token_endpoint`.
//!
//! An endpoint is parsed once and is then known to be a bare `https` address, so that a URL put together from it goes to
//! that host and nowhere else. Nothing here resolves a name or opens a connection: that is [`Client`](super::Client).

use std::{fmt, str::FromStr};

use reqwest::Url;
use rustls_pki_types::ServerName;

use crate::model::{OkmsId, Path};

/// The address of an OKMS region: `https://<host>[:<port>]`, such as `https://eu-west-rbx.okms.ovh.net`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    url: Url,
    server_name: ServerName<'static>,
}

/// Why a text is not an endpoint. Each message says what to do and repeats nothing of the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("the endpoint must start with https://, as in https://eu-west-rbx.okms.ovh.net")]
    NotHttps,
    #[error("the endpoint is not a URL: give it as https://<host> or https://<host>:<port>")]
    NotUrl,
    #[error("remove the user name and password from the endpoint; a credential belongs into auth")]
    UserInfo,
    #[error("remove everything from the '?' on from the endpoint")]
    Query,
    #[error("remove everything from the '#' on from the endpoint")]
    Fragment,
    #[error("remove /api/… from the endpoint; put the id that follows it into okmsId")]
    ApiPath,
    #[error("remove the path from the endpoint; it is only https:// and a host, perhaps with one '/' at its end")]
    Path,
}

impl Endpoint {
    /// The host without the port, in lower case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The port, 443 where none was given.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(443)
    }

    /// What the server certificate must be for.
    pub(super) fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let address = Address::split(text)?;
        if address.path.trim_start_matches('/').split('/').next() == Some("api") {
            return Err(EndpointError::ApiPath);
        }
        if !matches!(address.path, "" | "/") {
            return Err(EndpointError::Path);
        }
        let (url, server_name) = address.parsed()?;
        Ok(Self { url, server_name })
    }
}

/// What is wrong with an address, whatever it is the address of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    NotHttps,
    NotUrl,
    UserInfo,
    Query,
    Fragment,
}

impl From<Flaw> for EndpointError {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::NotHttps => Self::NotHttps,
            Flaw::NotUrl => Self::NotUrl,
            Flaw::UserInfo => Self::UserInfo,
            Flaw::Query => Self::Query,
            Flaw::Fragment => Self::Fragment,
        }
    }
}

/// An `https` address whose parts are told apart in the text itself: the URL parser is lenient (it drops tabs, resolves `..`, takes
/// `\` for `/`), and what it would mend is better refused with a word of advice.
pub(super) struct Address<'a> {
    text: &'a str,
    pub(super) path: &'a str,
    /// What comes after the path.
    rest: &'a str,
}

impl<'a> Address<'a> {
    pub(super) fn split(text: &'a str) -> Result<Self, Flaw> {
        let (scheme, rest) = text.split_at_checked("https://".len()).ok_or(Flaw::NotHttps)?;
        if !scheme.eq_ignore_ascii_case("https://") {
            return Err(Flaw::NotHttps);
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(Flaw::NotUrl);
        }
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Flaw::UserInfo);
        }
        if authority.is_empty() {
            // The parser would look for a host behind the slashes.
            return Err(Flaw::NotUrl);
        }
        let (path, rest) = tail.split_at(tail.find(['?', '#']).unwrap_or(tail.len()));
        Ok(Self { text, path, rest })
    }

    /// The address and the name that the certificate of the server must be for.
    pub(super) fn parsed(&self) -> Result<(Url, ServerName<'static>), Flaw> {
        match self.rest.chars().next() {
            Some('?') => return Err(Flaw::Query),
            Some(_) => return Err(Flaw::Fragment),
            None => {}
        }
        let url = Url::parse(self.text).map_err(|_| Flaw::NotUrl)?;
        // A URL has the brackets of an IPv6 address, a name has not.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let server_name = ServerName::try_from(host.to_owned()).map_err(|_| Flaw::NotUrl)?;
        if url.port() == Some(0) {
            return Err(Flaw::NotUrl);
        }
        Ok((url, server_name))
    }
}

impl fmt::Display for Endpoint {
    /// As it is best written: without a trailing slash and without the default port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

/// The URN of a domain for an IAM policy, which covers all of its secrets. Its zone is `*` as below.
pub fn domain_urn(okms_id: &OkmsId) -> String {
    format!("urn:v1:*:resource:okms:{okms_id}")
}

/// The URN of a secret for an IAM policy. The zone (`eu`, `ca`, `us`) is `*`, because the data plane tells it only in answers that
/// somebody without rights does not get.
///
/// The shape is that of the `urn` in secret metadata (OpenAPI 2.14.0): the path is percent-encoded as one segment.
pub fn secret_urn_path(okms_id: &OkmsId, path: &Path) -> String {
    format!("{}/secret/{}", domain_urn(okms_id), path.encoded())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> EndpointError {
        text.parse::<Endpoint>().expect_err(text)
    }

    #[test]
    fn a_bare_https_address_is_an_endpoint() {
        for (text, shown) in [
            ("https://eu-west-rbx.okms.ovh.net", "https://eu-west-rbx.okms.ovh.net"),
            ("https://eu-west-rbx.okms.ovh.net/", "https://eu-west-rbx.okms.ovh.net"),
            ("HTTPS://EU-west-rbx.okms.ovh.net:443/", "https://eu-west-rbx.okms.ovh.net"),
            ("https://127.0.0.1:8443", "https://127.0.0.1:8443"),
            ("https://[::1]:8443", "https://[::1]:8443"),
        ] {
            assert_eq!(text.parse::<Endpoint>().expect(text).to_string(), shown);
        }
        let endpoint: Endpoint = "https://Localhost:8443".parse().unwrap();
        assert_eq!((endpoint.host(), endpoint.port()), ("localhost", 8443));
    }

    #[test]
    fn a_pasted_api_path_is_named() {
        let pasted = "https://eu-west-rbx.okms.ovh.net/api/1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb";
        assert_eq!(refusal(pasted), EndpointError::ApiPath);
        assert_eq!(refusal(&format!("{pasted}/v1/secret")), EndpointError::ApiPath);
        assert!(refusal(pasted).to_string().contains("okmsId"));
    }

    #[test]
    fn everything_else_is_refused_by_its_own_message() {
        use EndpointError::{Fragment, NotHttps, NotUrl, Path, Query, UserInfo};
        for (text, why) in [
            ("", NotHttps),
            ("eu-west-rbx.okms.ovh.net", NotHttps),
            ("http://a.example", NotHttps),
            ("https:a.example", NotHttps),
            ("http\u{e9}s://a.example", NotHttps),
            (" https://a.example", NotHttps),
            ("https://", NotUrl),
            ("https:///", NotUrl),
            ("https://a b.example", NotUrl),
            ("https://a.example\\b", NotUrl),
            ("https://a.example:99999", NotUrl),
            ("https://a.example:0", NotUrl),
            ("https://a*.example", NotUrl),
            (&format!("https://{}.example", "a".repeat(64)), NotUrl),
            ("https://user:pw@a.example", UserInfo),
            ("https://a.example?x=1", Query),
            ("https://a.example/?", Query),
            ("https://a.example/#x", Fragment),
            ("https://a.example//", Path),
            ("https://a.example/v1", Path),
            ("https://a.example/..", Path),
            ("https://a.example/apix", Path),
        ] {
            assert_eq!(refusal(text), why, "{text}");
        }
    }

    #[test]
    fn a_urn_has_the_path_as_one_segment() {
        let id = "1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb".parse().unwrap();
        let urn = secret_urn_path(&id, &"poc/vpn".parse().unwrap());
        assert_eq!(urn, "urn:v1:*:resource:okms:1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb/secret/poc%2Fvpn");
    }
}
