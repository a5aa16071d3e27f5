//! What requests authenticate with ([`Credential`]): a client certificate, a token, or a service account.
//!
//! Each is parsed once, from bytes that somebody else has read, and is then known to be whole: what is wrong with it is a
//! [`CredentialError`]. None of them is ever shown; two are equal when their content is.

mod error;
mod identity;
mod issued;
mod pem;
mod pkcs12;
mod secret_text;
mod service_account;
mod token;

pub use error::CredentialError;
pub use identity::Identity;
pub(super) use pem::unescaped;
pub(super) use secret_text::bearer;
pub use service_account::ServiceAccount;
pub use token::Token;

/// What requests to a domain authenticate with.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// An access certificate, shown in the TLS handshake. It alone names its domain.
    Certificate(Identity),
    /// A personal access token, or any other token that does not end by itself.
    Token(Token),
    /// A service account, whose tokens end within the hour and are fetched again.
    ServiceAccount(ServiceAccount),
}

impl Credential {
    /// The client certificate of a TLS handshake, if it is one.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Certificate(identity) => Some(identity),
            Self::Token(_) | Self::ServiceAccount(_) => None,
        }
    }
}

impl From<Identity> for Credential {
    fn from(identity: Identity) -> Self {
        Self::Certificate(identity)
    }
}

impl From<Token> for Credential {
    fn from(token: Token) -> Self {
        Self::Token(token)
    }
}

impl From<ServiceAccount> for Credential {
    fn from(account: ServiceAccount) -> Self {
        Self::ServiceAccount(account)
    }
}

#[cfg(test)]
mod tests;
