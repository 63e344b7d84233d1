//! Which places are asked for an image, and who may see which credentials.

use std::sync::Arc;

use base64::Engine as _;
use tokio::sync::Mutex;

use super::RegistryError;
use super::remote::{Credentials, Remote, bearer_header};
use crate::auth::Auth;
use crate::config::{Endpoint, Registry, StoreConfig};
use crate::http::{Client, Network, Trust, Url};
use crate::reference::Reference;

/// Docker's registry is not where its name says.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// Places for an image in the order they are asked: what a rule says, then the registry itself.
pub(super) fn remotes(
    config: &StoreConfig,
    reference: &Reference,
    auth: &Auth,
) -> Result<Vec<Remote>, RegistryError> {
    let rule = rule(&config.registries, reference);
    let host = reference.host();
    let home = if host == DOCKER.0 { DOCKER.1 } else { host };
    let home = Endpoint { url: format!("https://{home}"), ..Endpoint::default() };
    let home_url = Url::parse(&home.url)?;
    let mut endpoints: Vec<&Endpoint> = rule.iter().flat_map(|rule| &rule.endpoints).collect();
    let listed = endpoints.iter().any(|e| Url::parse(&e.url).is_ok_and(|u| is_home(&u, &home_url)));
    if !listed && !rule.is_some_and(|rule| rule.endpoints_only) {
        endpoints.push(&home);
    }
    let network = Network::new(config.ca_bundle.clone(), &config.proxy, config.no_proxy.clone())?;
    let network = Arc::new(network);
    let mut remotes = Vec::new();
    for endpoint in endpoints {
        let base = Url::parse(&endpoint.url)?;
        let own = is_home(&base, &home_url);
        let credentials = credentials(&base, own, auth, endpoint, rule);
        let before = base.path.split('?').next().unwrap_or_default().trim_matches('/');
        let before = before.strip_prefix("v2").unwrap_or(before).trim_matches('/');
        let repository = match before {
            "" => reference.repository().to_owned(),
            before => format!("{before}/{}", reference.repository()),
        };
        remotes.push(Remote {
            repository,
            mirrored: (!own).then(|| host.to_owned()),
            client: Client {
                network: network.clone(),
                trust: Trust::new(endpoint.ca_pem.clone(), endpoint.skip_verify),
                timeouts: config.timeouts.clone(),
            },
            authorization: Mutex::new(match &credentials.registry_token[..] {
                "" => None,
                token => bearer_header(token),
            }),
            credentials,
            base,
        });
    }
    Ok(remotes)
}

/// Host and port; a registry may be configured to be spoken to without TLS.
fn is_home(url: &Url, home: &Url) -> bool {
    let port = |url: &Url| if matches!(url.port, 80 | 443) { 0 } else { url.port };
    url.host == home.host && port(url) == port(home)
}

/// The rule with the longest prefix that ends where a part of the name ends.
fn rule<'a>(rules: &'a [Registry], reference: &Reference) -> Option<&'a Registry> {
    let name = reference.name();
    let fits = |rule: &&Registry| {
        rule.prefix == "*"
            || name
                .strip_prefix(&rule.prefix[..])
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let length = |rule: &&Registry| if rule.prefix == "*" { 0 } else { rule.prefix.len() };
    rules.iter().filter(fits).max_by_key(length)
}

/// The caller's are for the registry the image is named after, or the one they name themselves. A mirror sees its own.
fn credentials(
    base: &Url,
    own: bool,
    auth: &Auth,
    endpoint: &Endpoint,
    rule: Option<&Registry>,
) -> Credentials {
    let meant =
        if auth.server_address.is_empty() { own } else { is_for(&auth.server_address, base) };
    let candidates =
        [meant.then_some(auth), Some(&endpoint.auth), rule.filter(|_| own).map(|rule| &rule.auth)];
    let chosen = candidates.into_iter().flatten().find(|auth| !auth.is_empty());
    chosen.map(read).unwrap_or_default()
}

/// A host as configuration files of other tools write it: with or without scheme and path.
fn is_for(server: &str, base: &Url) -> bool {
    let host = server.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let host = match &host[..] {
        "index.docker.io" | "docker.io" => DOCKER.1,
        host => host,
    };
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
