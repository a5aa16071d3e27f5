//! The client of OVHcloud OKMS Secret Manager, by its KV2 API and, for the list of all secrets, its REST API v2: addresses,
//! credentials, TLS, wire types, errors.
//!
//! It knows no Kubernetes and no schedule: it asks one question when told to and says what came of it. It only reads. The rule that
//! holds throughout: *not found* is said only where the Secret Manager of this very domain said it in its own words; every other
//! answer that is not understood is an error, and nothing may be deleted because of an error.
//!
//! Start with [`Client`]; a [`Credential`] and an [`Endpoint`] are what it is made of, an [`Error`] is what it may end with, and an
//! [`Answer`] is all that decides between them. The access tokens of a service account are `oauth`'s.

mod allowed;
mod answer;
mod body;
mod client;
mod clock;
mod connection;
mod credential;
mod endpoint;
mod error;
mod handshakes;
mod json_text;
mod oauth;
mod observer;
mod roots;
mod second_look;
mod tls;
mod token_endpoint;
mod wire;

pub use allowed::{EndpointPattern, PatternError};
pub use answer::Answer;
pub use client::{BuildError, Client, ClientOptions};
pub use clock::{Clock, ClockProblem};
pub use credential::{Credential, CredentialError, Identity, ServiceAccount, Token};
pub use endpoint::{Endpoint, EndpointError, domain_urn, secret_urn_path};
pub use error::{Error, ErrorKind};
pub use observer::{Observer, Operation, Outcome};
pub use roots::{Roots, RootsError};
pub use tls::TlsProblem;
pub use token_endpoint::{TokenEndpoint, TokenEndpointError};
