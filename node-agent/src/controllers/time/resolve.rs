//! Names of time servers to addresses. The static C library has no resolver, and the agent would not want its blocking one.

use hickory_resolver::Resolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use std::net::IpAddr;
use std::time::Duration;

/// How long one name may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Addresses taken for one name.
const ADDRESSES_MAX: usize = 2;

/// Addresses of these servers, in their order; names that cannot be resolved are left out.
pub(super) async fn addresses(names: &[String], dns: &[IpAddr]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for name in names {
        match name.parse::<IpAddr>() {
            Ok(address) => found.push(address),
            // Built for each use and dropped: asked every quarter of an hour, it is not worth its memory in between.
            Err(_) => match tokio::time::timeout(DEADLINE, lookup(name, dns)).await {
                Ok(Ok(addresses)) => found.extend(addresses),
                Ok(Err(error)) => tracing::debug!("{name} not resolved, ignoring: {error:#}"),
                Err(_) => tracing::debug!("{name} not resolved in 5 s, ignoring"),
            },
        }
    }
    found
}

async fn lookup(name: &str, dns: &[IpAddr]) -> anyhow::Result<Vec<IpAddr>> {
    anyhow::ensure!(!dns.is_empty(), "no name server is known");
    let servers = dns.iter().map(|server| NameServerConfig::udp_and_tcp(*server)).collect();
    let config = ResolverConfig::from_name_servers(servers);
    let resolver =
        Resolver::builder_with_config(config, TokioRuntimeProvider::default()).build()?;
    let answer = resolver.lookup_ip(name).await?;
    Ok(answer.iter().take(ADDRESSES_MAX).collect())
}
