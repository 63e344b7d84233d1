//! Where the first config comes from: the state partition, a CIDATA drive, the image; and while there is none, looking
//! again for a drive that appears late. Runs once per start of the agent.

mod cidata;
mod image;

use crate::apply::Applier;
use crate::report;
use crate::state::desired::{Source, Wish};
use crate::state::{Severity, State, VolumeState};
use std::time::Duration;

/// How long the search for hardware may hold up the search for a config.
const COLDPLUG_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks for a CIDATA drive while there is no config.
const DRIVE_INTERVAL: Duration = Duration::from_secs(2);
/// Between two tries to store a config that came with the machine.
const KEEP_RETRY: Duration = Duration::from_secs(10);

/// Finds a config and keeps it. Ends when there is a stored one.
pub(crate) async fn run(state: State, applier: Applier) {
    let stored = wait_for_state(&state).await;
    if stored && take_stored(&state, &applier) {
        return;
    }
    // Drives need their drivers. A drive that is later still is found below.
    let _ = tokio::time::timeout(COLDPLUG_DEADLINE, state.coldplug.raised()).await;
    if !take_found(&state, &applier).await {
        state.desired.publish(Wish::Nothing);
        wait_for_config(&state, &applier).await;
    }
    keep(&state, &applier).await;
}

/// Waits until it is known whether there is a STATE that may hold a config.
async fn wait_for_state(state: &State) -> bool {
    let mut storage = state.storage.subscribe();
    let known = storage.wait_for(|volumes| volumes.state != VolumeState::Unknown).await;
    known.is_ok_and(|volumes| volumes.state == VolumeState::Mounted)
}

fn take_stored(state: &State, applier: &Applier) -> bool {
    match applier.take_stored() {
        Ok(found) => found,
        Err(error) => {
            let message = report::chain(&error);
            state.events.record(Severity::Error, "ConfigUnreadable", "node", message);
            false
        }
    }
}

/// Takes the config of a drive, else of the image. What a drive says of the network counts even without a config.
async fn take_found(state: &State, applier: &Applier) -> bool {
    let Ok(seed) = tokio::task::spawn_blocking(cidata::find).await else { return false };
    if let Some(seed) = seed {
        for problem in &seed.problems {
            state.events.record(Severity::Error, "ConfigRefused", "node", problem.to_string());
        }
        state.observed.set(|seen| &mut seen.drive_network, Some(seed.network));
        if let Some(text) = seed.text
            && applier.take_found(text, Source::Cidata, "a CIDATA drive")
        {
            return true;
        }
    }
    match tokio::task::spawn_blocking(image::find).await {
        Ok(Some((text, place))) => applier.take_found(text, Source::Image, place),
        _ => false,
    }
}

/// Returns when there is a config: from the API, or from a drive that appeared.
async fn wait_for_config(state: &State, applier: &Applier) {
    let mut tried = cidata::drives();
    while state.desired.config().is_none() {
        tokio::time::sleep(DRIVE_INTERVAL).await;
        // Each drive is tried once: a wrong config on it does not become right, and is reported once.
        let drives = cidata::drives();
        if drives != tried && state.desired.config().is_none() {
            take_found(state, applier).await;
        }
        tried = drives;
    }
}

/// Stores a config that came with the machine, as soon as STATE is there.
async fn keep(state: &State, applier: &Applier) {
    loop {
        let mut storage = state.storage.subscribe();
        let wait = storage.wait_for(|volumes| volumes.state == VolumeState::Mounted);
        let gone = wait.await.is_err();
        if gone || applier.keep().await.is_ok() {
            return;
        }
        tokio::time::sleep(KEEP_RETRY).await;
    }
}
