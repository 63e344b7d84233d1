//! From the name of a host to addresses, by name servers in their order. The C library of our static programs has no resolver. It
//! remembers nothing: who asks does so rarely, and name servers change.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
pub use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;

/// Patience with a name server that is not the last one.
const PATIENCE: Duration = Duration::from_secs(2);

/// Addresses of a host, by `/etc/resolv.conf` and `/etc/hosts`.
///
/// # Errors
/// When a file cannot be read, the name has no address, or no name server answers.
pub async fn addresses(host: &str) -> Result<Vec<IpAddr>, NetError> {
    let (config, options) = read_system_conf()?;
    ask(&config, &options, host).await
}

/// Addresses of a host, by these name servers and `/etc/hosts`.
///
/// # Errors
/// When there is no name server, none of them answers, or the name has no address.
pub async fn addresses_by(servers: &[IpAddr], host: &str) -> Result<Vec<IpAddr>, NetError> {
    let servers = servers.iter().map(|server| NameServerConfig::udp_and_tcp(*server)).collect();
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    ask(&config, &ResolverOpts::default(), host).await
}

/// One server after the other, as the C library does: the next one is asked when one does not answer, not when it says that there
/// is no such name. Asked side by side, as the resolver would, a server of the internet that has never heard of a private name
/// would often be the first to say so.
async fn ask(
    config: &ResolverConfig,
    options: &ResolverOpts,
    host: &str,
) -> Result<Vec<IpAddr>, NetError> {
    let mut last = NetError::NoConnections;
    let servers = config.name_servers();
    for (number, server) in servers.iter().enumerate() {
        let (domain, search) = (config.domain().cloned(), config.search().to_vec());
        let config = ResolverConfig::from_parts(domain, search, vec![server.clone()]);
        let mut options = options.clone();
        if number + 1 < servers.len() {
            options.timeout = options.timeout.min(PATIENCE);
            options.attempts = 1;
        }
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        match builder.with_options(options).build()?.lookup_ip(host).await {
            Ok(found) => return Ok(found.iter().collect()),
            Err(error) if error.is_no_records_found() => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_resolver::config::ConnectionConfig;
    use tokio::net::UdpSocket;

    use super::*;

    /// What a name server says.
    #[derive(Clone, Copy)]
    enum Says {
        /// This address, after a while.
        Address(Ipv4Addr, Duration),
        /// This code of an error.
        Error(u8),
        Nothing,
    }

    /// A name server, and how it is reached.
    async fn server(says: Says) -> NameServerConfig {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut question).await {
                let end = 12 + question[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
                let mut answer = question[..end].to_vec();
                answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
                match says {
                    Says::Nothing => continue,
                    Says::Error(code) => answer[3] |= code,
                    // Questions for IPv6 addresses have type 28.
                    Says::Address(address, after) if question[end - 3] == 1 => {
                        tokio::time::sleep(after).await;
                        answer[7] = 1;
                        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
                        answer.extend(address.octets());
                    }
                    Says::Address(..) => {}
                }
                socket.send_to(&answer, client).await.unwrap();
            }
        });
        NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection])
    }

    async fn told_by(servers: [Says; 2]) -> Result<Vec<IpAddr>, NetError> {
        let [first, second] = servers;
        let servers = vec![server(first).await, server(second).await];
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        ask(&config, &ResolverOpts::default(), "registry.lan.example.").await
    }

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const NO_SUCH_NAME: Says = Says::Error(3);
    const BROKEN: Says = Says::Error(2);

    #[tokio::test]
    async fn a_name_that_the_first_server_knows_is_found_whatever_the_second_one_says() {
        let slow = Says::Address(ADDRESS, Duration::from_millis(100));
        assert_eq!(told_by([slow, NO_SUCH_NAME]).await.unwrap(), [IpAddr::from(ADDRESS)]);
    }

    #[tokio::test]
    async fn the_second_server_is_asked_when_the_first_is_silent_or_broken() {
        let knows = Says::Address(ADDRESS, Duration::ZERO);
        for first in [Says::Nothing, BROKEN] {
            assert_eq!(told_by([first, knows]).await.unwrap(), [IpAddr::from(ADDRESS)]);
        }
    }

    #[tokio::test]
    async fn a_name_that_the_first_server_denies_is_not_looked_for_elsewhere() {
        let knows = Says::Address(ADDRESS, Duration::ZERO);
        assert!(told_by([NO_SUCH_NAME, knows]).await.unwrap_err().is_nx_domain());
    }
}
