//! Has records survive a loss of power from soon on, while nobody waits for the disk. It knows paths, and not what is written there.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::durable;
use crate::report::chain;

/// From a change until it goes to the disk. What changes meanwhile goes along with it, and what is removed meanwhile costs little more
/// than one write of the journal for all of it.
pub(crate) const AFTER: Duration = Duration::from_millis(500);

/// Changes that wait for their way to the disk: as many paths as there are records at most.
#[derive(Debug, Default)]
pub(crate) struct Soon {
    waiting: Mutex<BTreeSet<PathBuf>>,
}

impl Soon {
    /// Something was written to this path, or what was there is gone. Must be called in a runtime.
    pub(crate) fn sync(self: &Arc<Self>, path: PathBuf) {
        let mut waiting = self.waiting();
        let first = waiting.is_empty();
        waiting.insert(path);
        drop(waiting);
        if first {
            tokio::spawn(self.clone().later());
        }
    }

    async fn later(self: Arc<Self>) {
        tokio::time::sleep(AFTER).await;
        let paths = std::mem::take(&mut *self.waiting());
        let synced = tokio::task::spawn_blocking(move || durable::sync(&paths));
        // The other error: the agent ends.
        if let Ok(Err(error)) = synced.await {
            tracing::error!(error = chain(&error), "sync records");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until_empty(soon: &Soon) {
        let empty = async {
            while !soon.waiting().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), empty)
            .await
            .expect("nothing goes to the disk");
    }

    #[tokio::test]
    async fn what_changes_together_goes_together_and_what_comes_later_goes_too() {
        let folder = tempfile::tempdir().unwrap();
        let soon = Arc::new(Soon::default());
        for name in ["here", "gone"] {
            std::fs::write(folder.path().join(name), name).unwrap();
            soon.sync(folder.path().join(name));
        }
        std::fs::remove_file(folder.path().join("gone")).unwrap();
        assert_eq!(soon.waiting().len(), 2);
        until_empty(&soon).await;
        soon.sync(folder.path().join("later"));
        assert_eq!(soon.waiting().len(), 1);
        until_empty(&soon).await;
    }
}
