//! What the bench wants of this boot, written into the image beside the probe.

use anyhow::{Context as _, bail};

/// Where the plan lies in the measured image.
pub(crate) const PATH: &str = "/usr/share/ingot/bench/plan";

/// Directory of the client's certificate, key and CA, when the plan asks for the machine API.
pub(crate) const CREDENTIALS: &str = "/usr/share/ingot/bench";

/// A service that is asked until it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Service {
    /// The machine API of a node, over TCP with client certificates.
    Machine {
        /// Host and port.
        address: String,
        /// The name its certificate carries.
        name: String,
    },
    /// A container runtime that speaks CRI on a Unix socket: its path.
    Cri(String),
}

/// One boot's plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The program that is PID 1.
    pub(crate) pid1: String,
    /// Services that together are "ready".
    pub(crate) services: Vec<Service>,
    /// A config to apply once everything that is measured has been, so that later boots find one where nodes keep theirs.
    pub(crate) apply: Option<String>,
    /// Seconds of guest time between "ready" and the look at memory.
    pub(crate) idle_seconds: u64,
    /// Seconds of guest time over which the processor use of limited cgroups is watched; 0 for none.
    pub(crate) quota_seconds: u64,
}

/// Kernel argument of a boot that is timed. Idling costs such a boot as much host time as working, so it ends when the
/// services answered.
const TIMED: &str = "idle=poll";

/// Reads the plan; `None` when the image has none.
pub(crate) fn read() -> anyhow::Result<Option<Plan>> {
    match std::fs::read_to_string(PATH) {
        Ok(text) => {
            let plan = parse(&text)?;
            let line = fs_err::read_to_string("/proc/cmdline")?;
            let timed = line.split_whitespace().any(|word| word == TIMED);
            Ok(Some(if timed { Plan { idle_seconds: 0, quota_seconds: 0, ..plan } } else { plan }))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {PATH}")),
    }
}

/// `key value` lines.
fn parse(text: &str) -> anyhow::Result<Plan> {
    let mut plan = Plan::default();
    for line in text.lines() {
        let (key, value) =
            line.split_once(' ').with_context(|| format!("plan: `{line}` has no value"))?;
        match key {
            "pid1" => value.clone_into(&mut plan.pid1),
            "machine" => {
                let (address, name) = value.split_once(' ').context("plan: machine has no name")?;
                let (address, name) = (address.to_owned(), name.to_owned());
                plan.services.push(Service::Machine { address, name });
            }
            "apply" => plan.apply = Some(value.to_owned()),
            "cri" => plan.services.push(Service::Cri(value.to_owned())),
            "idle" => plan.idle_seconds = value.parse().context("plan: idle")?,
            "quota" => plan.quota_seconds = value.parse().context("plan: quota")?,
            _ => bail!("plan: unknown word `{key}`"),
        }
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_and_an_unknown_word_refused() {
        let plan =
            parse("pid1 /usr/sbin/x\nmachine 127.0.0.1:50000 a-name\ncri /run/x.sock\nidle 60\n")
                .expect("a good plan");
        assert_eq!(plan.pid1, "/usr/sbin/x");
        assert_eq!(plan.services.len(), 2);
        assert_eq!(plan.idle_seconds, 60);
        assert!(parse("nonsense 1").is_err());
        assert!(parse("idle").is_err());
    }
}
