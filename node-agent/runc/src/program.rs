//! The program of a container: what it is, where it is found, and how a process becomes it.

use std::ffi::CString;
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::fs::{Access, AtFlags, CWD};

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program.
pub(crate) struct Program {
    name: String,
    arguments: Vec<CString>,
    /// `NAME=value`, as the program gets it.
    environment: Vec<CString>,
}

impl Program {
    /// Reads the environment beside the spec.
    pub(crate) fn new(bundle: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let Some(name) = arguments.first().filter(|name| !name.is_empty()) else {
            bail!("there is no program")
        };
        let bytes = std::fs::read(bundle.join("env")).context("read the environment")?;
        let variables = bytes.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
        let environment = variables
            .map(CString::new)
            .collect::<Result<_, _>>()
            .context("read the environment")?;
        let words = arguments.iter().map(|word| CString::new(word.as_str()));
        let arguments = words.collect::<Result<_, _>>().context("an argument has a zero byte")?;
        Ok(Self { name: name.clone(), arguments, environment })
    }

    fn path(&self) -> &str {
        let variables = self.environment.iter().filter_map(|variable| variable.to_str().ok());
        let mut paths = variables.filter_map(|variable| variable.strip_prefix("PATH="));
        paths.next().unwrap_or(DEFAULT_PATH)
    }

    /// The file to execute, looked for as the user that this process is by now.
    pub(crate) fn find(&self) -> Result<CString, String> {
        let program = &self.name;
        let executable = |path: &str| {
            let file = rustix::fs::stat(path)
                .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
            file && rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
        };
        let found = if program.contains('/') {
            match rustix::fs::stat(program.as_str()) {
                Ok(_) if executable(program) => Some(program.clone()),
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

    /// Becomes the program at `path`; returns only when that is impossible, with the reason.
    pub(crate) fn replace(&self, path: &CString) -> String {
        let error = ingot_linux::exec::replace(path, &self.arguments, &self.environment);
        format!("exec {:?}: {error}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, environment: &[&str]) -> Program {
        let environment = environment.iter().map(|v| CString::new(*v).unwrap()).collect();
        Program { name: name.to_owned(), arguments: Vec::new(), environment }
    }

    #[test]
    fn programs_are_looked_for_in_the_path_of_the_container() {
        assert_eq!(program("sh", &["PATH=/nowhere:/bin"]).find().unwrap(), c"/bin/sh".to_owned());
        assert!(program("sh", &["PATH=/nowhere"]).find().unwrap_err().contains("$PATH"));
        assert!(program("sh", &[]).find().is_ok());
    }

    #[test]
    fn what_cannot_be_executed_says_why() {
        let why = |name: &str| program(name, &[]).find().unwrap_err();
        assert!(why("/etc/passwd").contains("permission denied"));
        assert!(why("/nowhere/x").contains("No such file"));
        assert!(why("/etc").contains("permission denied"));
    }

    #[test]
    fn the_environment_may_hold_any_bytes() {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("env"), b"A=\xff\xfe\n=\0PATH=/bin\0").unwrap();
        let program = Program::new(bundle.path(), &["sh".to_owned()]).unwrap();
        assert_eq!(program.environment[0].as_bytes(), b"A=\xff\xfe\n=");
        assert_eq!(program.path(), "/bin");
        for wrong in [&[][..], &[String::new()], &["a\0b".to_owned()]] {
            assert!(Program::new(bundle.path(), wrong).is_err());
        }
    }

    #[test]
    fn what_the_kernel_does_not_execute_is_said() {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("env"), b"PATH=/bin\0").unwrap();
        let script = bundle.path().join("script");
        std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, all).unwrap();
        let words = [script.display().to_string()];
        let program = Program::new(bundle.path(), &words).unwrap();
        let said = program.replace(&program.find().unwrap());
        assert!(said.contains("script") && said.contains("No such file"), "{said}");
    }
}
