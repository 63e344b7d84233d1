//! A container registry for nodes in QEMU: serves one OCI image layout on 127.0.0.1, which a guest reaches as 10.0.2.2. It reads and
//! never writes, and it takes a repository's name as it comes: a mirror is asked without the host. Plain HTTP for everybody, or
//! guarded (`registry/guard.rs`) as registries of the world are.
//!
//! Threads, no async runtime: also who drives a machine with blocking calls can have one.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

mod guard;

pub use guard::Guard;

/// A client that says nothing for so long is gone.
const READ_LIMIT: Duration = Duration::from_secs(300);
/// The longest head of a request.
const HEAD_LIMIT: u64 = 64 * 1024;
/// So many requests are remembered for who looks into a failure.
const LOG_LIMIT: usize = 10_000;

/// A running registry. It serves until the program ends; nothing in it needs to be undone.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    layout: PathBuf,
    /// Digest and media type of a manifest, by `repository:tag` and by `repository@digest`.
    manifests: BTreeMap<String, (String, String)>,
    guard: Option<Guard>,
    log: Mutex<Vec<String>>,
}

impl Registry {
    /// Serves the layout in `layout`, on a port of its own.
    pub fn start(layout: &Path) -> anyhow::Result<Self> {
        Self::listen(layout, |_| Ok(None))
    }

    /// The same over TLS, for who has a name and a password. `guard` is told the port.
    pub fn start_guarded(
        layout: &Path,
        guard: impl FnOnce(u16) -> anyhow::Result<Guard>,
    ) -> anyhow::Result<Self> {
        Self::listen(layout, |port| guard(port).map(Some))
    }

    fn listen(
        layout: &Path,
        guard: impl FnOnce(u16) -> anyhow::Result<Option<Guard>>,
    ) -> anyhow::Result<Self> {
        let manifests = manifests(layout)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listen for the registry")?;
        let port = listener.local_addr().context("ask for the registry's port")?.port();
        let (layout, guard) = (layout.to_owned(), guard(port)?);
        let shared = Arc::new(Shared { layout, manifests, guard, log: Mutex::new(Vec::new()) });
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                // A client that goes away early is its own affair.
                std::thread::spawn(move || drop(welcome(client, &shared)));
            }
        });
        Ok(Self { port, shared })
    }

    /// The port of 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The registry as a guest with user-mode networking names it: `http://10.0.2.2:PORT`.
    #[must_use]
    pub fn guest_url(&self) -> String {
        format!("http://10.0.2.2:{}", self.port)
    }

    /// The first requests so far: method, path and status.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Everything the index of a layout names.
fn manifests(layout: &Path) -> anyhow::Result<BTreeMap<String, (String, String)>> {
    let text = fs_err::read(layout.join("index.json"))?;
    let index: serde_json::Value = serde_json::from_slice(&text).context("read the index")?;
    let mut found = BTreeMap::new();
    for one in index["manifests"].as_array().into_iter().flatten() {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&one["annotations"]["org.opencontainers.image.ref.name"]);
        let (digest, kind) = (text(&one["digest"]), text(&one["mediaType"]));
        let repository = name.rsplit_once(':').map_or(name.as_str(), |(before, _)| before);
        found.insert(format!("{repository}@{digest}"), (digest.clone(), kind.clone()));
        found.insert(name, (digest, kind));
    }
    Ok(found)
}

/// One request, as far as it matters here.
struct Request {
    is_head: bool,
    path: String,
    /// First byte wanted, and the last if it was said.
    range: Option<(u64, Option<u64>)>,
    /// What the client says who it is.
    authorization: String,
}

/// What is sent.
struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

enum Body {
    Text(String),
    /// A file from where it stands, this many bytes.
    File(fs_err::File, u64),
}

fn welcome(client: TcpStream, shared: &Shared) -> anyhow::Result<()> {
    client.set_read_timeout(Some(READ_LIMIT))?;
    client.set_nodelay(true)?;
    match &shared.guard {
        None => serve(client, shared),
        Some(guard) => serve(guard.accept(client)?, shared),
    }
}

fn serve(client: impl Read + Write, shared: &Shared) -> anyhow::Result<()> {
    let mut reader = BufReader::new(client);
    while let Some(request) = read_request(&mut reader)? {
        let refusal = shared.guard.as_ref().and_then(|guard| guard.stop(&request));
        let answer = refusal.map_or_else(|| shared.answer(&request), Ok)?;
        shared.remember(&request, answer.status);
        send(reader.get_mut(), &request, answer)?;
    }
    Ok(())
}

/// The next request of a connection; `None` at its end.
fn read_request(reader: &mut BufReader<impl Read>) -> anyhow::Result<Option<Request>> {
    let mut head = reader.take(HEAD_LIMIT);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let authorization = String::new();
    let mut request = Request { is_head: method == "HEAD", path, range: None, authorization };
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? <= 2 {
            return Ok(Some(request));
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = range(value.trim()),
            "authorization" => value.trim().clone_into(&mut request.authorization),
            _ => {}
        }
    }
}

/// `bytes=FIRST-` or `bytes=FIRST-LAST`.
fn range(value: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()))
}

impl Shared {
    fn answer(&self, request: &Request) -> anyhow::Result<Answer> {
        let Some(path) = request.path.strip_prefix("/v2/") else { return Ok(missing("NOT_FOUND")) };
        if path.is_empty() {
            let json = ("Content-Type", "application/json".to_owned());
            return Ok(Answer {
                status: "200 OK",
                headers: vec![json],
                body: Body::Text("{}".to_owned()),
            });
        }
        if let Some((repository, reference)) = path.rsplit_once("/manifests/") {
            let separator = if reference.contains(':') { '@' } else { ':' };
            let name = format!("{repository}{separator}{reference}");
            let Some((digest, kind)) = self.manifests.get(&name) else {
                return Ok(missing("MANIFEST_UNKNOWN"));
            };
            return self.blob(digest, kind, None);
        }
        match path.rsplit_once("/blobs/") {
            Some((_, digest)) => self.blob(digest, "application/octet-stream", request.range),
            None => Ok(missing("NOT_FOUND")),
        }
    }

    fn blob(
        &self,
        digest: &str,
        kind: &str,
        range: Option<(u64, Option<u64>)>,
    ) -> anyhow::Result<Answer> {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        let is_digest = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let path = self.layout.join("blobs/sha256").join(hex);
        if !is_digest || !path.is_file() {
            return Ok(missing("BLOB_UNKNOWN"));
        }
        let mut file = fs_err::File::open(path)?;
        let size = file.metadata()?.len();
        let mut headers = vec![
            ("Content-Type", kind.to_owned()),
            ("Docker-Content-Digest", digest.to_owned()),
            ("Accept-Ranges", "bytes".to_owned()),
        ];
        let Some((first, last)) = range.filter(|(first, _)| *first < size) else {
            return Ok(Answer { status: "200 OK", headers, body: Body::File(file, size) });
        };
        let last = last.unwrap_or(size - 1).min(size - 1);
        headers.push(("Content-Range", format!("bytes {first}-{last}/{size}")));
        file.seek(SeekFrom::Start(first))?;
        let length = (last + 1).saturating_sub(first);
        Ok(Answer { status: "206 Partial Content", headers, body: Body::File(file, length) })
    }

    fn remember(&self, request: &Request, status: &str) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() < LOG_LIMIT {
            let method = if request.is_head { "HEAD" } else { "GET" };
            log.push(format!("{method} {} {status}", request.path));
        }
    }
}

fn missing(code: &str) -> Answer {
    let text = serde_json::json!({"errors": [{"code": code, "message": "not in this registry"}]});
    let json = ("Content-Type", "application/json".to_owned());
    Answer { status: "404 Not Found", headers: vec![json], body: Body::Text(text.to_string()) }
}

fn send(client: &mut impl Write, request: &Request, answer: Answer) -> anyhow::Result<()> {
    let length = match &answer.body {
        Body::Text(text) => text.len() as u64,
        Body::File(_, length) => *length,
    };
    let mut head = format!("HTTP/1.1 {}\r\nContent-Length: {length}\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    client.write_all(format!("{head}\r\n").as_bytes())?;
    match answer.body {
        _ if request.is_head => {}
        Body::Text(text) => client.write_all(text.as_bytes())?,
        Body::File(file, length) => {
            std::io::copy(&mut file.take(length), client)?;
        }
    }
    Ok(client.flush()?)
}

#[cfg(test)]
mod tests;
