//! Quantities mean what they mean to Kubernetes.

use ingot_machine_config::Quantity;
use proptest::prelude::*;

fn parse(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn cpu_in_thousandths() {
    for (text, millis) in [
        ("100m", 100),
        ("1", 1000),
        ("1.5", 1500),
        ("0.25", 250),
        (".5", 500),
        ("2.", 2000),
        ("0", 0),
        ("+1", 1000),
        ("1e3", 1_000_000),
        ("1E3", 1_000_000),
        ("1e-3", 1),
        ("1u", 1),
        ("500000u", 500),
        ("1n", 1),
        ("0.0000000001", 1),
    ] {
        assert_eq!(parse(text).millis(), millis, "{text}");
    }
}

#[test]
fn memory_in_bytes() {
    for (text, bytes) in [
        ("128Mi", 128 << 20),
        ("1G", 1_000_000_000),
        ("1Gi", 1 << 30),
        ("1.5Gi", 3 << 29),
        ("1k", 1000),
        ("1Ki", 1024),
        ("1e6", 1_000_000),
        ("2E", 2_000_000_000_000_000_000),
        ("1Ei", 1 << 60),
        ("100m", 1),
        ("0.1Ki", 103),
        ("9223372036854775807", u64::MAX >> 1),
    ] {
        assert_eq!(parse(text).units(), bytes, "{text}");
    }
}

#[test]
fn what_is_no_quantity_is_refused() {
    for text in [
        "",
        ".",
        "-1",
        "1.2.3",
        "1 Mi",
        "Mi",
        "1mi",
        "1MB",
        "1K",
        "1e",
        "1e1.5",
        "0x10",
        "1_000",
        "8Ei",
        "9223372036854775808",
        "1e99999999999",
        "1e40",
        "99999999999999999999999999999999999",
        "\u{661}",
        "1Mi ",
        "NaN",
        "inf",
        "++1",
        "+-1",
        "--1",
    ] {
        assert!(text.parse::<Quantity>().is_err(), "{text:?} passes for a quantity");
    }
}

#[test]
fn equal_amounts_are_equal_however_they_are_written() {
    assert_eq!(parse("1000m"), parse("1"));
    assert_eq!(parse("1Ki"), parse("1.024k"));
    assert!(parse("999m") < parse("1"));
    assert_eq!(parse("1000m").to_string(), "1000m", "a config prints as it was written");
}

proptest! {
    #[test]
    fn no_text_panics(text in "[-+.0-9a-zA-Z]{0,40}|.{0,40}") {
        let _ = text.parse::<Quantity>();
    }

    #[test]
    fn thousandths_are_exact(millis in 0_u64..1 << 50) {
        prop_assert_eq!(parse(&format!("{millis}m")).millis(), millis);
        prop_assert_eq!(parse(&format!("{}.{:03}", millis / 1000, millis % 1000)).millis(), millis);
    }
}
