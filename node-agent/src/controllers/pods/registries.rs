//! Section `registries` of the config in the words of the image store. It opens nothing.

use ingot_images::{Auth, Host, Mirror, Sources};
use ingot_machine_config::Secret;
use ingot_machine_config::v1::registries::{Registries, RegistryHost};

/// Where images come from by the config.
pub(super) fn sources(registries: &Registries) -> Sources {
    let mirrors = registries.mirrors.iter().map(|mirror| Mirror {
        prefix: mirror.registry.clone(),
        endpoints: mirror.endpoints.clone(),
        endpoints_only: mirror.endpoints_only,
    });
    Sources {
        mirrors: mirrors.collect(),
        hosts: registries.hosts.iter().map(host).collect(),
        proxy: exposed(registries.proxy.as_ref()),
        no_proxy: registries.no_proxy.clone(),
    }
}

fn host(host: &RegistryHost) -> Host {
    Host {
        host: host.host.clone(),
        ca_pem: host.ca.clone().unwrap_or_default(),
        skip_verify: host.insecure_skip_verify,
        auth: Auth {
            username: host.username.clone().unwrap_or_default(),
            password: exposed(host.password.as_ref()),
            identity_token: exposed(host.identity_token.as_ref()),
            ..Auth::default()
        },
    }
}

fn exposed(secret: Option<&Secret>) -> String {
    secret.map(|secret| secret.expose().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_the_config_says_arrives() {
        let text = include_str!("../../../../configs/machine/every-field.yaml");
        let config = ingot_machine_config::load(text).config.unwrap();
        let sources = sources(&config.machine.registries);
        let [docker, team] = &sources.mirrors[..] else { panic!("two mirrors") };
        assert_eq!((&docker.prefix[..], docker.endpoints.len()), ("docker.io", 2));
        assert!(docker.endpoints_only && !team.endpoints_only);
        let [mirror, registry] = &sources.hosts[..] else { panic!("two hosts") };
        assert!(mirror.ca_pem.contains("BEGIN CERTIFICATE") && !mirror.skip_verify);
        assert_eq!(mirror.auth.username, "node");
        assert_eq!(mirror.auth.password, "an example password");
        assert_eq!(registry.auth.identity_token, "an example token");
        assert!(registry.skip_verify);
        assert_eq!(sources.proxy, "http://node:example@proxy.example.org:3128");
        assert_eq!(sources.no_proxy.len(), 2);
    }
}
