//! The node's own certificate: made and renewed with the config's CA key, or taken from the config, kept on STATE, and
//! handed to the API. It never writes the CA's key anywhere.

use super::{Controller, Outcome, Want};
use crate::durable::replace;
use crate::state::{ServerIdentity, Severity, State, VolumeState};
use anyhow::Context as _;
use ingot_machine_config::v1::api::Api;
use ingot_pki::{Ca, Certificate, Identity, SubjectName, Validity};
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where key and certificate are kept, in one file so that they always belong together.
const FOLDER: &str = "/state/ingot/pki";
/// Name of that file.
const FILE: &str = "node.pem";
/// Days a certificate lives.
const LIFETIME_DAYS: u32 = 365;
/// It is renewed when less than this is left.
const RENEW_BEFORE: Duration = Duration::from_secs(120 * 24 * 60 * 60);
/// Between two looks at the clock.
const INTERVAL: Duration = Duration::from_secs(600);

/// The certificate controller.
pub(crate) struct Pki {
    state: State,
    folder: PathBuf,
    current: Option<Current>,
    observed: tokio::sync::watch::Receiver<u64>,
    storage: tokio::sync::watch::Receiver<crate::state::storage::Volumes>,
}

/// The identity in use.
#[derive(Clone)]
struct Current {
    identity: Identity,
    names: BTreeSet<String>,
    ca: Certificate,
    not_after: SystemTime,
    from_config: bool,
    stored: bool,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Step {
    /// Take the certificate of the config.
    TakeFromConfig,
    /// Make a certificate for these names.
    Issue(BTreeSet<String>),
    /// Keep it on STATE.
    Store,
    /// Tell the API.
    Publish,
}

/// What is there.
#[derive(Debug)]
pub(crate) struct Have {
    facts: Option<Facts>,
    names: BTreeSet<String>,
    published: bool,
    state_mounted: bool,
    now: SystemTime,
}

/// What counts of a certificate when deciding whether it will do.
#[derive(Debug)]
struct Facts {
    names: BTreeSet<String>,
    signed_by_ca: bool,
    not_after: SystemTime,
    from_config: bool,
    same_as_config: bool,
    stored: bool,
}

impl Pki {
    /// Keeps the certificate on STATE.
    pub(crate) fn new(state: State) -> Self {
        let (observed, storage) = (state.observed.subscribe(), state.storage.subscribe());
        Self { state, folder: FOLDER.into(), current: None, observed, storage }
    }

    /// Names and addresses callers may know the node by.
    fn wanted_names(&self, want: &Want, api: &Api) -> BTreeSet<String> {
        let seen = self.state.observed.snapshot();
        let mut names: BTreeSet<String> = api.names.iter().cloned().collect();
        let from_config =
            want.config.as_ref().and_then(|c| c.config.machine.network.hostname.clone());
        // The config's name counts before the kernel has it, so that the first certificate holds it already.
        names.extend(from_config.or(Some(seen.hostname).filter(|name| !name.is_empty())));
        // Addresses that come and go by themselves would make a certificate each time; clients check the fixed name anyway.
        let links = seen.links.iter().filter(|link| link.physical);
        let leased =
            links.flat_map(|link| &link.addresses).filter(|(address, _)| address.is_ipv4());
        names.extend(leased.map(|(address, _)| address.to_string()));
        let fixed = want.config.iter().flat_map(|config| &config.config.machine.network.links);
        names.extend(fixed.flat_map(|link| &link.addresses).map(|net| net.addr().to_string()));
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        names
    }

    /// Reads what an earlier agent has kept, if it belongs to this CA.
    fn read(&self, authorities: &[Certificate]) -> Option<Current> {
        let text = fs::read_to_string(self.folder.join(FILE)).ok()?;
        let (names, pem) = text.split_once('\n')?;
        let names = names.strip_prefix("names: ")?.split(' ').map(str::to_owned).collect();
        let key_at = pem.find("-----BEGIN PRIVATE KEY-----")?;
        let (certificates, key) = pem.split_at(key_at);
        let identity = Identity::from_pem(certificates, key).ok()?;
        let ca_at = certificates.rfind("-----BEGIN CERTIFICATE-----")?;
        let ca = Certificate::from_pem(&certificates[ca_at..]).ok()?;
        let not_after = identity.certificate.info().ok()?.validity.not_after;
        authorities.contains(&ca).then_some(Current {
            identity,
            names,
            ca,
            not_after,
            from_config: false,
            stored: true,
        })
    }

    fn issue(&self, api: &Api, names: BTreeSet<String>) -> anyhow::Result<Current> {
        let authority = api.ca.as_ref().context("the config has no api.ca")?;
        let key = authority.key.as_ref().context("the config has no api.ca.key")?;
        let ca = Ca::from_pem(&authority.certificate, key.expose())?;
        let subjects: Vec<SubjectName> = names
            .iter()
            .map(|name| match name.parse::<IpAddr>() {
                Ok(address) => SubjectName::Ip(address),
                Err(_) => SubjectName::Dns(name.clone()),
            })
            .collect();
        let validity = Validity::starting(SystemTime::now(), Validity::days(LIFETIME_DAYS));
        let identity = ca.issue_server(ingot_pki::NODE_SERVER_NAME, &subjects, validity)?;
        Ok(Current {
            not_after: validity.not_after,
            ca: ca.certificate().clone(),
            identity,
            names,
            from_config: false,
            stored: false,
        })
    }

    fn store(&mut self) -> anyhow::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let mut text = format!("names: {}\n", Vec::from_iter(current.names.clone()).join(" "));
        text.push_str(&current.identity.certificate.to_pem());
        text.push_str(&current.ca.to_pem());
        text.push_str(&current.identity.key.to_pem());
        write_whole(&self.folder, FILE, text.as_bytes()).context("store the node's certificate")?;
        current.stored = true;
        Ok(())
    }

    fn publish(&self, api: &Api) -> anyhow::Result<()> {
        let Some(current) = &self.current else { return Ok(()) };
        let client_authorities = authorities(api)?;
        let chain = match (&api.certificate, current.from_config) {
            (Some(own), true) => certificates(&own.certificate)?.split_off(1),
            _ => Vec::new(),
        };
        let identity = current.identity.clone();
        self.state.identity.publish(ServerIdentity {
            identity,
            chain,
            client_authorities,
            maintenance: false,
        });
        Ok(())
    }
}

impl Controller for Pki {
    type Have = Have;
    type Step = Step;

    const NAME: &'static str = "pki";

    async fn observe(&mut self, want: &Want) -> anyhow::Result<Have> {
        let api = api(want)?;
        let authorities = authorities(api)?;
        let state_mounted = self.state.storage.get().state == VolumeState::Mounted;
        if self.current.is_none() && state_mounted {
            self.current = self.read(&authorities);
        }
        let own = api.certificate.as_ref();
        let facts = self.current.as_ref().map(|current| Facts {
            names: current.names.clone(),
            signed_by_ca: authorities.contains(&current.ca),
            not_after: current.not_after,
            from_config: current.from_config,
            same_as_config: own.is_some_and(|own| {
                Certificate::from_pem(&own.certificate).ok().as_ref()
                    == Some(&current.identity.certificate)
            }),
            stored: current.stored,
        });
        let published = self.current.as_ref().is_some_and(|current| {
            self.state.identity.current().is_some_and(|shown| {
                !shown.maintenance
                    && shown.identity.certificate == current.identity.certificate
                    && shown.client_authorities == authorities
            })
        });
        let names = self.wanted_names(want, api);
        Ok(Have { facts, names, published, state_mounted, now: SystemTime::now() })
    }

    fn plan(&self, want: &Want, have: &Have) -> Vec<Step> {
        api(want).map(|api| plan(api, have)).unwrap_or_default()
    }

    async fn apply(&mut self, want: &Want, step: Step) -> anyhow::Result<()> {
        let api = api(want)?;
        match step {
            Step::TakeFromConfig => {
                let own = api.certificate.as_ref().context("the config has no api.certificate")?;
                let identity = Identity::from_pem(&own.certificate, own.key.expose())?;
                let ca =
                    authorities(api)?.into_iter().next().context("the config has no api.ca")?;
                let not_after = identity.certificate.info()?.validity.not_after;
                let names = BTreeSet::new();
                let from_config = true;
                self.current =
                    Some(Current { identity, names, ca, not_after, from_config, stored: true });
            }
            Step::Issue(names) => {
                let current = self.issue(api, names)?;
                let fingerprint = current.identity.certificate.fingerprint();
                let message = format!("fingerprint {fingerprint}");
                self.state.events.record(Severity::Info, "CertificateIssued", "api", message);
                self.current = Some(current);
            }
            Step::Store => self.store()?,
            Step::Publish => self.publish(api)?,
        }
        Ok(())
    }

    fn outcome(&self, _: &Want, have: &Have) -> Outcome {
        match &have.facts {
            Some(facts) if facts.not_after < have.now => Outcome::Failed(
                "the node's certificate has expired; give api.ca.key or a new api.certificate"
                    .into(),
            ),
            Some(facts) if have.state_mounted && !facts.stored => {
                Outcome::Waiting("the node's certificate to be stored".into(), None)
            }
            Some(facts) => {
                let left = facts.not_after.duration_since(have.now).unwrap_or_default();
                let days = left.as_secs() / (24 * 60 * 60);
                Outcome::Ok(format!("the node's certificate is good for {days} days"))
            }
            None => Outcome::Failed(
                "there is no certificate: the config gives neither api.ca.key nor api.certificate"
                    .into(),
            ),
        }
    }

    async fn woken(&mut self) {
        // Both arms are cancel safe. An error means that the program ends.
        tokio::select! {
            _ = self.observed.changed() => {}
            _ = self.storage.changed() => {}
        }
    }

    fn resync(&self) -> Option<Duration> {
        Some(INTERVAL)
    }
}

/// What to do about the certificate.
fn plan(api: &Api, have: &Have) -> Vec<Step> {
    let mut steps = Vec::new();
    if api.certificate.is_some() {
        if !have.facts.as_ref().is_some_and(|facts| facts.from_config && facts.same_as_config) {
            steps.push(Step::TakeFromConfig);
        }
    } else if api.ca.as_ref().is_some_and(|ca| ca.key.is_some()) {
        let good = have.facts.as_ref().is_some_and(|facts| {
            !facts.from_config
                && facts.signed_by_ca
                && facts.not_after > have.now + RENEW_BEFORE
                && facts.names.is_superset(&have.names)
        });
        if !good {
            // Old names stay: a link that is down for a minute must not make a certificate each time.
            let mut names = have.names.clone();
            names.extend(have.facts.iter().flat_map(|facts| facts.names.clone()).take(32));
            steps.push(Step::Issue(names));
        }
    }
    let changed = !steps.is_empty();
    let usable = changed || have.facts.is_some();
    if usable && (changed || !have.published) {
        steps.push(Step::Publish);
    }
    // After publishing: the API does not wait for the disk, and an unstored certificate is merely made again.
    let stored = have.facts.as_ref().is_some_and(|facts| facts.stored) && !changed;
    if usable && have.state_mounted && !stored && api.certificate.is_none() {
        steps.push(Step::Store);
    }
    steps
}

fn api(want: &Want) -> anyhow::Result<&Api> {
    let config = want.config.as_ref().context("there is no config")?;
    Ok(&config.config.machine.api)
}

/// The authorities whose clients are let in.
fn authorities(api: &Api) -> anyhow::Result<Vec<Certificate>> {
    let ca = api.ca.as_ref().context("the config has no api.ca, so nobody can be let in")?;
    certificates(&ca.certificate)
}

/// Every certificate of a text.
fn certificates(pem: &str) -> anyhow::Result<Vec<Certificate>> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let blocks = pem.match_indices(BEGIN).map(|(at, _)| Certificate::from_pem(&pem[at..]));
    Ok(blocks.collect::<Result<_, _>>()?)
}

/// Keeps a file that only root may read.
fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    replace(&folder.join(name), bytes, 0o600, None)
}

#[cfg(test)]
mod tests;
