//! Where a service account gets its tokens: the address of an OAuth 2.0 token endpoint ([`TokenEndpoint`]).
//!
//! Like an [`Endpoint`](super::Endpoint) it is parsed once and then known to be a plain `https` address, here with a path. Whether
//! a store may send a secret there is for others to decide, by its host and port.

use std::{fmt, str::FromStr};

use reqwest::Url;

use super::endpoint::{Address, Flaw};

/// The address of a token endpoint, such as `https://www.ovh.com/auth/oauth2/token`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenEndpoint(Url);

/// Why a text is not a token endpoint. Each message says what to do and repeats nothing of the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenEndpointError {
    #[error("the token endpoint must start with https://, as in https://www.ovh.com/auth/oauth2/token")]
    NotHttps,
    #[error(
        "the token endpoint is not a URL: give it as https://<host>/<path>, as in https://www.ovh.com/auth/oauth2/token"
    )]
    NotUrl,
    #[error(
        "remove the user name and password from the token endpoint; clientId and clientSecret belong into the Secret"
    )]
    UserInfo,
    #[error("remove everything from the '?' on from the token endpoint")]
    Query,
    #[error("remove everything from the '#' on from the token endpoint")]
    Fragment,
    #[error("the token endpoint has no path: give all of it, as in https://www.ovh.com/auth/oauth2/token")]
    NoPath,
    #[error("the path of the token endpoint has a part that is empty, '.' or '..': give it as it is documented")]
    OddPath,
}

impl TokenEndpoint {
    /// The host without the port, in lower case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The port, 443 where none was given.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }
}

impl From<Flaw> for TokenEndpointError {
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

impl FromStr for TokenEndpoint {
    type Err = TokenEndpointError;

    fn from_str(text: &str) -> Result<Self, TokenEndpointError> {
        let address = Address::split(text)?;
        let (url, _) = address.parsed()?;
        let path = address.path.trim_start_matches('/');
        if path.is_empty() {
            return Err(TokenEndpointError::NoPath);
        }
        // One slash at the end may be part of it.
        let segments = address.path.strip_prefix('/').unwrap_or_default();
        let segments = segments.strip_suffix('/').unwrap_or(segments);
        if segments.split('/').any(|segment| matches!(segment, "" | "." | ".."))
            || segments.to_ascii_lowercase().contains("%2e")
        {
            return Err(TokenEndpointError::OddPath);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_https_address_with_a_path_is_a_token_endpoint() {
        for (text, shown) in [
            ("https://www.ovh.com/auth/oauth2/token", "https://www.ovh.com/auth/oauth2/token"),
            ("HTTPS://WWW.ovh.com:443/auth/oauth2/token/", "https://www.ovh.com/auth/oauth2/token/"),
            ("https://[::1]:8443/token", "https://[::1]:8443/token"),
        ] {
            assert_eq!(text.parse::<TokenEndpoint>().expect(text).to_string(), shown);
        }
        let endpoint: TokenEndpoint = "https://Localhost:8443/t".parse().unwrap();
        assert_eq!((endpoint.host(), endpoint.port()), ("localhost", 8443));
        let endpoint: TokenEndpoint = "https://ca.ovh.com/auth/oauth2/token".parse().unwrap();
        assert_eq!((endpoint.host(), endpoint.port()), ("ca.ovh.com", 443));
    }

    #[test]
    fn everything_else_is_refused_by_its_own_message() {
        use TokenEndpointError::{Fragment, NoPath, NotHttps, NotUrl, OddPath, Query, UserInfo};
        for (text, why) in [
            ("", NotHttps),
            ("http://www.ovh.com/auth/oauth2/token", NotHttps),
            ("www.ovh.com/auth/oauth2/token", NotHttps),
            ("https:///token", NotUrl),
            ("https://a b.example/token", NotUrl),
            ("https://a.example\\token", NotUrl),
            ("https://a.example:0/token", NotUrl),
            ("https://a*.example/token", NotUrl),
            ("https://me:pw@a.example/token", UserInfo),
            ("https://a.example/token?scope=all", Query),
            ("https://a.example/token#x", Fragment),
            ("https://a.example", NoPath),
            ("https://a.example/", NoPath),
            ("https://a.example//", NoPath),
            ("https://a.example//token", OddPath),
            ("https://a.example/x/../token", OddPath),
            ("https://a.example/x/%2E%2e/token", OddPath),
            ("https://a.example/./token", OddPath),
        ] {
            assert_eq!(text.parse::<TokenEndpoint>().expect_err(text), why, "{text}");
        }
    }
}
