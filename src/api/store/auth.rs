//! How a store proves to OKMS who it is, and by what it knows OKMS. What the referenced objects hold is read by the controller.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How the operator proves who it is.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.clientCertificate), has(self.token), has(self.oauth2)].filter(given, given).size() == 1",
    "say how the operator proves who it is, by exactly one of clientCertificate (an OKMS access certificate), token (a \
     personal access token) and oauth2 (a service account)"
))]
pub struct Auth {
    /// With an OKMS access certificate (mTLS). Give exactly one of clientCertificate, token and oauth2. The certificate comes as
    /// tls.crt and tls.key, in PEM, also with escaped line breaks, as the OVHcloud API prints them; or as client.p12 and password
    /// (PKCS#12); or as credential.json, with certificatePEM and privateKeyPEM as the OVHcloud API answers them. A changed
    /// certificate is taken up without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificateAuth>,

    /// With a personal access token (PAT) of a local user. Give exactly one of clientCertificate, token and oauth2. It needs
    /// okmsId, since a token names no domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenAuth>,

    /// As a service account, with OAuth2 client credentials. Give exactly one of clientCertificate, token and oauth2. It needs
    /// okmsId, since a service account names no domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2Auth>,
}

/// Where the client certificate and its key come from.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.mount) != has(self.secretRef)",
    "say where the client certificate is, by exactly one of mount (a folder below /etc/okms in the operator's pod) \
     and secretRef (a Secret; for a ClusterOkmsStore in the operator's namespace)"
))]
pub struct ClientCertificateAuth {
    /// A folder below the operator's mount root (/etc/okms), such as default for /etc/okms/default. Give either mount or
    /// secretRef. Only a ClusterOkmsStore may have it.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "mount is the name of one folder below the operator's mount root: lower-case letters, digits and '-', such as \
         default"
    ))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,

    /// A Secret in the namespace of the store; for a ClusterOkmsStore in the operator's own. Give either mount or secretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// Where the token is.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenAuth {
    /// A key of a Secret in the namespace of the store; for a ClusterOkmsStore in the operator's own. It holds the token and
    /// nothing else, also no line break.
    pub secret_ref: KeyRef,
}

/// A service account, and where it gets its access tokens.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2Auth {
    /// A Secret in the namespace of the store; for a ClusterOkmsStore in the operator's own. It holds clientId and clientSecret.
    pub secret_ref: SecretRef,

    /// Where access tokens are asked for: https://www.ovh.com/auth/oauth2/token in Europe,
    /// https://ca.ovh.com/auth/oauth2/token in Canada, https://us.ovhcloud.com/auth/oauth2/token in the United States.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = (
        r"self.matches(r'^https://([a-zA-Z0-9.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[a-zA-Z0-9._~-]+)+$') && !self.matches('/[.][.]?(/|$)')",
        "a token endpoint is https://, a host, perhaps a port, and a path, without user, query or fragment: write it like \
         https://www.ovh.com/auth/oauth2/token"
    ))]
    pub token_endpoint: String,

    /// The certificate authority of the token endpoint, in PEM. Default: the public roots that browsers trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
}

/// Names a Secret.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (OBJECT_NAME, OBJECT_NAME_MESSAGE))]
    pub name: String,
}

/// Names one key of a ConfigMap or Secret.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The name of the object.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (OBJECT_NAME, OBJECT_NAME_MESSAGE))]
    pub name: String,

    /// The key in it, such as ca.crt.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "self.matches('^[-._a-zA-Z0-9]*$')",
        "a key has only the characters a-z A-Z 0-9 - _ and '.', such as ca.crt"
    ))]
    pub key: String,
}

const OBJECT_NAME: &str = "!format.dns1123Subdomain().validate(self).hasValue()";
const OBJECT_NAME_MESSAGE: &str = "a name has only lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit; it is looked \
     up in the namespace of the store, for a ClusterOkmsStore in the operator's own";

/// Where a certificate authority comes from.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.pem), has(self.configMapRef), has(self.secretRef)].filter(given, given).size() == 1",
    "give the certificate authority by exactly one of pem, configMapRef and secretRef, or leave ca out to trust the \
     public roots"
))]
pub struct CaSource {
    /// The certificates themselves, at most 64 KiB. Give exactly one of pem, configMapRef and secretRef.
    #[schemars(length(min = 1, max = 65536))]
    #[x_kube(
        validation = (
            "self.contains('-----BEGIN CERTIFICATE-----')",
            "paste the certificate authority in PEM, beginning with -----BEGIN CERTIFICATE-----"
        ),
        validation = (
            "!self.contains('PRIVATE KEY-----')",
            "a certificate authority is public: remove the private key"
        ),
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,

    /// A key of a ConfigMap in the namespace of the store; for a ClusterOkmsStore in the operator's own. Give exactly one of pem,
    /// configMapRef and secretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyRef>,

    /// A key of a Secret in the namespace of the store; for a ClusterOkmsStore in the operator's own. Give exactly one of pem,
    /// configMapRef and secretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyRef>,
}
