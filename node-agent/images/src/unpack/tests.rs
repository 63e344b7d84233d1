//! The fence around the thread that makes files.

use super::*;

#[test]
fn nothing_is_unpacked_by_a_thread_that_is_not_fenced_in() {
    let refused = || Err(io::Error::from_raw_os_error(1));
    assert!(fence(Ok(true), true).is_ok());
    assert!(matches!(fence(Ok(false), true), Err(UnpackError::Unfenced { source: None })));
    assert!(matches!(fence(refused(), true), Err(UnpackError::Unfenced { source: Some(_) })));
    // Only where a test says so.
    assert!(fence(Ok(false), false).is_ok() && fence(refused(), false).is_ok());
    assert!(Limits::default().fenced);
}
