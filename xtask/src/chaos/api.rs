//! The operator's way to the API server: a proxy with faults. The harness itself does not take it.

use std::collections::BTreeMap;

use anyhow::Result;
use api_proxy::{Fault, FaultId, FaultKind, Matching, Proxy};
use kube::Config;

use super::history::{Recorder, Trouble, TroubleId};

/// About as many as two operators have.
const WATCHES: u32 = 16;

pub(super) struct Api {
    proxy: Proxy,
    recorder: Recorder,
    /// The faults that are set, by the plan's name.
    faults: BTreeMap<u32, (FaultId, TroubleId)>,
}

impl Api {
    pub(super) async fn start(config: Config, seed: u64, recorder: Recorder) -> Result<Self> {
        Ok(Self { proxy: Proxy::start(config, seed).await?, recorder, faults: BTreeMap::new() })
    }

    /// For a client with a token.
    pub(super) fn kubeconfig(&self, token: &str) -> String {
        self.proxy.kubeconfig_yaml(Some(token.trim()))
    }

    pub(super) fn fault(&mut self, id: u32, fault: Fault) {
        let trouble = self.recorder.open().trouble_begins(Trouble::Kubernetes);
        self.faults.insert(id, (self.proxy.fault(fault), trouble));
    }

    pub(super) fn end_fault(&mut self, id: u32) {
        if let Some((set, trouble)) = self.faults.remove(&id) {
            self.proxy.clear_fault(set);
            self.recorder.open().trouble_ends(trouble);
        }
    }

    pub(super) fn cut_watches(&self) {
        self.for_a_moment();
        self.proxy.cut_watches(&Matching::default());
    }

    pub(super) fn expire_watches(&self) {
        self.for_a_moment();
        self.proxy.expire_watches(&Matching::default());
    }

    /// What the operators go on from is too old: so each of their watches is told when it begins.
    pub(super) fn forget_watches(&self) {
        self.for_a_moment();
        self.proxy.fault(Fault::new(FaultKind::ExpireWatch { after: 0 }).times(WATCHES));
    }

    /// A watch that ended begins again after a while.
    fn for_a_moment(&self) {
        let mut history = self.recorder.open();
        let trouble = history.trouble_begins(Trouble::Kubernetes);
        history.trouble_ends(trouble);
    }

    /// How many faults are in force.
    pub(super) fn faults(&self) -> usize {
        self.faults.len()
    }

    /// Ends every fault.
    pub(super) fn calm(&mut self) {
        for id in self.faults.keys().copied().collect::<Vec<_>>() {
            self.end_fault(id);
        }
        self.proxy.clear_faults();
    }
}
