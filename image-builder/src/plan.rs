//! What a recipe leads to, in words and numbers, before anything is done. Pure: it reads nothing and writes nothing.

use std::fmt;

use ingot_machine_config::layout;

use crate::recipe::Recipe;
use crate::write::erofs::Compression;
use crate::write::gpt;

/// One step of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// File it makes, or `-`.
    pub output: &'static str,
    /// What happens.
    pub what: String,
}

/// The whole plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name of the image.
    pub name: String,
    /// Steps, in order.
    pub steps: Vec<Step>,
    /// Partitions of the disk: name, first byte, length in bytes.
    pub partitions: Vec<(&'static str, u64, u64)>,
    /// Length of the disk in bytes.
    pub disk: u64,
}

/// Plans the build of a recipe.
#[must_use]
pub fn plan(recipe: &Recipe) -> Plan {
    let step = |output, what: String| Step { output, what };
    let programs: Vec<&str> = recipe.binaries.iter().map(|one| one.name.as_str()).collect();
    let tools: Vec<&str> = recipe.programs.iter().map(|one| one.path.as_str()).collect();
    let images: Vec<String> =
        recipe.images.iter().map(|one| format!("{}:{}", one.repository, one.tag)).collect();
    let compression = match recipe.root.compression {
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
        Compression::None => "nothing",
    };
    let mut steps = vec![
        step(
            "-",
            format!(
                "take {} and {} from Debian",
                recipe.kernel.package,
                recipe.root.packages.join(", ")
            ),
        ),
        step("-", format!("compile {}", programs.join(", "))),
    ];
    let mut root = format!(
        "root tree with {} and the modules of {} paths",
        tools.join(", "),
        recipe.modules.include.len()
    );
    if let Some(kubernetes) = &recipe.kubernetes {
        root.push_str(&format!(", Kubernetes as container image {}", kubernetes.repository));
    }
    if !images.is_empty() {
        root.push_str(&format!(", container images {}", images.join(", ")));
    }
    steps.extend([
        step("root.txt", root),
        step("sbom.spdx.json", "bill of materials: every package, library and file".to_owned()),
        step("root.img", format!("EROFS compressed with {compression}, then its dm-verity tree")),
        step(
            "cmdline",
            format!(
                "root hash, ingot.verity={}, {}",
                recipe.kernel.on_corruption.argument(),
                recipe.kernel.command_line.join(" ")
            ),
        ),
        step(
            "initrd.img",
            format!(
                "first program; always {}; by hardware {}",
                recipe.initrd.always.join(", "),
                recipe.initrd.by_hardware.join(", ")
            ),
        ),
        step("ingot.efi", "EFI stub with kernel, initrd and command line".to_owned()),
        step(
            "disk.raw",
            "partition table, EFI system partition with systemd-boot, first root slot".to_owned(),
        ),
        step("disk.qcow2", "the same, compressed".to_owned()),
        step(
            "manifest.json",
            "digest and size of each, and what the compressed disk is made of".to_owned(),
        ),
    ]);
    let (placed, disk) = gpt::place(layout::SHIPPED, &recipe.name);
    let partitions = placed.iter().map(|one| (one.partition.name, one.offset, one.size)).collect();
    Plan { name: recipe.name.clone(), steps, partitions, disk }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "image {}", self.name)?;
        for step in &self.steps {
            writeln!(formatter, "  {:<15} {}", step.output, step.what)?;
        }
        writeln!(formatter, "disk of {} MiB", self.disk >> 20)?;
        for (name, offset, size) in &self.partitions {
            writeln!(formatter, "  {name:<8} at {:>5} MiB, {:>5} MiB", offset >> 20, size >> 20)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_plan_of_the_vm_image_reads_as_what_the_disk_will_hold() {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/images");
        let text = plan(&Recipe::load(&recipes, "vm").expect("valid")).to_string();
        let disk = text.split_once("disk of").map_or("", |(_, disk)| disk);
        expect_test::expect![[r#"
            disk of 1539 MiB
              ESP      at     1 MiB,   512 MiB
              BIOS     at   513 MiB,     1 MiB
              ROOT-A   at   514 MiB,  1024 MiB
        "#]]
        .assert_eq(&format!("disk of{disk}"));
    }
}
