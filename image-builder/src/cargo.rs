//! The cargo that compiles: the one that runs us, without what it tells us of ourselves.

use std::ffi::OsStr;
use std::process::Command;

/// What `cargo run` says of the package whose program it runs begins like this.
const OF_OURSELVES: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// A command of cargo without arguments.
///
/// Build scripts that look at these variables (ring's) would be run again, and everything that depends on them compiled
/// again, each time another cargo hands them on.
#[must_use]
pub fn command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_ourselves(name)) {
        command.env_remove(name);
    }
    command
}

fn is_of_ourselves(name: &OsStr) -> bool {
    OF_OURSELVES.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_cargo_hears_nothing_of_this_package() {
        // Cargo runs this test, and has said these of it.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let command = command();
        let removed = |name: &str| command.get_envs().any(|one| one == (OsStr::new(name), None));
        assert!(removed("CARGO_MANIFEST_DIR") && removed("CARGO_PKG_NAME"));
        assert!(!removed("CARGO_HOME") && !removed("PATH"));
    }
}
