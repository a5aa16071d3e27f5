//! A service account ([`ServiceAccount`]): who asks which token endpoint for access tokens, and whose certificate that has to show.
//!
//! It asks nobody itself; `oauth` does. The secret is never shown.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{CredentialError, secret_text::word};
use crate::okms::{Roots, TokenEndpoint};

const CLIENT_ID: &str = "clientId";
const CLIENT_SECRET: &str = "clientSecret";

/// What a form leaves as it is (WHATWG URL, `application/x-www-form-urlencoded`).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// An OVHcloud service account: OAuth 2.0 with client credentials (RFC 6749, 4.4).
#[derive(Clone)]
pub struct ServiceAccount {
    client_id: Arc<str>,
    client_secret: Arc<Zeroizing<Vec<u8>>>,
    fingerprint: [u8; 32],
    token_endpoint: TokenEndpoint,
    roots: Roots,
}

impl ServiceAccount {
    /// `roots` are for the certificate of the token endpoint.
    pub fn new(
        client_id: &[u8],
        client_secret: &[u8],
        token_endpoint: TokenEndpoint,
        roots: Roots,
    ) -> Result<Self, CredentialError> {
        let client_id = word(client_id, CLIENT_ID)?;
        let client_secret = word(client_secret, CLIENT_SECRET)?;
        let mut digest = Sha256::new();
        digest.update(client_id);
        digest.update(b"\n"); // Which neither has.
        digest.update(client_secret);
        let text = std::str::from_utf8(client_id).map_err(|_| CredentialError::Characters(CLIENT_ID))?;
        Ok(Self {
            client_id: text.into(),
            client_secret: Arc::new(Zeroizing::new(client_secret.to_vec())),
            fingerprint: digest.finalize().into(),
            token_endpoint,
            roots,
        })
    }

    /// From the files of a Secret: `clientId` and `clientSecret`.
    pub fn from_files(
        files: &BTreeMap<String, Vec<u8>>,
        token_endpoint: TokenEndpoint,
        roots: Roots,
    ) -> Result<Self, CredentialError> {
        let file = |name| files.get(name).ok_or(CredentialError::NoText(name));
        Self::new(file(CLIENT_ID)?, file(CLIENT_SECRET)?, token_endpoint, roots)
    }

    /// The id, which is no secret: it stands in the URN of the account.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    pub fn token_endpoint(&self) -> &TokenEndpoint {
        &self.token_endpoint
    }

    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The form that asks for a token. OVHcloud refuses one without `scope=all`.
    pub(in crate::okms) fn form(&self) -> Bytes {
        const START: &str = "grant_type=client_credentials&scope=all&client_id=";
        const SECRET: &str = "&client_secret=";
        let length = START.len() + SECRET.len() + 3 * (self.client_id.len() + self.client_secret.len());
        // Encoded it has at most three times the length, so it never grows and leaves no copy behind.
        let mut form = Zeroizing::new(Vec::with_capacity(length));
        form.extend_from_slice(START.as_bytes());
        percent_encode(self.client_id.as_bytes(), FORM).for_each(|piece| form.extend_from_slice(piece.as_bytes()));
        form.extend_from_slice(SECRET.as_bytes());
        percent_encode(&self.client_secret, FORM).for_each(|piece| form.extend_from_slice(piece.as_bytes()));
        Bytes::from_owner(form)
    }
}

/// The same account and secret, asked for at the same place and trusting the same.
impl PartialEq for ServiceAccount {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
            && self.token_endpoint == other.token_endpoint
            && self.roots == other.roots
    }
}

impl Eq for ServiceAccount {}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: &str, secret: &str) -> Result<ServiceAccount, CredentialError> {
        let endpoint = "https://www.ovh.com/auth/oauth2/token".parse().unwrap();
        let files = [("clientId", id), ("clientSecret", secret)];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
        ServiceAccount::from_files(&BTreeMap::from(files), endpoint, Roots::Web)
    }

    #[test]
    fn the_form_is_encoded() {
        let account = account("EU.1234", "a+b/c=&scope=none%").unwrap();
        let form =
            "grant_type=client_credentials&scope=all&client_id=EU.1234&client_secret=a%2Bb%2Fc%3D%26scope%3Dnone%25";
        assert_eq!(account.form(), form);
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        let files = BTreeMap::from([("clientId".to_owned(), b"x".to_vec())]);
        let endpoint: TokenEndpoint = "https://a.example/token".parse().unwrap();
        let missing = ServiceAccount::from_files(&files, endpoint, Roots::Web).err();
        assert_eq!(missing, Some(CredentialError::NoText("clientSecret")));
        assert_eq!(account("", "x").err(), Some(CredentialError::EmptyText("clientId")));
        assert_eq!(account("x", "x\n").err(), Some(CredentialError::FinalLineBreak("clientSecret")));
    }

    #[test]
    fn accounts_are_equal_when_all_of_them_is() {
        let one = account("a", "b").unwrap();
        assert!(one == account("a", "b").unwrap());
        assert!(one != account("a", "c").unwrap() && one != account("b", "b").unwrap());
        let elsewhere = "https://www.ovh.com/auth/oauth2/other".parse().unwrap();
        assert!(one != ServiceAccount::new(b"a", b"b", elsewhere, Roots::Web).unwrap());
        assert!(one != ServiceAccount::new(b"a", b"b", one.token_endpoint().clone(), Roots::Pem(Vec::new())).unwrap());
    }
}
