//! Which places are asked for an image, and who may see which credentials.

use std::sync::Arc;

use base64::Engine as _;
use tokio::sync::Mutex;

use super::RegistryError;
use super::remote::{Credentials, Remote, bearer_header};
use crate::auth::Auth;
use crate::config::{Host, Mirror, Sources, StoreConfig};
use crate::http::{Client, Network, Trust, Url};
use crate::reference::Reference;

/// Docker's registry is not where its name says.
const DOCKER: &str = "registry-1.docker.io";

/// Places for an image in the order they are asked: mirrors, then the registry itself.
pub(super) fn remotes(
    config: &StoreConfig,
    sources: &Sources,
    reference: &Reference,
    auth: &Auth,
) -> Result<Vec<Remote>, RegistryError> {
    let rule = rule(&sources.mirrors, reference);
    let home = Url::parse(&format!("https://{}", real(reference.host())))?;
    let endpoints = rule.iter().flat_map(|rule| &rule.endpoints);
    let mut places = endpoints.map(|url| Url::parse(url)).collect::<Result<Vec<_>, _>>()?;
    let listed = places.iter().any(|place| is_home(place, &home));
    if !listed && !rule.is_some_and(|rule| rule.endpoints_only) {
        places.push(home.clone());
    }
    let ca_bundle = config.ca_bundle.clone();
    let network = Arc::new(Network::new(ca_bundle, &sources.proxy, sources.no_proxy.clone())?);
    let remote = |base: Url| {
        let own = is_home(&base, &home);
        let host = sources.hosts.iter().find(|host| is_for(&host.host, &base));
        let credentials = credentials(&base, own, auth, host);
        let before = base.path.split('?').next().unwrap_or_default().trim_matches('/');
        let before = before.strip_prefix("v2").unwrap_or(before).trim_matches('/');
        let repository = match before {
            "" => reference.repository().to_owned(),
            before => format!("{before}/{}", reference.repository()),
        };
        Remote {
            repository,
            mirrored: (!own).then(|| reference.host().to_owned()),
            client: Client {
                network: network.clone(),
                trust: Trust::new(
                    host.map(|host| host.ca_pem.clone()).unwrap_or_default(),
                    host.is_some_and(|host| host.skip_verify),
                ),
                timeouts: config.timeouts.clone(),
            },
            authorization: Mutex::new(match &credentials.registry_token[..] {
                "" => None,
                token => bearer_header(token),
            }),
            credentials,
            base,
        }
    };
    Ok(places.into_iter().map(remote).collect())
}

/// Where a registry really is.
fn real(host: &str) -> &str {
    if matches!(host, "docker.io" | "index.docker.io") { DOCKER } else { host }
}

/// Host and port; a registry may be configured to be spoken to without TLS.
fn is_home(url: &Url, home: &Url) -> bool {
    let port = |url: &Url| if matches!(url.port, 80 | 443) { 0 } else { url.port };
    url.host == home.host && port(url) == port(home)
}

/// The rule with the longest prefix that ends where a part of the name ends.
fn rule<'a>(rules: &'a [Mirror], reference: &Reference) -> Option<&'a Mirror> {
    let name = reference.name();
    let fits = |rule: &&Mirror| {
        rule.prefix == "*"
            || name
                .strip_prefix(&rule.prefix[..])
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let length = |rule: &&Mirror| if rule.prefix == "*" { 0 } else { rule.prefix.len() };
    rules.iter().filter(fits).max_by_key(length)
}

/// The caller's are for the registry the image is named after, or the one they name themselves; never for a mirror
/// with another name.
fn credentials(base: &Url, own: bool, auth: &Auth, host: Option<&Host>) -> Credentials {
    let meant =
        if auth.server_address.is_empty() { own } else { is_for(&auth.server_address, base) };
    let candidates = [meant.then_some(auth), host.map(|host| &host.auth)];
    let chosen = candidates.into_iter().flatten().find(|auth| !auth.is_empty());
    chosen.map(read).unwrap_or_default()
}

/// A host as configuration files of other tools write it: with or without scheme and path.
fn is_for(server: &str, base: &Url) -> bool {
    let host = server.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let host = real(&host);
    host == base.authority() || host == format!("{}:{}", base.host, base.port)
}

fn read(auth: &Auth) -> Credentials {
    let mut read = Credentials {
        username: auth.username.clone(),
        password: auth.password.clone(),
        identity_token: auth.identity_token.clone(),
        registry_token: auth.registry_token.clone(),
    };
    if read.username.is_empty()
        && let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(auth.auth.trim())
        && let Ok(text) = String::from_utf8(bytes)
        && let Some((username, password)) = text.split_once(':')
    {
        read.username = username.to_owned();
        // Some tools write the NULs of a fixed length.
        read.password = password.trim_end_matches('\0').to_owned();
    }
    read
}

#[cfg(test)]
mod tests;
