//! Counters of network interfaces.

/// One interface of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Received: bytes, packets, errors, dropped packets.
    pub received: [u64; 4],
    /// Sent: bytes, packets, errors, dropped packets.
    pub sent: [u64; 4],
}

/// The interfaces that a process sees, without the loopback.
pub(super) fn read(pid: i32) -> Vec<Interface> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default())
}

/// Text of `/proc/net/dev`: two lines of heading, then `name: 8 numbers received, 8 sent`.
fn parse(text: &str) -> Vec<Interface> {
    let one = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> =
            numbers.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
        let four =
            |from: usize| -> Option<[u64; 4]> { numbers.get(from..from + 4)?.try_into().ok() };
        let name = name.trim().to_owned();
        Some(Interface { name, received: four(0)?, sent: four(8)? })
    };
    text.lines().skip(2).filter_map(one).filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_the_loopback_left_out() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes\n    lo: 1 2 0 0 0 0 0 0 1 2 0 0 0 0 0 0\n  eth0: 10 2 1 3 0 0 0 0 20 4 5 6 0 0 0 0\n";
        let found = parse(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "eth0");
        assert_eq!(found[0].received, [10, 2, 1, 3]);
        assert_eq!(found[0].sent, [20, 4, 5, 6]);
    }
}
