//! The netlink side of the pod network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use futures::TryStreamExt as _;
use ingot_linux::netns;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute,
};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use super::{BRIDGE, INSIDE, NetworkError, lease, uplink};
use crate::engine::Subnet;

/// A fixed address of its own; without one a bridge takes over that of its newest port, and pods lose their gateway
/// whenever a pod comes or goes. Locally administered.
const BRIDGE_MAC: [u8; 6] = [0x02, 0x69, 0x6e, 0x67, 0x6f, 0x74];

/// ENODEV and EEXIST, as netlink reports them.
const NO_DEVICE: i32 = -19;
const EXISTS: i32 = -17;

/// A connection to the kernel; clones share it.
#[derive(Clone)]
pub(super) struct Kernel {
    handle: Handle,
}

fn failed(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NetworkError {
    let what = what.into();
    move |source| NetworkError::Netlink { what, source }
}

fn has_code(error: &rtnetlink::Error, code: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == code)
}

impl Kernel {
    pub(super) fn connect() -> Result<Self, NetworkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Socket)?;
        // Ends when the handle is dropped.
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Index of a link; `None` when there is none of that name.
    async fn find(&self, name: &str) -> Result<Option<u32>, NetworkError> {
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        match links.try_next().await {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(error) if has_code(&error, NO_DEVICE) => Ok(None),
            Err(error) => Err(failed(format!("look for link {name}"))(error)),
        }
    }

    async fn expect(&self, name: &str) -> Result<u32, NetworkError> {
        self.find(name).await?.ok_or_else(|| NetworkError::NoLink { name: name.to_owned() })
    }

    async fn up(&self, index: u32) -> Result<(), NetworkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::default().index(index).up().build();
        self.handle.link().change(message).execute().await.map_err(failed("bring a link up"))
    }

    /// Adds an address; one that is there already is fine.
    async fn add_address(
        &self,
        index: u32,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), NetworkError> {
        let request = self.handle.address().add(index, address, prefix).replace();
        request.execute().await.map_err(failed(format!("add address {address}/{prefix}")))
    }

    /// Makes the bridge with the node's addresses, if it is not there, and lets packets through the node.
    pub(super) async fn bridge(&self, subnets: &[Subnet]) -> Result<u32, NetworkError> {
        if self.find(BRIDGE).await?.is_none() {
            // Snooping on multicast without anybody who asks for members loses the neighbour discovery of IPv6.
            let message = LinkBridge::new(BRIDGE).mcast_snooping(false);
            let message = message.address(BRIDGE_MAC.to_vec()).build();
            self.handle.link().add(message).execute().await.map_err(failed("make the bridge"))?;
        }
        // Nobody else gives the first address of the subnet to anybody: probing would only keep it unusable at first.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{BRIDGE}/accept_dad"), "0");
        let index = self.expect(BRIDGE).await?;
        self.up(index).await?;
        for subnet in subnets {
            if let Some(address) = lease::gateway(*subnet) {
                self.add_address(index, address, subnet.prefix).await?;
            }
            forward(subnet.address.is_ipv4())?;
        }
        Ok(index)
    }

    /// Makes a link from the bridge into a namespace, in place of one of the same name.
    pub(super) async fn veth(
        &self,
        name: &str,
        bridge: u32,
        namespace: &Path,
        mac: [u8; 6],
    ) -> Result<(), NetworkError> {
        let file = std::fs::File::open(namespace)
            .map_err(|source| NetworkError::Open { path: namespace.to_owned(), source })?;
        let mtu = uplink::mtu();
        let message = || {
            let peer = LinkMessageBuilder::<LinkUnspec>::new()
                .name(INSIDE)
                .address(mac.to_vec())
                .mtu(mtu)
                .setns_by_fd(file.as_raw_fd())
                .build();
            LinkMessageBuilder::<LinkVeth>::new(name, INSIDE)
                .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
                .controller(bridge)
                .mtu(mtu)
                .build()
        };
        let added = match self.handle.link().add(message()).execute().await {
            // What a former attempt left; its other end may be in a namespace that is gone.
            Err(error) if has_code(&error, EXISTS) => {
                self.remove(name).await?;
                self.handle.link().add(message()).execute().await
            }
            other => other,
        };
        added.map_err(failed("make the pod's link"))?;
        self.open_port(name).await
    }

    /// Brings the node's end of a pod's link up. It has no addresses of its own, and a pod may reach itself through it.
    async fn open_port(&self, name: &str) -> Result<(), NetworkError> {
        let no_address = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let message = |with_inet6: bool| {
            let mut message = LinkMessageBuilder::<LinkUnspec>::default()
                .name(name)
                .set_port_kind(InfoPortKind::Bridge)
                .set_port_data(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]))
                .up();
            if with_inet6 {
                let inet6 = AfSpecUnspec::Inet6(vec![no_address.clone()]);
                message = message.append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![inet6]));
            }
            message.build()
        };
        if self.handle.link().change(message(true)).execute().await.is_ok() {
            return Ok(());
        }
        // A kernel without IPv6 does not know what it is asked.
        let changed = self.handle.link().change(message(false)).execute().await;
        changed.map_err(failed("bring the pod's link up"))
    }

    /// Removes a link; none is fine.
    pub(super) async fn remove(&self, name: &str) -> Result<(), NetworkError> {
        let Some(index) = self.find(name).await? else { return Ok(()) };
        match self.handle.link().del(index).execute().await {
            Err(error) if !has_code(&error, NO_DEVICE) => {
                Err(failed(format!("remove link {name}"))(error))
            }
            _ => Ok(()),
        }
    }

    async fn default_route(&self, gateway: IpAddr) -> Result<(), NetworkError> {
        let message = match gateway {
            IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(v4).build(),
            IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(v6).build(),
        };
        match self.handle.route().add(message).execute().await {
            Err(error) if !has_code(&error, EXISTS) => {
                Err(failed(format!("add default route via {gateway}"))(error))
            }
            _ => Ok(()),
        }
    }
}

/// Gives the pod's end its addresses and routes. The socket is opened inside the namespace and used from here.
pub(super) async fn configure_inside(
    namespace: &Path,
    addresses: &[(IpAddr, u8)],
    gateways: &[IpAddr],
) -> Result<(), NetworkError> {
    let runtime = tokio::runtime::Handle::current();
    let opened = netns::run_in(namespace, || {
        let _inside = runtime.enter();
        // A pod's address is its own by lease: probing for a duplicate would only delay it by a second. Routers are for
        // the node to listen to. A kernel without IPv6 has no such files, and then needs none.
        for setting in ["accept_dad", "accept_ra"] {
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{INSIDE}/{setting}"), "0");
        }
        rtnetlink::new_connection()
    })?;
    let (connection, handle, _) = opened.map_err(NetworkError::Socket)?;
    tokio::spawn(connection);
    let inside = Kernel { handle };
    let index = inside.expect(INSIDE).await?;
    for (address, prefix) in addresses {
        inside.add_address(index, *address, *prefix).await?;
    }
    inside.up(index).await?;
    for gateway in gateways {
        inside.default_route(*gateway).await?;
    }
    Ok(())
}

/// Lets connections from 127.0.0.1 to ports of the node be led to pods, on whichever link those are. The firewall keeps
/// everybody else from 127.0.0.1.
pub(super) fn lead_loopback() -> Result<(), NetworkError> {
    write("/proc/sys/net/ipv4/conf/all/route_localnet".into(), "1")
}

/// Lets packets pass from link to link.
fn forward(v4: bool) -> Result<(), NetworkError> {
    let base = PathBuf::from("/proc/sys/net");
    if v4 {
        return write(base.join("ipv4/ip_forward"), "1");
    }
    // A router does not listen to routers unless told so with 2, and the node may have its own address from one.
    let links = std::fs::read_dir(base.join("ipv6/conf")).into_iter().flatten().flatten();
    for link in links {
        let setting = link.path().join("accept_ra");
        if std::fs::read_to_string(&setting).is_ok_and(|value| value.trim() == "1") {
            write(setting, "2")?;
        }
    }
    write(base.join("ipv6/conf/all/forwarding"), "1")
}

fn write(path: PathBuf, value: &str) -> Result<(), NetworkError> {
    std::fs::write(&path, value).map_err(|source| NetworkError::Sysctl { path, source })
}
