//! A token that is sent as it is ([`Token`]), such as a personal access token of OVHcloud.
//!
//! What it may do, and when it ends, only OKMS knows. It is never shown.

use reqwest::header::HeaderValue;
use sha2::{Digest, Sha256};

use super::{CredentialError, secret_text};

const WHAT: &str = "the token";

/// A bearer token.
#[derive(Clone)]
pub struct Token {
    header: HeaderValue,
    fingerprint: [u8; 32],
}

impl Token {
    /// A token, as its bytes are stored: one word of visible ASCII characters and nothing else.
    pub fn new(bytes: &[u8]) -> Result<Self, CredentialError> {
        let word = secret_text::word(bytes, WHAT)?;
        let header = secret_text::bearer(word).ok_or(CredentialError::Characters(WHAT))?;
        Ok(Self { header, fingerprint: Sha256::digest(word).into() })
    }

    /// The value of `Authorization`.
    pub(in crate::okms) fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}

/// The same token.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Token {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_as_it_is() {
        let token = Token::new(b"eyJhbGciOi.J9").unwrap();
        assert_eq!(token.header().as_bytes(), b"Bearer eyJhbGciOi.J9");
        assert!(token == Token::new(b"eyJhbGciOi.J9").unwrap() && token != Token::new(b"eyJhbGciOi.J8").unwrap());
    }

    #[test]
    fn what_is_none_is_refused_without_showing_it() {
        for bytes in [&b""[..], b"canary\n", b"can\nary", b"Bearer canary", "canarý".as_bytes()] {
            let error = Token::new(bytes).err().unwrap();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("the token") && !shown.contains("canar"), "{shown}");
        }
        let printf = Token::new(b"canary\n").err().unwrap().to_string();
        assert!(printf.contains("printf %s"), "{printf}");
    }
}
