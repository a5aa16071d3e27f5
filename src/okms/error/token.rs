//! What a token endpoint says, or should have said ([`TokenProblem`]).
//!
//! A refusal has a code (RFC 6749, 5.2). The known ones are told in our own words; what else the answer holds, the texts that come with
//! a code above all, goes nowhere.

use super::ErrorKind;

/// Why a token endpoint gave no token that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::okms) enum TokenProblem {
    #[error(
        "the token endpoint does not accept clientId and clientSecret (invalid_client): check both, and that the service account \
         still exists"
    )]
    InvalidClient,
    #[error(
        "the token endpoint does not give tokens of scope all (invalid_scope): check that it is the one of OVHcloud, and that the \
         service account is not limited to other scopes"
    )]
    InvalidScope,
    #[error(
        "the service account may not ask for tokens by its id and secret (unauthorized_client): create one with the flow \
         CLIENT_CREDENTIALS"
    )]
    UnauthorizedClient,
    #[error(
        "the token endpoint finds the credentials to be no longer valid (invalid_grant): create a new service account"
    )]
    InvalidGrant,
    #[error(
        "the token endpoint does not understand the request (invalid_request): check that it is an OAuth 2.0 token endpoint for \
         client credentials"
    )]
    InvalidRequest,
    #[error(
        "the token endpoint gives no tokens for client credentials (unsupported_grant_type): check that it is the one of OVHcloud"
    )]
    UnsupportedGrantType,
    #[error("the token endpoint says that it cannot answer now")]
    Unavailable,
    #[error(
        "the token endpoint refuses the service account (status {0}) for a reason that OAuth 2.0 does not know: check clientId and \
         clientSecret, and the token endpoint"
    )]
    Refused(u16),
    #[error("the token endpoint answers something else than a token: check that it is an OAuth 2.0 token endpoint")]
    NotAsDescribed,
    #[error("the token endpoint answers without an access_token: check that it is an OAuth 2.0 token endpoint")]
    Missing,
    #[error("the token endpoint answers with an access_token that has characters which no token has")]
    Characters,
    #[error(
        "the token endpoint answers with a token of another type than Bearer: check that it is the one of OVHcloud"
    )]
    OtherType,
    #[error(
        "the token endpoint answers with a token that has expired already: its clock may be wrong, or that of the service"
    )]
    Expired,
    #[error("the token endpoint answers with more than 64 KiB, which no token has: check its address")]
    TooLarge,
    #[error("the request to the token endpoint ended abnormally")]
    Abandoned,
}

impl TokenProblem {
    pub(super) fn kind(self) -> ErrorKind {
        match self {
            Self::InvalidClient
            | Self::InvalidScope
            | Self::UnauthorizedClient
            | Self::InvalidGrant
            | Self::Refused(_) => ErrorKind::Refused,
            Self::Unavailable | Self::Abandoned => ErrorKind::Unavailable,
            Self::InvalidRequest
            | Self::UnsupportedGrantType
            | Self::NotAsDescribed
            | Self::Missing
            | Self::Characters
            | Self::OtherType
            | Self::Expired
            | Self::TooLarge => ErrorKind::Unexpected,
        }
    }

    /// The code of a refusal.
    pub(in crate::okms) fn of_code(code: &str, status: u16) -> Self {
        match code {
            "invalid_client" => Self::InvalidClient,
            "invalid_scope" => Self::InvalidScope,
            "unauthorized_client" => Self::UnauthorizedClient,
            "invalid_grant" => Self::InvalidGrant,
            "invalid_request" => Self::InvalidRequest,
            "unsupported_grant_type" => Self::UnsupportedGrantType,
            "temporarily_unavailable" | "server_error" => Self::Unavailable,
            _ => Self::Refused(status),
        }
    }
}
