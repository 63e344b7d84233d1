//! The root tree in memory: what lies where, with which mode, and where it came from.
//!
//! A tree is sorted by path and knows neither owners nor times, because everything is root's and dated 0. It refuses
//! what may never be in an image: see [`refuse`].

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::digest;
use crate::write::tar;

pub mod refuse;

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Made by the builder.
    Bytes(Vec<u8>),
    /// In a file of the build machine.
    Path(PathBuf),
}

/// One thing in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Its bytes.
        content: Content,
        /// Package or part it came from, for the bill of materials and the size table.
        origin: String,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: String,
    },
}

/// What can go wrong with a tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Two parts of the image want the same path.
    #[error("two parts of the image want to be /{path}")]
    Twice {
        /// Without leading slash.
        path: String,
    },
    /// A path of the recipe is not a clean absolute path.
    #[error("{path} is not an absolute path without `.`, `..` and double slashes")]
    BadPath {
        /// As written.
        path: String,
    },
    /// A file for the tree is a device, a socket or a pipe.
    #[error(
        "{path} is neither a file, a directory nor a symbolic link; an image holds nothing else"
    )]
    Special {
        /// Path on the build machine.
        path: PathBuf,
    },
    /// A file could not be read, or the archive not be written.
    #[error("cannot read a file of the image")]
    Read {
        /// Why, with the path.
        #[source]
        source: std::io::Error,
    },
}

/// A root tree. Paths have no leading slash.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

/// One line of a tree's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Path without leading slash.
    pub path: String,
    /// SHA-256 of the content.
    pub sha256: String,
    /// Length in bytes.
    pub size: u64,
    /// Where it came from.
    pub origin: String,
}

impl Tree {
    /// Every node, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// True when something is at `path`, which begins with a slash.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path.trim_start_matches('/'))
    }

    /// Adds a directory, with its parents; one that exists keeps its mode.
    ///
    /// # Errors
    /// [`TreeError::BadPath`], [`TreeError::Twice`] when it is there as something else.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<(), TreeError> {
        let path = self.clean(path)?;
        match self.nodes.get(&path) {
            None => {
                self.nodes.insert(path, Node::Directory { mode });
                Ok(())
            }
            Some(Node::Directory { .. }) => Ok(()),
            Some(_) => Err(TreeError::Twice { path }),
        }
    }

    /// Adds a file, with its parents.
    ///
    /// # Errors
    /// [`TreeError::BadPath`], [`TreeError::Twice`].
    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        content: Content,
        origin: &str,
    ) -> Result<(), TreeError> {
        self.insert(path, Node::File { mode, content, origin: origin.to_owned() })
    }

    /// Adds a symbolic link, with its parents.
    ///
    /// # Errors
    /// [`TreeError::BadPath`], [`TreeError::Twice`].
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), TreeError> {
        self.insert(path, Node::Symlink { target: target.to_owned() })
    }

    /// Adds a file or a whole directory of the build machine. Modes are reduced to readable, and executable where the
    /// owner may execute; everything special is refused.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn copy(&mut self, from: &Path, path: &str, origin: &str) -> Result<(), TreeError> {
        use std::os::unix::fs::PermissionsExt as _;
        let read = |source| TreeError::Read { source };
        let metadata = fs_err::symlink_metadata(from).map_err(read)?;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let target = fs_err::read_link(from).map_err(read)?;
            return self.symlink(path, &target.to_string_lossy());
        }
        if kind.is_file() {
            let mode = metadata.permissions().mode();
            // Set-uid and set-gid stay visible, so that the check refuses them instead of hiding them.
            let mode = mode & 0o6000 | if mode & 0o100 == 0 { 0o644 } else { 0o755 };
            return self.file(path, mode, Content::Path(from.to_owned()), origin);
        }
        if !kind.is_dir() {
            return Err(TreeError::Special { path: from.to_owned() });
        }
        self.directory(path, 0o755)?;
        for entry in fs_err::read_dir(from).map_err(read)? {
            let entry = entry.map_err(read)?;
            let below = format!("{path}/{}", entry.file_name().to_string_lossy());
            self.copy(&entry.path(), &below, origin)?;
        }
        Ok(())
    }

    /// Writes the tree as a tar archive.
    ///
    /// # Errors
    /// [`TreeError::Read`].
    pub fn write_tar(&self, out: impl Write) -> Result<(), TreeError> {
        let read = |source| TreeError::Read { source };
        let mut writer = tar::Writer::new(out);
        for (path, node) in &self.nodes {
            match node {
                Node::Directory { mode } => {
                    writer.entry(path, *mode, tar::Kind::Directory).map_err(read)?
                }
                Node::Symlink { target } => {
                    writer.entry(path, 0o777, tar::Kind::Symlink { target }).map_err(read)?;
                }
                Node::File { mode, content: Content::Bytes(bytes), .. } => {
                    let size = bytes.len() as u64;
                    writer.entry(path, *mode, tar::Kind::File { size }).map_err(read)?;
                    writer.content(bytes.as_slice(), size).map_err(read)?;
                }
                Node::File { mode, content: Content::Path(from), .. } => {
                    let file = fs_err::File::open(from).map_err(read)?;
                    let size = file.metadata().map_err(read)?.len();
                    writer.entry(path, *mode, tar::Kind::File { size }).map_err(read)?;
                    writer.content(file, size).map_err(read)?;
                }
            }
        }
        writer.finish().map_err(read).map(|_| ())
    }

    /// Digest, length and origin of every regular file, sorted by path.
    ///
    /// # Errors
    /// [`TreeError::Read`].
    pub fn listing(&self) -> Result<Vec<Listed>, TreeError> {
        let mut list = Vec::new();
        for (path, node) in &self.nodes {
            let Node::File { content, origin, .. } = node else { continue };
            let (sha256, size) = match content {
                Content::Bytes(bytes) => (digest::of_bytes(bytes), bytes.len() as u64),
                Content::Path(from) => {
                    digest::of_file(from).map_err(|source| TreeError::Read { source })?
                }
            };
            list.push(Listed { path: path.clone(), sha256, size, origin: origin.clone() });
        }
        Ok(list)
    }

    /// One line for each node, as `ls -l` would show it: mode, path, and target of a link.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |(path, node): (&String, &Node)| match node {
            Node::Directory { mode } => format!("d {mode:04o} /{path}\n"),
            Node::File { mode, .. } => format!("f {mode:04o} /{path}\n"),
            Node::Symlink { target } => format!("l 0777 /{path} -> {target}\n"),
        };
        self.nodes.iter().map(line).collect()
    }

    /// The files whose origin `keep` accepts, with their directories.
    #[must_use]
    pub fn part(&self, keep: impl Fn(&str, &str) -> bool) -> Self {
        let keep = |(path, node): &(&String, &Node)| match node {
            Node::File { origin, .. } => keep(path, origin),
            Node::Directory { .. } | Node::Symlink { .. } => false,
        };
        let mut part = Self::default();
        for (path, node) in self.nodes.iter().filter(keep) {
            // Cannot be twice: the whole tree has each path once.
            let _inserted = part.insert(&format!("/{path}"), node.clone());
        }
        part
    }

    fn insert(&mut self, path: &str, node: Node) -> Result<(), TreeError> {
        let path = self.clean(path)?;
        if self.nodes.contains_key(&path) {
            return Err(TreeError::Twice { path });
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Checks a path, makes its parents, and gives it without the leading slash.
    fn clean(&mut self, path: &str) -> Result<String, TreeError> {
        let bad = || TreeError::BadPath { path: path.to_owned() };
        let relative = path.strip_prefix('/').ok_or_else(bad)?;
        if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(bad());
        }
        for (at, _) in relative.match_indices('/') {
            let parent = &relative[..at];
            match self.nodes.get(parent) {
                None => {
                    self.nodes.insert(parent.to_owned(), Node::Directory { mode: 0o755 });
                }
                Some(Node::Directory { .. }) => {}
                Some(_) => return Err(TreeError::Twice { path: parent.to_owned() }),
            }
        }
        Ok(relative.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_brings_its_directories_and_a_path_can_be_taken_once() {
        let mut tree = Tree::default();
        tree.file("/usr/bin/a", 0o755, Content::Bytes(vec![1]), "x").expect("new");
        assert_eq!(tree.text(), "d 0755 /usr\nd 0755 /usr/bin\nf 0755 /usr/bin/a\n");
        assert!(matches!(tree.symlink("/usr/bin/a", "b"), Err(TreeError::Twice { .. })));
        assert!(matches!(
            tree.file("/usr/bin/a/b", 0o644, Content::Bytes(vec![]), "x"),
            Err(TreeError::Twice { .. })
        ));
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        let mut tree = Tree::default();
        for path in ["etc/a", "/../a", "/a//b", "/a/./b", "/"] {
            assert!(
                matches!(tree.directory(path, 0o755), Err(TreeError::BadPath { .. })),
                "{path}"
            );
        }
    }

    #[test]
    fn a_socket_of_the_build_machine_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let socket = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("socket");
        let error = Tree::default().copy(dir.path(), "/x", "test");
        assert!(matches!(error, Err(TreeError::Special { .. })), "{error:?}");
    }

    #[test]
    fn the_archive_does_not_depend_on_the_order_things_were_added() {
        let archive = |order: &[&str]| {
            let mut tree = Tree::default();
            for path in order {
                tree.file(path, 0o644, Content::Bytes(path.as_bytes().to_vec()), "x").expect("new");
            }
            let mut out = Vec::new();
            tree.write_tar(&mut out).expect("archive");
            out
        };
        assert_eq!(archive(&["/b/c", "/a"]), archive(&["/a", "/b/c"]));
    }
}
