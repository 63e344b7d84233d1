//! Writes container images: layers from entries in memory, and an OCI image layout that a registry can serve. Knows nothing of
//! what the images are for, and nothing of a container runtime.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use ingot_image_builder::digest;
use ingot_image_builder::write::tar::{Kind, Writer};
use serde_json::json;

/// A file system tree in memory, by path without the leading slash. Parents are made as needed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
enum Entry {
    Directory(u32),
    File(u32, Vec<u8>),
    Symlink(String),
}

impl Files {
    /// A file with these permission bits.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> &mut Self {
        self.insert(path, Entry::File(mode, content.into()))
    }

    /// A folder.
    pub(crate) fn directory(&mut self, path: &str, mode: u32) -> &mut Self {
        self.insert(path, Entry::Directory(mode))
    }

    /// A symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.insert(path, Entry::Symlink(target.to_owned()))
    }

    /// A copy of a file of this machine, under `path`.
    pub(crate) fn copy(&mut self, path: &str, mode: u32, from: &Path) -> anyhow::Result<&mut Self> {
        Ok(self.file(path, mode, fs_err::read(from)?))
    }

    /// The files and links directly in `from`, which pass `wanted` by name, below `path`.
    pub(crate) fn copy_directory(
        &mut self,
        path: &str,
        from: &Path,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<&mut Self> {
        for entry in fs_err::read_dir(from)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if !wanted(&name) || kind.is_dir() {
                continue;
            }
            let to = format!("{path}/{name}");
            if kind.is_symlink() {
                let target = fs_err::read_link(entry.path())?;
                self.symlink(&to, &target.to_string_lossy());
            } else {
                self.copy(&to, 0o755, &entry.path())?;
            }
        }
        Ok(self)
    }

    /// Everything below `from`, below `path`.
    pub(crate) fn copy_tree(&mut self, path: &str, from: &Path) -> anyhow::Result<&mut Self> {
        self.copy_directory(path, from, |_| true)?;
        for entry in fs_err::read_dir(from)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                let name = entry.file_name().to_string_lossy().into_owned();
                self.copy_tree(&format!("{path}/{name}"), &entry.path())?;
            }
        }
        Ok(self)
    }

    /// Files below `from` until `left` bytes are used up, below `path`; no links, so that none leads nowhere.
    pub(crate) fn copy_some(
        &mut self,
        path: &str,
        from: &Path,
        left: &mut u64,
    ) -> anyhow::Result<&mut Self> {
        let mut entries = fs_err::read_dir(from)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs_err::DirEntry::file_name);
        for entry in entries {
            let to = format!("{path}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.copy_some(&to, &entry.path(), left)?;
            } else if kind.is_file() {
                let size = entry.metadata()?.len();
                if size <= *left {
                    *left -= size;
                    self.copy(&to, 0o755, &entry.path())?;
                }
            }
        }
        Ok(self)
    }

    fn insert(&mut self, path: &str, entry: Entry) -> &mut Self {
        for (end, _) in path.match_indices('/') {
            let parent = path[..end].to_owned();
            self.entries.entry(parent).or_insert(Entry::Directory(0o755));
        }
        self.entries.insert(path.to_owned(), entry);
        self
    }

    /// The tree as a tar archive: owner root, time 0.
    fn tar(&self) -> anyhow::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new());
        for (path, entry) in &self.entries {
            match entry {
                Entry::Directory(mode) => writer.entry(path, *mode, Kind::Directory)?,
                Entry::Symlink(target) => writer.entry(path, 0o777, Kind::Symlink { target })?,
                Entry::File(mode, content) => {
                    let size = content.len() as u64;
                    writer.entry(path, *mode, Kind::File { size })?;
                    writer.content(content.as_slice(), size)?;
                }
            }
        }
        Ok(writer.finish()?)
    }
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// As most images of the world.
    Gzip,
}

/// A layer in a layout.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    media_type: &'static str,
    digest: String,
    size: usize,
    /// Digest of the uncompressed archive.
    diff_id: String,
}

/// What a container of an image is started with unless it says otherwise.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start<'a> {
    /// User, as an image says it.
    pub(crate) user: &'a str,
    /// The program and its first words.
    pub(crate) entrypoint: &'a [&'a str],
    /// More words.
    pub(crate) command: &'a [&'a str],
    /// Where it starts; the root when nothing is said.
    pub(crate) working_dir: &'a str,
    /// Paths that the image says hold data of their own.
    pub(crate) volumes: &'a [&'a str],
    /// What is written on the image.
    pub(crate) labels: &'a [(&'a str, &'a str)],
}

/// An OCI image layout that is being written.
#[derive(Debug)]
pub(crate) struct Layout {
    directory: PathBuf,
    manifests: Vec<serde_json::Value>,
}

impl Layout {
    /// An empty layout in `directory`, which is replaced.
    pub(crate) fn create(directory: &Path) -> anyhow::Result<Self> {
        if directory.exists() {
            fs_err::remove_dir_all(directory)?;
        }
        fs_err::create_dir_all(directory.join("blobs/sha256"))?;
        Ok(Self { directory: directory.to_owned(), manifests: Vec::new() })
    }

    /// Adds a layer of these files.
    pub(crate) fn layer(&self, files: &Files, compression: Compression) -> anyhow::Result<Layer> {
        let tar = files.tar()?;
        let diff_id = format!("sha256:{}", digest::of_bytes(&tar));
        let (media_type, bytes) = match compression {
            Compression::None => ("application/vnd.oci.image.layer.v1.tar", tar),
            Compression::Gzip => ("application/vnd.oci.image.layer.v1.tar+gzip", gzip(&tar)?),
        };
        Ok(Layer { media_type, digest: self.blob(&bytes)?, size: bytes.len(), diff_id })
    }

    /// Adds an image of these layers, lowest first, under each of `names` (`repository:tag`).
    pub(crate) fn image(
        &mut self,
        names: &[&str],
        layers: &[Layer],
        start: &Start<'_>,
    ) -> anyhow::Result<()> {
        let volumes: BTreeMap<_, _> = start.volumes.iter().map(|path| (path, json!({}))).collect();
        let labels: BTreeMap<_, _> = start.labels.iter().copied().collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "User": start.user,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Entrypoint": start.entrypoint,
                "Cmd": start.command,
                "WorkingDir": if start.working_dir.is_empty() { "/" } else { start.working_dir },
                "Volumes": volumes,
                "Labels": labels,
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|layer| layer.diff_id.as_str()).collect::<Vec<_>>(),
            },
        });
        let config = serde_json::to_vec(&config).context("write an image's configuration")?;
        let layers: Vec<_> = layers
            .iter()
            .map(|one| json!({"mediaType": one.media_type, "digest": one.digest, "size": one.size}))
            .collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.blob(&config)?,
                "size": config.len(),
            },
            "layers": layers,
        });
        let manifest = serde_json::to_vec(&manifest).context("write an image's manifest")?;
        let digest = self.blob(&manifest)?;
        for name in names {
            self.manifests.push(json!({
                "mediaType": media_type,
                "digest": digest,
                "size": manifest.len(),
                "annotations": {"org.opencontainers.image.ref.name": name},
            }));
        }
        Ok(())
    }

    /// Writes the index: from now on the layout is one.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let version = json!({"imageLayoutVersion": "1.0.0"});
        fs_err::write(self.directory.join("oci-layout"), version.to_string())?;
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        Ok(fs_err::write(self.directory.join("index.json"), format!("{index:#}\n"))?)
    }

    fn blob(&self, bytes: &[u8]) -> anyhow::Result<String> {
        let hex = digest::of_bytes(bytes);
        let path = self.directory.join("blobs/sha256").join(&hex);
        if !path.exists() {
            fs_err::write(path, bytes)?;
        }
        Ok(format!("sha256:{hex}"))
    }
}

/// The bytes compressed by the machine's gzip, without a name or time in it.
fn gzip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut child = Command::new("gzip")
        .args(["-n", "-6", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start gzip")?;
    let mut stdin = child.stdin.take().context("gzip has no input")?;
    let output = std::thread::scope(|scope| {
        // Beside us: gzip stops reading while nobody takes what it wrote.
        scope.spawn(move || stdin.write_all(bytes));
        child.wait_with_output()
    });
    let output = output.context("wait for gzip")?;
    ensure!(output.status.success(), "gzip ended with {}", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::{Compression, Files, Layout, Start};

    #[test]
    fn an_image_is_found_from_the_index_down_to_its_files() {
        let directory = tempfile::tempdir().expect("a folder");
        let mut layout = Layout::create(directory.path()).expect("a layout");
        let mut files = Files::default();
        files.file("etc/motd", 0o644, "hello").symlink("bin", "usr/bin");
        let layer = layout.layer(&files, Compression::Gzip).expect("a layer");
        layout.image(&["a/b:1", "a/b:2"], &[layer], &Start::default()).expect("an image");
        layout.finish().expect("an index");
        let read = |path: String| -> serde_json::Value {
            let bytes = fs_err::read(directory.path().join(path)).expect("a file");
            serde_json::from_slice(&bytes).expect("JSON")
        };
        let blob = |digest: &serde_json::Value| {
            format!("blobs/{}", digest.as_str().expect("a digest").replace(':', "/"))
        };
        let index = read("index.json".to_owned());
        assert_eq!(index["manifests"][0]["digest"], index["manifests"][1]["digest"]);
        let manifest = read(blob(&index["manifests"][0]["digest"]));
        let config = read(blob(&manifest["config"]["digest"]));
        assert_eq!(config["rootfs"]["diff_ids"].as_array().expect("a list").len(), 1);
        let layer = directory.path().join(blob(&manifest["layers"][0]["digest"]));
        let list = std::process::Command::new("tar").arg("-tzf").arg(layer).output().expect("tar");
        let names = String::from_utf8_lossy(&list.stdout).into_owned();
        assert_eq!(names.lines().collect::<Vec<_>>(), ["bin", "etc", "etc/motd"], "{names}");
    }
}
