//! Names of images, read and normalised as Docker does it. The result can be used in URLs and paths.

use std::fmt;

use crate::digest::Digest;

/// Registry of names that have none.
const DEFAULT_HOST: &str = "docker.io";
/// Longest host and repository together; registries refuse more.
const NAME_MAX: usize = 255;
/// Longest tag.
const TAG_MAX: usize = 128;

/// `host/repository[:tag][@digest]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The name cannot be one of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{reference:?} is not an image reference: {problem}; write [host/]repository[:tag][@sha256:digest]"
)]
pub struct ReferenceError {
    reference: String,
    problem: &'static str,
}

impl Reference {
    /// Reads a name; a missing host, `library/` and tag are filled in.
    ///
    /// # Errors
    /// When it cannot be the name of an image.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        Self::read(text).map_err(|problem| ReferenceError {
            // As long as the longest good one: an error may end in a log.
            reference: text.chars().take(NAME_MAX + TAG_MAX + 72).collect(),
            problem,
        })
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                (name, Some(digest.parse().map_err(|_| "the digest is not SHA-256")?))
            }
            None => (text, None),
        };
        // A colon before the last slash is a port of a host, not a tag.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err("the tag has characters that it may not have");
        }
        let (host, repository) = match name.split_once('/') {
            Some((first, rest)) if is_host_like(first) => (first, rest),
            _ => (DEFAULT_HOST, name),
        };
        if !is_host(host) {
            return Err("the host is not a name or address with an optional port");
        }
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        if repository.is_empty() || !repository.split('/').all(is_component) {
            return Err("the repository has characters that it may not have");
        }
        let official = host == DEFAULT_HOST && !repository.contains('/');
        if official && tag.is_none() && digest.is_none() && is_id(repository) {
            return Err("it is an image id");
        }
        let repository =
            if official { format!("library/{repository}") } else { repository.to_owned() };
        if host.len() + 1 + repository.len() > NAME_MAX {
            return Err("it is too long");
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { host: host.to_owned(), repository, tag, digest })
    }

    /// Registry, with a port if it has one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Path in the registry, e.g. `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Tag; `None` only when there is a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Digest of the manifest or index.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `host/repository`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// `host/repository:tag`, if it has a tag.
    #[must_use]
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.name()))
    }

    /// The last part of the URL of its manifest: the digest, else the tag.
    #[must_use]
    pub fn manifest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// 64 hexadecimal digits: never the name of an image, or it could stand for another one's id.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Docker's rule for whether the first part is a host or a folder of the default registry.
fn is_host_like(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// `name[:port]`, `address[:port]`, `[address][:port]`.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                ("v6", port.strip_prefix(':').or(port.is_empty().then_some("443")))
            }
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("443")),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let number =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    host.split('.').all(label) && port.is_some_and(number)
}

/// Runs of lower-case letters and digits, separated by one '.', one or two '_', or any number of '-'.
fn is_component(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().next_back()) else {
        return false;
    };
    plain(first)
        && plain(last)
        && text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=TAG_MAX).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests;
