//! What containers see as /etc/resolv.conf, /etc/hosts and /etc/hostname.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;

use super::{SandboxError, etc, shm};
use crate::config::{Dns, NamespaceMode, SandboxConfig};
use crate::context::Context;

/// Writes the three files, and makes the folder of /dev/shm. Small files on a tmpfs: quick.
pub(crate) fn write_etc(
    context: &Context,
    key: &str,
    config: &SandboxConfig,
    addresses: &[IpAddr],
) -> Result<(), SandboxError> {
    let folder = etc(context, key);
    // Processes that are not root pass through on their way to the files.
    make_folder(&folder, 0o755)?;
    make_folder(&shm(context, key), 0o1777)?;
    let node = context.paths().run.join("etc");
    let of_node = |name| std::fs::read_to_string(node.join(name)).unwrap_or_default();
    // Written in place, not by rename: containers have the very file mounted.
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text)
            .and_then(|()| match &config.namespaces.user {
                // Root of the pod may change its files, as without a user namespace.
                Some(user) => std::os::unix::fs::chown(
                    &path,
                    Some(user.uids.host_id),
                    Some(user.gids.host_id),
                ),
                None => Ok(()),
            })
            .map_err(|source| SandboxError::Prepare { path, source })
    };
    // A node without a resolver yet gives its pods an empty file.
    let resolver = config.dns.as_ref().map_or_else(|| of_node("resolv.conf"), resolver);
    write("resolv.conf", &resolver)?;
    if config.namespaces.network == NamespaceMode::Node && config.hostname.is_empty() {
        write("hosts", &(of_node("hosts") + &aliases(config)))?;
        return write("hostname", &of_node("hostname"));
    }
    write("hosts", &hosts(config, addresses))?;
    write("hostname", &format!("{}\n", config.hostname))
}

fn make_folder(path: &std::path::Path, mode: u32) -> Result<(), SandboxError> {
    let failed = |source| SandboxError::Prepare { path: path.to_owned(), source };
    match std::fs::create_dir(path) {
        Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(failed(source)),
        Ok(()) => {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)
        }
    }
}

fn hosts(config: &SandboxConfig, addresses: &[IpAddr]) -> String {
    let mut hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    for address in addresses {
        // Writing to a string cannot fail.
        let _ = writeln!(hosts, "{address} {}", config.hostname);
    }
    hosts + &aliases(config)
}

fn aliases(config: &SandboxConfig) -> String {
    let mut text = String::new();
    for (address, names) in &config.host_aliases {
        let _ = writeln!(text, "{address} {}", names.join(" "));
    }
    text
}

/// The text of a resolv.conf(5).
fn resolver(dns: &Dns) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        let _ = writeln!(text, "search {}", dns.searches.join(" "));
    }
    for server in &dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !dns.options.is_empty() {
        let _ = writeln!(text, "options {}", dns.options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_of_a_pod_is_written_as_the_kubelet_writes_it() {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let dns = Dns {
            servers: list(&["10.96.0.10", "fd00::10"]),
            searches: list(&["default.svc.cluster.local", "svc.cluster.local"]),
            options: list(&["ndots:5"]),
        };
        expect_test::expect![[r"
            search default.svc.cluster.local svc.cluster.local
            nameserver 10.96.0.10
            nameserver fd00::10
            options ndots:5
        "]]
        .assert_eq(&resolver(&dns));
    }

    #[test]
    fn hosts_name_the_pod_and_what_it_was_told() {
        let config = SandboxConfig {
            hostname: "web".to_owned(),
            host_aliases: vec![("192.0.2.1".to_owned(), vec!["a".to_owned(), "b.c".to_owned()])],
            ..SandboxConfig::default()
        };
        let text = hosts(&config, &["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
        assert!(text.ends_with("10.1.0.2 web\nfd00::2 web\n192.0.2.1 a b.c\n"), "{text}");
    }
}
