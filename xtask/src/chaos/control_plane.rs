//! Deaths of the API server and of etcd. The harness keeps away from Kubernetes meanwhile; its watches go on where they were.

use anyhow::{Context, Result, bail};
use test_cluster::{Component, ControlPlane};
use tokio::task::{JoinHandle, spawn_blocking};

use super::history::{Recorder, Trouble, TroubleId};

pub(super) struct Plane {
    recorder: Recorder,
    state: State,
}

enum State {
    Up(ControlPlane),
    /// One of its processes is dead.
    Down(ControlPlane, Component, TroubleId),
    /// It is being started again.
    Returning(JoinHandle<Result<ControlPlane>>, TroubleId),
    /// Starting it again failed.
    Lost,
}

impl Plane {
    pub(super) fn new(plane: ControlPlane, recorder: Recorder) -> Self {
        Self { recorder, state: State::Up(plane) }
    }

    /// Whether everything runs.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// SIGKILL to one process; answers whether all of them ran.
    pub(super) fn kill(&mut self, component: Component) -> bool {
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Up(mut plane) => {
                let trouble = self.recorder.open().trouble_begins(Trouble::Kubernetes);
                plane.kill(component);
                self.state = State::Down(plane, component, trouble);
                true
            }
            other => {
                self.state = other;
                false
            }
        }
    }

    /// Begins to start the process that is dead, without waiting for it; answers whether one was.
    pub(super) fn revive(&mut self) -> bool {
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Down(mut plane, component, trouble) => {
                let returning = spawn_blocking(move || plane.revive(component).map(|()| plane));
                self.state = State::Returning(returning, trouble);
                true
            }
            other => {
                self.state = other;
                false
            }
        }
    }

    /// Answers whether it has come back since this was last asked.
    pub(super) async fn look(&mut self) -> Result<bool> {
        if !matches!(&self.state, State::Returning(returning, _) if returning.is_finished()) {
            return Ok(false);
        }
        self.come_back().await.map(|()| true)
    }

    /// Has everything run, and waits for it.
    pub(super) async fn calm(&mut self) -> Result<()> {
        self.revive();
        if self.is_up() { Ok(()) } else { self.come_back().await }
    }

    async fn come_back(&mut self) -> Result<()> {
        let State::Returning(returning, trouble) = std::mem::replace(&mut self.state, State::Lost) else {
            bail!("the control plane is lost");
        };
        let plane = returning.await.context("starting a process of the control plane again")??;
        self.state = State::Up(plane);
        self.recorder.open().trouble_ends(trouble);
        Ok(())
    }
}
