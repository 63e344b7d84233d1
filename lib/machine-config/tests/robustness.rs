//! No text makes the loader panic, hang, or give both a config and problems.

use ingot_machine_config::nocloud::{self, Files};
use ingot_machine_config::{Config, load, redact};
use proptest::prelude::*;
use proptest::sample::select;

const EVERY_FIELD: &str = include_str!("../../../configs/machine/every-field.yaml");

/// Pieces of YAML that mean something to a parser.
const PIECES: &[&str] = &[
    "a",
    ":",
    ": ",
    "- ",
    "\n",
    "  ",
    "    ",
    "---\n",
    "...\n",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    "|",
    "|\n",
    ">-\n",
    "&a ",
    "*a",
    "!!str ",
    "!x ",
    "? ",
    "#",
    "%YAML 1.2\n",
    "\t",
    "~",
    "null",
    "kind: Machine\n",
    "kind: Pod\n",
    "kind: ConfigMap\n",
    "kind: Secret\n",
    "stringData:\n",
    "apiVersion: ingot/v1\n",
    "apiVersion: v1\n",
    "network:\n",
    "spec:\n",
    "containers:\n",
    "\u{feff}",
    "\r\n",
    "é",
    "\0",
    "0x1",
    "1e9",
];

/// Loads, and holds what came out against what was promised.
fn hold(text: &str) {
    let loaded = load(text);
    assert_eq!(loaded.config.is_some(), loaded.problems.is_empty());
    let lines = u32::try_from(text.matches(['\n', '\r']).count()).expect("few lines") + 1;
    assert!(loaded.problems.iter().all(|problem| problem.line <= lines), "{:?}", loaded.problems);
    if let Some(config) = loaded.config {
        let written = config.to_yaml();
        assert_eq!(load(&written).config.as_ref(), Some(&config), "{written}");
        assert!(!redact(text).contains("PRIVATE KEY"));
        assert_eq!(shown_again(&config), config.redacted());
    } else {
        assert!(redact(text).starts_with('#'));
    }
    let _ = nocloud::read(Files {
        meta_data: Some(text),
        user_data: Some(text),
        network_config: Some(text),
    });
}

fn shown_again(config: &Config) -> String {
    redact(&config.to_yaml())
}

/// What chance has found once is tried every time.
#[test]
fn a_key_that_nothing_follows_is_on_a_line_of_the_text() {
    hold("kind: Machine\n? ");
    hold("~kind: Secret\n\n? ");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_texts(text in any::<String>()) {
        hold(&text);
    }

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        hold(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_yaml(pieces in proptest::collection::vec(select(PIECES), 0..80)) {
        hold(&pieces.concat());
    }

    #[test]
    fn mutated_configs(cuts in proptest::collection::vec((0..EVERY_FIELD.len(), 0_usize..30, select(PIECES)), 1..4)) {
        let mut text = EVERY_FIELD.to_owned();
        for (at, length, piece) in cuts {
            let end = (at + length).min(text.len());
            if text.is_char_boundary(at.min(end)) && text.is_char_boundary(end) {
                text.replace_range(at.min(end)..end, piece);
            }
        }
        hold(&text);
    }

    #[test]
    fn configs_without_some_lines(keep in proptest::collection::vec(proptest::bool::weighted(0.97), 330)) {
        let lines = EVERY_FIELD.lines().zip(keep.iter().chain(std::iter::repeat(&true)));
        let text: String = lines.filter(|(_, keep)| **keep).map(|(line, _)| format!("{line}\n")).collect();
        hold(&text);
    }

    #[test]
    fn any_text_in_a_field_survives(text in "[^\u{0}\u{feff}]{0,40}", name in "[a-z]{1,10}") {
        let minimal = include_str!("../../../configs/machine/minimal.yaml");
        let mut config = load(minimal).config.expect("sound");
        config.machine.kernel.sysctls.insert("a.b".to_owned(), ingot_machine_config::v1::kernel::SysctlValue(text.clone()));
        let pod = format!("{minimal}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}p}}\nspec: {{containers: [{{name: a, image: b}}]}}\n");
        let mut with_pod = load(&pod).config.expect("sound");
        with_pod.pods[0].spec.containers[0].args = vec![text.clone(), name];
        with_pod.pods[0].metadata.annotations.insert("x".to_owned(), text);
        prop_assert_eq!(load(&with_pod.to_yaml()).config, Some(with_pod.clone()), "{}", with_pod.to_yaml());
    }
}
