//! A real Kubernetes control plane for tests, the demo and playing by hand: etcd, kube-apiserver and
//! kube-controller-manager, built from the Go modules that `go.mod` beside this crate pins.
//!
//! [`ControlPlane`] starts one and ends it; [`binaries`] says where its programs, kubectl and Helm come from;
//! [`supervise`] is why nothing stays behind when its owner is killed.
//!
//! Nothing here listens on anything but loopback, needs a container engine, or knows the operator.

pub mod binaries;
mod control_plane;
pub mod go;
mod pki;
pub mod supervise;

pub use control_plane::{Component, ControlPlane};
