//! Frames from bytes, whole, in pieces, and from nonsense.

use super::*;
use proptest::prelude::*;

fn decode_all(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let mut input = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.decode(&mut input)? {
        frames.push(frame);
    }
    Ok(frames)
}

fn decode(bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    decode_all(&mut Decoder::new(), bytes)
}

fn data(stream: u32, bytes: &'static [u8], fin: bool) -> Frame {
    Frame::Data { stream, bytes: Bytes::from_static(bytes), fin }
}

#[test]
fn control_frames_are_told_apart() {
    let frames = decode(&[
        0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7, // PING 7
        0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 1, // RST_STREAM 5
        0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 1, 0, // WINDOW_UPDATE 5
        0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0, // SETTINGS, none
        0x80, 3, 0, 99, 0, 0, 0, 1, 0, // unknown
        0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, // GOAWAY
    ]);
    let expected = vec![
        Frame::Ping { id: 7 },
        Frame::Reset { stream: 5 },
        Frame::Ignored,
        Frame::Ignored,
        Frame::Ignored,
        Frame::GoAway,
    ];
    assert_eq!(frames, Ok(expected));
}

#[test]
fn data_is_passed_on_as_it_arrives_and_ends_with_its_last_piece() {
    let mut decoder = Decoder::new();
    let first = decode_all(&mut decoder, &[0, 0, 0, 1, 1, 0, 0, 5, b'a', b'b']);
    assert_eq!(first, Ok(vec![data(1, b"ab", false)]));
    let rest = decode_all(&mut decoder, b"cde\x00\x00\x00\x03\x00\x00\x00\x01x");
    assert_eq!(rest, Ok(vec![data(1, b"cde", true), data(3, b"x", false)]));
    assert_eq!(decode(&[0, 0, 0, 1, 1, 0, 0, 0]), Ok(vec![data(1, b"", true)]));
}

#[test]
fn frames_that_cannot_be_are_refused() {
    let version = decode(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]);
    assert_eq!(version, Err(FrameError::Version(2)));
    let long = decode(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]);
    assert_eq!(long, Err(FrameError::TooLarge("control frame")));
    assert_eq!(decode(&[0x80, 3, 0, 6, 0, 0, 0, 0]), Err(FrameError::Length("PING")));
    let short = decode(&[0x80, 3, 0, 1, 0, 0, 0, 5, 0, 0, 0, 1, 0]);
    assert_eq!(short, Err(FrameError::Length("SYN_STREAM")));
    let garbage = decode(&[0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 9, 9]);
    assert_eq!(garbage, Err(FrameError::Compression));
}

proptest! {
    #[test]
    fn nothing_panics_and_nothing_grows_on_any_bytes(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
    ) {
        let (mut decoder, mut input) = (Decoder::new(), BytesMut::new());
        'all: for chunk in chunks {
            input.extend_from_slice(&chunk);
            loop {
                match decoder.decode(&mut input) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'all,
                }
            }
            prop_assert!(input.len() < HEAD + MAX_CONTROL);
        }
    }

    /// Nonsense behind a plausible head reaches deeper than nonsense alone.
    #[test]
    fn nothing_panics_on_plausible_frames(
        kind in 0_u8..12,
        flags in any::<u8>(),
        body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut frame = vec![0x80, 3, 0, kind];
        frame.extend((u32::try_from(body.len()).unwrap() | u32::from(flags) << 24).to_be_bytes());
        frame.extend(body);
        let _refused = decode(&frame);
    }

    #[test]
    fn how_bytes_are_cut_changes_nothing(
        body in proptest::collection::vec(any::<u8>(), 0..100),
        cut in 0_usize..150,
    ) {
        let mut bytes = vec![0, 0, 0, 1, 1, 0, 0, u8::try_from(body.len()).unwrap()];
        bytes.extend(&body);
        bytes.extend([0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]);
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        let mut decoder = Decoder::new();
        let mut input = BytesMut::from(first);
        let (mut seen, mut ended, mut pinged) = (Vec::new(), false, false);
        for more in [&[][..], second] {
            input.extend_from_slice(more);
            while let Some(frame) = decoder.decode(&mut input).unwrap() {
                match frame {
                    Frame::Data { bytes, fin, .. } => {
                        seen.extend(bytes);
                        ended |= fin;
                    }
                    other => pinged = other == Frame::Ping { id: 7 },
                }
            }
        }
        prop_assert_eq!(seen, body);
        prop_assert!(ended && pinged);
    }
}
