//! `WWW-Authenticate`: how a registry wants to be asked.

/// One way to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case: `basic`, `bearer`.
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| &value[..])
    }
}

/// All ways in one header. What cannot be understood is left out.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let Some(value) = after.trim_start().strip_prefix('=') else {
            // A word without a value begins the next way.
            found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            rest = after.trim_start_matches([' ', ',']);
            if word.is_empty() {
                break;
            }
            continue;
        };
        let (value, after) = value_of(value.trim_start());
        if let Some(challenge) = found.last_mut() {
            challenge.parameters.push((word.to_ascii_lowercase(), value));
        }
        rest = after.trim_start_matches([' ', ',']);
    }
    found
}

/// A value, with or without quotes, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ways_of_a_registry_are_told_apart() {
        let header = r#"Basic realm="a, b", Bearer realm="https://auth.test/token",service="reg\"istry",scope="x""#;
        let [basic, bearer] = &parse(header)[..] else { panic!("two ways") };
        assert_eq!((&basic.scheme[..], basic.parameter("realm")), ("basic", Some("a, b")));
        assert_eq!(bearer.parameter("realm"), Some("https://auth.test/token"));
        assert_eq!(bearer.parameter("service"), Some("reg\"istry"));
        assert_eq!(parse("bearer realm=x , scope = \"y\"")[0].parameter("scope"), Some("y"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { fork: false, ..ProptestConfig::default() })]

        #[test]
        fn nonsense_ends(header in "\\PC{0,60}") {
            parse(&header);
        }
    }
}
