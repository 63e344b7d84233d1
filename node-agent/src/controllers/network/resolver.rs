//! The files programs read to find name servers and hosts: `/etc/resolv.conf`, `/etc/hosts` and `/etc/hostname` are links
//! into `/run/ingot/etc`, which this controller owns.

use crate::controllers::{Controller, Outcome, Want};
use crate::state::State;
use ingot_machine_config::v1::network::Dns;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Where the files are.
const FOLDER: &str = "/run/ingot/etc";
/// Name servers a resolver reads at most (`MAXNS`).
const SERVERS_MAX: usize = 3;
/// Search domains a resolver reads at most.
const SEARCH_MAX: usize = 6;

/// The controller of these files.
pub(crate) struct Resolver {
    state: State,
    folder: PathBuf,
    observed: tokio::sync::watch::Receiver<u64>,
}

impl Resolver {
    /// Writes below `/run/ingot`.
    pub(crate) fn new(state: State) -> Self {
        let observed = state.observed.subscribe();
        Self { state, folder: FOLDER.into(), observed }
    }
}

/// Files with their content.
type Files = BTreeMap<&'static str, String>;

/// What is there, and what should be.
#[derive(Debug)]
pub(crate) struct Have {
    wanted: Files,
    found: Files,
}

impl Controller for Resolver {
    type Have = Have;
    type Step = (&'static str, String);

    const NAME: &'static str = "resolver";
    const WITHOUT_CONFIG: bool = true;

    async fn observe(&mut self, want: &Want) -> anyhow::Result<Have> {
        self.observed.borrow_and_update();
        let seen = self.state.observed.snapshot();
        let dns = want.config.as_ref().map(|c| c.config.machine.network.dns.clone());
        let dns = dns.unwrap_or_default();
        let wanted = files(&dns, &seen.learned_dns, &seen.learned_search, &seen.hostname);
        let read =
            |name: &&'static str| Some((*name, fs::read_to_string(self.folder.join(name)).ok()?));
        let found = wanted.keys().filter_map(read).collect();
        Ok(Have { wanted, found })
    }

    fn plan(&self, _: &Want, have: &Have) -> Vec<Self::Step> {
        let differs =
            |(name, text): &(&&'static str, &String)| have.found.get(**name) != Some(text);
        have.wanted.iter().filter(differs).map(|(name, text)| (*name, text.clone())).collect()
    }

    async fn apply(&mut self, _: &Want, (name, text): Self::Step) -> anyhow::Result<()> {
        Ok(write(&self.folder, name, &text)?)
    }

    fn outcome(&self, _: &Want, have: &Have) -> Outcome {
        let conf = have.wanted.get("resolv.conf").map(String::as_str).unwrap_or_default();
        let servers: Vec<&str> =
            conf.lines().filter_map(|line| line.strip_prefix("nameserver ")).collect();
        Outcome::Ok(if servers.is_empty() {
            "no name servers are known".into()
        } else {
            format!("name servers {}", servers.join(", "))
        })
    }

    async fn woken(&mut self) {
        // Cancel safe. An error means that the program ends.
        let _ = self.observed.changed().await;
    }
}

/// On tmpfs, so nothing is synced; the rename is for readers.
fn write(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".{name}.new"));
    fs::write(&temporary, text)?;
    fs::rename(temporary, folder.join(name))
}

/// Name servers in the order they are asked.
pub(crate) fn servers(dns: &Dns, from_dhcp: &[IpAddr]) -> Vec<IpAddr> {
    let mut servers: Vec<IpAddr> = Vec::new();
    for server in dns.servers.iter().chain(from_dhcp) {
        if !servers.contains(server) && servers.len() < SERVERS_MAX {
            servers.push(*server);
        }
    }
    servers
}

fn files(dns: &Dns, from_dhcp: &[IpAddr], search: &[String], hostname: &str) -> Files {
    let mut conf = String::new();
    let mut domains: Vec<&str> = Vec::new();
    for domain in dns.search.iter().chain(search) {
        if !domains.contains(&domain.as_str()) && domains.len() < SEARCH_MAX {
            domains.push(domain);
        }
    }
    if !domains.is_empty() {
        conf.push_str(&format!("search {}\n", domains.join(" ")));
    }
    for server in servers(dns, from_dhcp) {
        conf.push_str(&format!("nameserver {server}\n"));
    }
    let name = if hostname.is_empty() { "localhost" } else { hostname };
    let mut hosts = String::from("127.0.0.1 localhost\n::1 localhost\n");
    if name != "localhost" {
        let short = name.split('.').next().unwrap_or(name);
        let names = if short == name { name.to_owned() } else { format!("{name} {short}") };
        // As Debian does it: the own name resolves even without a network.
        hosts.push_str(&format!("127.0.1.1 {names}\n"));
    }
    Files::from([("resolv.conf", conf), ("hosts", hosts), ("hostname", format!("{name}\n"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_the_config_come_first_and_are_few() {
        let dns = Dns {
            servers: vec![[1, 1, 1, 1].into(), [9, 9, 9, 9].into()],
            search: vec!["a.example".into()],
        };
        let dhcp = [[9, 9, 9, 9].into(), [10, 0, 2, 3].into(), [10, 0, 2, 4].into()];
        let files = files(&dns, &dhcp, &["a.example".into(), "b.example".into()], "n1.example");
        assert_eq!(
            files["resolv.conf"],
            "search a.example b.example\nnameserver 1.1.1.1\nnameserver 9.9.9.9\nnameserver 10.0.2.3\n"
        );
        assert!(files["hosts"].ends_with("127.0.1.1 n1.example n1\n"));
        assert_eq!(files["hostname"], "n1.example\n");
    }
}
