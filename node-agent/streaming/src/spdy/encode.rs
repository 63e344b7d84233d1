//! Frames of SPDY/3.1 to bytes: the few that a server sends.

use crate::link::Out;

/// An empty header block: the number 0, as a stored block of the connection's zlib stream, so that nothing has to be compressed and no
/// dictionary is named. The empty block after it is what zlib ends a flush with; Go's reader gives out nothing before it.
const EMPTY_BLOCK: [u8; 14] = [0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// What a zlib stream begins with: deflate, a window of 32 KiB, no dictionary.
const ZLIB_HEAD: [u8; 2] = [0x78, 0x01];

/// Status of a RST_STREAM: the stream is not wanted.
const CANCEL: u32 = 5;

/// Writes frames behind each other; knows whether the zlib stream has begun.
#[derive(Default)]
pub(crate) struct Encoder {
    zlib_begun: bool,
}

impl Encoder {
    /// Appends one frame.
    pub(crate) fn encode(&mut self, out: &Out, to: &mut Vec<u8>) {
        match out {
            Out::Data { channel, bytes } => {
                let length = u32::try_from(bytes.len()).unwrap_or_default();
                to.extend((channel & 0x7fff_ffff).to_be_bytes());
                to.extend((length & 0x00ff_ffff).to_be_bytes());
                to.extend(bytes);
            }
            Out::End { channel } => {
                to.extend((channel & 0x7fff_ffff).to_be_bytes());
                to.extend([1, 0, 0, 0]);
            }
            Out::Reset { channel } => control(to, 3, &[*channel, CANCEL], &[]),
            Out::Pong { id } => control(to, 6, &[*id], &[]),
            Out::Window { channel, bytes } => control(to, 9, &[*channel, *bytes], &[]),
            Out::Reply { channel } if self.zlib_begun => {
                control(to, 2, &[*channel], &[&EMPTY_BLOCK]);
            }
            Out::Reply { channel } => {
                self.zlib_begun = true;
                control(to, 2, &[*channel], &[&ZLIB_HEAD, &EMPTY_BLOCK]);
            }
        }
    }
}

fn control(to: &mut Vec<u8>, kind: u8, words: &[u32], tail: &[&[u8]]) {
    let length = words.len() * 4 + tail.iter().map(|part| part.len()).sum::<usize>();
    to.extend([0x80, 3, 0, kind]);
    to.extend((u32::try_from(length).unwrap_or_default() & 0x00ff_ffff).to_be_bytes());
    words.iter().for_each(|word| to.extend(word.to_be_bytes()));
    tail.iter().for_each(|part| to.extend(*part));
}
