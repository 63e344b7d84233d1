//! The last step of a container's first process: it becomes the program. In place of libcontainer's own, which knows only
//! text in the environment and wants rights of everybody on the program.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use ingot_runc_api::EXECUTED_FIFO;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor as Workload, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};

use crate::rights::Rights;

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What becomes the program.
#[derive(Clone)]
pub(crate) struct Executor {
    /// `NAME=value`, as the program gets it.
    environment: Vec<CString>,
    /// What the process keeps of its rights.
    rights: Rights,
    /// Closed when the program is executed; until then, where to say why it cannot be.
    executed: Arc<OwnedFd>,
}

impl Executor {
    /// Reads the environment beside the spec, and makes the pipe there.
    pub(crate) fn new(bundle: &Path, rights: Rights) -> anyhow::Result<Self> {
        let bytes = std::fs::read(bundle.join("env")).context("read the environment")?;
        let variables = bytes.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
        let environment = variables
            .map(CString::new)
            .collect::<Result<_, _>>()
            .context("read the environment")?;
        let fifo = bundle.join(EXECUTED_FIFO);
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .context("make the pipe for the reason")?;
        // For reading too: otherwise it could be opened only while somebody reads.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let executed = rustix::fs::open(&fifo, flags, Mode::empty())
            .context("open the pipe for the reason")?;
        Ok(Self { environment, rights, executed: Arc::new(executed) })
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
        let failed = self.replace(spec);
        if let Err(error) = &failed {
            // Nobody reads when the agent is gone; then the exit code is all there is.
            let _ = rustix::io::write(&self.executed, error.to_string().as_bytes());
        }
        failed
    }

    /// Called once, in the container, when everything is done that needs rights and before anybody is waited for: here they go.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let wrong = ExecutorValidationError::ArgValidationError;
        self.rights.apply().map_err(|e| wrong(format!("set the rights: {e:#}")))?;
        let program = arguments(spec).and_then(|words| words.first());
        let program = program.ok_or_else(|| wrong("there is no program".to_owned()))?;
        self.find(program).map(drop).map_err(wrong)
    }

    fn setup_envs(&self, _envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The program gets its environment with execve(2); this process has no need of it.
        Ok(())
    }
}

impl Executor {
    /// Becomes the program; returns only when that is impossible.
    fn replace(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let words = arguments(spec).ok_or(ExecutorError::InvalidArg)?;
        let program = words.first().ok_or(ExecutorError::InvalidArg)?;
        let path = self.find(program).map_err(ExecutorError::Other)?;
        let words: Result<Vec<CString>, _> =
            words.iter().map(|word| CString::new(word.as_str())).collect();
        let words = words.map_err(|_| ExecutorError::InvalidArg)?;
        // Programs of Rust ignore SIGPIPE, and what is ignored stays so.
        ingot_linux::exec::default_signals();
        let error = ingot_linux::exec::replace(&path, &words, &self.environment);
        Err(ExecutorError::Other(format!("exec {program:?}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executor(environment: &[&str]) -> Executor {
        let environment = environment.iter().map(|v| CString::new(*v).unwrap()).collect();
        let executed = Arc::new(std::fs::File::open("/dev/null").unwrap().into());
        let mut spec = serde_json::json!({"process": {"capabilities": {}}});
        let rights = Rights::take(&mut spec, Path::new("/nowhere")).unwrap();
        Executor { environment, rights, executed }
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
        let executor = Executor::new(bundle.path(), executor(&[]).rights).unwrap();
        assert_eq!(executor.environment[0].as_bytes(), b"A=\xff\xfe\n=");
        assert_eq!(executor.path(), "/bin");
    }

    #[test]
    fn what_the_kernel_does_not_execute_is_said_in_the_pipe() {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("env"), b"PATH=/bin\0").unwrap();
        let script = bundle.path().join("script");
        std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, all).unwrap();
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.2.0",
            "process": { "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": [script] },
        }))
        .unwrap();
        let executor = Executor::new(bundle.path(), executor(&[]).rights).unwrap();
        assert!(executor.exec(&spec).is_err());
        let mut said = [0; 512];
        let length = rustix::io::read(&executor.executed, &mut said).unwrap();
        let said = String::from_utf8_lossy(&said[..length]).into_owned();
        assert!(said.contains("script") && said.contains("No such file"), "{said}");
    }
}
