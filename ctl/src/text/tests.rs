//! Values as people read them.

use super::*;

#[test]
fn sizes_keep_a_tenth_and_never_round_up_to_the_next_unit() {
    let shown = [0, 1023, 1024, 1536, (1 << 20) - 1, 64 << 20, 3 << 30, u64::MAX].map(bytes);
    let wanted =
        ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "64.0 MiB", "3.0 GiB", "16383.9 PiB"];
    assert_eq!(shown, wanted);
}

#[test]
fn durations_show_their_two_largest_units() {
    let shown = [0, 59, 60, 3600, 93_784, -5]
        .map(|seconds| duration(Some(&Duration { seconds, nanos: 0 })));
    assert_eq!(shown, ["0s", "59s", "1m0s", "1h0m", "1d2h", "0s"]);
    assert_eq!(duration(None), "-");
}

#[test]
fn modes_look_as_in_ls() {
    let shown = [0o100_755, 0o040_700, 0o120_777, 0o104_755, 0o102_644, 0o041_777, 0].map(mode);
    let wanted = [
        "-rwxr-xr-x",
        "drwx------",
        "lrwxrwxrwx",
        "-rwsr-xr-x",
        "-rw-r-Sr--",
        "drwxrwxrwt",
        "?---------",
    ];
    assert_eq!(shown, wanted);
}

#[test]
fn terminals_obey_nobody_but_the_operator() {
    assert_eq!(printable("plain\tümlaut\n"), "plain\tümlaut\n");
    assert_eq!(printable("\x1b[2Jgone\r\u{202e}"), "\\u{1b}[2Jgone\\r\\u{202e}");
}

#[test]
fn times_out_of_range_are_no_panic() {
    assert_eq!(time(Some(&Timestamp { seconds: i64::MAX, nanos: -1 })), "-");
    assert_eq!(time(Some(&Timestamp { seconds: 0, nanos: 0 })), "1970-01-01T00:00:00Z");
    let moment = Timestamp { seconds: 0, nanos: 1_500_000 };
    assert_eq!(precise_time(Some(&moment)), "1970-01-01T00:00:00.001Z");
}
