//! Which endpoints a store may name ([`EndpointPattern`]): whoever names the endpoint chooses where a credential goes.
//!
//! It compares names and looks nothing up. A pattern is a host, in which `*` stands for any characters within one label, and a port.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::model::glob;

/// `https://host[:port]`, such as `https://*.okms.ovh.net`. Without a port it means 443; `:*` means any.
///
/// An address instead of a name matches only itself, written out: no `*` ever stands for a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPattern {
    text: String,
    host: Host,
    /// Absent: any.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(Vec<String>),
    Address(IpAddr),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("write https:// and a host, such as https://*.okms.ovh.net")]
    NotHttps,
    #[error("write only https://, a host and perhaps a port, without user, path, query or fragment")]
    NotBare,
    #[error("a host has letters, digits, '-', '.', and '*' for any characters between two dots")]
    BadHost,
    #[error("a port is a number from 1 to 65535, or '*' for any")]
    BadPort,
}

impl EndpointPattern {
    /// OVHcloud's own: the regions of OKMS, and where its service accounts get their tokens.
    pub fn ovhcloud() -> Vec<Self> {
        OVHCLOUD.iter().map(|text| text.parse().expect("these are patterns")).collect()
    }

    /// Whether an address of this host and port, as [`super::Endpoint`] has them, is meant.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        match (&self.host, address(host)) {
            (Host::Address(own), Some(address)) => *own == address,
            (Host::Name(own), None) => {
                let labels: Vec<_> = host.split('.').collect();
                own.len() == labels.len()
                    && own.iter().zip(labels).all(|(own, label)| glob::matches(own, &label.to_ascii_lowercase()))
            }
            _ => false,
        }
    }
}

/// Hosts of the data plane by region, and the token endpoints of the three zones.
const OVHCLOUD: [&str; 5] = [
    "https://*.okms.ovh.net",
    "https://*.okms.ovh.us",
    "https://www.ovh.com",
    "https://ca.ovh.com",
    "https://us.ovhcloud.com",
];

impl FromStr for EndpointPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let lower = text.to_ascii_lowercase();
        let rest = lower.strip_prefix("https://").ok_or(PatternError::NotHttps)?;
        if rest.contains(['/', '?', '#', '@']) {
            return Err(PatternError::NotBare);
        }
        // The colons of an address in brackets are not those of a port.
        let colon = rest.rfind(':').filter(|at| !rest.get(*at..).is_some_and(|tail| tail.contains(']')));
        let (host, port) = match colon.and_then(|at| rest.split_at_checked(at)) {
            None => (rest, Some(443)),
            Some((host, ":*")) => (host, None),
            Some((host, port)) => {
                let port = port.get(1..).and_then(|port| port.parse().ok()).filter(|port| *port != 0);
                (host, Some(port.ok_or(PatternError::BadPort)?))
            }
        };
        let host = match address(host) {
            Some(address) => Host::Address(address),
            None => Host::Name(labels(host)?),
        };
        Ok(Self { text: lower.clone(), host, port })
    }
}

impl fmt::Display for EndpointPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn labels(host: &str) -> Result<Vec<String>, PatternError> {
    let is_sound = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'*'))
    };
    // What looks like an address and is none is a mistake, not a name.
    let is_number = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number || !host.split('.').all(is_sound) {
        return Err(PatternError::BadHost);
    }
    Ok(host.split('.').map(str::to_owned).collect())
}

fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, host: &str, port: u16) -> bool {
        pattern.parse::<EndpointPattern>().expect(pattern).matches(host, port)
    }

    #[test]
    fn a_star_stays_within_one_label() {
        for (pattern, host, port, allowed) in [
            ("https://*.okms.ovh.net", "eu-west-rbx.okms.ovh.net", 443, true),
            ("https://*.okms.ovh.net", "EU-WEST-RBX.okms.ovh.net", 443, true),
            ("https://*.okms.ovh.net", "a.b.okms.ovh.net", 443, false),
            ("https://*.okms.ovh.net", "okms.ovh.net", 443, false),
            ("https://*.okms.ovh.net", "eu.okms.ovh.net.evil.example", 443, false),
            ("https://*.okms.ovh.net", "evil.example", 443, false),
            ("https://*.okms.ovh.net", "eu-west-rbx.okms.ovh.net", 8443, false),
            ("https://*.okms.ovh.net", "eu-west-rbx.okms.ovh.net.", 443, false),
            ("https://eu-*-rbx.okms.ovh.net:*", "eu-west-rbx.okms.ovh.net", 8443, true),
            ("https://eu-*-rbx.okms.ovh.net:*", "eu-rbx.okms.ovh.net", 8443, false),
            ("https://OKMS.example:8443", "okms.example", 8443, true),
            ("https://*.*", "evil.example", 443, true),
        ] {
            assert_eq!(allows(pattern, host, port), allowed, "{pattern} {host}:{port}");
        }
    }

    #[test]
    fn an_address_matches_only_itself() {
        assert!(allows("https://127.0.0.1:8443", "127.0.0.1", 8443));
        assert!(allows("https://[::1]:*", "[::1]", 8443) && allows("https://[::1]", "::1", 443));
        assert!(!allows("https://*.*.*.*", "127.0.0.1", 443), "a star is no part of an address");
        assert!(!allows("https://127.0.0.1", "127.0.0.2", 443));
        assert!(!allows("https://[::1]", "::2", 443));
    }

    #[test]
    fn everything_else_is_refused_by_its_own_message() {
        use PatternError::{BadHost, BadPort, NotBare, NotHttps};
        for (text, why) in [
            ("", NotHttps),
            ("*.okms.ovh.net", NotHttps),
            ("http://*.okms.ovh.net", NotHttps),
            ("https://a.example/", NotBare),
            ("https://user@a.example", NotBare),
            ("https://a.example?x", NotBare),
            ("https://", BadHost),
            ("https://a..example", BadHost),
            ("https://a b.example", BadHost),
            ("https://256.0.0.1", BadHost),
            ("https://1.2.3.*:1:2", BadHost),
            ("https://a.example:0", BadPort),
            ("https://a.example:99999", BadPort),
            ("https://a.example:", BadPort),
            ("https://a.example:8*", BadPort),
        ] {
            assert_eq!(text.parse::<EndpointPattern>().unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn the_default_is_ovhcloud() {
        let any = |host: &str| EndpointPattern::ovhcloud().iter().any(|pattern| pattern.matches(host, 443));
        assert!(any("eu-west-rbx.okms.ovh.net") && any("us-east-vin.okms.ovh.us") && any("www.ovh.com"));
        assert!(!any("okms.example") && !any("api.ovh.com"));
    }
}
