//! Writing what is in a file, and sending it to the disk meanwhile.

use std::fs::File;
use std::io::{BufRead, Write as _};

use super::{Archive, Entry, Tree, UnpackError, damaged, failed};

/// Bytes of one file that are written before they are sent to the disk. The agent's share of pages that are not on the disk
/// is small (a fifth of its memory): without this the kernel holds a pull up for seconds, see `writeback::begin`.
const SEND_EVERY: u64 = 1 << 20;

impl Tree {
    /// Writes so many bytes of the entry's content at most.
    pub(super) fn content<R: BufRead>(
        &mut self,
        entry: &Entry,
        file: &mut File,
        mut left: u64,
        archive: &mut Archive<R>,
    ) -> Result<(), UnpackError> {
        let (mut written, mut sent) = (0, 0);
        while left > 0 {
            let piece = archive.piece().map_err(damaged)?;
            if piece.is_empty() {
                break;
            }
            let length = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            file.write_all(&piece[..length]).map_err(|e| failed("write", &entry.path, e))?;
            archive.consume(length);
            left -= length as u64;
            written += length as u64;
            self.check_space(length as u64)?;
            if written - sent >= SEND_EVERY {
                send(file);
                sent = written;
            }
        }
        if written > sent {
            send(file);
        }
        self.stats.bytes += written.next_multiple_of(4096);
        Ok(())
    }
}

/// Lets the disk begin with a file. Whether it gets there is asked when the image is complete.
fn send(file: &File) {
    let _ = ingot_linux::writeback::begin(file, 0..0);
}
