//! A registry that does what it is told. It writes its answers byte by byte, so that it can lie.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use ingot_images::{Digest, ImageStore, Mirror, Sources, StoreConfig, Timeouts};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufStream,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::build::Built;

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value)
    }
}

/// An answer, and how it goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// What it says its length is, instead of the truth.
    pub(crate) length: Option<usize>,
    /// Closes the connection after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Says nothing more after so many bytes of the body, until the other side goes away.
    pub(crate) stall: Option<usize>,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Hook = dyn Fn(&Request) -> Option<Answer> + Send + Sync;

#[derive(Default)]
struct State {
    /// `repository:reference` to media type and document.
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
    requests: Vec<Request>,
    hook: Option<Arc<Hook>>,
}

/// A registry on a port of this machine.
#[derive(Clone)]
pub(crate) struct Registry {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With a certificate, it speaks TLS.
    pub(crate) async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let registry = Self { port, state: Arc::default() };
        let serving = registry.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (registry, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => registry.serve(stream).await,
                        // Who does not trust us goes away.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                registry.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        registry
    }

    /// Offers an image under a tag and under its digest.
    pub(crate) fn offer(&self, repository: &str, tag: &str, image: &Built) {
        let mut state = self.state.lock().unwrap();
        for name in [tag.to_owned(), image.digest().to_string()] {
            let document = (image.media_type.clone(), image.manifest.clone());
            state.manifests.insert(format!("{repository}:{name}"), document);
        }
        for blob in image.blobs() {
            state.blobs.insert(Digest::of(blob).to_string(), blob.clone());
        }
    }

    pub(crate) fn offer_manifest(&self, repository: &str, name: &str, kind: &str, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        let document = (kind.to_owned(), bytes.to_vec());
        state.manifests.insert(format!("{repository}:{name}"), document);
    }

    /// Asked before anything else.
    pub(crate) fn hook(&self, hook: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) {
        self.state.lock().unwrap().hook = Some(Arc::new(hook));
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// How often a path that contains this was asked for.
    pub(crate) fn asked(&self, part: &str) -> usize {
        self.requests().iter().filter(|request| request.path.contains(part)).count()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut stream = BufStream::new(stream);
        let Some(request) = read(&mut stream).await else { return };
        let hook = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(request.clone());
            state.hook.clone()
        };
        let answer = hook.and_then(|hook| hook(&request)).unwrap_or_else(|| self.answer(&request));
        // The other side may go away at any time.
        let _ = write(&mut stream, answer).await;
    }

    fn answer(&self, request: &Request) -> Answer {
        let state = self.state.lock().unwrap();
        let path = request.path.split('?').next().unwrap_or_default();
        let path = path.trim_start_matches("/v2/");
        if let Some((repository, name)) = path.split_once("/manifests/")
            && let Some((kind, bytes)) = state.manifests.get(&format!("{repository}:{name}"))
        {
            return Answer::ok(bytes.clone()).with("Content-Type", kind);
        }
        let blob = path.split_once("/blobs/").and_then(|(_, digest)| state.blobs.get(digest));
        let Some(blob) = blob else { return Answer::status(404) };
        ranged(blob, request)
    }
}

/// A blob, or the end of it when that is what was asked for.
pub(crate) fn ranged(blob: &[u8], request: &Request) -> Answer {
    let range = request.header("range").trim_start_matches("bytes=").trim_end_matches('-');
    let Ok(from) = range.parse::<usize>() else { return Answer::ok(blob) };
    let mut answer = Answer::ok(&blob[from..]);
    answer.status = 206;
    answer.with("Content-Range", format!("bytes {from}-{}/{}", blob.len() - 1, blob.len()))
}

async fn read(stream: &mut BufStream<impl AsyncRead + AsyncWrite + Unpin>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let mut request = Request { method: words.next()?, path: words.next()?, ..Request::default() };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        request.headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = request.header("content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    request.body = String::from_utf8(body).ok()?;
    Some(request)
}

async fn write(
    stream: &mut BufStream<impl AsyncRead + AsyncWrite + Unpin>,
    answer: Answer,
) -> std::io::Result<()> {
    let length = answer.length.unwrap_or(answer.body.len());
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {length}\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    let end = answer.cut.or(answer.stall).unwrap_or(answer.body.len()).min(answer.body.len());
    stream.write_all(&answer.body[..end]).await?;
    stream.flush().await?;
    if answer.stall.is_some() {
        // Until the other side closes.
        let _ = stream.read_u8().await;
    }
    Ok(())
}

/// A folder with a store in it whose images all come from one registry.
pub(crate) struct Node {
    pub(crate) folder: TempDir,
    pub(crate) config: StoreConfig,
}

impl Node {
    pub(crate) fn new(registry: &Registry) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let all =
            Mirror { prefix: "*".into(), endpoints: vec![registry.url()], endpoints_only: true };
        let mut config = StoreConfig {
            root: folder.path().join("store"),
            bundled: folder.path().join("bundled"),
            sources: Sources { mirrors: vec![all], ..Sources::default() },
            timeouts: Timeouts { retry: Duration::from_millis(1), ..Timeouts::default() },
            ..StoreConfig::default()
        };
        // The machine that runs the tests may have a full disk.
        config.limits.reserve_bytes = 0;
        // Nor need it have Landlock.
        config.limits.fenced = false;
        Self { folder, config }
    }

    pub(crate) async fn open(&self) -> ImageStore {
        ImageStore::open(self.config.clone()).await.unwrap()
    }

    /// Names of what is in a folder of the store.
    pub(crate) fn list(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.config.root.join(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A failed or interrupted pull left nothing.
    pub(crate) fn assert_empty(&self) {
        for folder in ["ingest", "layers", "documents"] {
            assert_eq!(self.list(folder), [""; 0], "{folder}");
        }
    }
}

/// All an error says, with its causes.
pub(crate) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
