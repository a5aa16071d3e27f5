//! A world whose operator reaches Kubernetes as it does in production, with its own deadline, by way of a proxy with faults.
//!
//! The test itself talks to the API server directly.

use std::time::Duration;

use api_proxy::{Matching, Proxy, Record};
use kube::{Client, Config as KubeConfig};
use okms_operator::{
    controller::{self, health::Health},
    k8s,
};

use crate::{guard, world::World};

/// How long it waits for that, where nothing else is said: short, for the tests in which nothing answers.
pub(crate) const ANSWER: Duration = Duration::from_secs(2);

pub(crate) struct Proxied {
    pub(crate) world: World,
    pub(crate) proxy: Proxy,
    /// What the operator's client is made from.
    config: KubeConfig,
    /// How long the operator waits for an answer of the API server.
    pub(crate) answer: Duration,
}

impl Proxied {
    /// On the shared control plane, with the rights of the chart.
    pub(crate) async fn new(name: &str) -> Self {
        let world = World::without_operator(name).await;
        Self::before(world, guard::operator_config().await).await
    }

    /// On the control plane of this configuration, as whoever it is.
    pub(crate) async fn on(config: KubeConfig, name: &str) -> Self {
        let world = World::on(Client::try_from(config.clone()).unwrap(), name).await;
        Self::before(world, config).await
    }

    async fn before(world: World, config: KubeConfig) -> Self {
        let proxy = Proxy::start(config.clone(), 0).await.unwrap();
        Self { world, config: proxy.through(config), proxy, answer: ANSWER }
    }

    pub(crate) fn start(&mut self, config: controller::Config, health: Health) {
        let client = k8s::client(self.config.clone(), self.answer).unwrap();
        self.world.start_as(config, client, health);
    }

    /// How many requests meet all of this.
    pub(crate) fn count(&self, matching: &Matching, is: impl Fn(&Record) -> bool) -> usize {
        self.proxy.log(|log| log.iter().filter(|record| record.is(matching) && is(record)).count())
    }

    /// The requests that changed an object of this name.
    pub(crate) fn effects(&self, resource: &str, name: &str) -> usize {
        let matching = Matching::writes().of(resource).in_namespace(&self.world.name).named(name);
        self.count(&matching, Record::took_effect)
    }
}
