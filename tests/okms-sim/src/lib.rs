//! A simulator of OVHcloud OKMS Secret Manager's data plane, and of the token endpoint before it, over real TLS, with fault injection.
//!
//! For tests: it listens on loopback only, keeps everything in memory, and issues its own certificates in OKMS's shape.
//! Where OKMS's behaviour is not published it has a [switch](Switches) instead of an opinion.
//!
//! ```
//! # async fn example() -> anyhow::Result<()> {
//! let sim = okms_sim::Sim::start(okms_sim::Options::default()).await?;
//! let domain = sim.domain();
//! domain.put("prod/db", serde_json::json!({"user": "shop"}));
//! let client = domain.issue_client_certificate(okms_sim::Validity::days(30))?;
//! sim.fault(okms_sim::Fault::status(503).on_path("prod/*").times(2));
//! # let _ = client;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it is for |
//! |---|---|
//! | `store` | pure: versions, states, settings, check-and-set |
//! | `wire` | pure: routes, bodies, answers and refusals of both API families |
//! | `grants`, `path`, `switches`, `fault`, `counters` | the words of the public interface, and their small rules |
//! | `token` | the token endpoint of service accounts |
//! | `pki`, `tls` | certificates and who may shake hands |
//! | `server`, `connection`, `exchange`, `body` | sockets, requests, the way back |
//! | `world` | what all of these share |
//! | `domain`, `sim` | the in-process interface |
//! | `admin` | the same as JSON, for the binary |

mod admin;
mod body;
mod clock;
mod connection;
mod counters;
mod domain;
mod exchange;
mod fault;
mod grants;
mod path;
mod pki;
mod server;
mod sim;
mod store;
mod switches;
mod tls;
mod token;
mod wire;
mod world;

pub use self::admin::Admin;
pub use self::counters::{Arrival, Counters};
pub use self::domain::{Domain, DomainError, Metadata, ServiceAccount};
pub use self::fault::{Fault, FaultId, FaultKind};
pub use self::grants::{Action, Grant, Grants};
pub use self::path::PathPattern;
pub use self::pki::{ClientCertificate, Naming, Validity};
pub use self::sim::{Options, Sim};
pub use self::switches::{
    CertificateRefusal, EmptyList, ListOrder, OddPaths, RevokedConnections, ServerCertificate, Switches,
};
pub use self::wire::Operation;
