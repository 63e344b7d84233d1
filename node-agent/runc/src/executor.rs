//! The last step of a container's first process: it becomes the program. In place of libcontainer's own, which knows only
//! text in the environment and wants rights of everybody on the program.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::Path;

use anyhow::Context as _;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor as Workload, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use rustix::fs::{Access, AtFlags, CWD};

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What becomes the program.
#[derive(Clone)]
pub(crate) struct Executor {
    /// `NAME=value`, as the program gets it.
    environment: Vec<CString>,
}

impl Executor {
    /// Reads the environment beside the spec.
    pub(crate) fn new(bundle: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(bundle.join("env")).context("read the environment")?;
        let variables = bytes.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
        let environment = variables
            .map(CString::new)
            .collect::<Result<_, _>>()
            .context("read the environment")?;
        Ok(Self { environment })
    }

    fn path(&self) -> &str {
        let variables = self.environment.iter().filter_map(|variable| variable.to_str().ok());
        let mut paths = variables.filter_map(|variable| variable.strip_prefix("PATH="));
        paths.next().unwrap_or(DEFAULT_PATH)
    }

    /// The file to execute, looked for as the user that this process is by now.
    fn find(&self, program: &str) -> Result<CString, String> {
        let executable = |path: &str| {
            let file = rustix::fs::stat(path)
                .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
            file && rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
        };
        let found = if program.contains('/') {
            match rustix::fs::stat(program) {
                Ok(_) if executable(program) => Some(program.to_owned()),
                Ok(_) => return Err(format!("exec {program:?}: permission denied")),
                Err(error) => return Err(format!("exec {program:?}: {error}")),
            }
        } else {
            let candidates = self.path().split(':').map(|folder| match folder {
                "" => format!("./{program}"),
                folder => format!("{folder}/{program}"),
            });
            candidates.into_iter().find(|path| executable(path))
        };
        let found =
            found.ok_or_else(|| format!("exec {program:?}: executable file not found in $PATH"))?;
        CString::new(found).map_err(|e| e.to_string())
    }
}

fn arguments(spec: &Spec) -> Option<&Vec<String>> {
    spec.process().as_ref()?.args().as_ref()
}

impl Workload for Executor {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let words = arguments(spec).ok_or(ExecutorError::InvalidArg)?;
        let program = words.first().ok_or(ExecutorError::InvalidArg)?;
        let path = self.find(program).map_err(ExecutorError::Other)?;
        let words: Result<Vec<CString>, _> =
            words.iter().map(|word| CString::new(word.as_str())).collect();
        let words = words.map_err(|_| ExecutorError::InvalidArg)?;
        // Programs of Rust ignore SIGPIPE, and what is ignored stays so.
        ingot_linux::exec::default_signals();
        let error = ingot_linux::exec::replace(&path, &words, &self.environment);
        Err(ExecutorError::Execution(Box::new(error)))
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let wrong = ExecutorValidationError::ArgValidationError;
        let program = arguments(spec).and_then(|words| words.first());
        let program = program.ok_or_else(|| wrong("there is no program".to_owned()))?;
        self.find(program).map(drop).map_err(wrong)
    }

    fn setup_envs(&self, _envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The program gets its environment with execve(2); this process has no need of it.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executor(environment: &[&str]) -> Executor {
        let environment = environment.iter().map(|v| CString::new(*v).unwrap()).collect();
        Executor { environment }
    }

    #[test]
    fn programs_are_looked_for_in_the_path_of_the_container() {
        assert_eq!(executor(&["PATH=/nowhere:/bin"]).find("sh").unwrap(), c"/bin/sh".to_owned());
        assert!(executor(&["PATH=/nowhere"]).find("sh").unwrap_err().contains("$PATH"));
        assert!(executor(&[]).find("sh").is_ok());
    }

    #[test]
    fn what_cannot_be_executed_says_why() {
        let nothing = executor(&[]);
        assert!(nothing.find("/etc/passwd").unwrap_err().contains("permission denied"));
        assert!(nothing.find("/nowhere/x").unwrap_err().contains("No such file"));
        assert!(nothing.find("/etc").unwrap_err().contains("permission denied"));
    }

    #[test]
    fn the_environment_may_hold_any_bytes() {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("env"), b"A=\xff\xfe\n=\0PATH=/bin\0").unwrap();
        let executor = Executor::new(bundle.path()).unwrap();
        assert_eq!(executor.environment[0].as_bytes(), b"A=\xff\xfe\n=");
        assert_eq!(executor.path(), "/bin");
    }
}
