//! Kernel parameters of the config. A parameter taken out of the config keeps its value until the next boot.

use super::{Controller, Outcome, Want};
use anyhow::Context as _;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Where parameters are.
const ROOT: &str = "/proc/sys";
/// Somebody else may change them; they are put back this often.
const INTERVAL: Duration = Duration::from_secs(60);

/// The sysctl controller.
pub(crate) struct Sysctl;

/// A parameter that is not as wished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    name: String,
    value: String,
}

impl Controller for Sysctl {
    type Have = Vec<Difference>;
    type Step = Difference;

    const NAME: &'static str = "sysctl";

    async fn observe(&mut self, want: &Want) -> anyhow::Result<Vec<Difference>> {
        let mut differences = Vec::new();
        for (name, value) in want.config.iter().flat_map(|c| &c.config.machine.kernel.sysctls) {
            let path = path(name).with_context(|| format!("{name} is no kernel parameter"))?;
            let current = fs::read_to_string(&path).with_context(|| {
                format!("kernel parameter {name} (its module may not be loaded)")
            })?;
            if !same(&current, &value.0) {
                differences.push(Difference { name: name.clone(), value: value.0.clone() });
            }
        }
        Ok(differences)
    }

    fn plan(&self, _: &Want, have: &Vec<Difference>) -> Vec<Difference> {
        have.clone()
    }

    async fn apply(&mut self, _: &Want, step: Difference) -> anyhow::Result<()> {
        let path = path(&step.name).context("no kernel parameter")?;
        fs::write(path, &step.value)
            .with_context(|| format!("set kernel parameter {} to \"{}\"", step.name, step.value))
    }

    fn outcome(&self, want: &Want, _: &Vec<Difference>) -> Outcome {
        let count = want.config.as_ref().map_or(0, |c| c.config.machine.kernel.sysctls.len());
        Outcome::Ok(format!("{count} parameters are set"))
    }

    fn resync(&self) -> Option<Duration> {
        Some(INTERVAL)
    }
}

/// `net.ipv4.ip_forward` as a file. A name with slashes keeps its dots, as sysctl(8) has it for links with dots.
fn path(name: &str) -> Option<PathBuf> {
    let relative = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let relative = Path::new(&relative);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && !name.is_empty()).then(|| Path::new(ROOT).join(relative))
}

/// The kernel separates several numbers by tabs.
fn same(current: &str, wanted: &str) -> bool {
    current.split_whitespace().eq(wanted.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_path_below_proc_sys_only() {
        assert_eq!(
            path("net.ipv4.ip_forward").unwrap(),
            Path::new("/proc/sys/net/ipv4/ip_forward")
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.1/forwarding").unwrap(),
            Path::new("/proc/sys/net/ipv4/conf/eth0.1/forwarding")
        );
        assert_eq!(path("../../etc/passwd"), None);
        assert_eq!(path("/etc/passwd"), None);
        assert_eq!(path(""), None);
    }

    #[test]
    fn values_are_compared_word_by_word() {
        assert!(same("4096\t87380\t6291456\n", "4096 87380 6291456"));
        assert!(!same("1\n", "0"));
    }
}
