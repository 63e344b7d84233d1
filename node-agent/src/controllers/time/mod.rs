//! The clock: never before the day this program was built, then right by NTP: set once, slewed afterwards.

pub(crate) mod resolve;

use super::{Controller, Outcome, Want};
use crate::state::{Severity, State};
use anyhow::Context as _;
use ingot_linux::clock;
use rsntp::AsyncSntpClient;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

/// Port of NTP servers.
const PORT: u16 = 123;
/// How long one server may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// Servers asked in one round at most.
const SERVERS_MAX: usize = 4;
/// Between two rounds once the clock is right.
const INTERVAL: Duration = Duration::from_secs(1024);
/// Between two rounds before.
const RETRY: Duration = Duration::from_secs(16);
/// An offset above this is set at once, but only the first time or when it is far too large to slew.
const STEP_ABOVE: Duration = Duration::from_millis(500);
/// Offsets above this are set at once at any time: slewing them would take days.
const STEP_ALWAYS: Duration = Duration::from_secs(120);

/// The time controller.
pub(crate) struct Time {
    state: State,
    observed: tokio::sync::watch::Receiver<u64>,
    synchronized: bool,
    last: Option<(IpAddr, f64)>,
    asked: Option<Asked>,
}

/// When and with which servers known we asked last.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    /// Since boot.
    at: Duration,
    links_up: bool,
    dns: Vec<IpAddr>,
}

/// What is there.
#[derive(Debug)]
pub(crate) struct Have {
    servers: Vec<String>,
    due: bool,
    synchronized: bool,
    before_build: bool,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Step {
    /// The clock says a time before this program was built: at least that is over.
    Floor,
    /// Ask these servers and correct the clock.
    Ask(Vec<String>),
}

/// The clock is never before this: when this program was built, where the build says so.
fn floor() -> SystemTime {
    floor_of(option_env!("SOURCE_DATE_EPOCH"))
}

/// Reproducible builds say 1970.
fn floor_of(built_at: Option<&str>) -> SystemTime {
    let seconds = built_at.and_then(|text| text.parse().ok()).unwrap_or(0).max(FLOOR_SECONDS);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// 2026-01-01: no release of Ingot is older.
const FLOOR_SECONDS: u64 = 1_767_225_600;

/// Whether the machine was started, as its clock says, when the clock could not go further back: then it has no time of its own, and a
/// former agent may have set it to [`floor`].
fn is_lost(now: SystemTime, since_boot: Duration) -> bool {
    now.checked_sub(since_boot).is_none_or(|started| started < floor() + LOST_WITHIN)
}

/// How long after a start the clock is set to [`floor`] at the latest.
const LOST_WITHIN: Duration = Duration::from_secs(300);

impl Time {
    /// Publishes `state.observed.time_synchronized` and `clock_lost`.
    pub(crate) fn new(state: State) -> Self {
        let observed = state.observed.subscribe();
        let lost = is_lost(SystemTime::now(), clock::since_boot());
        state.observed.set(|seen| &mut seen.clock_lost, lost);
        Self { state, observed, synchronized: false, last: None, asked: None }
    }

    fn situation(&self) -> Asked {
        let seen = self.state.observed.snapshot();
        let links_up =
            seen.links.iter().any(|link| link.physical && link.up && !link.addresses.is_empty());
        Asked { at: clock::since_boot(), links_up, dns: seen.learned_dns }
    }

    async fn ask(&mut self, want: &Want, servers: Vec<String>) -> anyhow::Result<()> {
        let dns = want.config.as_ref().map(|c| c.config.machine.network.dns.clone());
        let seen = self.state.observed.snapshot();
        let dns = super::network::resolver::servers(&dns.unwrap_or_default(), &seen.learned_dns);
        let addresses = resolve::addresses(&servers, &dns).await;
        for address in addresses.into_iter().take(SERVERS_MAX) {
            match offset(address).await {
                Ok(offset) => return self.correct(address, offset),
                Err(error) => tracing::debug!("ntp {address}, trying the next: {error:#}"),
            }
        }
        Ok(())
    }

    fn correct(&mut self, server: IpAddr, offset: f64) -> anyhow::Result<()> {
        let size = Duration::try_from_secs_f64(offset.abs()).context("the offset is no number")?;
        let step = size > STEP_ALWAYS || (!self.synchronized && size > STEP_ABOVE);
        if step {
            let now = SystemTime::now();
            let right = if offset < 0.0 { now.checked_sub(size) } else { now.checked_add(size) };
            let right = right.filter(|right| *right >= floor());
            clock::set(right.context("the server's time is before this program was built")?)?;
            let message = format!("by {offset:.3} s, as {server} says");
            self.state.events.record(Severity::Info, "ClockSet", "node", message);
        } else {
            // At most STEP_ALWAYS, so it fits.
            let microseconds = i64::try_from(size.as_micros()).unwrap_or(0);
            clock::slew(if offset < 0.0 { -microseconds } else { microseconds })?;
        }
        self.synchronized = true;
        self.last = Some((server, offset));
        self.state.observed.set(|seen| &mut seen.time_synchronized, true);
        self.state.observed.set(|seen| &mut seen.clock_lost, false);
        Ok(())
    }
}

/// How far our clock is behind a server's, in seconds.
async fn offset(server: IpAddr) -> anyhow::Result<f64> {
    let client = AsyncSntpClient::with_config(rsntp::Config::default().timeout(ANSWER_DEADLINE));
    let result = client.synchronize(SocketAddr::new(server, PORT)).await?;
    anyhow::ensure!((1..=15).contains(&result.stratum()), "the server's own clock is not right");
    Ok(result.clock_offset().as_secs_f64())
}

impl Controller for Time {
    type Have = Have;
    type Step = Step;

    const NAME: &'static str = "time";

    async fn observe(&mut self, want: &Want) -> anyhow::Result<Have> {
        self.observed.borrow_and_update();
        let situation = self.situation();
        let due = situation.links_up
            && self.asked.as_ref().is_none_or(|asked| {
                let pause = if self.synchronized { INTERVAL } else { RETRY };
                let new = !self.synchronized
                    && (asked.links_up, &asked.dns) != (situation.links_up, &situation.dns);
                new || situation.at.saturating_sub(asked.at) >= pause
            });
        let time = want.config.as_ref().map(|c| c.config.machine.time.clone()).unwrap_or_default();
        let from_dhcp = self.state.observed.snapshot().learned_ntp;
        let servers = match (time.enabled, time.servers.is_empty()) {
            (false, _) => Vec::new(),
            (true, true) => from_dhcp.iter().map(ToString::to_string).collect(),
            (true, false) => time.servers,
        };
        let before_build = SystemTime::now() < floor();
        Ok(Have { servers, due, synchronized: self.synchronized, before_build })
    }

    fn plan(&self, _: &Want, have: &Have) -> Vec<Step> {
        let mut steps = Vec::new();
        if have.before_build {
            steps.push(Step::Floor);
        }
        if have.due && !have.servers.is_empty() {
            steps.push(Step::Ask(have.servers.clone()));
        }
        steps
    }

    async fn apply(&mut self, want: &Want, step: Step) -> anyhow::Result<()> {
        match step {
            Step::Floor => {
                clock::set(floor())?;
                // Whoever makes certificates must know that this is no time.
                self.state.observed.set(|seen| &mut seen.clock_lost, true);
                let message = "the hardware clock has no time; set time.servers in the config, or the clock of the machine";
                self.state.events.record(Severity::Warning, "ClockLost", "node", message);
                Ok(())
            }
            Step::Ask(servers) => {
                self.asked = Some(self.situation());
                self.ask(want, servers).await
            }
        }
    }

    fn outcome(&self, want: &Want, have: &Have) -> Outcome {
        let enabled = want.config.as_ref().is_none_or(|c| c.config.machine.time.enabled);
        match (&self.last, have.synchronized) {
            _ if !enabled => Outcome::Ok("left to the hardware clock".into()),
            (Some((server, offset)), true) => {
                Outcome::Ok(format!("{server}, {:.1} ms off", offset * 1000.0))
            }
            // A node without a way to a time server still runs; the API says that its time is not synchronized.
            _ if have.servers.is_empty() => Outcome::Ok("no time server is known".into()),
            _ => Outcome::Ok(format!("not synchronized yet, asking {}", have.servers.join(", "))),
        }
    }

    async fn woken(&mut self) {
        // Cancel safe. An error means that the program ends.
        let _ = self.observed.changed().await;
    }

    fn resync(&self) -> Option<Duration> {
        Some(if self.synchronized { INTERVAL } else { RETRY })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_build_says_that_a_clock_without_a_time_is_right() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for built_at in [None, Some("0"), Some("no number")] {
            assert_eq!(floor_of(built_at), at(FLOOR_SECONDS));
        }
        assert_eq!(floor_of(Some("1800000000")), at(1_800_000_000));
    }

    #[test]
    fn a_new_agent_knows_that_the_clock_had_no_time_at_the_start() {
        let since_boot = Duration::from_secs(3 * 60 * 60);
        // Set by the former agent two seconds after the start.
        let set = floor() + since_boot - Duration::from_secs(2);
        assert!(is_lost(set, since_boot));
        assert!(is_lost(SystemTime::UNIX_EPOCH + since_boot, since_boot));
        let right = floor() + Duration::from_secs(30 * 24 * 60 * 60) + since_boot;
        assert!(!is_lost(right, since_boot));
    }
}
