pub mod api;
pub mod controller;
pub mod feed;
pub mod k8s;
pub mod model;
pub mod okms;
pub mod plan;
pub mod process;
