//! The integration tests: the real API server, Helm, the real operator, the simulator. One binary, so that one control plane
//! serves them all.

mod admission;

mod cluster;
mod story;
mod world;
