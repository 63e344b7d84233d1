//! Turns the stream of a layer into a folder, while it arrives, on two threads: one checks the digest of what arrives
//! and decompresses, the other checks the digest of the archive and makes the files.
//!
//! These are threads of the agent, not a process: all of it is safe Rust, every name is resolved by the kernel below
//! one folder, and the thread that makes files has given up the right to open anything outside of it (Landlock); a
//! kernel that cannot take it away unpacks nothing. A layer gets a folder to itself, so it can change no other.

mod decode;
mod tar;
mod tree;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use hyper::body::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::config::Limits;
use crate::digest::Digest;

pub(crate) use self::tar::{Archive, Kind, TarError};
pub(crate) use self::tree::Stats;

/// Folder of a layer's files; beside it there is room for what the store knows about the layer.
pub(crate) const FILES: &str = "fs";
/// Pieces of a download that wait for the thread that decompresses.
const ARRIVED_MAX: usize = 16;
/// Decompressed pieces that wait for the thread that makes files.
const DECODED_MAX: usize = 4;
/// Nothing is said about the ratio before this many bytes are unpacked.
const RATIO_FROM: u64 = 256 << 20;
/// Bytes written between two looks at the free space.
const SPACE_EVERY: u64 = 8 << 20;

/// Why a layer is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream ended early because whoever sent it gave up.
    #[error("the download stopped")]
    Stopped,
    /// It cannot be decompressed.
    #[error("decompress the layer")]
    Decompress(#[source] io::Error),
    /// It is longer or shorter than its manifest says.
    #[error("the layer has {found} bytes, its manifest says {expected}")]
    Length {
        /// By the manifest.
        expected: u64,
        /// Bytes that came; at least, when they were too many.
        found: u64,
    },
    /// Something else came than was asked for.
    #[error("the {what} has digest {found}, expected {expected}")]
    Digest {
        /// Layer as it travels, or its archive.
        what: &'static str,
        /// By the manifest or configuration.
        expected: Digest,
        /// Of what came.
        found: Digest,
    },
    /// The archive in it is damaged.
    #[error("{0}")]
    Archive(&'static str),
    /// An entry may not be what it is.
    #[error("entry {path:?} of the layer {problem}")]
    Entry {
        /// Name in the archive.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A bound was reached.
    #[error("the image is refused: {0}")]
    TooMuch(&'static str),
    /// The disk is full, or nearly.
    #[error("the disk is full; {reserve} bytes of it are kept free")]
    Full {
        /// What is kept free for others.
        reserve: u64,
    },
    /// The thread that would make the files could reach others.
    #[error(
        "nothing is unpacked, as the kernel does not fence in the thread that would do it (Landlock)"
    )]
    Unfenced {
        /// Why; `None` when it does not know how.
        #[source]
        source: Option<io::Error>,
    },
    /// The kernel refused.
    #[error("{operation} {path:?} of the layer")]
    Make {
        /// What was tried.
        operation: &'static str,
        /// Name in the archive.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What all layers of one image may still take.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicU64::new(limits.unpacked_bytes),
            entries: AtomicU64::new(limits.entries),
        })
    }

    fn take(left: &AtomicU64, amount: u64, what: &'static str) -> Result<(), UnpackError> {
        let taken =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(amount));
        taken.map(drop).map_err(|_| UnpackError::TooMuch(what))
    }
}

/// A layer to unpack.
#[derive(Debug)]
pub(crate) struct Job {
    /// Folder of its own with an empty folder [`FILES`]; removed when the layer is not acceptable or not wanted.
    pub(crate) place: PathBuf,
    /// Digest of the layer as it travels.
    pub(crate) digest: Digest,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// Digest of the archive in it.
    pub(crate) diff_id: Digest,
    pub(crate) budget: Arc<Budget>,
    pub(crate) limits: Limits,
    /// Dropped when the threads have ended and cleaned up.
    #[expect(dead_code, reason = "it is only ever dropped")]
    pub(crate) alive: mpsc::Sender<()>,
}

/// A piece of a layer, on its way to the threads.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    /// All of it came. Without this the layer was given up.
    End,
}

/// What becomes of a layer.
pub(crate) type Outcome = oneshot::Receiver<Result<Stats, UnpackError>>;

/// Starts the threads. The result comes when both have ended; nothing is synchronised yet.
pub(crate) fn start(job: Job) -> io::Result<(mpsc::Sender<Piece>, Outcome)> {
    let (sender, pieces) = mpsc::channel(ARRIVED_MAX);
    let (answer, result) = oneshot::channel();
    thread::Builder::new().name("image-layer".into()).spawn(move || {
        let result = run(&job, pieces);
        // Only this thread knows that nothing is written any more.
        let discard = || std::fs::remove_dir_all(&job.place);
        if result.is_err() {
            let _ = discard();
        }
        // Nobody listening: the pull was given up.
        if let Err(Ok(_)) = answer.send(result) {
            let _ = discard();
        }
        drop(job);
    })?;
    Ok((sender, result))
}

fn run(job: &Job, pieces: mpsc::Receiver<Piece>) -> Result<Stats, UnpackError> {
    let root = tree::open_root(&job.place.join(FILES))?;
    let (sender, chunks) = sync_channel(DECODED_MAX);
    let (spent, free) = channel();
    thread::scope(|scope| {
        let files = thread::Builder::new()
            .name("image-files".into())
            .spawn_scoped(scope, || files(job, root, decode::Chunks::new(chunks, spent)))
            .map_err(|source| tree::failed("start a thread for", b"", source))?;
        let decoded = decode(job, pieces, &Decoded { out: &sender, free });
        drop(sender);
        let made = files.join().unwrap_or(Err(UnpackError::Stopped));
        match (decoded, made) {
            // The one who gave up first knows why; the other only saw a stream end.
            (Ok(()), made) => made,
            (Err(UnpackError::Stopped), Err(error)) => Err(error),
            (Err(error), _) => Err(error),
        }
    })
}

/// First thread: digest and length of what arrives, decompression, ratio.
fn decode(job: &Job, pieces: mpsc::Receiver<Piece>, to: &Decoded<'_>) -> Result<(), UnpackError> {
    let mut arrived = decode::Arrived::new(pieces, job.size);
    let decoded = copy(job, &mut arrived, to);
    if let Some(error) = arrived.error() {
        return Err(error);
    }
    decoded?;
    arrived.drain()?;
    let (found, length) = arrived.finish();
    if length != job.size {
        return Err(UnpackError::Length { expected: job.size, found: length });
    }
    if found != job.digest {
        return Err(UnpackError::Digest { what: "layer", expected: job.digest, found });
    }
    to.out.send(Chunk::End).map_err(|_| UnpackError::Stopped)
}

/// The way to the second thread, and back for what it has read: there are never more pieces than fit on the way.
struct Decoded<'a> {
    out: &'a SyncSender<Chunk>,
    free: Receiver<Vec<u8>>,
}

fn copy(job: &Job, arrived: &mut decode::Arrived, to: &Decoded<'_>) -> Result<(), UnpackError> {
    let mut decoder = decode::Decoder::new(arrived).map_err(UnpackError::Decompress)?;
    let mut total = 0_u64;
    loop {
        let room = to.free.try_recv().unwrap_or_default();
        let chunk = decoder.chunk(room).map_err(UnpackError::Decompress)?;
        if chunk.is_empty() {
            return Ok(());
        }
        total += chunk.len() as u64;
        Budget::take(&job.budget.bytes, chunk.len() as u64, "it unpacks to too many bytes")?;
        if total > RATIO_FROM && total > decoder.arrived().saturating_mul(job.limits.ratio) {
            return Err(UnpackError::TooMuch("it is compressed too well to be an honest image"));
        }
        to.out.send(Chunk::Data(chunk)).map_err(|_| UnpackError::Stopped)?;
    }
}

/// Names are resolved below the folder all the same, but a second wall that nobody would miss is none.
fn fence(raised: io::Result<bool>, needed: bool) -> Result<(), UnpackError> {
    match raised {
        Ok(true) => Ok(()),
        _ if !needed => Ok(()),
        Ok(false) => Err(UnpackError::Unfenced { source: None }),
        Err(error) => Err(UnpackError::Unfenced { source: Some(error) }),
    }
}

/// A piece of an archive, on its way to the second thread.
enum Chunk {
    Data(Vec<u8>),
    End,
}

/// Second thread: files, and the digest of the archive.
fn files(job: &Job, root: OwnedFd, chunks: decode::Chunks) -> Result<Stats, UnpackError> {
    fence(ingot_linux::landlock::only_below(root.as_fd()), job.limits.fenced)?;
    let mut archive = tar::Archive::new(chunks);
    let mut tree = tree::Tree::new(root, &job.limits);
    loop {
        let entry = match archive.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(error) => return Err(tree::damaged(error)),
        };
        Budget::take(&job.budget.entries, 1, "it has too many files")?;
        tree.make(&entry, &mut archive)?;
    }
    let found = archive.into_inner().finish().map_err(|e| tree::damaged(TarError::Read(e)))?;
    if found != job.diff_id {
        return Err(UnpackError::Digest { what: "archive", expected: job.diff_id, found });
    }
    tree.finish()
}

#[cfg(test)]
mod tests;
