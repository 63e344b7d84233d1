//! The CPU between two samples.

use super::*;

fn sample(seconds: i64, cpu_usage_usec: u64) -> ContainerStats {
    ContainerStats {
        time: Some(Timestamp { seconds, nanos: 0 }),
        cpu_usage_usec,
        ..Default::default()
    }
}

#[test]
fn a_quarter_of_a_cpu_is_250m() {
    assert_eq!(rate(&sample(10, 1_000_000), &sample(20, 3_500_000)), "250m");
}

#[test]
fn a_container_made_anew_has_no_rate() {
    assert_eq!(rate(&sample(10, 1_000_000), &sample(20, 500)), "-");
    assert_eq!(rate(&sample(10, 0), &sample(10, 0)), "-");
}
