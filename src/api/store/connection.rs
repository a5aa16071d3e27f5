//! What every store says: where OKMS is, who the operator is there, and what holds where its `OkmsSecret`s say nothing.

use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    super::{Interval, WithdrawalPolicy},
    Auth, CaSource,
};

/// A connection to one OKMS domain: the part of a spec that both kinds of store have.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The address of the region's OKMS, such as https://eu-west-rbx.okms.ovh.net. It is https, and has no path: the id of the
    /// domain goes into okmsId.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = (
            "self.startsWith('https://')",
            "an endpoint begins with https://: write it like https://eu-west-rbx.okms.ovh.net"
        ),
        validation = (
            "!self.matches('^https://[^/]*/api(/|$)')",
            "an endpoint does not contain /api/<id>: write only https:// and the host, and the id as okmsId"
        ),
        validation = (
            "!self.startsWith('https://') || self.matches('^https://[^/]*/api(/|$)') || \
             self.matches(r'^https://([a-zA-Z0-9.-]+|\\[[0-9a-fA-F:.]+\\])(:[0-9]{1,5})?/?$')",
            "an endpoint is only https://, a host and perhaps a port, without user, path, query or fragment: write it \
             like https://eu-west-rbx.okms.ovh.net"
        ),
    )]
    pub endpoint: String,

    /// The id of the OKMS domain, a UUID. Default: read from the client certificate.
    #[schemars(length(max = 36))]
    #[x_kube(validation = (
        "self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')",
        "an OKMS domain id is a UUID such as 1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb: copy it from the control panel, or \
         leave it out to read it from the certificate"
    ))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub okms_id: Option<String>,

    /// How the operator proves who it is.
    pub auth: Auth,

    /// The certificate authority of the endpoint, in PEM. Default: the public roots that browsers trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,

    /// How often the sources of this store's OkmsSecrets are checked, unless they say otherwise, such as 30s or 1m. 0s: not
    /// by themselves, as refreshInterval of an OkmsSecret says. Default: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<Interval>,

    /// What becomes of a Secret when its source is deactivated, destroyed, deleted or pruned in OKMS, unless its OkmsSecret
    /// says otherwise: Delete deletes it, Retain keeps it as it is. Default: Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal_policy: Option<WithdrawalPolicy>,

    /// How many Secrets may be deleted within an hour because their sources were withdrawn: a number, or a percentage of the
    /// store's Secrets such as "20%"; never less than 10. Where several namespaces have Secrets of the store, none gets more than
    /// half of what the others left. What exceeds it waits until it is confirmed. Default: 20%.
    #[schemars(schema_with = "int_or_percentage")]
    #[x_kube(validation = (
        "type(self) == int ? self >= 0 && self <= 1000000 : self.matches('^([0-9]|[1-9][0-9]|100)%$')",
        "write a number from 0 to 1000000, such as 50, or a percentage from \"0%\" to \"100%\""
    ))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_withdrawals_per_hour: Option<CountOrPercentage>,
}

/// An integer, or a text such as "20%", as Kubernetes' own int-or-string is; but whatever number somebody wrote can be read: one store that
/// cannot would hide all the others from the operator, since they come in one list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CountOrPercentage {
    Count(serde_json::Number),
    Percentage(String),
}

fn int_or_percentage(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true, "maxLength": 4, "nullable": true})
}

/// How much may be withdrawn within an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithdrawalLimit {
    Count(u32),
    /// Of the store's targets, 0 to 100.
    Percent(u32),
}

impl WithdrawalLimit {
    /// What holds where the store says nothing, or nothing that can be understood.
    pub const DEFAULT: Self = Self::Percent(20);
}

impl Connection {
    pub fn withdrawal_policy(&self) -> WithdrawalPolicy {
        self.withdrawal_policy.unwrap_or_default()
    }

    pub fn withdrawal_limit(&self) -> WithdrawalLimit {
        let limit = match &self.max_withdrawals_per_hour {
            Some(CountOrPercentage::Count(count)) => {
                count.as_u64().and_then(|count| u32::try_from(count).ok()).map(WithdrawalLimit::Count)
            }
            Some(CountOrPercentage::Percentage(text)) => text
                .strip_suffix('%')
                .and_then(|number| number.parse().ok())
                .filter(|percent| *percent <= 100)
                .map(WithdrawalLimit::Percent),
            None => None,
        };
        limit.unwrap_or(WithdrawalLimit::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(max_withdrawals: &str) -> Connection {
        let text = format!(
            r#"{{"endpoint": "https://eu-west-rbx.okms.ovh.net", "auth": {{"clientCertificate": {{"mount": "default"}}}}
                 {max_withdrawals}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_withdrawal_limit_is_a_number_or_a_percentage() {
        for (text, limit) in [
            ("", WithdrawalLimit::DEFAULT),
            (r#", "maxWithdrawalsPerHour": 50"#, WithdrawalLimit::Count(50)),
            (r#", "maxWithdrawalsPerHour": "5%""#, WithdrawalLimit::Percent(5)),
            (r#", "maxWithdrawalsPerHour": "101%""#, WithdrawalLimit::DEFAULT),
            (r#", "maxWithdrawalsPerHour": -1"#, WithdrawalLimit::DEFAULT),
            (r#", "maxWithdrawalsPerHour": 3000000000000"#, WithdrawalLimit::DEFAULT),
            (r#", "maxWithdrawalsPerHour": 1e99"#, WithdrawalLimit::DEFAULT),
        ] {
            assert_eq!(spec(text).withdrawal_limit(), limit, "{text}");
        }
    }

    #[test]
    fn a_withdrawn_secret_is_deleted_unless_the_store_says_otherwise() {
        assert_eq!(spec("").withdrawal_policy(), WithdrawalPolicy::Delete);
        assert_eq!(spec(r#", "withdrawalPolicy": "Retain""#).withdrawal_policy(), WithdrawalPolicy::Retain);
    }
}
