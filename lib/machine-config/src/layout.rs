//! How a disk of a node is divided: names, type GUIDs and sizes that the image builder, the agent and the boot must
//! agree on. Constants only; who writes a partition table uses these and nothing of its own.
//!
//! WHEN CHANGING: nodes in the field keep the layout they were installed with, so a size may grow for new installs
//! only, and a name or type GUID may never change.

/// One partition of a node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// GPT partition name, and the only thing it is found by.
    pub name: &'static str,
    /// GPT partition type, as text.
    pub type_guid: &'static str,
    /// Size in bytes; `None` for the one that takes the rest of the disk.
    pub size: Option<u64>,
}

const MIB: u64 = 1 << 20;

/// Logical sector in bytes that a shipped image is laid out for.
pub const SECTOR: u64 = 512;
/// Every partition begins and ends on a multiple of this many bytes.
pub const ALIGNMENT: u64 = MIB;
/// Block in bytes of the root file system, of its dm-verity data and of its hash tree.
pub const ROOT_BLOCK: u64 = 4096;

/// EFI system partition: boot loader, boot images, and `ingot/config.yaml` when an image was customised.
pub const ESP: Partition = Partition {
    name: "ESP",
    type_guid: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    size: Some(512 * MIB),
};
/// Room for a BIOS boot loader's core image.
pub const BIOS: Partition =
    Partition { name: "BIOS", type_guid: "21686148-6449-6E6F-744E-656564454649", size: Some(MIB) };
/// First root slot: EROFS followed by its dm-verity tree.
pub const ROOT_A: Partition = Partition {
    name: "ROOT-A",
    type_guid: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    size: Some(1024 * MIB),
};
/// Second root slot.
pub const ROOT_B: Partition = Partition {
    name: "ROOT-B",
    type_guid: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    size: Some(1024 * MIB),
};
/// Config, identity and last-known-good, ext4.
pub const STATE: Partition = Partition {
    name: "STATE",
    type_guid: "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    size: Some(256 * MIB),
};
/// Everything else a node keeps, ext4, the rest of the disk.
pub const VAR: Partition =
    Partition { name: "VAR", type_guid: "4D21B016-B534-45C2-A9FB-5C16E091FD2D", size: None };

/// Partitions a shipped image holds, in the order they lie on the disk.
pub const SHIPPED: &[Partition] = &[ESP, BIOS, ROOT_A];
/// Partitions the agent adds at first boot, in this order, after the shipped ones.
pub const ADDED: &[Partition] = &[ROOT_B, STATE, VAR];

/// Smallest useful `VAR` in bytes.
pub const MIN_VAR: u64 = 512 * MIB;
/// Smallest disk in bytes that a node can be installed on: every partition, the smallest `VAR`, and room for both
/// partition tables, rounded up to whole GiB.
pub const MIN_DISK: u64 = 4096 * MIB;

/// Path on the ESP of a machine config that `ingot-image customize` put into a stock image.
pub const ESP_CONFIG: &str = "ingot/config.yaml";
