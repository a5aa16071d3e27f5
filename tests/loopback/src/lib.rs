//! What the test servers stand on: a port that stays theirs, connections that can be counted, closed and reset.
//!
//! Knows neither TLS nor HTTP, nor what a server is for.

mod connection;
mod server;

pub use self::connection::{Connection, Socket, Traffic};
pub use self::server::{Port, Server};
