//! A drive labelled CIDATA, as cloud-init's NoCloud defines it and Proxmox makes it: finding it by its label, mounting it
//! for reading, and handing its files to the parser of `ingot_machine_config`.

use super::image::{read, with_mounted};
use ingot_machine_config::nocloud::{self, Files, Seed};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The label, in any case.
const LABEL: &str = "cidata";

/// What the first labelled drive that can be read says.
pub(super) fn find() -> Option<Seed> {
    for (device, kind) in labelled() {
        let modules: &[&str] =
            if kind == "vfat" { &["nls_cp437", "nls_ascii", "vfat"] } else { &["isofs"] };
        for name in modules {
            crate::controllers::modules::load_quietly(name);
        }
        if let Some(seed) = with_mounted(&device, kind, seed_of) {
            return Some(seed);
        }
    }
    None
}

/// Devices that carry the label, to notice when another appears.
pub(super) fn drives() -> Vec<PathBuf> {
    labelled().into_iter().map(|(device, _)| device).collect()
}

fn seed_of(root: &Path) -> Seed {
    let file = |name: &str| root.join(name).exists().then(|| read(&root.join(name))).flatten();
    let (meta_data, user_data, network_config) =
        (file("meta-data"), file("user-data"), file("network-config"));
    nocloud::read(Files {
        meta_data: meta_data.as_deref(),
        user_data: user_data.as_deref(),
        network_config: network_config.as_deref(),
    })
}

fn labelled() -> Vec<(PathBuf, &'static str)> {
    let Ok(listing) = fs::read_dir("/sys/class/block") else { return Vec::new() };
    let mut names: Vec<_> = listing.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let devices = names.into_iter().map(|name| Path::new("/dev").join(name));
    devices.filter_map(|device| kind_of(&device).map(|kind| (device, kind))).collect()
}

/// The file system of a device that carries the label.
fn kind_of(device: &Path) -> Option<&'static str> {
    let file = File::open(device).ok()?;
    let at = |offset, length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
    };
    let is_label = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes).trim_end_matches([' ', '\0']).eq_ignore_ascii_case(LABEL)
    };
    // FAT: boot signature, and the label in the boot sector of FAT12/16 or FAT32.
    if let Some(sector) = at(0, 512)
        && sector[510..] == [0x55, 0xaa]
    {
        let small = sector[38] == 0x29 && is_label(&sector[43..54]);
        let large = sector[66] == 0x29 && is_label(&sector[71..82]);
        if small || large {
            return Some("vfat");
        }
    }
    // ISO 9660: the primary volume descriptor in sector 16.
    let descriptor = at(16 * 2048, 72)?;
    (descriptor[1..6] == *b"CD001" && is_label(&descriptor[40..72])).then_some("iso9660")
}
