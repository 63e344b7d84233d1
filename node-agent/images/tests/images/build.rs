//! Images made of bytes, good and bad.

use std::io::Write as _;

use ingot_images::Digest;
use serde_json::{Value, json};

/// An archive, entry by entry, with whatever each entry claims.
#[derive(Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

/// One entry.
#[derive(Clone)]
pub(crate) struct Entry<'a> {
    pub(crate) path: &'a str,
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: u64,
    pub(crate) link: &'a str,
    pub(crate) content: &'a [u8],
    /// Length in the header, instead of the truth.
    pub(crate) size: Option<u64>,
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Self {
            path: "",
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_000_000_000,
            link: "",
            content: b"",
            size: None,
        }
    }
}

impl Tar {
    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        self.entry(&Entry { path, content: content.as_bytes(), ..Entry::default() })
    }

    pub(crate) fn folder(self, path: &str) -> Self {
        self.entry(&Entry { path, kind: b'5', mode: 0o755, ..Entry::default() })
    }

    pub(crate) fn symbolic_link(self, path: &str, link: &str) -> Self {
        self.entry(&Entry { path, kind: b'2', link, mode: 0o777, ..Entry::default() })
    }

    pub(crate) fn hard_link(self, path: &str, link: &str) -> Self {
        self.entry(&Entry { path, kind: b'1', link, ..Entry::default() })
    }

    /// Extension header for the next entry.
    pub(crate) fn pax(self, pairs: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (key, value) in pairs {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            content.extend_from_slice(format!("{length} {key}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        self.entry(&Entry { path: "pax", kind: b'x', content: &content, ..Entry::default() })
    }

    pub(crate) fn entry(mut self, entry: &Entry<'_>) -> Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        let number = |value: u64, digits: usize| format!("{value:0digits$o}\0").into_bytes();
        put(0, &entry.path.as_bytes()[..entry.path.len().min(100)]);
        put(100, &number(entry.mode.into(), 7));
        for (at, id) in [(108, entry.uid), (116, entry.gid)] {
            if id < 0o7_777_777 {
                put(at, &number(id, 7));
            } else {
                put(at, &[0x80]);
                put(at + 1, &id.to_be_bytes()[1..]);
            }
        }
        put(124, &number(entry.size.unwrap_or(entry.content.len() as u64), 11));
        put(136, &number(entry.mtime, 11));
        put(148, b"        ");
        put(156, &[entry.kind]);
        put(157, &entry.link.as_bytes()[..entry.link.len().min(100)]);
        put(257, b"ustar\x0000");
        let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(entry.content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// With the two blocks at its end.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    /// As it is.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.0
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// A way to compress.
pub(crate) type Pack = fn(&[u8]) -> Vec<u8>;

/// An image with its documents.
#[derive(Clone)]
pub(crate) struct Built {
    pub(crate) media_type: String,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Built {
    /// An image whose layers are compressed as given, bottom first.
    pub(crate) fn new(layers: &[(Vec<u8>, Pack)]) -> Self {
        let diff_ids: Vec<Digest> = layers.iter().map(|(tar, _)| Digest::of(tar)).collect();
        let blobs = layers.iter().map(|(tar, compress)| compress(tar)).collect();
        Self::from_parts(&diff_ids, blobs, &json!({"Cmd": ["/x"], "User": "7"}))
    }

    pub(crate) fn one(tar: Vec<u8>) -> Self {
        Self::new(&[(tar, gzip)])
    }

    pub(crate) fn from_parts(diff_ids: &[Digest], layers: Vec<Vec<u8>>, config: &Value) -> Self {
        let config = json!({
            "os": "linux", "architecture": "amd64", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let part = |bytes: &Vec<u8>, kind: &str| json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": part(&config, "application/vnd.oci.image.config.v1+json"),
            "layers": layers.iter().map(|l| part(l, "application/vnd.oci.image.layer.v1.tar+gzip")).collect::<Vec<_>>(),
        });
        let manifest = manifest.to_string().into_bytes();
        Self { media_type: MANIFEST.into(), manifest, config, layers }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub(crate) fn id(&self) -> String {
        Digest::of(&self.config).to_string()
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.layers.iter().chain([&self.config])
    }

    /// Path of a layer's blob at the registry.
    pub(crate) fn layer_path(&self, index: usize) -> String {
        format!("/blobs/{}", Digest::of(&self.layers[index]))
    }
}

pub(crate) fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}
