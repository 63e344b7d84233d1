//! The status screen on every console of the kernel: name, stage, addresses, what is waited for and for how long, and what
//! an operator needs to let the first config in. Lines, not a drawing: a serial log must stay readable. Written again only
//! when something changed, and never waits for a slow console.

use crate::pairing::Pairing;
use crate::state::{ConditionState, Stage, State};
use rustix::fs::{Mode, OFlags};
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, SystemTime};

/// The kernel's list of consoles.
const CONSOLES: &str = "/sys/class/tty/console/active";
/// Changes closer together than this share a screen.
const SETTLE: Duration = Duration::from_millis(300);
/// While something is waited for, the time it takes is shown anew this often.
const TICK: Duration = Duration::from_secs(30);
/// Conditions shown at most.
const CONDITIONS_MAX: usize = 12;

/// Shows the screen for ever.
pub(crate) async fn run(state: State, pairing: Pairing) {
    let mut observed = state.observed.subscribe();
    let mut wish = state.desired.subscribe();
    let mut shown = String::new();
    let mut shown_at = SystemTime::UNIX_EPOCH;
    loop {
        observed.borrow_and_update();
        wish.borrow_and_update();
        let now = SystemTime::now();
        let screen = screen(&state, &pairing);
        let waits = state.observed.conditions().iter().any(|c| c.state != ConditionState::Ok);
        let stale = waits && now.duration_since(shown_at).is_ok_and(|age| age >= TICK);
        if screen != shown || stale {
            let waits = waits_of(&state, now);
            write(&format!("\n{screen}{waits}"));
            shown = screen;
            shown_at = now;
        }
        // All arms are cancel safe.
        tokio::select! {
            _ = observed.changed() => {}
            _ = wish.changed() => {}
            () = tokio::time::sleep(TICK), if waits => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// Everything but the times, which change by themselves.
fn screen(state: &State, pairing: &Pairing) -> String {
    let seen = state.observed.snapshot();
    let stage = state.stage();
    let mut screen = String::new();
    let name = if seen.hostname.is_empty() { "(no name yet)" } else { &seen.hostname };
    // Writing to a String cannot fail.
    let _ = writeln!(screen, "ingot node: {name}");
    let _ = writeln!(screen, "stage: {}", stage.name());
    let port = state
        .desired
        .config()
        .map_or(ingot_machine_config::v1::api::DEFAULT_PORT, |c| c.config.machine.api.port);
    for link in seen.links.iter().filter(|link| link.physical && link.up) {
        for (address, _) in link.addresses.iter().filter(|(address, _)| is_reachable(address)) {
            let host = match address {
                std::net::IpAddr::V4(v4) => v4.to_string(),
                std::net::IpAddr::V6(v6) => format!("[{v6}]"),
            };
            let _ = writeln!(screen, "api: https://{host}:{port}");
        }
    }
    if !seen.fingerprint.is_empty() {
        let _ = writeln!(screen, "fingerprint: {}", seen.fingerprint);
    }
    if stage == Stage::Maintenance {
        let _ = writeln!(screen, "pairing code: {}", pairing.shown_code());
        let _ = writeln!(
            screen,
            "this node waits for its first config: ingotctl apply --pairing-code CODE -f FILE"
        );
    }
    for condition in not_ok(state) {
        let word = if condition.state == ConditionState::Failed { "failed" } else { "waiting" };
        let _ = writeln!(screen, "{word}: {}: {}", condition.name, condition.message);
    }
    screen
}

fn not_ok(state: &State) -> Vec<crate::state::Condition> {
    let mut conditions = state.observed.conditions();
    conditions.retain(|condition| condition.state != ConditionState::Ok);
    conditions.truncate(CONDITIONS_MAX);
    conditions
}

/// How long each wait has lasted.
fn waits_of(state: &State, now: SystemTime) -> String {
    let mut lines = String::new();
    for condition in not_ok(state) {
        let seconds = now.duration_since(condition.since).unwrap_or_default().as_secs();
        let left = condition.deadline.and_then(|deadline| deadline.duration_since(now).ok());
        let left = left.map(|left| format!(", {} s left", left.as_secs())).unwrap_or_default();
        let _ = writeln!(lines, "  {}: for {seconds} s{left}", condition.name);
    }
    lines
}

fn is_reachable(address: &std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        std::net::IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

/// Writes to every console without waiting; what a console does not take at once is lost.
fn write(screen: &str) {
    let text = screen.replace('\n', "\r\n");
    let active = fs::read_to_string(CONSOLES).unwrap_or_default();
    for name in active.split_whitespace() {
        // The names are the kernel's own.
        let path = format!("/dev/{name}");
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Ok(console) = rustix::fs::open(path, flags, Mode::empty()) else { continue };
        let mut rest = text.as_bytes();
        while let Ok(written) = rustix::io::write(&console, rest)
            && written > 0
        {
            rest = &rest[written..];
        }
    }
}
