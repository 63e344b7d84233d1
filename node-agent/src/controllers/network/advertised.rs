//! Name servers and search domains that routers advertise (RFC 8106): what of it is still to be believed. Kept on tmpfs, since
//! a new agent would wait minutes for the next advertisement. Whether a link may be believed is for the reader to decide.

use crate::report;
use ingot_linux::clock;
use ingot_linux::nd_options::{Advertised, NdOptions, Said};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Where it is kept while the machine runs.
const FILE: &str = "/run/ingot/advertised.json";
/// Servers and domains kept at most: anybody on a link can advertise some.
const ENTRIES_MAX: usize = 32;
/// Believed no longer than this, whatever is said.
const LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Pause after the socket failed.
const RETRY: Duration = Duration::from_secs(10);
/// Messages read in a row before others get their turn.
const BURST: usize = 64;

/// A server or a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entry {
    Server(Ipv6Addr),
    Domain(String),
}

/// An entry with the index of its link, and until when it holds, since boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Believed {
    link: u32,
    until: Duration,
    entry: Entry,
}

/// What is believed, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heard(Vec<Believed>);

impl Heard {
    /// Servers and domains of the links `believed`.
    pub(crate) fn of(&self, believed: impl Fn(u32) -> bool) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(move |it| believed(it.link)).map(|it| &it.entry)
    }

    /// Takes what was said; whether anything is new, or gone.
    fn hear(&mut self, advertised: Advertised, now: Duration) -> bool {
        let before = self.0.len();
        let lifetime = advertised.lifetime.min(LIFETIME_MAX);
        let entries: Vec<Entry> = match advertised.said {
            Said::Servers(list) => {
                // Of use only with the name of the link, which pods do not have.
                let usable = list.into_iter().filter(|it| !it.is_unicast_link_local());
                usable.map(Entry::Server).collect()
            }
            Said::Domains(list) => list.into_iter().map(Entry::Domain).collect(),
        };
        let (link, until) = (advertised.link, now + lifetime);
        let mut new = false;
        for entry in entries {
            let full = self.0.len() >= ENTRIES_MAX;
            let known = self.0.iter_mut().find(|it| it.link == link && it.entry == entry);
            match known {
                Some(known) => known.until = until,
                None if full || lifetime.is_zero() => {}
                None => {
                    self.0.push(Believed { link, until, entry });
                    new = true;
                }
            }
        }
        self.forget(now);
        new || self.0.len() != before
    }

    /// Drops what is over; whether there was any.
    fn forget(&mut self, now: Duration) -> bool {
        let before = self.0.len();
        self.0.retain(|it| it.until > now);
        self.0.len() != before
    }

    /// When the next one is over, since boot.
    fn next_end(&self) -> Option<Duration> {
        self.0.iter().map(|it| it.until).min()
    }
}

/// Listens for as long as the program runs.
pub(crate) fn listen() -> watch::Receiver<Heard> {
    let mut heard: Heard =
        fs::read(FILE).ok().and_then(|it| serde_json::from_slice(&it).ok()).unwrap_or_default();
    heard.forget(clock::since_boot());
    let sender = watch::Sender::new(heard);
    let receiver = sender.subscribe();
    tokio::spawn(async move {
        loop {
            let Err(error) = follow(&sender).await;
            tracing::debug!("router advertisements, retrying: {error}");
            tokio::time::sleep(RETRY).await;
        }
    });
    receiver
}

async fn follow(heard: &watch::Sender<Heard>) -> io::Result<std::convert::Infallible> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe because a type may change its descriptor; this one does not, and this crate has no unsafe code"
    )]
    let socket = AsyncFd::with_interest(NdOptions::open()?, tokio::io::Interest::READABLE)?;
    loop {
        let end = heard.borrow().next_end();
        let over = async {
            match end {
                Some(at) => tokio::time::sleep(at.saturating_sub(clock::since_boot())).await,
                None => std::future::pending().await,
            }
        };
        // Both arms are cancel safe.
        tokio::select! {
            ready = socket.readable() => {
                let mut ready = ready?;
                for _ in 0..BURST {
                    match ready.try_io(|socket| socket.get_ref().take()) {
                        Ok(Ok(Some(said))) => take(heard, said),
                        Ok(Ok(None)) => {}
                        Ok(Err(error)) => return Err(error),
                        Err(_would_block) => break,
                    }
                }
            }
            () = over => {
                heard.send_if_modified(|heard| heard.forget(clock::since_boot()));
                store(&heard.borrow());
            }
        }
    }
}

fn take(heard: &watch::Sender<Heard>, said: Advertised) {
    heard.send_if_modified(|heard| heard.hear(said, clock::since_boot()));
    store(&heard.borrow());
}

/// Losing this file costs the wait for the next advertisement.
fn store(heard: &Heard) {
    let write = || -> io::Result<()> {
        let new = format!("{FILE}.new");
        fs::write(&new, serde_json::to_vec(heard).map_err(io::Error::other)?)?;
        fs::rename(new, FILE)
    };
    if let Err(error) = write() {
        tracing::debug!("advertisements not kept, ignoring: {}", report::chain(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);

    fn servers(link: u32, seconds: u64, list: &[Ipv6Addr]) -> Advertised {
        let lifetime = Duration::from_secs(seconds);
        Advertised { link, lifetime, said: Said::Servers(list.to_vec()) }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn servers_hold_until_their_lifetime_is_over_and_are_renewed() {
        let mut heard = Heard::default();
        let local = "fe80::1".parse().unwrap();
        assert!(heard.hear(servers(2, 600, &[SERVER, local]), at(0)));
        assert_eq!(heard.of(|link| link == 2).collect::<Vec<_>>(), [&Entry::Server(SERVER)]);
        assert_eq!(heard.of(|link| link == 3).count(), 0, "another link was not asked");
        assert!(!heard.hear(servers(2, 600, &[SERVER]), at(500)), "nothing is new");
        assert!(!heard.forget(at(1099)));
        assert!(heard.forget(at(1100)));
        assert_eq!(heard, Heard::default());
    }

    #[test]
    fn a_lifetime_of_zero_takes_a_server_back() {
        let mut heard = Heard::default();
        heard.hear(servers(2, 600, &[SERVER]), at(0));
        assert!(heard.hear(servers(2, 0, &[SERVER]), at(1)));
        assert_eq!(heard, Heard::default());
    }

    #[test]
    fn a_neighbour_that_advertises_very_many_fills_nothing() {
        let mut heard = Heard::default();
        for number in 0..1000 {
            let server = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, number);
            heard.hear(servers(2, 600, &[server]), at(0));
        }
        assert_eq!(heard.0.len(), ENTRIES_MAX);
    }
}
