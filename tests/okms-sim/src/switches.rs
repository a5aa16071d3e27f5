//! Switches: how the simulator behaves where OKMS's real behaviour is not published.
//!
//! Only data. Every field says what is unknown and why its default is what it is; the README lists them for users. None
//! of them is knowledge about OKMS: a client has to work with every setting.

use serde::{Deserialize, Serialize};

/// Where a certificate that is expired, revoked or of a domain that is not served here is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CertificateRefusal {
    /// By a TLS alert that ends the handshake (third parties saw "bad certificate").
    #[default]
    Tls,
    /// The handshake succeeds, each request is answered 403.
    Forbidden,
}

/// What a revocation does to connections that are open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RevokedConnections {
    /// They are closed at once: the stricter guess.
    #[default]
    Close,
    /// They serve until somebody closes them.
    Keep,
}

/// The certificate that the server shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServerCertificate {
    #[default]
    Valid,
    /// It ended in 2020.
    Expired,
    /// It begins in the year 4000.
    NotYetValid,
    /// For `okms.example`.
    OtherName,
    /// Signed by an authority that nobody is given.
    OtherAuthority,
    /// Made for a client, not for a server.
    OtherPurpose,
}

impl ServerCertificate {
    pub(crate) const ALL: [Self; 6] =
        [Self::Valid, Self::Expired, Self::NotYetValid, Self::OtherName, Self::OtherAuthority, Self::OtherPurpose];
}

/// How a list without entries is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EmptyList {
    /// 200 with `keys: []`.
    #[default]
    Array,
    /// 200 with `keys: null`.
    Null,
    /// 404, as HashiCorp Vault does.
    NotFound,
}

/// The order of lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ListOrder {
    #[default]
    Ascending,
    Descending,
}

/// What to do with a leading `/`, a trailing `/` and `//` in a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OddPaths {
    /// Refused, as the control panel does.
    #[default]
    Refuse,
    /// Slashes at the ends and doubled ones are dropped.
    Clean,
}

/// All switches. `Default` is the documented behaviour.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools)] // Each is a switch of its own; no two of them make a state together.
pub struct Switches {
    /// Offer HTTP/2 by ALPN. Unknown; on, so that both protocols are in use.
    pub http2: bool,
    /// What the server shows at the next handshake.
    pub server_certificate: ServerCertificate,
    /// End a handshake without a client certificate. Off, because a token works on the same host.
    pub certificate_required: bool,
    pub certificate_refusal: CertificateRefusal,
    pub revoked_connections: RevokedConnections,
    /// Status of a refusal by policy: 403 in the field, 401 in the specification.
    pub denied_status: u16,
    /// Status for a token that is good, but not for the domain in the path. Unknown.
    pub foreign_token_status: u16,
    /// Status of a `cas` that is wrong or missing. The specification leaves only 400.
    pub cas_status: u16,
    /// Status of creating a secret that exists (REST v2). The specification leaves only 400.
    pub exists_status: u16,
    /// Status of data over `max_data_bytes`. The specification leaves only 400.
    pub oversize_status: u16,
    /// Status of a path outside the rules. The specification leaves only 400.
    pub bad_path_status: u16,
    pub odd_paths: OddPaths,
    /// Bytes of JSON that the data of a version may have; `None`: no limit. 64 KB by the user guide.
    pub max_data_bytes: Option<usize>,
    /// The largest page. The specification says 100; the CLI's help says 500.
    pub max_page_size: usize,
    /// Refuse unknown fields in bodies, as the specification's `additionalProperties: false` would have it.
    pub strict_bodies: bool,
    /// Take PUT as POST, and LIST as GET with `?list=true`, on KV2: what Vault's clients send.
    pub vault_verbs: bool,
    /// Take version numbers as strings on KV2: what Vault's Go client sends.
    pub string_versions: bool,
    /// Take `deactivate_version_after` on KV2, which OVHcloud's guide prints in place of `delete_version_after`.
    pub deactivate_version_after: bool,
    /// Answer `GET v1/auth/token/lookup-self`, which External Secrets' Vault provider asks for.
    pub token_lookup_self: bool,
    pub empty_list: EmptyList,
    pub list_order: ListOrder,
    /// Cut pages first and leave out what the identity may not `get` then, so that a page may be short or even empty and
    /// still have a next one. Off, because the official Go SDK stops at an empty page.
    pub filter_after_paging: bool,
    /// Send the current version with each secret of REST v2's list. The specification's type has it; whether it is sent is unknown.
    /// Off, which is less for a client to go by.
    pub list_versions: bool,
    /// Leave out null fields instead of sending them.
    pub omit_nulls: bool,
    /// Show the future end of a version with a pending `delete_version_after`, as HashiCorp Vault does.
    pub show_pending_deletion: bool,
    /// In a merge patch, `null` removes the key: the standard's meaning, not stated by OVHcloud.
    pub merge_null_removes: bool,
    /// KV2's POST metadata makes a missing secret (without a version), as HashiCorp Vault does.
    pub metadata_creates: bool,
    /// `error_code` of the 404 that carries the metadata of a deactivated or destroyed version. Unknown.
    pub withdrawn_error_code: i32,
    /// `error_code` of the 404 for a version that never was or was pruned. Unknown; the default is that of a missing
    /// secret, which is the harder case for a client.
    pub version_missing_error_code: i32,
    /// Warnings sent with every answer that can carry them; with any, KV2's metadata writes answer 200 instead of 204.
    pub warnings: Vec<String>,
    /// Send the request id as the header `X-Request-Id` too.
    pub request_id_header: bool,
    /// How far the header `Date` is from the real time, in seconds; `None`: no such header. It does not follow
    /// [`Sim::advance`](crate::Sim::advance), which stands for time that passes for the client too.
    pub date_skew_seconds: Option<i64>,
    /// `expires_in` of an access token, and its life by the simulator's clock; `None`: not told, an hour.
    pub token_seconds: Option<i64>,
    /// Status of a service account that is not known (`invalid_client`). RFC 6749 allows 400 and 401.
    pub invalid_client_status: u16,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            http2: true,
            server_certificate: ServerCertificate::default(),
            certificate_required: false,
            certificate_refusal: CertificateRefusal::default(),
            revoked_connections: RevokedConnections::default(),
            denied_status: 403,
            foreign_token_status: 403,
            cas_status: 400,
            exists_status: 400,
            oversize_status: 400,
            bad_path_status: 400,
            odd_paths: OddPaths::default(),
            max_data_bytes: Some(64 * 1024),
            max_page_size: 100,
            strict_bodies: true,
            vault_verbs: false,
            string_versions: false,
            deactivate_version_after: false,
            token_lookup_self: false,
            empty_list: EmptyList::default(),
            list_order: ListOrder::default(),
            filter_after_paging: false,
            list_versions: false,
            omit_nulls: false,
            show_pending_deletion: true,
            merge_null_removes: true,
            metadata_creates: true,
            withdrawn_error_code: crate::wire::refusal::Code::SECRET_NOT_FOUND.0,
            version_missing_error_code: crate::wire::refusal::Code::SECRET_NOT_FOUND.0,
            warnings: Vec::new(),
            request_id_header: false,
            date_skew_seconds: Some(0),
            token_seconds: Some(3599),
            invalid_client_status: 401,
        }
    }
}
