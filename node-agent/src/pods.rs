//! The agent's doors to PID 1 and to the pod engine, which come up after the API does. Whoever needs one asks here and is
//! told plainly when it is not there yet.

use ingot_runtime::pod::Pod;
use ingot_runtime::{Engine, Pid1};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// One of them is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotThere {
    /// PID 1 has not answered.
    #[error("PID 1 does not answer yet")]
    Pid1,
    /// The engine waits for VAR or for PID 1.
    #[error("the pod engine has not started yet; the condition \"pods\" says what it waits for")]
    Engine,
}

/// The control plane's pods, once it is known which these are.
pub(crate) type ControlPlane = Option<Arc<Vec<Pod>>>;

/// Both doors, and the pods that the node runs for its cluster; cheap to clone.
#[derive(Clone)]
pub(crate) struct Pods {
    pid1: Arc<watch::Sender<Option<Pid1>>>,
    engine: Arc<watch::Sender<Option<Engine>>>,
    control_plane: Arc<watch::Sender<ControlPlane>>,
}

impl Pods {
    /// Neither there.
    pub(crate) fn new() -> Self {
        Self {
            pid1: Arc::new(watch::Sender::new(None)),
            engine: Arc::new(watch::Sender::new(None)),
            control_plane: Arc::new(watch::Sender::new(None)),
        }
    }

    /// PID 1 answered.
    pub(crate) fn set_pid1(&self, pid1: Pid1) {
        self.pid1.send_replace(Some(pid1));
    }

    /// The engine started.
    pub(crate) fn set_engine(&self, engine: Engine) {
        self.engine.send_replace(Some(engine));
    }

    /// PID 1.
    ///
    /// # Errors
    /// When it has not answered.
    pub(crate) fn pid1(&self) -> Result<Pid1, NotThere> {
        self.pid1.borrow().clone().ok_or(NotThere::Pid1)
    }

    /// The engine, waiting for it at most `limit`: for a moment after each start of the agent it is not there yet.
    ///
    /// # Errors
    /// When it has not started by then.
    pub(crate) async fn engine_within(&self, limit: Duration) -> Result<Engine, NotThere> {
        let mut engine = self.engine.subscribe();
        let started = tokio::time::timeout(limit, engine.wait_for(Option::is_some)).await;
        // An error of the channel means that its sender is gone, which we hold.
        started.ok().and_then(Result::ok).and_then(|engine| engine.clone()).ok_or(NotThere::Engine)
    }

    /// Wakes its holder when the engine starts.
    pub(crate) fn subscribe_engine(&self) -> watch::Receiver<Option<Engine>> {
        self.engine.subscribe()
    }

    /// The control plane's pods; `None` before it is known which these are, when nobody may conclude that there are none.
    pub(crate) fn control_plane(&self) -> ControlPlane {
        self.control_plane.borrow().clone()
    }

    /// These are the control plane's pods from now on.
    pub(crate) fn set_control_plane(&self, pods: Vec<Pod>) {
        self.control_plane.send_replace(Some(Arc::new(pods)));
    }

    /// Wakes its holder when the control plane's pods are others.
    pub(crate) fn subscribe_control_plane(&self) -> watch::Receiver<ControlPlane> {
        self.control_plane.subscribe()
    }

    /// Wakes its holder when PID 1 answers.
    pub(crate) fn subscribe_pid1(&self) -> watch::Receiver<Option<Pid1>> {
        self.pid1.subscribe()
    }
}
