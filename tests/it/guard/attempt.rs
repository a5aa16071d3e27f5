//! What somebody tries with the API server, and what comes of it. Everything is a dry run, so that one attempt changes nothing for the next;
//! admission is the same.

use kube::Client;
use serde_json::Value;

/// A request.
pub(super) struct Attempt {
    method: &'static str,
    content_type: &'static str,
    path: String,
    body: Option<Value>,
    headers: Vec<(&'static str, String)>,
}

impl Attempt {
    fn new(method: &'static str, path: impl Into<String>, body: Option<Value>) -> Self {
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        Self { method, content_type, path: path.into(), body, headers: Vec::new() }
    }

    pub(super) fn create(path: impl Into<String>, object: Value) -> Self {
        Self::new("POST", path, Some(object))
    }

    pub(super) fn patch(path: impl Into<String>, changes: Value) -> Self {
        Self::new("PATCH", path, Some(changes))
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path, None)
    }

    /// Connects to something, such as a process in a pod. There is no dry run of that, but admission comes first.
    pub(super) fn connect(path: impl Into<String>) -> Self {
        Self::new("CONNECT", path, None)
    }

    pub(super) fn read(path: impl Into<String>) -> Self {
        Self::new("GET", path, None)
    }

    /// Made in the name of somebody, by an administrator.
    pub(super) fn by(mut self, user: &str, groups: &[&str]) -> Self {
        self.headers.push(("Impersonate-User", user.to_owned()));
        self.headers.extend(groups.iter().map(|group| ("Impersonate-Group", (*group).to_owned())));
        self
    }

    /// What came of it: nothing, or the status and the words of the API server's refusal.
    pub(super) async fn make(&self, client: &Client) -> Result<(), String> {
        let (method, query) = match self.method {
            "CONNECT" => ("POST", String::new()),
            "GET" => ("GET", String::new()),
            method => (method, format!("{}dryRun=All", if self.path.contains('?') { '&' } else { '?' })),
        };
        let request = http::Request::builder().method(method).uri(format!("{}{query}", self.path));
        let request = request.header(http::header::CONTENT_TYPE, self.content_type);
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let body = self.body.as_ref().map(Value::to_string).unwrap_or_default();
        match client.request_text(request.body(body.into_bytes()).unwrap()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(format!("{} {}", status.code, status.message)),
            Err(error) => panic!("{} {}: {error}", self.method, self.path),
        }
    }
}
