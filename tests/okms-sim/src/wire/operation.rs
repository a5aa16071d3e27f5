//! The operations of the data plane, by their operationIds (OpenAPI 2.14.0).

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// An operation of the data plane. As text it is the operationId.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        pub enum Operation { $($(#[$doc])* $name,)* }

        impl Operation {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

operations! {
    GetSecretConfig,
    PostSecretConfig,
    /// KV2: the data of one version.
    GetSecretRequest,
    PostSecretRequest,
    PatchSecretRequest,
    DeleteSecretRequest,
    DeleteSecretVersions,
    PostSecretUndelete,
    PutSecretDestroy,
    GetSecretSubkeys,
    /// KV2: the list of the root.
    ListSecretsMetadata,
    /// KV2: metadata of one secret, or with `list=true` the list of a folder.
    GetSecretsMetadata,
    PostSecretMetadata,
    PatchSecretMetadata,
    DeleteSecretMetadata,
    ListSecretV2,
    PostSecretV2,
    GetSecretV2,
    PutSecretV2,
    DeleteSecretV2,
    ListSecretVersionV2,
    PostSecretVersionV2,
    GetSecretVersionV2,
    PutSecretVersionV2,
    GetSecretConfigV2,
    PutSecretConfigV2,
    /// Vault's `auth/token/lookup-self`; not in OKMS's specification.
    TokenLookupSelf,
    /// `POST /auth/oauth2/token`: a service account asks for an access token. Of OVHcloud's control plane, not of OKMS.
    PostOAuth2Token,
    /// A request that is none of these.
    Unknown,
}

impl Operation {
    pub(crate) const fn is_kv2(self) -> bool {
        (self as u8) < (Self::ListSecretV2 as u8) || matches!(self, Self::TokenLookupSelf)
    }

    /// Whether it only reads. What is unknown counts as neither.
    pub(crate) const fn is_read(self) -> bool {
        matches!(
            self,
            Self::GetSecretConfig
                | Self::GetSecretRequest
                | Self::GetSecretSubkeys
                | Self::ListSecretsMetadata
                | Self::GetSecretsMetadata
                | Self::ListSecretV2
                | Self::GetSecretV2
                | Self::ListSecretVersionV2
                | Self::GetSecretVersionV2
                | Self::GetSecretConfigV2
                | Self::TokenLookupSelf
        )
    }

    pub(crate) const fn is_write(self) -> bool {
        !self.is_read() && !matches!(self, Self::PostOAuth2Token | Self::Unknown)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
