//! Names to addresses. Our programs are static, so the C library's resolver is not there; /etc/hosts and
//! /etc/resolv.conf are read all the same.

use super::{Endpoint, Error};
use std::net::SocketAddr;

/// Addresses tried for one name; more would only lengthen the wait.
const ADDRESSES_MAX: usize = 4;

/// The addresses of an endpoint, at least one.
pub(super) async fn addresses(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Error> {
    if let Some(ip) = endpoint.ip() {
        return Ok(vec![SocketAddr::new(ip, endpoint.port)]);
    }
    let failed = |source| Error::Resolve { host: endpoint.host.clone(), source };
    let found =
        ingot_names::addresses(&endpoint.host).await.map_err(|error| failed(Box::new(error)))?;
    let addresses: Vec<SocketAddr> = found
        .into_iter()
        .map(|ip| SocketAddr::new(ip, endpoint.port))
        .take(ADDRESSES_MAX)
        .collect();
    if addresses.is_empty() {
        return Err(failed("the name has no addresses".into()));
    }
    Ok(addresses)
}
