//! Names of servers to addresses, for the clock and for the cluster.

use std::net::IpAddr;
use std::time::Duration;

/// How long one name may take, when the first name server is silent, too.
const DEADLINE: Duration = Duration::from_secs(10);
/// Addresses taken for one name.
const ADDRESSES_MAX: usize = 2;

/// Addresses of these servers, in their order; names that cannot be resolved are left out.
pub(crate) async fn addresses(names: &[String], dns: &[IpAddr]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for name in names {
        match name.parse::<IpAddr>() {
            Ok(address) => found.push(address),
            Err(_) => match tokio::time::timeout(DEADLINE, lookup(name, dns)).await {
                Ok(Ok(addresses)) => found.extend(addresses),
                Ok(Err(error)) => tracing::debug!("{name} not resolved, ignoring: {error:#}"),
                Err(_) => tracing::debug!("{name} not resolved in time, ignoring"),
            },
        }
    }
    found
}

async fn lookup(name: &str, dns: &[IpAddr]) -> anyhow::Result<Vec<IpAddr>> {
    anyhow::ensure!(!dns.is_empty(), "no name server is known");
    let mut found = ingot_names::addresses_by(dns, name).await?;
    found.truncate(ADDRESSES_MAX);
    Ok(found)
}
