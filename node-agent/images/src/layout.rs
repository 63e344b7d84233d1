//! An archive of images in a file: an OCI layout, or what `docker save` wrote before it knew of those.
//!
//! It is read where it lies, nothing of it is unpacked, and no name in it becomes a path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt as _;

use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::error::Error;
use crate::registry::Document;
use crate::registry::manifest::Descriptor;
use crate::unpack::{Archive, Kind, Piece};

/// Files in an archive; one has a few for each layer.
const FILES_MAX: usize = 20_000;
/// Images in an archive.
const IMAGES_MAX: usize = 1000;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Where the content of a file lies.
#[derive(Clone, Copy, Debug)]
struct Span {
    offset: u64,
    length: u64,
}

/// An archive of images.
#[derive(Debug)]
pub(crate) struct Layout {
    file: File,
    blobs: BTreeMap<Digest, Span>,
    /// Manifests that are not in the archive but follow from what is.
    made: BTreeMap<Digest, Vec<u8>>,
    document_max: u64,
    /// Digest of each image's manifest or index, and the names it goes by.
    pub(crate) images: Vec<(Digest, Vec<String>)>,
}

fn bad(problem: impl Into<String>) -> Error {
    Error::Archive { problem: problem.into() }
}

/// Knows how much was read.
struct Counted {
    inner: BufReader<File>,
    at: u64,
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.at += length as u64;
        self.inner.consume(length);
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Layout {
    /// Reads the list of what is in the archive.
    pub(crate) fn open(file: File, document_max: u64) -> Result<Self, Error> {
        let files = files(&file)?;
        let (blobs, made) = (BTreeMap::new(), BTreeMap::new());
        let mut layout = Self { file, blobs, made, document_max, images: Vec::new() };
        for (name, span) in &files {
            let digits = name.strip_prefix("blobs/sha256/");
            if let Some(digest) = digits.and_then(|hex| format!("sha256:{hex}").parse().ok()) {
                layout.blobs.insert(digest, *span);
            }
        }
        if let Some(index) = files.get("index.json") {
            layout.read_index(*index)?;
        } else if let Some(list) = files.get("manifest.json") {
            layout.read_docker(*list, &files)?;
        } else {
            return Err(bad("has neither index.json nor manifest.json, so it holds no images"));
        }
        Ok(layout)
    }

    fn read_index(&mut self, span: Span) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            digest: Digest,
            #[serde(default)]
            annotations: BTreeMap<String, String>,
        }
        let index: Index = self.document(span)?;
        for entry in index.manifests.into_iter().take(IMAGES_MAX) {
            let note = |key: &str| entry.annotations.get(key).cloned();
            // Some write only the tag here: then it is nobody's name.
            let named =
                note("org.opencontainers.image.ref.name").filter(|n| n.contains(['/', ':']));
            let name = note("io.containerd.image.name").or(named);
            match self.images.iter_mut().find(|(digest, _)| *digest == entry.digest) {
                Some((_, names)) => names.extend(name),
                None => self.images.push((entry.digest, name.into_iter().collect())),
            }
        }
        Ok(())
    }

    /// `docker save`: a list of images whose parts are named by path. They get the manifest they never had.
    fn read_docker(&mut self, span: Span, files: &BTreeMap<String, Span>) -> Result<(), Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Entry {
            config: String,
            #[serde(default)]
            repo_tags: Option<Vec<String>>,
            layers: Vec<String>,
        }
        let entries: Vec<Entry> = self.document(span)?;
        for entry in entries.into_iter().take(IMAGES_MAX) {
            let mut part = |path: &String| {
                let span = files.get(path).ok_or_else(|| bad(format!("has no {path:?}")))?;
                let digest = self.hash(*span)?;
                self.blobs.insert(digest, *span);
                Ok::<_, Error>(json!({"mediaType": "", "digest": digest, "size": span.length}))
            };
            let config = part(&entry.config)?;
            let layers = entry.layers.iter().map(part).collect::<Result<Vec<_>, _>>()?;
            let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
            let manifest = manifest.to_string().into_bytes();
            let digest = Digest::of(&manifest);
            self.made.insert(digest, manifest);
            self.images.push((digest, entry.repo_tags.unwrap_or_default()));
        }
        Ok(())
    }

    fn document<T: for<'de> Deserialize<'de>>(&self, span: Span) -> Result<T, Error> {
        let bytes = self.bytes(span)?;
        serde_json::from_slice(&bytes).map_err(|e| bad(format!("has a list that is broken: {e}")))
    }

    fn bytes(&self, span: Span) -> Result<Vec<u8>, Error> {
        if span.length > self.document_max {
            return Err(bad(format!("has a document of more than {} bytes", self.document_max)));
        }
        let mut bytes = vec![0; usize::try_from(span.length).unwrap_or(0)];
        self.file
            .read_exact_at(&mut bytes, span.offset)
            .map_err(|e| bad(format!("cannot be read: {e}")))?;
        Ok(bytes)
    }

    fn hash(&self, span: Span) -> Result<Digest, Error> {
        let mut hash = Sha256::new();
        self.chunks(span, |chunk| {
            hash.update(chunk);
            true
        })?;
        Ok(Digest::from_hash(hash.finalize().into()))
    }

    /// Shows a file piece by piece, until `take` wants no more.
    fn chunks(&self, span: Span, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), Error> {
        let mut buffer = vec![0; CHUNK];
        let mut done = 0;
        while done < span.length {
            let left = usize::try_from(span.length - done).map_or(CHUNK, |left| left.min(CHUNK));
            let read = self.file.read_at(&mut buffer[..left], span.offset + done);
            match read.map_err(|e| bad(format!("cannot be read: {e}")))? {
                0 => return Err(bad("is cut off")),
                length => {
                    if !take(&buffer[..length]) {
                        return Ok(());
                    }
                    done += length as u64;
                }
            }
        }
        Ok(())
    }

    fn span(&self, digest: &Digest) -> Result<Span, Error> {
        self.blobs.get(digest).copied().ok_or_else(|| bad(format!("does not hold {digest}")))
    }

    /// A manifest or index, checked.
    pub(crate) fn manifest(&self, digest: Option<Digest>) -> Result<Document, Error> {
        let digest = digest.ok_or_else(|| bad("is asked for an image without a digest"))?;
        let bytes = match self.made.get(&digest) {
            Some(made) => made.clone(),
            None => self.bytes(self.span(&digest)?)?,
        };
        if Digest::of(&bytes) != digest {
            return Err(bad(format!("holds something else as {digest}")));
        }
        Ok(Document { bytes, media_type: String::new(), digest })
    }

    /// A document, checked.
    pub(crate) fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        Ok(self.manifest(Some(descriptor.digest))?.bytes)
    }

    /// A layer, piece by piece. Who takes it checks it.
    pub(crate) async fn blob(
        &self,
        descriptor: &Descriptor,
        pieces: &mpsc::Sender<Piece>,
        count: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Error> {
        let span = self.span(&descriptor.digest)?;
        let mut done = 0;
        while done < span.length {
            let length = (span.length - done).min(CHUNK as u64);
            let bytes = Bytes::from(self.bytes_at(span.offset + done, length)?);
            done += length;
            count(length);
            if pieces.send(Piece::Data(bytes)).await.is_err() {
                return Ok(());
            }
        }
        // Nobody takes it: then it is known why.
        let _ = pieces.send(Piece::End).await;
        Ok(())
    }

    fn bytes_at(&self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|e| bad(format!("cannot be read: {e}")))?;
        Ok(bytes)
    }
}

/// All files of the archive by name.
fn files(file: &File) -> Result<BTreeMap<String, Span>, Error> {
    let failed = |e: io::Error| bad(format!("cannot be read: {e}"));
    let inner = BufReader::with_capacity(CHUNK, file.try_clone().map_err(failed)?);
    let mut archive = Archive::new(Counted { inner, at: 0 });
    let mut files = BTreeMap::new();
    loop {
        let entry = archive.next().map_err(|e| bad(format!("cannot be read: {e}")))?;
        let Some(entry) = entry else { return Ok(files) };
        if entry.kind != Kind::File || entry.sparse.is_some() {
            continue;
        }
        if files.len() == FILES_MAX {
            return Err(bad(format!("has more than {FILES_MAX} files")));
        }
        let name = String::from_utf8_lossy(&entry.path);
        let name = name.trim_start_matches("./").to_owned();
        files.insert(name, Span { offset: archive.get_ref().at, length: entry.size });
    }
}
