//! How big it is: our programs, the image, and what the image is made of. The numbers come from the image's manifest.

use ingot_image_builder::build::{BuildOptions, build};

use super::Bench;
use super::table::Table;
use crate::workspace;

/// Measures the vm image.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Vec<Table>> {
    let mut options = BuildOptions::new(&workspace::root(), &workspace::target(), "vm");
    options.programs.clone_from(&bench.programs);
    let built = build(&options, &bench.progress)?;
    let manifest = &built.manifest;

    let mut programs = Table::new("Sizes of our programs, stripped");
    for (name, size) in &manifest.programs {
        programs.add(name, &[mib(*size)], "MiB");
    }
    programs.add("all together", &[mib(manifest.programs.values().sum())], "MiB");
    programs.at_most(16.0, "S1");

    let mut image = Table::new("Sizes of the vm image");
    for (name, output) in &manifest.outputs {
        image.add(name, &[mib(output.size)], "MiB");
        if name == "disk.qcow2" {
            image.at_most(64.0, "compressed image");
        }
    }
    let mut parts = Table::new("What the compressed vm image is made of");
    for part in &manifest.made_of {
        parts.add(
            &format!("{} ({:.1} MiB as files)", part.part, mib(part.plain)),
            &[mib(part.compressed)],
            "MiB",
        );
    }
    Ok(vec![programs, image, parts])
}

/// Bytes as MiB.
#[expect(clippy::cast_precision_loss, reason = "sizes of files are far below 2^52 bytes")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
