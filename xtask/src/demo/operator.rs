//! The operator's side of the demo: certificates and config from `ingotctl gen`, first config by `ingotctl apply`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use ingot_pki::{Ca, Role, Validity};
use ingot_qemu_tests::client::{self, Api};
use ingot_qemu_tests::machine::Machine;

use super::step;
use crate::workspace;

/// Name of the installation, of the context, and of the node.
const INSTALLATION: &str = "demo";
const NODE: &str = "demo-node";
/// For the demo's own look at the API.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// An operator with a directory of keys.
pub(super) struct Operator {
    ingotctl: PathBuf,
    directory: PathBuf,
    port: u16,
}

impl Operator {
    /// Makes keys, a context and a machine config, with `ingotctl gen`, and adds `sections` of the machine document and further documents
    /// to the config.
    pub(super) fn generate(
        directory: &Path,
        machine: &Machine,
        sections: &str,
        documents: &[String],
    ) -> anyhow::Result<Self> {
        let operator = Self {
            ingotctl: machine.artifacts().tools.ingotctl.clone(),
            directory: directory.join("operator"),
            port: machine.port(),
        };
        // Keys of an earlier demo belong to a node that is gone.
        if operator.directory.exists() {
            fs_err::remove_dir_all(&operator.directory)?;
        }
        let mut command = operator.ingotctl();
        command.args(["--endpoint", &operator.endpoint(), "gen", INSTALLATION, "--hostname", NODE]);
        command.arg("--output-dir").arg(&operator.directory);
        operator.run(&mut command)?;
        let config = fs_err::read_to_string(operator.config())?;
        // The emulated network may reach no time server; the emulated clock is right.
        let head = "kind: Machine\n";
        let config =
            config.replacen(head, &format!("{head}time:\n  enabled: false\n{sections}"), 1);
        let all: Vec<String> = std::iter::once(config).chain(documents.iter().cloned()).collect();
        fs_err::write(operator.config(), all.join("---\n"))?;
        Ok(operator)
    }

    /// Gives the node its first config, proving the code.
    pub(super) fn apply(&self, code: &str) -> anyhow::Result<()> {
        let mut command = self.ingotctl();
        command.args([
            "--endpoint",
            &self.endpoint(),
            "--timeout",
            "60s",
            "apply",
            "--pairing-code",
            code,
            "-f",
        ]);
        command.arg(self.config());
        self.run(&mut command)
    }

    /// Makes the node a cluster.
    pub(super) fn bootstrap(&self) -> anyhow::Result<()> {
        let mut command = self.ingotctl();
        command.args(["--endpoint", &self.endpoint(), "--timeout", "120s", "bootstrap"]);
        self.run(&mut command)
    }

    /// The administrator's kubeconfig, for an API server at a port of this machine.
    pub(super) fn kubeconfig(&self, port: u16) -> anyhow::Result<String> {
        let mut command = self.ingotctl();
        let server = format!("https://127.0.0.1:{port}");
        command.args(["--endpoint", &self.endpoint(), "kubeconfig", "--server", &server]);
        workspace::output(&mut command)
    }

    /// What stands before a word of `ingotctl` when a person calls it, as a shell's alias.
    pub(super) fn alias(&self) -> String {
        let (program, contexts) = (display(&self.ingotctl), display(&self.contexts()));
        format!("alias ingotctl='{program} --config {contexts}'")
    }

    /// The API, as an administrator of this installation.
    pub(super) fn api(&self) -> anyhow::Result<Api> {
        let read = |name: &str| fs_err::read_to_string(self.directory.join(name));
        let ca = Ca::from_pem(&read("ca.crt")?, &read("ca.key")?)
            .context("read the demo's authority")?;
        let validity = Validity::starting(SystemTime::now(), LIFETIME);
        let identity =
            ca.issue_client("demo-admin", Role::Admin, validity).context("issue a certificate")?;
        Ok(Api::new(client::channel(self.port, ca.certificate(), Some(&identity))?))
    }

    /// What a person may try now.
    pub(super) fn next_commands(&self) -> String {
        let alias = self.alias();
        let mut text = format!("the node runs on; ask it something:\n\n  {alias}\n");
        for (words, why) in [
            ("status", "stage, addresses, root integrity"),
            ("pods", "what runs, what was killed and why"),
            ("stats --interval 5s", "use beside limits: the spinning pod stays at 250m"),
            ("events --tail 20", "what happened"),
            ("logs -f behaves", "lines as they come"),
            ("cgroups pods", "the limits in the kernel"),
            ("service restart ingotd --kill", "kill the agent: no pod notices"),
            ("dmesg --tail 20", "the kernel's log"),
            ("ls /usr/bin", "no shell"),
            ("shutdown", "power it off"),
        ] {
            text.push_str(&format!("  ingotctl {words:34} # {why}\n"));
        }
        text.push_str("\nits config is ");
        text.push_str(&display(&self.config()));
        text.push_str("; change it and `ingotctl apply -f` it");
        text
    }

    fn config(&self) -> PathBuf {
        self.directory.join(format!("{NODE}.yaml"))
    }

    fn contexts(&self) -> PathBuf {
        self.directory.join("contexts.yaml")
    }

    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn ingotctl(&self) -> Command {
        let mut command = Command::new(&self.ingotctl);
        command.arg("--config").arg(self.contexts());
        command
    }

    /// Shows the command as a person would type it, and runs it.
    fn run(&self, command: &mut Command) -> anyhow::Result<()> {
        let words: Vec<String> =
            command.get_args().skip(2).map(|word| display(Path::new(word))).collect();
        step(&format!("ingotctl {}", words.join(" ")));
        let text = workspace::output(command)?;
        for line in text.lines() {
            println!("    {line}");
        }
        Ok(())
    }
}

/// A path as seen from the root of the repository, where the reader is.
pub(super) fn display(path: &Path) -> String {
    path.strip_prefix(workspace::root()).unwrap_or(path).display().to_string()
}
