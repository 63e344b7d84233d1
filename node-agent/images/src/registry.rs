//! Speaks with registries (OCI distribution, Docker's before it): which to ask, as whom, and how often.
//!
//! It gives out bytes whose length and digest were promised by somebody else and checks documents itself; layers are
//! checked by whoever unpacks them. Addresses that a manifest names are never used (CVE-2020-15157).

mod challenge;
pub(crate) mod manifest;
mod remote;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use tokio::sync::mpsc;

use self::manifest::Descriptor;
use self::remote::Remote;
use crate::auth::Auth;
use crate::config::{Sources, StoreConfig, Timeouts};
use crate::digest::Digest;
use crate::http::{Body, HttpError, Response};
use crate::reference::Reference;
use crate::unpack::Piece;

/// Longest pause between two tries, whatever a registry asks for.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often one blob is asked for at most, however far each try got.
const OPENED_MAX: u32 = 100;

/// Why a registry did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It wants other credentials, or hides that the image does not exist.
    #[error("{host} refuses access to {what}{detail}")]
    Unauthorized {
        /// Registry.
        host: String,
        /// Image or part of one.
        what: String,
        /// What it said; empty or beginning with ": ".
        detail: String,
    },
    /// It does not have it.
    #[error("{host} does not have {what}")]
    NotFound {
        /// Registry.
        host: String,
        /// Image or part of one.
        what: String,
    },
    /// It answers something else.
    #[error("{host} answers {status} for {what}{detail}")]
    Status {
        /// Registry.
        host: String,
        /// HTTP status.
        status: u16,
        /// Image or part of one.
        what: String,
        /// What it said; empty or beginning with ": ".
        detail: String,
    },
    /// It wants credentials in a way we cannot follow.
    #[error("log in to {host}: {problem}")]
    Login {
        /// Registry.
        host: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Something else came than was asked for.
    #[error("{host} sent {what} with digest {found}, expected {expected}")]
    Digest {
        /// Registry.
        host: String,
        /// Which document.
        what: String,
        /// As promised.
        expected: Digest,
        /// Of what came.
        found: Digest,
    },
    /// It has another length than was promised.
    #[error("{host} sent {found} bytes for {what}, expected {expected}")]
    Length {
        /// Registry.
        host: String,
        /// Which part.
        what: String,
        /// As promised.
        expected: u64,
        /// What came.
        found: u64,
    },
}

impl RegistryError {
    /// Another try may end otherwise.
    fn is_passing(&self) -> bool {
        match self {
            Self::Http(error) => matches!(
                error,
                HttpError::Resolve { .. }
                    | HttpError::Connect { .. }
                    | HttpError::Timeout { .. }
                    | HttpError::Exchange { .. }
            ),
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

/// A document with what the registry says about it.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
}

/// All places one image may come from, in the order they are asked.
#[derive(Debug)]
pub(crate) struct Registries {
    remotes: Vec<Remote>,
    timeouts: Timeouts,
    document_max: u64,
}

impl Registries {
    pub(crate) fn new(
        config: &StoreConfig,
        sources: &Sources,
        reference: &Reference,
        auth: &Auth,
    ) -> Result<Arc<Self>, RegistryError> {
        Ok(Arc::new(Self {
            remotes: rules::remotes(config, sources, reference, auth)?,
            timeouts: config.timeouts.clone(),
            document_max: config.limits.document_bytes,
        }))
    }

    /// A manifest or index, by tag or digest. A digest is checked.
    pub(crate) async fn manifest(
        &self,
        name: &str,
        expected: Option<Digest>,
    ) -> Result<Document, RegistryError> {
        let path = format!("manifests/{name}");
        let accept = Some(HeaderValue::from_static(manifest::ACCEPT));
        let read = async |remote: &Remote, response: Response| {
            let media_type = response.header(header::CONTENT_TYPE).unwrap_or_default().to_owned();
            // What the registry says the digest is must at least be true.
            let said = response.header("docker-content-digest").and_then(|d| d.parse().ok());
            let bytes = response.body.bytes(self.document_max).await?;
            let digest = Digest::of(&bytes);
            match expected.or(said).filter(|expected| *expected != digest) {
                Some(expected) => Err(RegistryError::Digest {
                    host: remote.host(),
                    what: format!("manifest {name}"),
                    expected,
                    found: digest,
                }),
                None => Ok(Document { bytes, media_type, digest }),
            }
        };
        self.first(&path, accept, read).await
    }

    /// A small blob, checked.
    pub(crate) async fn small_blob(
        &self,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, RegistryError> {
        let path = format!("blobs/{}", descriptor.digest);
        let read = async |remote: &Remote, response: Response| {
            let bytes = response.body.bytes(self.document_max.min(descriptor.size)).await?;
            let (expected, found) = (descriptor.size, bytes.len() as u64);
            if expected != found {
                let what = path.clone();
                return Err(RegistryError::Length { host: remote.host(), what, expected, found });
            }
            let (expected, found) = (descriptor.digest, Digest::of(&bytes));
            if expected != found {
                let what = path.clone();
                return Err(RegistryError::Digest { host: remote.host(), what, expected, found });
            }
            Ok(bytes)
        };
        self.first(&path, None, read).await
    }

    /// Sends a blob piece by piece; begins again where a broken connection ended. `count` hears of each piece. Ends
    /// early when nobody takes the pieces, who then knows why.
    pub(crate) async fn blob(
        &self,
        descriptor: &Descriptor,
        pieces: &mpsc::Sender<Piece>,
        count: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let mut last = None;
        let mut offset = 0;
        for remote in &self.remotes {
            let mut blob = Blob { descriptor, pieces, count, offset };
            match self.blob_from(remote, &mut blob).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(%error, "layer not complete from here");
                    offset = blob.offset;
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| nowhere(&descriptor.digest.to_string())))
    }

    async fn blob_from(&self, remote: &Remote, blob: &mut Blob<'_>) -> Result<(), RegistryError> {
        let mut failures = 0;
        for _ in 0..OPENED_MAX {
            let before = blob.offset;
            let error = match blob.run(remote).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_passing() || blob.offset > before => error,
                Err(error) => return Err(error),
            };
            // Whatever came was worth the try.
            failures = if blob.offset > before { 0 } else { failures + 1 };
            if failures > self.timeouts.retries {
                return Err(error);
            }
            tracing::debug!(%error, offset = blob.offset, "layer interrupted, trying again");
            tokio::time::sleep(self.pause(failures)).await;
        }
        Err(nowhere(&blob.descriptor.digest.to_string()))
    }

    /// Asks one place after the other until `read` likes an answer.
    async fn first<T>(
        &self,
        path: &str,
        accept: Option<HeaderValue>,
        read: impl AsyncFn(&Remote, Response) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut last: Option<RegistryError> = None;
        for remote in &self.remotes {
            for failures in 0..=self.timeouts.retries {
                let answer = match remote.get(path, accept.as_ref(), None).await {
                    Ok(response) => read(remote, response).await,
                    Err(error) => Err(error),
                };
                let error = match answer {
                    Ok(found) => return Ok(found),
                    Err(error) => error,
                };
                let again = error.is_passing() && failures < self.timeouts.retries;
                tracing::debug!(%error, again, "no answer from here");
                // "Not here" of a later place does not hide why an earlier one failed.
                if last.is_none() || !matches!(error, RegistryError::NotFound { .. }) {
                    last = Some(error);
                }
                if !again {
                    break;
                }
                tokio::time::sleep(self.pause(failures + 1)).await;
            }
        }
        Err(last.unwrap_or_else(|| nowhere(path)))
    }

    fn pause(&self, failures: u32) -> Duration {
        let doubled = self.timeouts.retry.saturating_mul(1 << failures.saturating_sub(1).min(8));
        doubled.min(PAUSE_MAX)
    }
}

fn nowhere(what: &str) -> RegistryError {
    RegistryError::NotFound { host: "no configured registry".into(), what: what.to_owned() }
}

/// A layer on its way.
struct Blob<'a> {
    descriptor: &'a Descriptor,
    pieces: &'a mpsc::Sender<Piece>,
    count: &'a (dyn Fn(u64) + Sync),
    offset: u64,
}

impl Blob<'_> {
    async fn run(&mut self, remote: &Remote) -> Result<(), RegistryError> {
        let Some((mut body, mut skip)) = self.open(remote).await? else {
            return Ok(());
        };
        while let Some(mut data) = body.chunk().await? {
            if skip > 0 {
                let length = usize::try_from(skip).map_or(data.len(), |s| s.min(data.len()));
                drop(data.split_to(length));
                skip -= length as u64;
                if data.is_empty() {
                    continue;
                }
            }
            self.offset += data.len() as u64;
            (self.count)(data.len() as u64);
            let over = self.offset > self.descriptor.size;
            if self.pieces.send(Piece::Data(data)).await.is_err() {
                return Ok(());
            }
            if over {
                return Err(self.length(remote, self.offset));
            }
        }
        if self.offset < self.descriptor.size {
            return Err(self.length(remote, self.offset));
        }
        let _ = self.pieces.send(Piece::End).await;
        Ok(())
    }

    /// The body from the offset on, and how much of it is known already; nothing when all is there.
    async fn open(&mut self, remote: &Remote) -> Result<Option<(Body, u64)>, RegistryError> {
        if self.offset > 0 && self.offset >= self.descriptor.size {
            let _ = self.pieces.send(Piece::End).await;
            return Ok(None);
        }
        let path = format!("blobs/{}", self.descriptor.digest);
        let from = (self.offset > 0).then_some(self.offset);
        let response = remote.get(&path, None, from).await?;
        let resumed = response.status == StatusCode::PARTIAL_CONTENT;
        if resumed {
            let range = response.header(header::CONTENT_RANGE).unwrap_or_default();
            let wanted = format!("bytes {}-", self.offset);
            if !range.starts_with(&wanted)
                || !range.ends_with(&format!("/{}", self.descriptor.size))
            {
                return Err(self.length(remote, 0));
            }
        }
        let promised = response.header(header::CONTENT_LENGTH).and_then(|l| l.parse::<u64>().ok());
        let left = self.descriptor.size - if resumed { self.offset } else { 0 };
        if let Some(promised) = promised.filter(|promised| *promised != left) {
            return Err(self.length(remote, promised));
        }
        let skip = if resumed { 0 } else { self.offset };
        Ok(Some((response.body, skip)))
    }

    fn length(&self, remote: &Remote, found: u64) -> RegistryError {
        RegistryError::Length {
            host: remote.host(),
            what: format!("layer {}", self.descriptor.digest),
            expected: self.descriptor.size,
            found,
        }
    }
}
