//! What travels arrives as it was sent, and no bytes make the decoder panic.

extern crate std;

use std::vec;

use proptest::prelude::*;

use crate::*;

fn name() -> impl Strategy<Value = Name> {
    "[!-~]{1,128}".prop_map(|text| Name::new(&text).expect("the pattern gives valid names only"))
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Reboot), Just(End::PowerOff), Just(End::Halt), Just(End::Kexec)]
}

fn request() -> impl Strategy<Value = Request> {
    let watch = (any::<i32>(), any::<u64>());
    prop_oneof![
        Just(Request::Hello),
        name().prop_map(|name| Request::StoreFd { name }),
        name().prop_map(|name| Request::GetFd { name }),
        name().prop_map(|name| Request::DropFd { name }),
        any::<u32>().prop_map(|index| Request::NameAt { index }),
        watch.prop_map(|(pid, start_time)| Request::Watch { pid, start_time }),
        watch.prop_map(|(pid, start_time)| Request::AcknowledgeExit { pid, start_time }),
        Just(Request::ReplayExits),
        any::<u32>().prop_map(|index| Request::ServiceAt { index }),
        name().prop_map(|name| Request::StartService { name }),
        name().prop_map(|name| Request::StopService { name }),
        (name(), any::<bool>()).prop_map(|(name, kill)| Request::RestartService { name, kill }),
        (end(), any::<u32>()).prop_map(|(how, grace_ms)| Request::EndMachine { how, grace_ms }),
        Just(Request::ReadyToEnd),
    ]
}

fn service() -> impl Strategy<Value = Service> {
    let state = prop_oneof![
        Just(ServiceState::Running),
        Just(ServiceState::Backoff),
        Just(ServiceState::Stopping),
        Just(ServiceState::Stopped)
    ];
    (name(), state, any::<i32>(), any::<u32>(), any::<u64>(), any::<Option<i32>>()).prop_map(
        |(name, state, pid, restarts, since_ns, last_wait_status)| Service {
            name,
            state,
            pid,
            restarts,
            since_ns,
            last_wait_status,
        },
    )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::NotFound),
        Just(Refusal::Full),
        Just(Refusal::WrongFd),
        Just(Refusal::Malformed),
        Just(Refusal::NotAllowed)
    ]
}

fn from_init() -> impl Strategy<Value = FromInit> {
    let reply = prop_oneof![
        any::<(u32, u64)>()
            .prop_map(|(restarts, started_at_ns)| Reply::Hello { restarts, started_at_ns }),
        Just(Reply::Done),
        Just(Reply::Fd),
        name().prop_map(|name| Reply::StoredName { name }),
        service().prop_map(Reply::Service),
        refusal().prop_map(Reply::Refused),
    ];
    let notice = prop_oneof![
        any::<(i32, u64, i32, u64)>().prop_map(|(pid, start_time, wait_status, ended_at_ns)| {
            Notice::Exit(Exit { pid, start_time, wait_status, ended_at_ns })
        }),
        (end(), any::<u32>()).prop_map(|(how, grace_ms)| Notice::Stopping { how, grace_ms }),
    ];
    prop_oneof![
        (any::<u32>(), reply).prop_map(|(id, reply)| FromInit::Reply { id, reply }),
        notice.prop_map(FromInit::Notice),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_request_arrives_as_it_was_sent(id: u32, request in request()) {
        let message = FromAgent { id, request };
        prop_assert_eq!(FromAgent::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn a_reply_or_notice_arrives_as_it_was_sent(message in from_init()) {
        prop_assert_eq!(FromInit::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn any_bytes_decode_to_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = FromAgent::decode(&bytes);
        let _ = FromInit::decode(&bytes);
    }

    #[test]
    fn a_packet_that_decodes_encodes_to_itself(
        sent in prop_oneof![
            request().prop_map(|request| FromAgent { id: 7, request }.encode()),
            from_init().prop_map(|message| message.encode())
        ],
        at in 0..MESSAGE_LENGTH_MAX,
        value: u8,
    ) {
        let mut packet = sent;
        packet[at] = value;
        if let Ok(message) = FromAgent::decode(&packet) {
            prop_assert_eq!(message.encode(), packet);
        }
        if let Ok(message) = FromInit::decode(&packet) {
            prop_assert_eq!(message.encode(), packet);
        }
    }
}

#[test]
fn another_version_is_refused() {
    let mut packet = FromAgent { id: 1, request: Request::Hello }.encode();
    packet[0] = VERSION + 1;
    assert_eq!(FromAgent::decode(&packet), Err(DecodeError::Version(VERSION + 1)));
}

#[test]
fn a_short_or_long_packet_is_refused() {
    let packet = FromAgent { id: 1, request: Request::Hello }.encode();
    assert_eq!(FromAgent::decode(&packet[..100]), Err(DecodeError::Length));
    assert_eq!(FromAgent::decode(&[]), Err(DecodeError::Length));
}

#[test]
fn names_are_short_printable_words() {
    assert!(Name::new("log/0f3c/app.stdout").is_ok());
    for wrong in ["", "two words", "tab\t", "n\u{e4}me", "x".repeat(129).as_str()] {
        assert_eq!(Name::new(wrong), Err(InvalidName), "{wrong:?}");
    }
}

#[test]
fn names_sort_as_their_texts_do() {
    let of = |text| Name::new(text).expect("valid");
    assert!(of("a") < of("ab") && of("ab") < of("b"));
}
