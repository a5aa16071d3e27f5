//! What a request asks for, in the words of RBAC: a verb, a resource, a namespace, a name.

use http::Method;
use serde_json::Value;

/// What is to be done with a resource.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub const READS: [Self; 3] = [Self::Get, Self::List, Self::Watch];
    pub const WRITES: [Self; 5] = [Self::Create, Self::Update, Self::Patch, Self::Delete, Self::DeleteCollection];

    pub fn is_write(self) -> bool {
        Self::WRITES.contains(&self)
    }
}

/// A request as far as faults and the log are concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) verb: Verb,
    /// As RBAC spells it, without its group: `secrets`, `okmssecrets/status`; empty for what is no resource.
    pub(crate) resource: String,
    /// Empty: none.
    pub(crate) namespace: String,
    /// Empty: none. The path, for what is no resource.
    pub(crate) name: String,
    /// Whether it changes nothing, though it is a write.
    pub(crate) dry_run: bool,
}

impl Asked {
    pub(crate) fn parse(method: &Method, path: &str, query: &str) -> Self {
        let mut parameters = query.split('&');
        let watches = query.split('&').any(|parameter| matches!(parameter, "watch=true" | "watch=1"));
        let dry_run = parameters.any(|parameter| parameter.starts_with("dryRun="));
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        // The group and the version.
        let of_resources = match segments.next() {
            Some("api") => segments.next().is_some(),
            Some("apis") => segments.next().is_some() && segments.next().is_some(),
            _ => false,
        };
        let mut rest = if of_resources { segments.collect::<Vec<_>>() } else { Vec::new() };
        let mut namespace = "";
        // What stands in a namespace has three segments or more; the namespace itself has two, or one of these after them.
        if let ["namespaces", within, resource, ..] = rest[..]
            && !matches!(resource, "status" | "finalize")
        {
            namespace = within;
            rest.drain(..2);
        }
        let (resource, name) = match rest[..] {
            [] => (String::new(), path),
            [resource] => (resource.to_owned(), ""),
            [resource, name] => (resource.to_owned(), name),
            [resource, name, ref sub @ ..] => (format!("{resource}/{}", sub.join("/")), name),
        };
        let verb = match *method {
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE if name.is_empty() => Verb::DeleteCollection,
            Method::DELETE => Verb::Delete,
            _ if watches => Verb::Watch,
            _ if name.is_empty() => Verb::List,
            _ => Verb::Get,
        };
        Self { verb, resource, namespace: namespace.to_owned(), name: name.to_owned(), dry_run }
    }

    /// What is created is named in its body, if the caller chooses the name.
    pub(crate) fn name_from(&mut self, body: &[u8]) {
        let object: Value = serde_json::from_slice(body).unwrap_or_default();
        if let Some(name) = object.pointer("/metadata/name").and_then(Value::as_str).filter(|_| self.name.is_empty()) {
            name.clone_into(&mut self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_in_the_words_of_rbac() {
        let cases = [
            ("GET", "/api/v1/namespaces/shop/secrets/db", "", (Verb::Get, "secrets", "shop", "db")),
            ("GET", "/api/v1/namespaces/shop/secrets", "limit=500", (Verb::List, "secrets", "shop", "")),
            ("GET", "/api/v1/secrets", "watch=true&labelSelector=a", (Verb::Watch, "secrets", "", "")),
            ("GET", "/api/v1/namespaces", "", (Verb::List, "namespaces", "", "")),
            ("GET", "/api/v1/namespaces/shop", "", (Verb::Get, "namespaces", "", "shop")),
            ("PUT", "/api/v1/namespaces/shop/finalize", "", (Verb::Update, "namespaces/finalize", "", "shop")),
            ("GET", "/version", "", (Verb::Get, "", "", "/version")),
            ("GET", "/apis/okms-operator.io/v1alpha1", "", (Verb::Get, "", "", "/apis/okms-operator.io/v1alpha1")),
            (
                "PATCH",
                "/apis/okms-operator.io/v1alpha1/namespaces/shop/okmssecrets/db/status",
                "",
                (Verb::Patch, "okmssecrets/status", "shop", "db"),
            ),
            ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events", "", (Verb::Create, "events", "shop", "")),
            (
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/ops/leases/one",
                "",
                (Verb::Update, "leases", "ops", "one"),
            ),
            ("DELETE", "/api/v1/namespaces/shop/secrets/db", "", (Verb::Delete, "secrets", "shop", "db")),
            ("DELETE", "/api/v1/namespaces/shop/secrets", "", (Verb::DeleteCollection, "secrets", "shop", "")),
        ];
        for (method, path, query, expected) in cases {
            let asked = Asked::parse(&method.parse().unwrap(), path, query);
            let told = (asked.verb, asked.resource.as_str(), asked.namespace.as_str(), asked.name.as_str());
            assert_eq!(told, expected, "{method} {path}?{query}");
        }
        assert!(Asked::parse(&Method::POST, "/api/v1/namespaces/shop/secrets", "dryRun=All").dry_run);
    }
}
