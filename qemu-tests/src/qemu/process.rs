//! A QEMU child that never outlives its owner: killed on drop, and by the kernel when the thread that started it ends for
//! whatever reason.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::wait;

/// A running QEMU.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lives_on: bool,
}

impl Process {
    /// Starts `program` with its output going to `log`.
    ///
    /// `setpriv` sets the parent death signal, which outlives `exec`; setting it from here would need unsafe code between
    /// fork and exec. The kernel sends it when the *thread* that forked ends, so machines are booted from the main thread
    /// (a current-thread runtime), never from a pool that shrinks.
    ///
    /// With `lives_on` it is put into a session of its own instead, and outlives this program.
    pub(crate) fn start(program: &Command, log: &Path, lives_on: bool) -> anyhow::Result<Self> {
        let output = fs_err::File::create(log)?;
        let errors = output.try_clone()?;
        let mut command = if lives_on {
            Command::new("setsid")
        } else {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]);
            command
        };
        command.arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = program.get_current_dir() {
            command.current_dir(directory);
        }
        command.stdin(Stdio::null()).stdout(output.into_parts().0).stderr(errors.into_parts().0);
        let child =
            command.spawn().context("start QEMU by `setpriv` or `setsid` (package util-linux)")?;
        Ok(Self { child, lives_on })
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("ask whether QEMU still runs")
    }

    /// Waits for QEMU to end by itself; an end with an error is an error.
    pub(crate) async fn wait(&mut self, limit: Duration) -> anyhow::Result<()> {
        let status = wait::until("QEMU to end", limit, async || self.ended()).await?;
        if !status.success() {
            bail!("QEMU ended with {status}");
        }
        Ok(())
    }

    /// SIGKILL: the machine loses power between two instructions.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("kill QEMU")?;
        self.child.wait().context("wait for QEMU after killing it")?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.lives_on {
            return;
        }
        // Errors mean that it is gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
