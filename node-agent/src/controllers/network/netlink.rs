//! Links, addresses and routes of the kernel as plain values; the only file that speaks netlink.

use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, MulticastGroup, RouteMessageBuilder};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Notify;

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Vec<u8>,
    pub(crate) up: bool,
    pub(crate) carrier: bool,
    pub(crate) mtu: u32,
    /// It is a device, not something the kernel made up.
    pub(crate) physical: bool,
}

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) index: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// Set by somebody, not by router advertisements.
    pub(crate) permanent: bool,
}

/// Who a route is from. Others than these are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// The config.
    Static,
    /// A DHCP server.
    Dhcp,
    /// The cluster: the way to pods of other nodes.
    Cluster,
}

/// What the kernel notes of routes of the cluster, so that they are known again. A number that nobody else uses.
const CLUSTER: RouteProtocol = RouteProtocol::Other(73);

/// A route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) to: IpAddr,
    pub(crate) prefix: u8,
    pub(crate) via: Option<IpAddr>,
    pub(crate) index: u32,
    pub(crate) metric: u32,
    pub(crate) origin: Origin,
}

/// The kernel's picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) links: Vec<Link>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
}

/// A connection to the kernel.
pub(crate) struct Netlink {
    handle: Handle,
    changed: Arc<Notify>,
}

/// Kinds of route whose kernel metric is 0 when none is given; IPv6 has 1024.
const IPV6_METRIC: u32 = 1024;

impl Netlink {
    /// Connects and listens to changes.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub(crate) fn connect() -> std::io::Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&groups)?;
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        tokio::spawn(connection);
        // Drained at once, so its queue stays short; many changes wake once.
        tokio::spawn(async move {
            while messages.next().await.is_some() {
                notify.notify_one();
            }
        });
        Ok(Self { handle, changed })
    }

    /// Something changed since the last call. Cancel safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Reads everything.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn look(&self) -> Result<Kernel, rtnetlink::Error> {
        let mut kernel = Kernel::default();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links.try_next().await? {
            kernel.links.push(link(&message));
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await? {
            kernel.addresses.extend(address(&message));
        }
        for request in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let mut routes = self.handle.route().get(request).execute();
            while let Some(message) = routes.try_next().await? {
                kernel.routes.extend(route(&message));
            }
        }
        Ok(kernel)
    }

    /// Brings a link up or down.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn set_up(&self, index: u32, up: bool) -> Result<(), rtnetlink::Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::default().index(index);
        let message = if up { message.up() } else { message.down() };
        self.handle.link().change(message.build()).execute().await
    }

    /// Sets the largest packet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), rtnetlink::Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::default().index(index).mtu(mtu).build();
        self.handle.link().change(message).execute().await
    }

    /// Adds an address; one that is there already is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn add_address(&self, add: Address) -> Result<(), rtnetlink::Error> {
        let request = self.handle.address().add(add.index, add.address, add.prefix);
        request.replace().execute().await
    }

    /// Removes an address.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn remove_address(&self, remove: Address) -> Result<(), rtnetlink::Error> {
        let mut addresses =
            self.handle.address().get().set_link_index_filter(remove.index).execute();
        while let Some(message) = addresses.try_next().await? {
            if address(&message) == Some(remove) {
                return self.handle.address().del(message).execute().await;
            }
        }
        Ok(())
    }

    /// Adds a route; one that is there already is replaced.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn add_route(&self, route: Route) -> Result<(), rtnetlink::Error> {
        self.handle.route().add(message(route)).replace().execute().await
    }

    /// Removes a route.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn remove_route(&self, route: Route) -> Result<(), rtnetlink::Error> {
        self.handle.route().del(message(route)).execute().await
    }
}

fn link(message: &rtnetlink::packet_route::link::LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    link.physical = Path::new("/sys/class/net").join(&link.name).join("device").exists();
    link
}

fn address(message: &rtnetlink::packet_route::address::AddressMessage) -> Option<Address> {
    let find = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    Some(Address {
        index: message.header.index,
        address: find(true).or_else(|| find(false))?,
        prefix: message.header.prefix_len,
        permanent: message.header.flags.contains(AddressHeaderFlags::Permanent),
    })
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let origin = match header.protocol {
        RouteProtocol::Static => Origin::Static,
        RouteProtocol::Dhcp => Origin::Dhcp,
        CLUSTER => Origin::Cluster,
        _ => return None,
    };
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let is_v6 = u8::from(header.address_family) == 10;
    let unspecified =
        if is_v6 { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    let mut route = Route {
        to: unspecified,
        prefix: header.destination_prefix_length,
        via: None,
        index: 0,
        metric: 0,
        origin,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => route.to = plain(address)?,
            RouteAttribute::Gateway(address) => route.via = Some(plain(address)?),
            RouteAttribute::Oif(index) => route.index = *index,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    Some(route)
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn message(route: Route) -> RouteMessage {
    let protocol = match route.origin {
        Origin::Static => RouteProtocol::Static,
        Origin::Dhcp => RouteProtocol::Dhcp,
        Origin::Cluster => CLUSTER,
    };
    match (route.to, route.via) {
        (IpAddr::V4(to), via) => {
            let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
                .protocol(protocol)
                .output_interface(route.index)
                .priority(route.metric);
            if route.prefix > 0 {
                builder = builder.destination_prefix(to, route.prefix);
            }
            match via {
                // The router of a DHCP server may lie outside the leased network.
                Some(IpAddr::V4(via)) => builder.gateway(via).onlink().build(),
                _ => builder.scope(rtnetlink::packet_route::route::RouteScope::Link).build(),
            }
        }
        (IpAddr::V6(to), via) => {
            let mut builder = RouteMessageBuilder::<Ipv6Addr>::new()
                .protocol(protocol)
                .output_interface(route.index)
                .priority(if route.metric == 0 { IPV6_METRIC } else { route.metric });
            if route.prefix > 0 {
                builder = builder.destination_prefix(to, route.prefix);
            }
            match via {
                Some(IpAddr::V6(via)) => builder.gateway(via).build(),
                _ => builder.build(),
            }
        }
    }
}
