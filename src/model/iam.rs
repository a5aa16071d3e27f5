//! What OVHcloud's IAM has to grant for a secret to be read, as messages tell it.

/// For the check of versions and states: KV2 `GET metadata` (OpenAPI 2.14.0).
pub const CHECK_ACTION: &str = "okms:apikms:secret/get";

/// For the data: KV2 `GET data` (OpenAPI 2.14.0).
pub const READ_ACTION: &str = "okms:apikms:secret/version/getData";

/// The public guide on policies: "How to use IAM policies using the OVHcloud Control Panel".
pub const GUIDE: &str =
    "https://help.ovhcloud.com/csm/en-customer-iam-policies-ui?id=kb_article_view&sysparm_article=KB0058729";
