//! A proxy in front of a real Kubernetes API server, over real TLS, with fault injection.
//!
//! For tests: it listens on loopback only, passes everything on as it is, and writes down each request. What goes wrong is said by
//! [`Fault`]s, in the manner of the OKMS simulator, which stands on the operator's other side.
//!
//! ```
//! # async fn example(config: kube::Config) -> anyhow::Result<()> {
//! use api_proxy::{Fault, Matching, Proxy};
//! let proxy = Proxy::start(config.clone(), 0).await?;
//! let client = kube::Client::try_from(proxy.through(config))?;
//! proxy.fault(Fault::status(500).hitting(Matching::writes().of("secrets")).times(2));
//! # let _ = client;
//! # Ok(())
//! # }
//! ```
//!
//! A request goes on with the credentials of whoever sent it if they are a token. Client certificates do not pass a proxy: who shows
//! none of the one is who the proxy itself is. Connections that change their protocol (`exec`, `port-forward`) are not served.
//!
//! | module | what it is for |
//! |---|---|
//! | `request`, `fault` | pure: what a request asks for, what goes wrong with it |
//! | `log` | what was asked, what the API server said and what was answered |
//! | `status` | refusals as an API server words them |
//! | `watch` | streams of events, and how they end |
//! | `exchange` | one request and its answer |
//! | `tls`, `proxy` | the server, and its handle |

mod exchange;
mod fault;
mod log;
mod proxy;
mod request;
mod status;
mod tls;
mod watch;

pub use self::fault::{Fault, FaultId, FaultKind, Matching};
pub use self::log::Record;
pub use self::proxy::Proxy;
pub use self::request::Verb;
