//! Finds the Debian mirror this machine already uses, in its own apt configuration.
//!
//! No mirror is written into the project: a machine behind a proxy or on a company mirror works as it is set up. Both
//! forms are read, deb822 (`*.sources`) and one line (`*.list`).

use std::path::{Path, PathBuf};

/// One `deb` entry of the machine's apt configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) uri: String,
    pub(crate) suites: Vec<String>,
    pub(crate) components: Vec<String>,
    pub(crate) signed_by: Option<PathBuf>,
}

/// Code names and aliases of Debian's main archive. Their mirrors carry every suite, so any of them will do.
const SUITES: &[&str] = &[
    "stretch",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// Reads every entry below an apt directory such as `/etc/apt`, in apt's order. Files that cannot be read are skipped:
/// apt-get itself will complain about them better than we can.
pub(crate) fn entries(apt_dir: &Path) -> Vec<Entry> {
    let mut files = vec![apt_dir.join("sources.list")];
    if let Ok(directory) = std::fs::read_dir(apt_dir.join("sources.list.d")) {
        let mut parts: Vec<PathBuf> = directory.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => found.extend(text.lines().filter_map(one_line)),
            Some("sources") => found.extend(deb822(&text)),
            _ => {}
        }
    }
    found
}

/// The entry to take packages of Debian's main archive from.
pub(crate) fn choose(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().find(|entry| {
        entry.suites.iter().any(|suite| SUITES.contains(&suite.as_str()))
            && entry.components.iter().any(|component| component == "main")
            && !entry.uri.contains("security")
    })
}

/// `deb [signed-by=/x.gpg] http://host/debian bookworm main`.
fn one_line(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="))
        .map(PathBuf::from);
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Entry {
        uri: words.next()?,
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by,
    })
}

/// Stanzas of `Key: value` lines; a line that begins with a blank continues the value.
fn deb822(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            found.extend(stanza_entries(&stanza));
            stanza.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            stanza.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

fn stanza_entries(stanza: &[(String, String)]) -> Vec<Entry> {
    let get =
        |name: &str| stanza.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let words = |name: &str| -> Vec<String> {
        get(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let enabled = get("enabled").is_none_or(|value| !matches!(value, "no" | "false" | "0"));
    if !enabled || !words("types").iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    // A key may also be written into the stanza itself; only a path can be handed on.
    let signed_by = get("signed-by").filter(|value| value.starts_with('/')).map(PathBuf::from);
    words("uris")
        .into_iter()
        .map(|uri| Entry {
            uri,
            suites: words("suites"),
            components: words("components"),
            signed_by: signed_by.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_line_entry_is_read_with_its_options() {
        let entry = one_line(
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main contrib # x",
        );
        let entry = entry.expect("an entry");
        assert_eq!(entry.uri, "http://mirror.test/debian");
        assert_eq!(entry.suites, ["bookworm"]);
        assert_eq!(entry.components, ["main", "contrib"]);
        assert_eq!(entry.signed_by, Some(PathBuf::from("/k.gpg")));
    }

    #[test]
    fn comments_and_source_entries_are_not_mirrors() {
        assert_eq!(one_line("# deb http://mirror.test/debian bookworm main"), None);
        assert_eq!(one_line("deb-src http://mirror.test/debian bookworm main"), None);
    }

    #[test]
    fn a_deb822_stanza_is_read_with_comments_and_continued_lines() {
        let text = "Types: deb\n# old\nURIs: http://mirror.test/debian\nSuites: trixie\n trixie-updates\nComponents: main\n";
        let found = deb822(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].suites, ["trixie", "trixie-updates"]);
    }

    #[test]
    fn a_disabled_stanza_is_ignored() {
        assert!(
            deb822("Enabled: no\nTypes: deb\nURIs: http://mirror.test/debian\nSuites: trixie\n")
                .is_empty()
        );
    }

    #[test]
    fn the_security_archive_and_other_vendors_are_not_chosen() {
        let text = "Types: deb\nURIs: http://vendor.test/apt\nSuites: nodistro\nComponents: main\n\n\
                    Types: deb\nURIs: http://mirror.test/debian-security\nSuites: bookworm\nComponents: main\n\n\
                    Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\nComponents: main\n";
        let found = deb822(text);
        assert_eq!(
            choose(&found).map(|entry| entry.uri.as_str()),
            Some("http://mirror.test/debian")
        );
    }
}
