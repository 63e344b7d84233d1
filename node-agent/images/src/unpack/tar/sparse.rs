//! Files with holes, in GNU's four ways of writing them down.

use std::io::BufRead;

use super::header::{BLOCK, Header, number};
use super::pax::whole;
use super::{Archive, TarError};

/// Pieces of one file. A map of this many takes 1.6 MB of memory.
const PIECES_MAX: usize = 100_000;

/// Offsets and lengths of what is not a hole.
type Map = Vec<(u64, u64)>;

/// What an extension header says about holes (`GNU.sparse.*`).
#[derive(Debug, Default)]
pub(super) struct Form {
    major: u64,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Numbers of a map that is in the header itself (forms 0.0 and 0.1).
    numbers: Vec<u64>,
}

impl Form {
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        match key {
            b"major" => self.major = whole(value)?,
            b"name" if !value.contains(&0) => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(whole(value)?),
            b"offset" | b"numbytes" => self.number(value)?,
            b"map" => value.split(|b| *b == b',').try_for_each(|v| self.number(v))?,
            _ => {}
        }
        Ok(())
    }

    fn number(&mut self, value: &[u8]) -> Result<(), TarError> {
        if self.numbers.len() == 2 * PIECES_MAX {
            return Err(TOO_MANY);
        }
        self.numbers.push(whole(value)?);
        Ok(())
    }
}

const TOO_MANY: TarError = TarError::Damaged("a sparse file with too many pieces");

/// The pieces must be in order, inside the file, and together as long as what is stored.
pub(super) fn check(map: &[(u64, u64)], size: u64, stored: u64) -> Result<(), TarError> {
    let mut end = 0;
    let mut sum = 0_u64;
    for (offset, length) in map {
        let next = offset.checked_add(*length).filter(|next| *next <= size && *offset >= end);
        end = next.ok_or(TarError::Damaged("a sparse file whose pieces overlap"))?;
        sum = sum.saturating_add(*length);
    }
    if sum == stored {
        Ok(())
    } else {
        Err(TarError::Damaged("a sparse file whose pieces do not add up"))
    }
}

fn pairs(numbers: &[u64]) -> Result<Map, TarError> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|[offset, length]| (*offset, *length)).collect())
    } else {
        Err(TarError::Damaged("a sparse file with half a piece"))
    }
}

impl<R: BufRead> Archive<R> {
    /// Type `S`: four pieces in the header, more in blocks that follow it.
    pub(super) fn old_sparse(&mut self, header: &Header<'_>) -> Result<(u64, Map), TarError> {
        let field = |field: &[u8]| {
            let value = number(field).and_then(|n| u64::try_from(n).ok());
            value.ok_or(TarError::Damaged("the map of a sparse file is broken"))
        };
        let mut numbers = Vec::new();
        let mut take = |fields: &[u8]| {
            for piece in fields.as_chunks::<24>().0 {
                if piece[0] == 0 {
                    break;
                }
                if numbers.len() >= 2 * PIECES_MAX {
                    return Err(TOO_MANY);
                }
                numbers.extend([field(&piece[..12])?, field(&piece[12..])?]);
            }
            Ok(())
        };
        let bytes = header.bytes();
        take(&bytes[386..482])?;
        let mut more = bytes[482] != 0;
        while more {
            // These blocks are not part of the size that the header gives.
            let block = self.block()?.ok_or(TarError::CutOff)?;
            take(&block[..504])?;
            more = block[504] != 0;
        }
        Ok((field(&bytes[483..495])?, pairs(&numbers)?))
    }

    /// Forms 0.0 and 0.1 have the map in the extension header, form 1.0 before the content.
    pub(super) fn pax_sparse(
        &mut self,
        form: Form,
    ) -> Result<(u64, Map, Option<Vec<u8>>), TarError> {
        let size = form.size.ok_or(TarError::Damaged("a sparse file without a size"))?;
        let numbers = if form.major == 1 { self.leading_map()? } else { form.numbers };
        Ok((size, pairs(&numbers)?, form.name))
    }

    /// Numbers on lines of their own: how many pieces, then offset and length of each, filled up to a whole block.
    fn leading_map(&mut self) -> Result<Vec<u64>, TarError> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut line = Vec::new();
        let mut expected = None;
        loop {
            let block: [u8; BLOCK] = self.content_block()?;
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err(TarError::Damaged("the map of a sparse file is broken"));
                    }
                    continue;
                }
                let value = whole(&line)?;
                line.clear();
                match expected {
                    None if value > PIECES_MAX as u64 => return Err(TOO_MANY),
                    None => expected = usize::try_from(value * 2).ok(),
                    Some(_) => numbers.push(value),
                }
                if expected == Some(numbers.len()) {
                    return Ok(numbers);
                }
            }
        }
    }
}
