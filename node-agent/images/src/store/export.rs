//! An image of the store as an OCI layout in a tar. Its layers are written anew, uncompressed, so the image that comes
//! out has the same files and another id.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, Write};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::disk::Record;
use super::state::Inner;
use crate::digest::Digest;
use crate::error::Error;
use crate::pack::Packer;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A layer in a file without a name.
struct Packed {
    file: File,
    digest: Digest,
    size: u64,
}

/// Counts and hashes what goes to a file.
struct Hashing {
    file: BufWriter<File>,
    hash: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hash.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

pub(super) fn export(inner: &Inner, record: &Record, out: impl Write) -> Result<(), Error> {
    let bytes = inner.disk.document(&record.id)?;
    let path = || inner.config.root.clone();
    // Others need the disk, too.
    if inner.disk.free()? < inner.size(record).saturating_add(inner.config.limits.reserve_bytes) {
        return Err(Error::Write { path: path(), source: io::ErrorKind::StorageFull.into() });
    }
    let mut config: Value =
        serde_json::from_slice(&bytes).map_err(|source| Error::Parse { path: path(), source })?;
    let layers: Vec<Packed> =
        record.layers.iter().map(|layer| pack(inner, layer)).collect::<Result<_, _>>()?;
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
    let config = config.to_string().into_bytes();
    let layer =
        |layer: &Packed| json!({"mediaType": LAYER, "digest": layer.digest, "size": layer.size});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": Digest::of(&config), "size": config.len()},
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    });
    let manifest = manifest.to_string().into_bytes();
    write(record, &config, &manifest, layers, out).map_err(|source| Error::Export { source })
}

/// A layer as a tar. The disk must have room for it until all is written.
fn pack(inner: &Inner, layer: &Digest) -> Result<Packed, Error> {
    let folder = inner.disk.layer(layer);
    let failed = |source| Error::Read { path: folder.clone(), source };
    let file = inner.disk.scratch()?;
    let hashing = Hashing {
        file: BufWriter::new(file.try_clone().map_err(failed)?),
        hash: Sha256::new(),
        size: 0,
    };
    let mut packer = Packer::new(hashing);
    let hashing = packer.tree(&folder).and_then(|()| packer.finish()).map_err(failed)?;
    let digest = Digest::from_hash(hashing.hash.finalize().into());
    Ok(Packed { file, digest, size: hashing.size })
}

fn write(
    record: &Record,
    config: &[u8],
    manifest: &[u8],
    layers: Vec<Packed>,
    out: impl Write,
) -> io::Result<()> {
    let mut packer = Packer::new(out);
    packer.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let mut written = std::collections::BTreeSet::new();
    for mut layer in layers {
        if !written.insert(layer.digest) {
            continue;
        }
        layer.file.rewind()?;
        packer.begin(&path(&layer.digest), layer.size)?;
        io::copy(&mut layer.file.take(layer.size), packer.out())?;
        packer.fill(layer.size)?;
    }
    for document in [config, manifest] {
        packer.bytes(&path(&Digest::of(document)), document)?;
    }
    let entry = |name: Option<&String>| {
        let mut entry = json!({
            "mediaType": MANIFEST, "digest": Digest::of(manifest), "size": manifest.len(),
        });
        if let Some(name) = name {
            entry["annotations"] = json!({
                "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name,
            });
        }
        entry
    };
    let mut entries: Vec<Value> = record.repo_tags.iter().map(|tag| entry(Some(tag))).collect();
    if entries.is_empty() {
        entries.push(entry(None));
    }
    let index = json!({"schemaVersion": 2, "manifests": entries});
    packer.bytes("index.json", index.to_string().as_bytes())?;
    packer.finish().map(drop)
}
