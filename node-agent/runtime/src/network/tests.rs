//! Tests against the kernel, each in network namespaces of its own: one is the node, one is what lies outside, the others are
//! pods. They need root and the program `unshare`; where that is missing they say so and pass.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ingot_linux::netns;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::*;
use crate::config::Protocol;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A namespace, as long as the process lives that keeps it.
struct Namespace {
    keeper: Child,
    path: PathBuf,
}

impl Namespace {
    /// `None` where this is not allowed.
    fn new() -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.stderr(Stdio::null()).spawn().ok()?;
        // What comes back comes from inside.
        keeper.stdin.as_mut()?.write_all(b"x").ok()?;
        keeper.stdout.as_mut()?.read_exact(&mut [0]).ok()?;
        let path = PathBuf::from(format!("/proc/{}/ns/net", keeper.id()));
        let space = Self { keeper, path };
        space.run(async { link_up("lo").await });
        Some(space)
    }

    /// Runs something asynchronous on a thread inside.
    fn run<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        let body = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(work)
        };
        netns::run_in(&self.path, body).unwrap()
    }

    /// Opens a socket inside.
    fn open<T: Send>(&self, open: impl FnOnce() -> std::io::Result<T> + Send) -> T {
        netns::run_in(&self.path, open).unwrap().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A node with a way out, and what is out there: 192.0.2.1 and 2001:db8::1 are the node, the second addresses are outside.
struct World {
    node: Namespace,
    outside: Namespace,
    /// What lies on the node's disk.
    disk: tempfile::TempDir,
}

impl World {
    fn new() -> Option<Self> {
        let Some((node, outside)) = Namespace::new().zip(Namespace::new()) else {
            eprintln!("not tested: this needs root and the program unshare");
            return None;
        };
        let far = std::fs::File::open(&outside.path).unwrap();
        node.run(async {
            use std::os::fd::AsRawFd as _;
            let handle = connect();
            let peer =
                LinkMessageBuilder::<LinkUnspec>::new().name("up0").setns_by_fd(far.as_raw_fd());
            let veth = LinkMessageBuilder::<LinkVeth>::new("up0", "up0").set_info_data(
                rtnetlink::packet_route::link::InfoData::Veth(
                    rtnetlink::packet_route::link::InfoVeth::Peer(peer.build()),
                ),
            );
            handle.link().add(veth.build()).execute().await.unwrap();
            address("up0", "192.0.2.1", 24).await;
            address("up0", "2001:db8::1", 64).await;
        });
        outside.run(async {
            address("up0", "192.0.2.2", 24).await;
            address("up0", "2001:db8::2", 64).await;
        });
        Some(Self { node, outside, disk: tempfile::tempdir().unwrap() })
    }
}

fn connect() -> rtnetlink::Handle {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle
}

async fn index(name: &str) -> u32 {
    use futures::TryStreamExt as _;
    // The connection ends with the last handle.
    let handle = connect();
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    links.try_next().await.unwrap().unwrap().header.index
}

async fn link_up(name: &str) {
    let message = LinkMessageBuilder::<LinkUnspec>::default().name(name).up().build();
    connect().link().change(message).execute().await.unwrap();
}

async fn address(link: &str, address: &str, prefix: u8) {
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{link}/accept_dad"), "0");
    let index = index(link).await;
    let address = address.parse().unwrap();
    connect().address().add(index, address, prefix).execute().await.unwrap();
    link_up(link).await;
}

/// The network of an agent that starts.
fn agent(world: &World) -> Network {
    let subnet = |text: &str, prefix| Subnet { address: text.parse().unwrap(), prefix };
    let own = vec![subnet("10.244.0.0", 24), subnet("fd00:10::", 64)];
    let paths = Paths { var: world.disk.path().join("ingot"), ..Paths::default() };
    Network::with(&paths, own, Arc::new(|_| {}))
}

fn pod(name: &str, ports: &[(Protocol, u16)]) -> SandboxConfig {
    let mapping = |(protocol, host_port): &(Protocol, u16)| PortMapping {
        protocol: *protocol,
        container_port: 80,
        host_port: *host_port,
        host_ip: String::new(),
    };
    SandboxConfig {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        ports: ports.iter().map(mapping).collect(),
        ..SandboxConfig::default()
    }
}

/// A pod on the network, with a listener on port 80 of all its addresses.
struct Running {
    space: Namespace,
    addresses: Vec<IpAddr>,
    listener: TcpListener,
    udp: UdpSocket,
}

async fn start(network: &Network, config: &SandboxConfig) -> Running {
    let space = Namespace::new().unwrap();
    let addresses = network.lease(&config.name).unwrap();
    network.attach(&config.name, &space.path, &addresses, config).await.unwrap();
    let listener = space.open(|| TcpListener::bind("[::]:80"));
    let udp = space.open(|| UdpSocket::bind("[::]:80"));
    udp.set_read_timeout(Some(LIMIT)).unwrap();
    Running { space, addresses, listener, udp }
}

fn dial(from: &Namespace, to: (IpAddr, u16)) -> std::io::Result<TcpStream> {
    let stream =
        netns::run_in(&from.path, || TcpStream::connect_timeout(&SocketAddr::from(to), LIMIT));
    let stream = stream.unwrap()?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Connects, says something both ways, and returns who the listener saw.
fn talk(from: &Namespace, to: (IpAddr, u16), listener: &TcpListener) -> IpAddr {
    let mut near = dial(from, to).unwrap_or_else(|error| panic!("connect to {to:?}: {error}"));
    let (mut far, peer) = listener.accept().unwrap();
    ask(&mut near, &mut far);
    peer.ip().to_canonical()
}

fn ask(near: &mut TcpStream, far: &mut TcpStream) {
    let mut byte = [0];
    near.write_all(b"?").unwrap();
    far.read_exact(&mut byte).unwrap();
    far.write_all(b"!").unwrap();
    near.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"!");
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn pods_reach_each_other_the_node_and_what_is_outside() {
    let Some(world) = World::new() else { return };
    world.node.run(async {
        let network = agent(&world);
        let one = start(&network, &pod("one", &[])).await;
        let two = start(&network, &pod("two", &[])).await;
        assert_eq!(one.addresses, [ip("10.244.0.2"), ip("fd00:10::2")]);
        for (mine, theirs) in one.addresses.iter().zip(&two.addresses) {
            assert_eq!(talk(&one.space, (*theirs, 80), &two.listener), *mine);
            // The node knows its pods by their own addresses, and pods know the node by the bridge's.
            talk(&world.node, (*mine, 80), &one.listener);
        }
        let at_node = world.node.open(|| TcpListener::bind("[::]:9000"));
        assert_eq!(talk(&one.space, (ip("192.0.2.1"), 9000), &at_node), ip("10.244.0.2"));
        // Outside, a pod has the node's address: nobody there knows the way back to its own.
        let at_outside = world.outside.open(|| TcpListener::bind("[::]:9000"));
        assert_eq!(talk(&one.space, (ip("192.0.2.2"), 9000), &at_outside), ip("192.0.2.1"));
        assert_eq!(talk(&one.space, (ip("2001:db8::2"), 9000), &at_outside), ip("2001:db8::1"));
    });
}

#[test]
fn a_port_of_the_node_leads_to_the_pod_from_everywhere() {
    let Some(world) = World::new() else { return };
    world.node.run(async {
        let network = agent(&world);
        let ports = [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)];
        let served = start(&network, &pod("served", &ports)).await;
        let other = start(&network, &pod("other", &[])).await;
        // From outside, and the pod sees who it was.
        for (to, peer) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let seen = talk(&world.outside, (ip(to), 8080), &served.listener);
            assert_eq!(seen, ip(peer));
        }
        // From the node itself, by each of its addresses.
        for to in ["127.0.0.1", "192.0.2.1", "10.244.0.1", "2001:db8::1"] {
            talk(&world.node, (ip(to), 8080), &served.listener);
        }
        // From another pod, and from the pod itself.
        for from in [&other, &served] {
            for to in ["192.0.2.1", "10.244.0.1", "2001:db8::1"] {
                talk(&from.space, (ip(to), 8080), &served.listener);
            }
        }
        datagram(&world.node, "127.0.0.1:5353", &served);
        datagram(&world.outside, "192.0.2.1:5353", &served);
    });
}

#[test]
fn who_goes_on_sending_to_a_udp_port_reaches_the_pod_of_now() {
    let Some(world) = World::new() else { return };
    world.node.run(async {
        let network = agent(&world);
        let ports = [(Protocol::Udp, 5353)];
        let socket = world.outside.open(|| UdpSocket::bind("0.0.0.0:0"));
        let before = start(&network, &pod("before", &ports)).await;
        socket.send_to(b"?", "192.0.2.1:5353").unwrap();
        before.udp.recv_from(&mut [0]).unwrap();
        network.detach("before").await.unwrap();
        let now = start(&network, &pod("now", &ports)).await;
        socket.send_to(b"?", "192.0.2.1:5353").unwrap();
        now.udp.recv_from(&mut [0]).unwrap();
    });
}

fn datagram(from: &Namespace, to: &str, served: &Running) {
    let socket = from.open(|| UdpSocket::bind("0.0.0.0:0"));
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.connect(to).unwrap();
    socket.send(b"?").unwrap();
    let mut byte = [0];
    let (_, peer) = served.udp.recv_from(&mut byte).unwrap();
    served.udp.send_to(b"!", peer).unwrap();
    socket.recv(&mut byte).unwrap();
    assert_eq!(byte, *b"!");
}

#[test]
fn a_pod_that_is_gone_leaves_no_port_and_no_link() {
    let Some(world) = World::new() else { return };
    world.node.run(async {
        let network = agent(&world);
        let ports = [(Protocol::Tcp, 8080)];
        let first = start(&network, &pod("first", &ports)).await;
        let second = network.lease("second").unwrap();
        let space = Namespace::new().unwrap();
        let refused = network.attach("second", &space.path, &second, &pod("second", &ports)).await;
        let error = chain(&refused.unwrap_err());
        assert!(error.contains("default/first") && error.contains("8080"), "{error}");
        network.detach("second").await.unwrap();
        talk(&world.outside, (ip("192.0.2.1"), 8080), &first.listener);
        network.detach("first").await.unwrap();
        network.detach("first").await.unwrap();
        assert!(dial(&world.outside, (ip("192.0.2.1"), 8080)).is_err());
        let handle = connect();
        let mut links = handle.link().get().execute();
        use futures::TryStreamExt as _;
        let mut count = 0;
        while links.try_next().await.unwrap().is_some() {
            count += 1;
        }
        // lo, the way out and the bridge; and the fallback devices of tunnels, if the kernel has any.
        let fallback = [
            "sit0", "tunl0", "gre0", "gretap0", "erspan0", "ip6tnl0", "ip6gre0", "ip_vti0",
            "ip6_vti0",
        ];
        let fallback =
            fallback.iter().filter(|name| Path::new("/proc/sys/net/ipv4/conf").join(name).exists());
        assert_eq!(count - fallback.count(), 3);
        // The port is free for anybody again.
        world.node.open(|| TcpListener::bind("0.0.0.0:8080"));
    });
}

#[test]
fn a_new_agent_takes_over_what_is_open_and_what_leads_where() {
    let Some(world) = World::new() else { return };
    world.node.run(async {
        let config_of_pod = pod("served", &[(Protocol::Tcp, 8080)]);
        let network = agent(&world);
        let served = start(&network, &config_of_pod).await;
        let mut near = dial(&world.outside, (ip("192.0.2.1"), 8080)).unwrap();
        let (mut far, _) = served.listener.accept().unwrap();
        ask(&mut near, &mut far);
        // And one by the node's address in place of the pod's.
        let at_outside = world.outside.open(|| TcpListener::bind("[::]:9000"));
        let mut out = dial(&served.space, (ip("192.0.2.2"), 9000)).unwrap();
        let (mut outside, _) = at_outside.accept().unwrap();
        ask(&mut out, &mut outside);
        let mut own = dial(&served.space, (ip("192.0.2.1"), 8080)).unwrap();
        let (mut own_far, _) = served.listener.accept().unwrap();
        ask(&mut own, &mut own_far);
        drop(network);
        let network = agent(&world);
        network.adopt("served", &served.addresses, &config_of_pod.ports);
        network.resume().await;
        ask(&mut near, &mut far);
        ask(&mut out, &mut outside);
        ask(&mut own, &mut own_far);
        // What the first sandbox after the restart does again.
        network.bridge().await.unwrap();
        ask(&mut out, &mut outside);
        ask(&mut own, &mut own_far);
        talk(&world.outside, (ip("192.0.2.1"), 8080), &served.listener);
        assert_eq!(network.lease("next").unwrap()[0], ip("10.244.0.3"));
        network.detach("served").await.unwrap();
        assert!(dial(&world.outside, (ip("192.0.2.1"), 8080)).is_err());
    });
}

#[test]
fn cve_2020_8558_nobody_outside_reaches_what_listens_to_the_node_alone() {
    let Some(world) = World::new() else { return };
    world.node.run(async {
        let network = agent(&world);
        let one = start(&network, &pod("one", &[(Protocol::Udp, 5353)])).await;
        let private = world.node.open(|| UdpSocket::bind("127.0.0.1:9000"));
        private.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        // The pod sends packets for 127.0.0.1 to the node.
        one.space.run(async {
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
            let handle = connect();
            let eth0 = index("eth0").await;
            let lo = index("lo").await;
            // It is the pod's own no more.
            for (address, prefix) in [("127.0.0.0", 8), ("127.0.0.1", 32)] {
                let local = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                    .destination_prefix(address.parse().unwrap(), prefix)
                    .output_interface(lo)
                    .table_id(255)
                    .kind(rtnetlink::packet_route::route::RouteType::Local)
                    .scope(rtnetlink::packet_route::route::RouteScope::Host)
                    .protocol(rtnetlink::packet_route::route::RouteProtocol::Kernel)
                    .build();
                handle.route().del(local).execute().await.unwrap();
            }
            let via = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix("127.0.0.0".parse().unwrap(), 8)
                .gateway("10.244.0.1".parse().unwrap())
                .output_interface(eth0)
                .build();
            handle.route().add(via).execute().await.unwrap();
        });
        let attacker = one.space.open(|| UdpSocket::bind("10.244.0.2:0"));
        attacker.send_to(b"?", "127.0.0.1:9000").unwrap();
        assert!(private.recv(&mut [0]).is_err());
        // The same way is open for what it is for.
        datagram(&world.node, "127.0.0.1:5353", &one);
    });
}
