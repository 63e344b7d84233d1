//! The dm-verity hash tree of a root image, in the format of veritysetup, appended behind the data.
//!
//! Layout of the result in blocks of 4096 bytes: data, one superblock (only for people with `veritysetup dump`; the
//! node trusts its command line instead), then the tree from its top block down. The tree is a pure function of data
//! and salt.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use ingot_machine_config::layout::ROOT_BLOCK;
use sha2::{Digest, Sha256};

const BLOCK: usize = 4096;
const _: () = assert!(BLOCK as u64 == ROOT_BLOCK);
const HASH: usize = 32;

/// What is needed to open a verified image, and what the kernel command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verity {
    /// Number of data blocks; the superblock is block number `data_blocks`, the tree begins one later.
    pub data_blocks: u64,
    /// Digest of the salted top block, hex.
    pub root_hash: String,
    /// Salt, hex.
    pub salt: String,
}

impl Verity {
    /// The kernel argument, without its name: `sha256:<root hash>,<data blocks>,<salt>`.
    #[must_use]
    pub fn argument(&self) -> String {
        format!("sha256:{},{},{}", self.root_hash, self.data_blocks, self.salt)
    }
}

/// Pads `image` to whole blocks and appends superblock and tree. `uuid` only labels the superblock.
///
/// # Errors
/// Errors of reading and writing `image`.
pub fn append(image: &mut File, salt: &[u8; 32], uuid: &[u8; 16]) -> std::io::Result<Verity> {
    let length = image.metadata()?.len().next_multiple_of(ROOT_BLOCK);
    image.set_len(length)?;
    let data_blocks = length / ROOT_BLOCK;
    image.seek(SeekFrom::Start(0))?;
    let mut level = Vec::new();
    let mut block = vec![0_u8; BLOCK];
    for _ in 0..data_blocks {
        image.read_exact(&mut block)?;
        level.extend_from_slice(&hash(salt, &block));
    }
    let (levels, root) = tree(level, salt);
    image.seek(SeekFrom::Start(length))?;
    image.write_all(&superblock(data_blocks, salt, uuid))?;
    for level in levels.iter().rev() {
        image.write_all(level)?;
    }
    image.flush()?;
    Ok(Verity { data_blocks, root_hash: hex::encode(root), salt: hex::encode(salt) })
}

/// Builds the levels from the bottom (hashes of data) to the top (one block); gives them padded to blocks, and the root
/// hash.
fn tree(mut hashes: Vec<u8>, salt: &[u8; 32]) -> (Vec<Vec<u8>>, [u8; HASH]) {
    let mut levels = Vec::new();
    loop {
        hashes.resize(hashes.len().next_multiple_of(BLOCK).max(BLOCK), 0);
        let above: Vec<u8> = hashes.chunks(BLOCK).flat_map(|block| hash(salt, block)).collect();
        levels.push(hashes);
        if let Ok(root) = <[u8; HASH]>::try_from(above.as_slice()) {
            return (levels, root);
        }
        hashes = above;
    }
}

fn hash(salt: &[u8; 32], block: &[u8]) -> [u8; HASH] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

fn superblock(data_blocks: u64, salt: &[u8; 32], uuid: &[u8; 16]) -> Vec<u8> {
    let block_size = u32::try_from(ROOT_BLOCK).unwrap_or(4096).to_le_bytes();
    let mut block = Vec::with_capacity(BLOCK);
    block.extend_from_slice(b"verity\0\0");
    block.extend_from_slice(&1_u32.to_le_bytes()); // version of the superblock
    block.extend_from_slice(&1_u32.to_le_bytes()); // hash type: salt first
    block.extend_from_slice(uuid);
    block.extend_from_slice(b"sha256");
    block.resize(64, 0);
    block.extend_from_slice(&block_size); // data
    block.extend_from_slice(&block_size); // hashes
    block.extend_from_slice(&data_blocks.to_le_bytes());
    block.extend_from_slice(&32_u16.to_le_bytes());
    block.resize(88, 0);
    block.extend_from_slice(salt);
    block.resize(BLOCK, 0);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(blocks: usize) -> (File, Verity) {
        let mut file = tempfile::tempfile().expect("file");
        for index in 0..blocks {
            file.write_all(&vec![u8::try_from(index % 251).expect("small"); BLOCK]).expect("data");
        }
        let verity = append(&mut file, &[7; 32], &[9; 16]).expect("tree");
        (file, verity)
    }

    fn block_at(file: &mut File, number: u64) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        file.seek(SeekFrom::Start(number * ROOT_BLOCK)).expect("seek");
        file.read_exact(&mut block).expect("read");
        block
    }

    #[test]
    fn the_root_hash_is_the_digest_of_the_block_behind_the_superblock() {
        for blocks in [2, 127, 128, 129, 300] {
            let (mut file, verity) = image(blocks);
            let top = block_at(&mut file, verity.data_blocks + 1);
            assert_eq!(hex::encode(hash(&[7; 32], &top)), verity.root_hash, "{blocks} blocks");
        }
    }

    #[test]
    fn a_changed_data_block_changes_the_root_hash() {
        let (_, one) = image(130);
        let (_, other) = image(131);
        assert_ne!(one.root_hash, other.root_hash);
    }

    #[test]
    fn the_tree_has_as_many_levels_as_the_data_needs() {
        let (file, verity) = image(129);
        // 129 hashes need two bottom blocks and a top block, behind the superblock.
        assert_eq!(file.metadata().expect("length").len() / ROOT_BLOCK, verity.data_blocks + 1 + 3);
    }
}
