//! One file for each on-disk format. A writer takes plain values and gives bytes; it knows nothing of recipes.

pub mod cpio;
pub mod erofs;
pub mod fat;
pub mod gpt;
pub mod pe;
pub mod tar;
pub mod verity;
