//! What the builder writes, read by the programs of others: veritysetup, fsck.erofs, and the build run twice.
//!
//! Uses the tools below `target/tools`, and downloads them when they are absent.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use ingot_image_builder::progress::Silent;
use ingot_image_builder::tools::Tools;
use ingot_image_builder::tree::{Content, Tree};
use ingot_image_builder::write::erofs::{self, Compression};
use ingot_image_builder::write::verity::{self, Verity};

fn tools() -> Tools {
    // The directory of the test program is inside the target directory.
    let program = std::env::current_exe().expect("own path");
    let target =
        program.ancestors().find(|dir| dir.file_name().is_some_and(|name| name == "target"));
    Tools::ensure(target.expect("a target directory"), &Silent).expect("tools")
}

fn tree() -> Tree {
    let mut tree = Tree::default();
    for index in 0..40_u8 {
        let content = vec![index; 20_000 + usize::from(index) * 977];
        tree.file(&format!("/usr/lib/{index}"), 0o644, Content::Bytes(content), "test")
            .expect("new");
    }
    tree.symlink("/lib", "usr/lib").expect("new");
    tree
}

/// A root image of [`tree`] with its hash tree.
fn root(tools: &Tools, dir: &Path) -> (PathBuf, Verity) {
    let (tar, image) = (dir.join("root.tar"), dir.join("root.img"));
    tree().write_tar(std::fs::File::create(&tar).expect("file")).expect("archive");
    let mkfs = tools.command("mkfs.erofs").expect("mkfs.erofs");
    erofs::make(mkfs, Compression::Lz4, &["usr/lib/7"], &[1; 16], &tar, &image).expect("image");
    let mut file = std::fs::File::options().read(true).write(true).open(&image).expect("image");
    let verity = verity::append(&mut file, &[7; 32], &[9; 16]).expect("hash tree");
    (image, verity)
}

fn veritysetup(tools: &Tools, image: &Path, verity: &Verity) -> bool {
    let mut command: Command = tools.command("veritysetup").expect("veritysetup");
    command.arg("verify").arg(image).arg(image).arg(&verity.root_hash);
    command.arg(format!("--hash-offset={}", verity.data_blocks * 4096));
    command.output().expect("veritysetup runs").status.success()
}

#[test]
fn veritysetup_accepts_the_hash_tree_and_notices_one_changed_byte() {
    let (tools, dir) = (tools(), tempfile::tempdir().expect("directory"));
    let (image, verity) = root(&tools, dir.path());
    assert!(verity.data_blocks > 1);
    assert!(veritysetup(&tools, &image, &verity));
    let mut file = std::fs::File::options().read(true).write(true).open(&image).expect("image");
    file.seek(SeekFrom::Start(5000)).expect("seek");
    let mut byte = [0];
    file.read_exact(&mut byte).expect("read");
    file.seek(SeekFrom::Start(5000)).expect("seek");
    file.write_all(&[byte[0] ^ 1]).expect("write");
    assert!(!veritysetup(&tools, &image, &verity));
}

/// What `dump.erofs` says of a file of the image.
fn dump(tools: &Tools, image: &Path, path: &str) -> String {
    let mut command = tools.command("dump.erofs").expect("dump.erofs");
    let output = command.arg(format!("--path={path}")).arg(image).output();
    String::from_utf8_lossy(&output.expect("dump.erofs runs").stdout).into_owned()
}

#[test]
fn the_root_reads_back_with_everything_owned_by_root_and_is_equal_from_another_directory() {
    let tools = tools();
    let (one, other) =
        (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    let (image, verity) = root(&tools, one.path());
    let (second, second_verity) = root(&tools, other.path());
    assert_eq!(verity, second_verity);
    assert!(std::fs::read(&image).expect("image") == std::fs::read(second).expect("image"));
    let fsck = tools
        .command("fsck.erofs")
        .expect("fsck.erofs")
        .arg(&image)
        .output()
        .expect("fsck.erofs runs");
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stderr));
    let text = dump(&tools, &image, "/usr/lib/3");
    assert!(
        text.contains("Uid: 0") && text.contains("Gid: 0") && text.contains("1970-01-01"),
        "{text}"
    );
}

#[test]
fn a_file_is_compressed_unless_it_is_to_be_kept_as_it_is() {
    let (tools, dir) = (tools(), tempfile::tempdir().expect("directory"));
    let (image, _) = root(&tools, dir.path());
    let (kept, other) = (dump(&tools, &image, "/usr/lib/7"), dump(&tools, &image, "/usr/lib/17"));
    assert!(kept.contains("Compression ratio: 100.00%"), "{kept}");
    assert!(!other.contains("Compression ratio: 100.00%"), "{other}");
}
