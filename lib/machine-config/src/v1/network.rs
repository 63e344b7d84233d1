//! Section `network`: hostname, links, addresses, routes, name servers, and the addresses of pods.

use super::is_default;
use crate::format;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// Name, links, addresses, routes and name servers of the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// Name of the node. Without it the name comes from DHCP, and else from the machine's identity.
    #[schemars(with = "Option<format::Hostname>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Network links to set up. Without any, every physical link gets DHCPv4 and IPv6 router advertisements.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Static routes, besides those that DHCP and router advertisements bring.
    #[schemars(length(max = 1024))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name servers.
    #[serde(skip_serializing_if = "is_default")]
    pub dns: Dns,
    /// The built-in bridge for pods with an address of their own.
    #[serde(skip_serializing_if = "is_default")]
    pub pods: PodNetwork,
}

/// One network link, chosen by name or by MAC address. A MAC address survives kernel updates and moved cards; a name may not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Link {
    /// Name of the link, as the kernel gives it, like `enp1s0`. Give this or `mac`.
    #[schemars(with = "Option<format::LinkName>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// MAC address of the link, like `bc:24:11:02:a7:3e`. Give this or `name`.
    #[schemars(with = "Option<format::Mac>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// Ask a DHCPv4 server for an address. When not given: yes where `addresses` is empty, no otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp4: Option<bool>,
    /// Ask a DHCPv6 server for an address, name servers and time servers. Routes come from router advertisements in any
    /// case.
    #[schemars(extend("default" = false))]
    #[serde(skip_serializing_if = "is_default")]
    pub dhcp6: bool,
    /// Take IPv6 addresses, routes, name servers and search domains from router advertisements. When not given: yes where
    /// `addresses` holds no IPv6 address, no otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router_advertisements: Option<bool>,
    /// Static addresses with their prefix length, IPv4 or IPv6, like `192.168.1.20/24`.
    #[schemars(with = "Vec<format::Cidr>", length(max = 256))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// Largest packet in bytes. When not given, what the driver or DHCP says.
    #[schemars(range(min = 68, max = 65536))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Bring the link up. `false` keeps it down.
    #[schemars(extend("default" = true))]
    #[serde(skip_serializing_if = "is_true")]
    pub up: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            name: None,
            mac: None,
            dhcp4: None,
            dhcp6: false,
            router_advertisements: None,
            addresses: Vec::new(),
            mtu: None,
            up: true,
        }
    }
}

impl Link {
    /// Whether the link asks a DHCPv4 server, the default resolved.
    #[must_use]
    pub fn wants_dhcp4(&self) -> bool {
        self.up && self.dhcp4.unwrap_or(self.addresses.is_empty())
    }

    /// Whether the link asks a DHCPv6 server.
    #[must_use]
    pub fn wants_dhcp6(&self) -> bool {
        self.up && self.dhcp6
    }

    /// Whether the link listens to router advertisements, the default resolved.
    #[must_use]
    pub fn wants_router_advertisements(&self) -> bool {
        let has_v6 = self.addresses.iter().any(|address| matches!(address, IpNet::V6(_)));
        self.up && self.router_advertisements.unwrap_or(!has_v6)
    }
}

/// A static route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Where the route leads: a network like `10.1.0.0/16`, or `default`.
    pub to: Destination,
    /// Address of the next router. Give this, `dev`, or both.
    #[schemars(with = "Option<format::Ip>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// Name of the link to send through. When not given, the link that reaches `via`.
    #[schemars(with = "Option<format::LinkName>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// Priority of the route; the lowest wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

/// The end of a route: everything, or one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Every address of the family of the route's `via`; IPv4 when there is none.
    Default,
    /// One network. In a checked config its host bits are clear.
    Network(IpNet),
}

impl FromStr for Destination {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "default" => Ok(Self::Default),
            _ => text.parse().map(Self::Network),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Network(net) => net.fmt(f),
        }
    }
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Destination {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Destination".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "route-destination" })
    }
}

/// Name servers. Those given here are asked before those from DHCP and router advertisements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Dns {
    /// Addresses of name servers.
    #[schemars(with = "Vec<format::Ip>", length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
    /// Domains to try for names without a dot.
    #[schemars(with = "Vec<format::Hostname>", length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
}

/// The built-in bridge: pods that do not use the host's network get their addresses from here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodNetwork {
    /// IPv4 network of the pods on this node. The bridge takes its first address.
    #[schemars(with = "format::Cidr4")]
    pub ipv4_subnet: Ipv4Net,
    /// IPv6 network of the pods on this node. Without it pods have no IPv6.
    #[schemars(with = "Option<format::Cidr6>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_subnet: Option<Ipv6Net>,
}

impl Default for PodNetwork {
    fn default() -> Self {
        Self {
            ipv4_subnet: Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 24),
            ipv6_subnet: None,
        }
    }
}

/// A link's MAC address, six bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

/// The text is not six hexadecimal bytes with colons or dashes between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no MAC address")]
pub struct MacAddressError;

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or(MacAddressError)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacAddressError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacAddressError)?;
        }
        if parts.next().is_some() { Err(MacAddressError) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_true(value: &bool) -> bool {
    *value
}
