//! Our own image with the stopwatch in it: the vm image, the probe started before PID 1, and a config baked in, so that a
//! boot needs no network and nobody to talk to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use ingot_image_builder::build::{BuildOptions, Variant, build};
use ingot_image_builder::recipe::ExtraFile;
use ingot_pki::{Ca, NODE_SERVER_NAME, Role, Validity};

use super::Bench;
use super::guest::{CLOCK, Guest};
use crate::workspace;

/// Size of the disk: ours, and what the node adds at first boot.
const DISK_BYTES: u64 = 4 << 30;

/// Where the probe finds the config it applies.
const APPLIED: &str = "/usr/share/ingot/bench/applied.yaml";

/// Lifetime of the certificates of the measured node.
const LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);

/// A built image to be measured.
#[derive(Debug, Clone)]
pub(super) struct Ingot {
    /// Its kernel; the other systems boot the same file.
    pub(super) kernel: PathBuf,
    initrd: PathBuf,
    command_line: String,
    disk: PathBuf,
    name: String,
}

impl Ingot {
    /// Builds the image of `profile` with the probe, a plan for it, and further documents of the config.
    pub(super) fn build(
        bench: &Bench,
        profile: &str,
        plan: &str,
        pods: &str,
    ) -> anyhow::Result<Self> {
        let name = format!("bench-{profile}");
        let inputs = bench.directory.join(&name);
        fs_err::create_dir_all(&inputs)?;
        let credentials = Credentials::of(&bench.directory.join("credentials"))?;
        let plan = format!(
            "pid1 /usr/sbin/ingot-init\nmachine 127.0.0.1:50000 {NODE_SERVER_NAME}\napply {APPLIED}\n{plan}"
        );
        // A node keeps its config on STATE. The first boot finds one in the image, and is then given the other.
        let config = format!("{}{pods}", credentials.config("first")?);
        let applied = format!("{}{pods}", credentials.config("later")?);
        let probe = bench.probe()?;
        fs_err::write(inputs.join("plan"), plan)?;
        fs_err::write(inputs.join("config.yaml"), config)?;
        fs_err::write(inputs.join("applied.yaml"), applied)?;
        let file =
            |from: PathBuf, path: &str, mode: u32| ExtraFile { from, path: path.to_owned(), mode };
        let mut extra_files = vec![
            file(probe, "/usr/sbin/ingot-bench-init", 0o755),
            file(inputs.join("plan"), "/usr/share/ingot/bench/plan", 0o444),
            file(inputs.join("config.yaml"), "/usr/share/ingot/config.yaml", 0o400),
            file(inputs.join("applied.yaml"), APPLIED, 0o400),
        ];
        for name in ["ca.pem", "client.pem", "client.key"] {
            let path = format!("/usr/share/ingot/bench/{name}");
            extra_files.push(file(credentials.directory.join(name), &path, 0o400));
        }
        let mut options = BuildOptions::new(&workspace::root(), &workspace::target(), profile);
        options.variant = Some(Variant {
            name: name.clone(),
            extra_files,
            command_line: vec!["init=/usr/sbin/ingot-bench-init".to_owned()],
        });
        options.programs.clone_from(&bench.programs);
        let built = build(&options, &bench.progress).context("build the image that is measured")?;
        Ok(Self {
            kernel: built.path("vmlinuz"),
            initrd: built.path("initrd.img"),
            command_line: fs_err::read_to_string(built.path("cmdline"))?.trim().to_owned(),
            disk: built.path("disk.raw"),
            name,
        })
    }

    /// What of the command line is for the kernel and the same for every system that is compared.
    pub(super) fn kernel_arguments(&self) -> String {
        let ours = |word: &&str| !word.starts_with("ingot.") && !word.starts_with("init=");
        self.command_line.split_whitespace().filter(ours).collect::<Vec<_>>().join(" ")
    }

    /// A machine that boots this image for the first time: it still has to make its partitions. The disk is written.
    pub(super) fn first_boot(&self, bench: &Bench) -> anyhow::Result<Guest> {
        let disk = bench.directory.join(format!("{}.disk", self.name));
        fs_err::copy(&self.disk, &disk)?;
        fs_err::OpenOptions::new().write(true).open(&disk)?.set_len(DISK_BYTES)?;
        Ok(Guest {
            name: format!("{}-first", self.name),
            kernel: self.kernel.clone(),
            initrd: Some(self.initrd.clone()),
            command_line: self.command_line.clone(),
            disk: Some((disk, true)),
        })
    }

    /// The same machine at any later boot. The disk is as the first boot left it, and stays so.
    pub(super) fn later_boot(&self, first: &Guest) -> Guest {
        let disk = first.disk.clone().map(|(path, _)| (path, false));
        Guest { name: self.name.clone(), disk, ..first.clone() }
    }
}

/// Certificates of the measured node and its client, kept so that the image does not change from run to run.
struct Credentials {
    directory: PathBuf,
}

impl Credentials {
    /// Reads them, or makes them first.
    fn of(directory: &Path) -> anyhow::Result<Self> {
        let credentials = Self { directory: directory.to_owned() };
        if !directory.join("client.key").exists() {
            fs_err::create_dir_all(directory)?;
            let clock = SystemTime::UNIX_EPOCH + Duration::from_secs(CLOCK.1);
            let validity = Validity::starting(clock, LIFETIME);
            let ca = Ca::generate("Ingot bench", validity).context("make an authority")?;
            let client =
                ca.issue_client("bench", Role::Admin, validity).context("make a client")?;
            fs_err::write(directory.join("ca.pem"), ca.certificate().to_pem())?;
            fs_err::write(directory.join("ca.key"), ca.key().to_pem())?;
            fs_err::write(directory.join("client.pem"), client.certificate.to_pem())?;
            fs_err::write(directory.join("client.key"), client.key.to_pem())?;
        }
        Ok(credentials)
    }

    /// A machine config that trusts them. No network card is there, so no time server is asked.
    fn config(&self, hostname: &str) -> anyhow::Result<String> {
        let pem = |name: &str| -> anyhow::Result<String> {
            let text = fs_err::read_to_string(self.directory.join(name))?;
            Ok(text.lines().map(|line| format!("      {line}\n")).collect())
        };
        Ok(format!(
            "apiVersion: ingot/v1\nkind: Machine\nnetwork:\n  hostname: {hostname}\ntime:\n  enabled: false\n\
             api:\n  ca:\n    certificate: |\n{}    key: |\n{}",
            pem("ca.pem")?,
            pem("ca.key")?
        ))
    }
}
