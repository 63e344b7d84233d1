//! Ids for pods with a user namespace of their own: each pod has a range that nobody else on the node has.
//!
//! A pod's range is in its record before it is used, so the set of leases is rebuilt from records.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::pod_task::USER_IDS;

/// First id of the first range. The kubelet gives its pods ranges from 65536 on, 110 of them by default and a few thousand at
/// most; ours begin far above.
const FIRST: u32 = 1 << 30;

/// How many ranges there are: more than pods.
const RANGES: u32 = 1 << 13;

/// All ranges are taken.
#[derive(Debug, thiserror::Error)]
#[error("no range of user ids is left for a pod with hostUsers: false")]
pub(crate) struct NoRange;

/// Who has which range.
#[derive(Default)]
pub(crate) struct UserIds {
    leases: Mutex<HashMap<String, u32>>,
}

impl UserIds {
    /// First id of a range that is the pod's until [`Self::release`].
    pub(crate) fn lease(&self, uid: &str) -> Result<u32, NoRange> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = leases.get(uid) {
            return Ok(*first);
        }
        let taken: std::collections::HashSet<u32> = leases.values().copied().collect();
        let mut all = (0..RANGES).map(|number| FIRST + number * USER_IDS);
        let first = all.find(|first| !taken.contains(first)).ok_or(NoRange)?;
        leases.insert(uid.to_owned(), first);
        Ok(first)
    }

    /// Takes a range that a record says a pod has.
    pub(crate) fn adopt(&self, uid: &str, first: u32) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.insert(uid.to_owned(), first);
    }

    /// Gives the range of a pod back.
    pub(crate) fn release(&self, uid: &str) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_pods_have_the_same_ids() {
        let ids = UserIds::default();
        let first = ids.lease("a").unwrap();
        assert_eq!(ids.lease("a").unwrap(), first);
        ids.adopt("b", first + USER_IDS);
        let third = ids.lease("c").unwrap();
        assert!(third >= first + 2 * USER_IDS);
        ids.release("a");
        assert_eq!(ids.lease("d").unwrap(), first);
        // The highest id must be one.
        assert!(u64::from(FIRST) + u64::from(RANGES) * u64::from(USER_IDS) < u64::from(u32::MAX));
    }
}
