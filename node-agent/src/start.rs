//! The first moments: what may go on before it is known whether the node has a config.

use crate::report;
use crate::state::desired::Wish;
use crate::state::{ServerIdentity, Severity, State, VolumeState};
use ingot_pki::{Identity, Validity};
use std::time::{Duration, SystemTime};

/// Days the certificate of maintenance mode lives; it is made anew at each start.
const MAINTENANCE_DAYS: u32 = 30;
/// How long the search for hardware leaves the machine to the API at most.
const HEAD_START: Duration = Duration::from_secs(3);

/// Returns when there is a config the API can serve, or when finding one needs drivers. Everything else is started
/// after that, as it would only take the processor from it.
pub(crate) async fn known(state: &State) {
    let mut storage = state.storage.subscribe();
    let mut identity = state.identity.subscribe();
    let wait = async {
        // Errors cannot happen: the state outlives this. All arms are cancel safe.
        tokio::select! {
            _ = identity.wait_for(Option::is_some) => {}
            _ = storage.wait_for(|volumes| {
                !matches!(volumes.state, VolumeState::Unknown | VolumeState::Mounted)
            }) => {}
            () = no_stored_config(state) => {}
        }
    };
    let _ = tokio::time::timeout(HEAD_START, wait).await;
}

/// STATE is there but the API has no certificate soon after: there is no config on it.
async fn no_stored_config(state: &State) {
    let mut storage = state.storage.subscribe();
    let _ = storage.wait_for(|volumes| volumes.state == VolumeState::Mounted).await;
    // The search for a config runs as soon as STATE is there; it publishes or goes on to drives, which need drivers.
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut wish = state.desired.subscribe();
    let _ = tokio::time::timeout(
        Duration::from_millis(50),
        wish.wait_for(|wish| matches!(wish, Wish::Config(_))),
    )
    .await;
    if state.desired.config().is_some() {
        std::future::pending::<()>().await;
    }
}

/// Shows a self-signed certificate while the node waits for its first config.
pub(crate) async fn maintenance_identity(state: State) {
    let mut wish = state.desired.subscribe();
    // An error means that the program ends.
    let Ok(known) = wish.wait_for(|wish| !matches!(wish, Wish::Unknown)).await.map(|w| w.clone())
    else {
        return;
    };
    if !matches!(known, Wish::Nothing) {
        return;
    }
    match self_signed() {
        Ok(identity) => state.identity.publish(ServerIdentity {
            identity,
            chain: Vec::new(),
            client_authorities: Vec::new(),
            maintenance: true,
        }),
        Err(error) => {
            let message = format!("no maintenance mode: {}", report::chain(&error));
            state.events.record(Severity::Error, "CertificateFailed", "api", message);
        }
    }
}

fn self_signed() -> Result<Identity, ingot_pki::Error> {
    let validity = Validity::starting(SystemTime::now(), Validity::days(MAINTENANCE_DAYS));
    ingot_pki::self_signed(ingot_pki::NODE_SERVER_NAME, &[], validity)
}
