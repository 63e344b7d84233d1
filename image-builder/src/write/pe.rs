//! The unified kernel image: sections appended to systemd's EFI stub, which is a PE file.
//!
//! Only what the stub needs is written: section headers, section data, and the three totals of the optional header.
//! Nothing of the stub itself changes, so its signature would have to be made anew over the result.

/// A section to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Name of at most eight bytes, for example `.linux`.
    pub name: &'static str,
    /// Content.
    pub data: Vec<u8>,
    /// Bytes of memory to set aside when more than the content: a kernel unpacks itself in place.
    pub memory: u32,
    /// Whether the section holds code.
    pub code: bool,
}

/// What can be wrong with the stub or with what is to be appended.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeError {
    /// Not a PE32+ file.
    #[error("not a 64-bit PE file")]
    NotPe,
    /// The header area has no room for another section header.
    #[error("no room for the header of section {name}")]
    NoRoom {
        /// The first section that does not fit.
        name: &'static str,
    },
    /// A PE file ends below 4 GiB.
    #[error("section {name} is too large")]
    TooLarge {
        /// The section.
        name: &'static str,
    },
}

const INITIALIZED_DATA: u32 = 0x40;
const CODE: u32 = 0x20;
const EXECUTE: u32 = 0x2000_0000;
const READ: u32 = 0x4000_0000;
const SECTION_HEADER: usize = 40;

/// Where the interesting fields of a PE32+ file lie, and its sections.
#[derive(Debug)]
struct Layout {
    file_header: usize,
    optional_header: usize,
    sections_at: usize,
    sections: usize,
    section_alignment: u32,
    file_alignment: u32,
    size_of_image: u32,
    size_of_headers: u32,
}

/// Appends `sections` to `stub` in the given order.
///
/// # Errors
/// [`PeError`].
pub fn append(stub: &[u8], sections: &[Section]) -> Result<Vec<u8>, PeError> {
    let layout = layout(stub).ok_or(PeError::NotPe)?;
    let mut image = stub.to_vec();
    image.resize(image.len().next_multiple_of(layout.file_alignment as usize), 0);
    let mut address = layout.size_of_image.next_multiple_of(layout.section_alignment);
    let mut data_total = read_u32(stub, layout.optional_header + 8).ok_or(PeError::NotPe)?;
    for (index, section) in sections.iter().enumerate() {
        let too_large = || PeError::TooLarge { name: section.name };
        let header_at = layout.sections_at + (layout.sections + index) * SECTION_HEADER;
        if header_at + SECTION_HEADER > layout.size_of_headers as usize {
            return Err(PeError::NoRoom { name: section.name });
        }
        let length = u32::try_from(section.data.len()).map_err(|_| too_large())?;
        let raw = length.checked_next_multiple_of(layout.file_alignment).ok_or_else(too_large)?;
        let offset = u32::try_from(image.len()).map_err(|_| too_large())?;
        let memory = length.max(section.memory);
        let flags = if section.code { CODE | EXECUTE | READ } else { INITIALIZED_DATA | READ };
        let header = section_header(section.name, [memory, address, raw, offset], flags);
        image[header_at..header_at + SECTION_HEADER].copy_from_slice(&header);
        image.extend_from_slice(&section.data);
        image.resize(offset as usize + raw as usize, 0);
        let end = address.checked_add(memory).ok_or_else(too_large)?;
        address = end.checked_next_multiple_of(layout.section_alignment).ok_or_else(too_large)?;
        data_total = data_total.saturating_add(raw);
    }
    let count = u16::try_from(layout.sections + sections.len()).map_err(|_| PeError::NotPe)?;
    image[layout.file_header + 2..layout.file_header + 4].copy_from_slice(&count.to_le_bytes());
    write_u32(&mut image, layout.optional_header + 8, data_total);
    write_u32(&mut image, layout.optional_header + 56, address);
    write_u32(&mut image, layout.optional_header + 64, 0); // checksum: firmware does not look at it
    Ok(image)
}

/// Names, file offsets and lengths in memory of all sections: for tests and for looking into an image.
///
/// # Errors
/// [`PeError::NotPe`].
pub fn sections(image: &[u8]) -> Result<Vec<(String, usize, usize)>, PeError> {
    let layout = layout(image).ok_or(PeError::NotPe)?;
    let one = |index: usize| {
        let at = layout.sections_at + index * SECTION_HEADER;
        let name = image.get(at..at + 8)?.iter().take_while(|byte| **byte != 0).copied().collect();
        let name = String::from_utf8(name).ok()?;
        Some((name, read_u32(image, at + 20)? as usize, read_u32(image, at + 8)? as usize))
    };
    (0..layout.sections).map(|index| one(index).ok_or(PeError::NotPe)).collect()
}

/// Bytes of memory a PE image asks for (`SizeOfImage`): what a kernel needs to run in place.
///
/// # Errors
/// [`PeError::NotPe`].
pub fn memory_size(image: &[u8]) -> Result<u32, PeError> {
    layout(image).map(|layout| layout.size_of_image).ok_or(PeError::NotPe)
}

fn section_header(name: &str, [memory, address, raw, offset]: [u32; 4], flags: u32) -> [u8; 40] {
    let mut header = [0_u8; SECTION_HEADER];
    let length = name.len().min(8);
    header[..length].copy_from_slice(&name.as_bytes()[..length]);
    for (at, value) in [(8, memory), (12, address), (16, raw), (20, offset), (36, flags)] {
        write_u32(&mut header, at, value);
    }
    header
}

fn layout(image: &[u8]) -> Option<Layout> {
    let signature = read_u32(image, 0x3c)? as usize;
    if image.get(..2)? != b"MZ" || image.get(signature..signature + 4)? != b"PE\0\0" {
        return None;
    }
    let file_header = signature + 4;
    let optional_header = file_header + 20;
    if read_u16(image, optional_header)? != 0x20b {
        return None;
    }
    let alignment =
        |at: usize| read_u32(image, optional_header + at).filter(|value| value.is_power_of_two());
    Some(Layout {
        file_header,
        optional_header,
        sections_at: optional_header + usize::from(read_u16(image, file_header + 16)?),
        sections: usize::from(read_u16(image, file_header + 2)?),
        section_alignment: alignment(32)?,
        file_alignment: alignment(36)?,
        size_of_image: read_u32(image, optional_header + 56)?,
        size_of_headers: read_u32(image, optional_header + 60)?,
    })
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn write_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PE file with headers only, room for `room` section headers, and no sections.
    fn stub(room: usize) -> Vec<u8> {
        let mut image = vec![0_u8; 0x40 + 24 + 240 + room * SECTION_HEADER];
        image[..2].copy_from_slice(b"MZ");
        write_u32(&mut image, 0x3c, 0x40);
        image[0x40..0x44].copy_from_slice(b"PE\0\0");
        image[0x44 + 16..0x44 + 18].copy_from_slice(&240_u16.to_le_bytes());
        let optional = 0x44 + 20;
        image[optional..optional + 2].copy_from_slice(&0x20b_u16.to_le_bytes());
        let headers = u32::try_from(image.len()).expect("small");
        for (at, value) in [(32, 4096), (36, 512), (56, 4096), (60, headers)] {
            write_u32(&mut image, optional + at, value);
        }
        image
    }

    fn section(name: &'static str, data: &[u8]) -> Section {
        Section { name, data: data.to_vec(), memory: 0, code: false }
    }

    #[test]
    fn appended_sections_can_be_found_again_with_their_content() {
        let built =
            append(&stub(4), &[section(".cmdline", b"quiet"), section(".initrd", &[7; 1000])]);
        let built = built.expect("room for two");
        let found = sections(&built).expect("a PE file");
        assert_eq!(
            found.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(),
            [".cmdline", ".initrd"]
        );
        for (name, offset, length) in found {
            assert_eq!(offset % 512, 0, "{name}");
            assert_eq!(
                built.get(offset..offset + 1),
                Some(if name == ".initrd" { &[7_u8][..] } else { b"q" })
            );
            assert!(length == 5 || length == 1000);
        }
        assert_eq!(memory_size(&built), Ok(4096 * 3));
    }

    #[test]
    fn a_full_header_area_is_an_error_and_not_an_overwritten_section() {
        let error = append(&stub(1), &[section(".a", b"1"), section(".b", b"2")]);
        assert_eq!(error, Err(PeError::NoRoom { name: ".b" }));
    }

    #[test]
    fn something_else_than_a_pe_file_is_refused() {
        assert_eq!(append(b"\x7fELF", &[]), Err(PeError::NotPe));
    }
}
