//! Header blocks: one zlib stream for the whole connection, with SPDY's dictionary, cut into frames.

use super::dictionary::dictionary;
use super::frame::FrameError;
use flate2::{Decompress, FlushDecompress};

/// Most bytes that one block may inflate to. Kubernetes sends about 200.
const MAX_INFLATED: usize = 16 * 1024;

/// Most headers in one block; the same limit as moby/spdystream's is 1000, Kubernetes sends three.
const MAX_HEADERS: usize = 64;

/// Name and value pairs of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// First value of a header, whose name is compared without case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, values) = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        values.split('\0').next()
    }
}

/// The receiving half of the connection's header compression. After an error it is useless, and so is the connection.
pub(super) struct Inflater {
    zlib: Decompress,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { zlib: Decompress::new(true) }
    }

    /// One block, which must use up all of its compressed bytes.
    pub(super) fn block(&mut self, compressed: &[u8]) -> Result<Headers, FrameError> {
        let plain = self.inflate(compressed)?;
        parse(&plain).ok_or(FrameError::Headers)
    }

    fn inflate(&mut self, mut compressed: &[u8]) -> Result<Vec<u8>, FrameError> {
        let mut plain = Vec::with_capacity(512);
        let mut dictionary_given = false;
        loop {
            if plain.len() == plain.capacity() {
                if plain.len() >= MAX_INFLATED {
                    return Err(FrameError::TooLarge("header block"));
                }
                plain.reserve(plain.len());
            }
            let (read, written) = (self.zlib.total_in(), plain.len());
            let result = self.zlib.decompress_vec(compressed, &mut plain, FlushDecompress::Sync);
            let read = usize::try_from(self.zlib.total_in() - read).unwrap_or(usize::MAX);
            compressed = compressed.get(read..).ok_or(FrameError::Compression)?;
            match result {
                Err(error) if error.needs_dictionary().is_some() && !dictionary_given => {
                    dictionary_given = true;
                    let set = self.zlib.set_dictionary(&dictionary());
                    set.map_err(|_| FrameError::Compression)?;
                }
                Err(_) => return Err(FrameError::Compression),
                // Room left and nothing more to read: the block is complete.
                Ok(_) if compressed.is_empty() && plain.len() < plain.capacity() => {
                    return Ok(plain);
                }
                Ok(_) if read == 0 && plain.len() == written => {
                    return Err(FrameError::Compression);
                }
                Ok(_) => {}
            }
        }
    }
}

fn parse(mut block: &[u8]) -> Option<Headers> {
    let count = usize::try_from(number(&mut block)?).ok().filter(|count| *count <= MAX_HEADERS)?;
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        headers.push((text(&mut block)?, text(&mut block)?));
    }
    block.is_empty().then_some(Headers(headers))
}

fn number(block: &mut &[u8]) -> Option<u32> {
    let (number, rest) = block.split_first_chunk()?;
    *block = rest;
    Some(u32::from_be_bytes(*number))
}

fn text(block: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(number(block)?).ok()?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests;
