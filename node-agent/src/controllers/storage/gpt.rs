//! GUID partition tables: reads either copy, adds partitions in free space, and says which bytes to write in which order
//! so that one copy is whole at every moment. Pure: it works on bytes it is given.

use crc32fast::hash as crc32;
use std::ops::Range;

/// Partition entries in a table; what every tool writes and UEFI demands at least.
const ENTRIES: u32 = 128;
/// Bytes of one entry.
const ENTRY_SIZE: u32 = 128;
/// Bytes of the header that its checksum covers.
const HEADER_SIZE: usize = 92;
/// How many bytes of a new partition are zeroed, so that what lay there before is not taken for a file system.
pub(crate) const WIPED: u64 = 64 * 1024;

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Type, in the mixed byte order of the disk.
    pub(crate) kind: [u8; 16],
    /// Unique id, in the byte order of the disk.
    pub(crate) id: [u8; 16],
    /// First sector.
    pub(crate) first: u64,
    /// Last sector, included.
    pub(crate) last: u64,
    /// Attribute bits.
    pub(crate) attributes: u64,
    /// Name.
    pub(crate) name: String,
}

/// A table, whichever copy it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// Id of the disk.
    pub(crate) disk_id: [u8; 16],
    /// First sector partitions may use.
    pub(crate) first_usable: u64,
    /// Last sector partitions may use.
    pub(crate) last_usable: u64,
    /// Entries by index; the partition's number is the index and one.
    pub(crate) entries: Vec<Option<Entry>>,
}

/// Why bytes are no usable table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GptError {
    /// Neither copy is whole.
    #[error("the disk has no valid partition table")]
    NoTable,
    /// A partition lies outside the disk or over another one.
    #[error("the partition table contradicts itself: {0}")]
    Contradiction(String),
    /// Not enough free space in one piece.
    #[error(
        "the disk is too small: partition {name} needs {} MiB in one piece, {} MiB are free",
        .needed >> 20, .free >> 20
    )]
    TooSmall {
        /// Partition.
        name: String,
        /// Bytes it needs.
        needed: u64,
        /// Bytes of the largest free piece.
        free: u64,
    },
    /// All entries are in use.
    #[error("the partition table has no free entry")]
    NoEntry,
}

/// Reads bytes of a disk: offset and length in, bytes out, `None` past the end or on an error.
pub(crate) type Reader<'a> = &'a mut dyn FnMut(u64, usize) -> Option<Vec<u8>>;

/// A partition that should exist.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Name.
    pub(crate) name: &'static str,
    /// Type, in the byte order of the disk.
    pub(crate) kind: [u8; 16],
    /// Bytes; `None` for the largest free piece left at the end.
    pub(crate) size: Option<u64>,
    /// Least bytes when `size` is `None`.
    pub(crate) least: u64,
    /// Unique id to give it.
    pub(crate) id: [u8; 16],
}

/// One thing to do to the disk. Between two steps everything before must be on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// Write these bytes at this offset.
    Bytes { offset: u64, bytes: Vec<u8> },
    /// Make what was written durable.
    Flush,
}

/// Reads the primary table, or the backup at the end of the disk.
///
/// # Errors
/// When neither is whole, or the one that is makes no sense.
pub(crate) fn read(sector: u64, size: u64, reader: Reader<'_>) -> Result<Table, GptError> {
    let last = (size / sector).checked_sub(1).ok_or(GptError::NoTable)?;
    let table = read_copy(sector, 1, reader)
        .or_else(|| read_copy(sector, last, reader))
        .ok_or(GptError::NoTable)?;
    check(&table, last)?;
    Ok(table)
}

/// Whether both copies are whole, the same, and where they belong.
pub(crate) fn is_settled(sector: u64, size: u64, reader: Reader<'_>) -> bool {
    let last = (size / sector).saturating_sub(1);
    let primary = read_copy(sector, 1, reader);
    primary.is_some() && primary == read_copy(sector, last, reader)
}

fn read_copy(sector: u64, at: u64, reader: Reader<'_>) -> Option<Table> {
    let header = reader(at * sector, usize::try_from(sector).ok()?)?;
    if header.get(..8)? != b"EFI PART" || u64_at(&header, 24)? != at {
        return None;
    }
    let mut covered = header.get(..HEADER_SIZE)?.to_vec();
    covered.get_mut(16..20)?.fill(0);
    if u32_at(&header, 12)? != u32::try_from(HEADER_SIZE).ok()?
        || crc32(&covered) != u32_at(&header, 16)?
    {
        return None;
    }
    let (count, size) = (u32_at(&header, 80)?, u32_at(&header, 84)?);
    if count == 0 || count > 1024 || size != ENTRY_SIZE {
        return None;
    }
    let length = usize::try_from(count.checked_mul(size)?).ok()?;
    let bytes = reader(u64_at(&header, 72)?.checked_mul(sector)?, length)?;
    if crc32(&bytes) != u32_at(&header, 88)? {
        return None;
    }
    Some(Table {
        disk_id: header.get(56..72)?.try_into().ok()?,
        first_usable: u64_at(&header, 40)?,
        last_usable: u64_at(&header, 48)?,
        entries: bytes.chunks_exact(ENTRY_SIZE as usize).map(parse_entry).collect(),
    })
}

fn parse_entry(bytes: &[u8]) -> Option<Entry> {
    let kind: [u8; 16] = bytes.get(..16)?.try_into().ok()?;
    if kind == [0; 16] {
        return None;
    }
    let name: Vec<u16> = bytes
        .get(56..128)?
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    Some(Entry {
        kind,
        id: bytes.get(16..32)?.try_into().ok()?,
        first: u64_at(bytes, 32)?,
        last: u64_at(bytes, 40)?,
        attributes: u64_at(bytes, 48)?,
        name: String::from_utf16_lossy(&name),
    })
}

fn check(table: &Table, last_sector: u64) -> Result<(), GptError> {
    let wrong = |what: String| Err(GptError::Contradiction(what));
    let used = used(table);
    for range in &used {
        if range.start < 2 || range.end <= range.start || range.end > last_sector {
            return wrong(format!("sectors {} to {} are no partition", range.start, range.end));
        }
    }
    for pair in used.windows(2) {
        if pair[0].end > pair[1].start {
            return wrong(format!("two partitions share sector {}", pair[1].start));
        }
    }
    Ok(())
}

/// Sectors in use, in order of their place.
fn used(table: &Table) -> Vec<Range<u64>> {
    let ranges = table.entries.iter().flatten();
    let mut used: Vec<Range<u64>> =
        ranges.map(|entry| entry.first..entry.last.saturating_add(1)).collect();
    used.sort_by_key(|range| range.start);
    used
}

impl Table {
    /// The partition of a name, with its number.
    pub(crate) fn find(&self, name: &str) -> Option<(u32, &Entry)> {
        let mut numbered = (1..).zip(&self.entries);
        numbered.find_map(|(number, entry)| {
            entry.as_ref().filter(|entry| entry.name == name).map(|entry| (number, entry))
        })
    }

    /// Adds the partitions that are missing, in free space only, on a disk of `size` bytes whose table may still be that
    /// of a smaller one. Returns the numbers of what was added.
    ///
    /// # Errors
    /// When there is no room; the table is then unchanged in all that matters (the caller drops it).
    pub(crate) fn add(
        &mut self,
        wanted: &[Wanted],
        sector: u64,
        size: u64,
        alignment: u64,
    ) -> Result<Vec<u32>, GptError> {
        let table_sectors = u64::from(ENTRIES * ENTRY_SIZE).div_ceil(sector);
        self.entries.resize(self.entries.len().max(ENTRIES as usize), None);
        self.last_usable = size / sector - 2 - table_sectors;
        // Our table of 128 entries lies from sector 2 on; a stranger's smaller one may leave no room for it.
        let first = used(self).first().map_or(self.first_usable, |range| range.start);
        if first < 2 + table_sectors {
            let what = format!("the first partition begins at sector {first}, inside the table");
            return Err(GptError::Contradiction(what));
        }
        self.first_usable = self.first_usable.max(2 + table_sectors);
        let mut added = Vec::new();
        for want in wanted {
            if self.find(want.name).is_some() {
                continue;
            }
            let free = free_pieces(self, alignment / sector);
            let largest = free.iter().max_by_key(|piece| piece.end - piece.start).cloned();
            let needed = want.size.unwrap_or(want.least).div_ceil(sector);
            let piece = match want.size {
                // First fit keeps the partitions in their order.
                Some(_) => free.into_iter().find(|piece| piece.end - piece.start >= needed),
                None => largest.clone().filter(|piece| piece.end - piece.start >= needed),
            };
            let piece = piece.ok_or_else(|| GptError::TooSmall {
                name: want.name.to_owned(),
                needed: needed * sector,
                free: largest.map_or(0, |piece| (piece.end - piece.start) * sector),
            })?;
            let length = want.size.map_or(piece.end - piece.start, |_| needed);
            let index = self.entries.iter().position(Option::is_none).ok_or(GptError::NoEntry)?;
            self.entries[index] = Some(Entry {
                kind: want.kind,
                id: want.id,
                first: piece.start,
                last: piece.start + length - 1,
                attributes: 0,
                name: want.name.to_owned(),
            });
            added.push(u32::try_from(index + 1).map_err(|_| GptError::NoEntry)?);
        }
        Ok(added)
    }

    /// What to write so that the table becomes this one: new partitions' beginnings zeroed, then the backup at the true
    /// end of the disk, and only when that is durable the primary. At each step one copy on the disk is whole.
    pub(crate) fn writes(&self, sector: u64, size: u64, added: &[u32]) -> Vec<Write> {
        let last = size / sector - 1;
        let mut writes = Vec::new();
        for number in added {
            let entry = self.entries.get(*number as usize - 1).and_then(Option::as_ref);
            let Some(entry) = entry else { continue };
            let length = WIPED.min((entry.last - entry.first + 1) * sector);
            writes.push(Write::Bytes {
                offset: entry.first * sector,
                bytes: vec![0; usize::try_from(length).unwrap_or(0)],
            });
        }
        writes.push(Write::Flush);
        let entries = self.entry_bytes();
        let table_sectors = (entries.len() as u64).div_ceil(sector);
        for (own, other, at) in [(last, 1, last - table_sectors), (1, last, 2)] {
            let header = self.header(own, other, at, &entries, sector);
            writes.push(Write::Bytes { offset: at * sector, bytes: entries.clone() });
            writes.push(Write::Flush);
            writes.push(Write::Bytes { offset: own * sector, bytes: header });
            writes.push(Write::Flush);
        }
        writes
    }

    fn entry_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.entries.len() * ENTRY_SIZE as usize];
        for (entry, out) in self.entries.iter().zip(bytes.chunks_exact_mut(ENTRY_SIZE as usize)) {
            let Some(entry) = entry else { continue };
            out[..16].copy_from_slice(&entry.kind);
            out[16..32].copy_from_slice(&entry.id);
            out[32..40].copy_from_slice(&entry.first.to_le_bytes());
            out[40..48].copy_from_slice(&entry.last.to_le_bytes());
            out[48..56].copy_from_slice(&entry.attributes.to_le_bytes());
            for (unit, out) in entry.name.encode_utf16().zip(out[56..].chunks_exact_mut(2)) {
                out.copy_from_slice(&unit.to_le_bytes());
            }
        }
        bytes
    }

    fn header(&self, own: u64, other: u64, at: u64, entries: &[u8], sector: u64) -> Vec<u8> {
        let mut header = vec![0; usize::try_from(sector).unwrap_or(512)];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&0x0001_0000_u32.to_le_bytes());
        header[12..16].copy_from_slice(&92_u32.to_le_bytes());
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[40..48].copy_from_slice(&self.first_usable.to_le_bytes());
        header[48..56].copy_from_slice(&self.last_usable.to_le_bytes());
        header[56..72].copy_from_slice(&self.disk_id);
        header[72..80].copy_from_slice(&at.to_le_bytes());
        let count = u32::try_from(self.entries.len()).unwrap_or(ENTRIES);
        header[80..84].copy_from_slice(&count.to_le_bytes());
        header[84..88].copy_from_slice(&ENTRY_SIZE.to_le_bytes());
        header[88..92].copy_from_slice(&crc32(entries).to_le_bytes());
        let checksum = crc32(&header[..HEADER_SIZE]);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        header
    }
}

/// Free space in whole units of `alignment` sectors, in order of its place.
fn free_pieces(table: &Table, alignment: u64) -> Vec<Range<u64>> {
    let alignment = alignment.max(1);
    let mut pieces = Vec::new();
    let mut start = table.first_usable;
    let end = table.last_usable + 1;
    for range in used(table).into_iter().chain(std::iter::once(end..end)) {
        let piece = start.next_multiple_of(alignment)..range.start / alignment * alignment;
        if piece.start < piece.end {
            pieces.push(piece);
        }
        start = start.max(range.end);
    }
    pieces
}

/// A GUID written as text, in the byte order of the disk. `None` when it is none.
pub(crate) fn guid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 {
        return None;
    }
    let value = u128::from_str_radix(&digits, 16).ok()?.to_be_bytes();
    let mut bytes = value;
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    Some(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
