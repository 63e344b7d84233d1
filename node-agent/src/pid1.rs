//! Connecting to PID 1 on the descriptor it left us, in the background: nothing that serves waits for it.

use crate::pods::Pods;
use crate::report;
use crate::state::{Severity, State};
use ingot_linux::inherited::InheritedError;
use ingot_runtime::Pid1;
use ingot_runtime::pid1::{Hello, Pid1Error};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Between two tries; each has a deadline of its own.
const RETRY: Duration = Duration::from_secs(2);

/// Takes over the socket and publishes the connection. Without PID 1 (a test, a broken boot) the rest goes on.
pub(crate) async fn connect(socket: Result<OwnedFd, InheritedError>, state: State, pods: Pods) {
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => {
            let message = format!("going on without PID 1: {}", report::chain(&error));
            state.events.record(Severity::Error, "NoPid1", "node", message);
            return;
        }
    };
    loop {
        match try_connect(&socket).await {
            Ok((pid1, hello)) => {
                if hello.restarts > 0 {
                    let message = format!("restart number {}", hello.restarts);
                    state.events.record(Severity::Warning, "AgentRestarted", "node", message);
                }
                pods.set_pid1(pid1);
                return;
            }
            Err(error) => {
                let message = format!("asking again: {}", report::chain(&error));
                state.events.record(Severity::Error, "NoPid1", "node", message);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Each try gets a descriptor of its own: one that failed has closed it.
async fn try_connect(socket: &OwnedFd) -> Result<(Pid1, Hello), Pid1Error> {
    let socket = socket.try_clone().map_err(Pid1Error::Socket)?;
    Pid1::connect(socket).await
}
