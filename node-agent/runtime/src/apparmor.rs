//! AppArmor profiles of containers: the one that is asked for, which must be there, or Ingot's own, which comes compiled with
//! the image and is given to the kernel when the first container wants it.
//!
//! It never compiles or changes a profile.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{ContainerConfig, SecurityProfile};
use crate::container::ContainerError;

/// Name of Ingot's own profile (`configs/images/apparmor/ingot-default`).
const DEFAULT: &str = "ingot-default";
/// Its tables. An image for a kernel without AppArmor may lack them.
const COMPILED: &str = "/usr/share/ingot/apparmor/ingot-default";
/// Whether the kernel decides by profiles at all.
const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
/// What the kernel has, a line each: `name (mode)`.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
/// Takes the tables of a profile, whether or not it has it already, in one write.
const REPLACE: &str = "/sys/kernel/security/apparmor/.replace";

/// The kernel has what [`COMPILED`] says: it is asked once in the life of this program.
static HAS_DEFAULT: AtomicBool = AtomicBool::new(false);

/// The profile to apply to a container.
///
/// # Errors
/// [`ContainerError::AppArmor`]: one that is asked for by name is not loaded, or the kernel has no AppArmor for it; our own
/// cannot be loaded.
pub(crate) fn profile_of(config: &ContainerConfig) -> Result<Option<&str>, ContainerError> {
    if config.security.privileged {
        return Ok(None);
    }
    let enabled =
        || std::fs::read_to_string(ENABLED).is_ok_and(|text| text.trim_end().starts_with('Y'));
    let refused = |profile: &str, problem: &str| {
        Err(ContainerError::AppArmor { profile: profile.to_owned(), problem: problem.to_owned() })
    };
    match &config.security.apparmor {
        SecurityProfile::Unconfined => Ok(None),
        SecurityProfile::Localhost(profile) if !enabled() => {
            refused(profile, "the kernel runs without AppArmor")
        }
        SecurityProfile::Localhost(profile) => {
            let loaded = std::fs::read_to_string(PROFILES).unwrap_or_default();
            match !profile.is_empty() && has(&loaded, profile) {
                true => Ok(Some(profile)),
                false => refused(profile, "it is not loaded"),
            }
        }
        SecurityProfile::RuntimeDefault if HAS_DEFAULT.load(Ordering::Relaxed) => Ok(Some(DEFAULT)),
        SecurityProfile::RuntimeDefault if !enabled() => Ok(None),
        SecurityProfile::RuntimeDefault => match load(Path::new(COMPILED), Path::new(REPLACE)) {
            Ok(false) => Ok(None),
            Ok(true) => {
                HAS_DEFAULT.store(true, Ordering::Relaxed);
                Ok(Some(DEFAULT))
            }
            // Without it a container would run with less between it and the node than everybody believes.
            Err(error) => refused(DEFAULT, &format!("the kernel does not take it: {error}")),
        },
    }
}

/// Whether the list of the kernel has a profile of that name.
fn has(profiles: &str, name: &str) -> bool {
    profiles.lines().any(|line| line.rsplit_once(" (").is_some_and(|(loaded, _)| loaded == name))
}

/// Gives the kernel the tables in `compiled`; false when there are none.
fn load(compiled: &Path, replace: &Path) -> std::io::Result<bool> {
    let tables = match std::fs::read(compiled) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        tables => tables?,
    };
    let mut kernel = std::fs::File::options().write(true).open(replace)?;
    // One write is one profile: the kernel takes a part of it for the whole.
    let written = std::io::Write::write(&mut kernel, &tables)?;
    if written != tables.len() {
        return Err(std::io::ErrorKind::WriteZero.into());
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_by_its_whole_name() {
        let profiles = "ingot-default (enforce)\nmy web (complain)\n";
        assert!(has(profiles, "ingot-default") && has(profiles, "my web"));
        for absent in ["ingot", "ingot-default (enforce)", "web", ""] {
            assert!(!has(profiles, absent), "{absent}");
        }
    }

    #[test]
    fn tables_are_given_whole_and_without_them_nothing_is() {
        let folder = tempfile::tempdir().unwrap();
        let (compiled, kernel) = (folder.path().join("compiled"), folder.path().join("kernel"));
        assert!(!load(&compiled, &kernel).unwrap());
        std::fs::write(&compiled, b"tables").unwrap();
        assert!(load(&compiled, &kernel).is_err());
        std::fs::write(&kernel, b"").unwrap();
        assert!(load(&compiled, &kernel).unwrap());
        assert_eq!(std::fs::read(&kernel).unwrap(), b"tables");
    }

    #[test]
    fn a_privileged_container_has_none_whatever_it_asks_for() {
        let mut config = ContainerConfig::default();
        config.security.privileged = true;
        for asked in [SecurityProfile::RuntimeDefault, SecurityProfile::Localhost("x".into())] {
            config.security.apparmor = asked;
            assert_eq!(profile_of(&config).unwrap(), None);
        }
    }
}
