//! Behaviours that use the network.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::Context as _;

/// How long an answer may take before the connection counts as broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers every HTTP request with a greeting, one after the other.
pub(crate) fn serve(port: u16) -> anyhow::Result<i32> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        .with_context(|| format!("listen on port {port}"))?;
    println!("serving on port {port}");
    for connection in listener.incoming().flatten() {
        // A client that goes away early is its own affair.
        let _ = answer(connection);
    }
    Ok(0)
}

fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).take(64 * 1024);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 2 {
        line.clear();
    }
    let body = "hello from a pod\n";
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Sends a datagram to each of so many ports of the first router, from another port of its own whenever these are used up: whoever
/// keeps an entry for each conversation gets as many of them.
pub(crate) fn knock(count: u32) -> anyhow::Result<i32> {
    let routes = std::fs::read_to_string("/proc/net/route").context("read the routes")?;
    let router = default_router(&routes).context("there is no way out of here")?;
    let mut refused = 0_u32;
    let mut left = count;
    while left > 0 {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("open a socket")?;
        for port in 1..=u16::MAX {
            if left == 0 {
                break;
            }
            left -= 1;
            // A full table refuses them; that is the point.
            refused += u32::from(socket.send_to(b"?", (router, port)).is_err());
        }
    }
    println!("knocked {count} times, refused {refused} times");
    Ok(0)
}

/// The router of the first default route in `/proc/net/route`, whose numbers are in the order of the machine.
fn default_router(routes: &str) -> Option<Ipv4Addr> {
    routes.lines().skip(1).find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, "00000000", router, ..] => {
            u32::from_str_radix(router, 16).ok().map(|router| Ipv4Addr::from(router.to_le_bytes()))
        }
        _ => None,
    })
}

/// Prints the answer of an HTTP server.
pub(crate) fn get(server: &str, path: &str) -> anyhow::Result<i32> {
    let mut connection =
        TcpStream::connect(server).with_context(|| format!("connect to {server}"))?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")
        .context("send request")?;
    let mut text = String::new();
    connection.read_to_string(&mut text).context("read answer")?;
    print!("{text}");
    Ok(0)
}

/// Sends every line of every connection back, and prints who connected.
pub(crate) fn echo(port: u16) -> anyhow::Result<i32> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        .with_context(|| format!("listen on port {port}"))?;
    println!("echoing on port {port}");
    for connection in listener.incoming().flatten() {
        let Ok(peer) = connection.peer_addr() else { continue };
        println!("peer {}", peer.ip().to_canonical());
        std::thread::spawn(move || {
            let Ok(reader) = connection.try_clone() else { return };
            let mut writer = connection;
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if writeln!(writer, "{line}").is_err() {
                    return;
                }
            }
        });
    }
    Ok(0)
}

/// Says "1", "2", ... over one connection and prints "answer 1", ... as they come back. Waits for the server to be there,
/// but never connects twice.
pub(crate) fn converse(server: &str, ms: u64) -> anyhow::Result<i32> {
    let mut connection = loop {
        match TcpStream::connect(server) {
            Ok(connection) => break connection,
            Err(error) => eprintln!("connect to {server}: {error}"),
        }
        crate::resources::pause(1000);
    };
    connection.set_read_timeout(Some(PATIENCE)).context("set a deadline")?;
    let mut answers = BufReader::new(connection.try_clone().context("share the connection")?);
    for number in 1_u64.. {
        writeln!(connection, "{number}").context("say a line")?;
        let mut line = String::new();
        answers.read_line(&mut line).context("hear a line")?;
        anyhow::ensure!(line.trim_end() == number.to_string(), "the answer is {line:?}");
        println!("answer {number}");
        crate::resources::pause(ms);
    }
    Ok(0)
}

/// Hands every connection to `port` on to the Unix socket at `path`. A connection that cannot be handed on is closed: whoever
/// connected tries again.
pub(crate) fn relay(port: u16, path: &str) -> anyhow::Result<i32> {
    let listener =
        TcpListener::bind(("0.0.0.0", port)).with_context(|| format!("listen on port {port}"))?;
    println!("relaying port {port} to {path}");
    for client in listener.incoming().flatten() {
        let Ok(server) = UnixStream::connect(path) else { continue };
        // Calls are small and wait for each other.
        let _ = client.set_nodelay(true);
        let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else {
            continue;
        };
        std::thread::spawn(move || {
            pass(from_client, &to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        std::thread::spawn(move || {
            pass(server, &client);
            // Both ways: an agent that was killed must be noticed by a client that only waits.
            let _ = client.shutdown(Shutdown::Both);
        });
    }
    Ok(0)
}

/// Copies until one side ends; how it ended is seen by the other side.
fn pass(mut from: impl std::io::Read, mut to: impl std::io::Write) {
    let _ = std::io::copy(&mut from, &mut to);
}

/// Prints the addresses of this network namespace, one per line.
pub(crate) fn addresses() -> anyhow::Result<i32> {
    let trie = std::fs::read_to_string("/proc/net/fib_trie").context("read IPv4 addresses")?;
    for address in local_ipv4(&trie) {
        println!("{address}");
    }
    // A kernel without IPv6 has no such file.
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    for line in table.lines() {
        let digits = line.split(' ').next().unwrap_or_default();
        if let Ok(bits) = u128::from_str_radix(digits, 16) {
            println!("{}", Ipv6Addr::from_bits(bits));
        }
    }
    crate::resources::sleep()
}

/// The local addresses in the text of fib_trie: a line with the address, followed by one that says "host LOCAL".
fn local_ipv4(trie: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut address = "";
    for line in trie.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("|-- ") {
            address = rest;
        } else if line.ends_with("host LOCAL") && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::local_ipv4;

    #[test]
    fn local_addresses_are_found_once_and_broadcast_is_left_out() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.244.0.2\n        \
                    /32 host LOCAL\n     |-- 10.244.0.255\n        /32 link BROADCAST\nLocal:\n     |-- 10.244.0.2\n        \
                    /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(local_ipv4(trie), ["10.244.0.2", "127.0.0.1"]);
    }
}
