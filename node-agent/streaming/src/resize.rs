//! Sizes of the caller's terminal: JSON objects back to back on a stream of their own. Only the last one matters, so only that is kept.

use crate::backend::Input;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

/// Longest object that is looked at; a real one has about 30 bytes.
const MAX_OBJECT: usize = 256;

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The sizes as they change.
#[derive(Debug, Clone)]
pub struct Resizes(watch::Receiver<Option<TerminalSize>>);

impl Resizes {
    /// No terminal: ends at once.
    #[must_use]
    pub fn none() -> Self {
        Self(watch::channel(None).1)
    }

    /// The next size that differs from what was returned before, `None` when no more will come. Sizes in between are skipped.
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            self.0.changed().await.ok()?;
            if let Some(size) = *self.0.borrow_and_update() {
                return Some(size);
            }
        }
    }
}

/// Sizes from somewhere else than this server's streams.
impl From<watch::Receiver<Option<TerminalSize>>> for Resizes {
    fn from(mut sizes: watch::Receiver<Option<TerminalSize>>) -> Self {
        // A size that was there before is news too.
        sizes.mark_changed();
        Self(sizes)
    }
}

/// Reads sizes from a stream until it ends. The future does the reading.
pub(crate) fn read(mut stream: Input) -> (Resizes, impl Future<Output = ()> + Send) {
    let (sender, receiver) = watch::channel(None);
    let reading = async move {
        let mut pending = Vec::new();
        let mut chunk = [0; 128];
        while let Ok(count @ 1..) = stream.read(&mut chunk).await {
            for byte in chunk.iter().take(count) {
                pending.push(*byte);
                if *byte == b'}' {
                    if let Some(size) = parse(&pending) {
                        sender.send_replace(Some(size));
                    }
                    pending.clear();
                } else if pending.len() > MAX_OBJECT {
                    pending.clear();
                }
            }
        }
    };
    (Resizes(receiver), reading)
}

fn parse(object: &[u8]) -> Option<TerminalSize> {
    let object: serde_json::Value = serde_json::from_slice(object).ok()?;
    let side = |name: &str| u16::try_from(object.get(name)?.as_u64()?).ok();
    Some(TerminalSize { width: side("Width")?, height: side("Height")? })
}

#[cfg(test)]
mod tests;
