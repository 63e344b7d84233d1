//! Addresses of registries: scheme, host, port, and what is asked for. No user names, no fragments.

use std::fmt;

use super::HttpError;

/// Longest address; those of signed downloads are about 2000 bytes.
const URL_MAX: usize = 8192;

/// An `http` or `https` address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) https: bool,
    /// Name or address, in lower case, IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query, from the first slash on.
    pub(crate) path: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, HttpError> {
        // Shown without its query, which may hold a signature.
        let bad = |problem| HttpError::Url {
            url: text.split(['?', '@']).next().unwrap_or_default().chars().take(256).collect(),
            problem,
        };
        if text.len() > URL_MAX {
            return Err(bad("it is too long"));
        }
        let uri: http::Uri = text.parse().map_err(|_| bad("it cannot be read"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("it begins with neither https:// nor http://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it has a user name"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self { https, host: host.to_ascii_lowercase(), port, path: path.to_owned() })
    }

    /// The same place with another path.
    pub(crate) fn with_path(&self, path: String) -> Self {
        Self { path, ..self.clone() }
    }

    /// Where a redirection leads.
    pub(crate) fn join(&self, location: &str) -> Result<Self, HttpError> {
        if location.starts_with("https://") || location.starts_with("http://") {
            return Self::parse(location);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", self.scheme()));
        }
        let path = if location.starts_with('/') {
            location.to_owned()
        } else {
            let folder = self.path.split('?').next().unwrap_or_default();
            let folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{location}")
        };
        Self::parse(&self.with_path(path).to_string())
    }

    /// The same server by the same protocol: who may see the same credentials.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port)
    }

    /// Host and port as a request names them.
    pub(crate) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.https { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let url = Url::parse("https://Registry.test:5000/a?b=c").unwrap();
        assert_eq!((url.https, url.port, &url.host[..]), (true, 5000, "registry.test"));
        assert_eq!(url.to_string(), "https://registry.test:5000/a?b=c");
        let url = Url::parse("http://[::1]:80").unwrap();
        assert_eq!((&url.host[..], url.to_string()), ("::1", "http://[::1]/".to_owned()));
        for bad in ["", "a.b/c", "ftp://a/b", "https://", "https://u:p@a/", "https://a b/"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redirections_may_be_relative() {
        let from = Url::parse("https://a.test/v2/x/blobs/1?q").unwrap();
        let to = |location: &str| from.join(location).unwrap().to_string();
        assert_eq!(to("/y"), "https://a.test/y");
        assert_eq!(to("2"), "https://a.test/v2/x/blobs/2");
        assert_eq!(to("//b.test/z"), "https://b.test/z");
        assert_eq!(to("http://c.test:81/z?s=1"), "http://c.test:81/z?s=1");
        assert!(!from.same_origin(&from.join("https://a.test:444/").unwrap()));
        assert!(!from.same_origin(&from.join("http://a.test:443/").unwrap()));
    }

    #[test]
    fn an_error_shows_no_secret_of_an_address() {
        let shown = Url::parse("ftp://a/b?signature=secret").unwrap_err().to_string();
        assert!(!shown.contains("secret"), "{shown}");
        let shown = Url::parse("https://user:secret@a/").unwrap_err().to_string();
        assert!(shown.contains("user name"), "{shown}");
    }
}
