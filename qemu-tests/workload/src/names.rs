//! A name server that knows one name.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::Context as _;

/// Questions of ours are far shorter.
const QUESTION_LIMIT: usize = 512;
const HEAD: usize = 12;
/// An answer, with authority, to a question that wished for recursion, which is there.
const FLAGS: u16 = 0x8580;
/// Added to the flags when there is no such name.
const NO_SUCH_NAME: u16 = 3;
/// The type of an IPv4 address, and the class of the internet.
const ADDRESS_TYPE: [u8; 4] = [0, 1, 0, 1];
const SECONDS_TO_KEEP: u32 = 5;

/// Answers questions for `name` with `address`, and all others with "there is none".
pub(crate) fn serve(name: &str, address: &str) -> anyhow::Result<i32> {
    let address: Ipv4Addr = address.parse().context("read the address")?;
    let socket = UdpSocket::bind(("0.0.0.0", 53)).context("listen for questions")?;
    println!("answering for {name}");
    let mut question = [0; QUESTION_LIMIT];
    loop {
        let (length, client) = socket.recv_from(&mut question).context("read a question")?;
        if let Some(answer) = answer(&question[..length], name, address) {
            // Who asks without waiting for an answer asks again.
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// The message that answers one; `None` when that is no question.
fn answer(question: &[u8], name: &str, address: Ipv4Addr) -> Option<Vec<u8>> {
    let mut rest = question.get(HEAD..)?;
    let mut labels = Vec::new();
    while let (length @ 1.., after) = (usize::from(*rest.first()?), &rest[1..]) {
        labels.push(String::from_utf8_lossy(after.get(..length)?).into_owned());
        rest = &after[length..];
    }
    let kind = rest.get(1..5)?;
    let asked = &question[HEAD..question.len() - rest.len() + 5];
    let is_known = labels.join(".").eq_ignore_ascii_case(name);
    let has_address = is_known && kind == ADDRESS_TYPE;
    let flags = if is_known { FLAGS } else { FLAGS | NO_SUCH_NAME };
    let mut message = question[..2].to_vec();
    for number in [flags, 1, u16::from(has_address), 0, 0] {
        message.extend(number.to_be_bytes());
    }
    message.extend(asked);
    if has_address {
        // The name is the one at the end of the head.
        message.extend([0xc0, 12]);
        message.extend(ADDRESS_TYPE);
        message.extend(SECONDS_TO_KEEP.to_be_bytes());
        message.extend(4_u16.to_be_bytes());
        message.extend(address.octets());
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question for the IPv4 address of `a.b`, or with another type.
    fn question(kind: u8) -> Vec<u8> {
        let mut message = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend([1, b'a', 1, b'B', 0, 0, kind, 0, 1]);
        message
    }

    #[test]
    fn a_known_name_has_its_address_and_another_one_none() {
        let address = Ipv4Addr::new(10, 0, 2, 2);
        let known = answer(&question(1), "a.b", address).expect("an answer");
        assert_eq!(known[..8], [7, 9, 0x85, 0x80, 0, 1, 0, 1]);
        assert_eq!(known[known.len() - 4..], address.octets());
        let other_type = answer(&question(28), "a.b", address).expect("an answer");
        assert_eq!(other_type[2..8], [0x85, 0x80, 0, 1, 0, 0]);
        let unknown = answer(&question(1), "c.b", address).expect("an answer");
        assert_eq!(unknown[2..8], [0x85, 0x83, 0, 1, 0, 0]);
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let whole = question(1);
        for length in 0..whole.len() {
            assert_eq!(answer(&whole[..length], "a.b", Ipv4Addr::LOCALHOST), None, "{length}");
        }
    }
}
