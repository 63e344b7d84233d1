//! From when until when a certificate is good. The clock is the caller's.

use crate::Error;
use std::time::{Duration, SystemTime};

/// How far a certificate reaches back before the moment it is made: machines' clocks differ, and a node that just
/// started has not asked a time server yet.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// Last second an X.509 date can say: 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// First and last moment of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub not_before: SystemTime,
    /// Last moment.
    pub not_after: SystemTime,
}

impl Validity {
    /// From [`CLOCK_SKEW`] before `now` (but never before 1970) until `lifetime` after `now`.
    #[must_use]
    pub fn starting(now: SystemTime, lifetime: Duration) -> Self {
        let earliest = SystemTime::UNIX_EPOCH;
        Self {
            not_before: now.checked_sub(CLOCK_SKEW).unwrap_or(earliest).max(earliest),
            not_after: now
                .checked_add(lifetime)
                .unwrap_or(earliest + Duration::from_secs(LAST_SECOND)),
        }
    }

    /// Days, for lifetimes.
    #[must_use]
    pub fn days(days: u32) -> Duration {
        Duration::from_secs(u64::from(days) * 24 * 60 * 60)
    }

    /// Whether `now` lies within.
    #[must_use]
    pub fn contains(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Writes both dates into the parameters of a certificate.
    pub(crate) fn write(&self, params: &mut rcgen::CertificateParams) -> Result<(), Error> {
        let seconds = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
            (since <= LAST_SECOND).then_some(Duration::from_secs(since))
        };
        let first = seconds(self.not_before).ok_or(Error::Validity)?;
        let last = seconds(self.not_after).ok_or(Error::Validity)?;
        if last < first {
            return Err(Error::Validity);
        }
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + first;
        params.not_after = epoch + last;
        Ok(())
    }
}
