//! What an image may never hold: a shell, an interpreter, a script, set-uid files, world-writable files.
//!
//! A name alone proves little, so contents are read too: a shebang line, and strings that every build of a known shell
//! or interpreter carries, whatever the file is called. Device nodes cannot even be expressed in a [`Tree`].

use std::io::Read;

use super::{Content, Node, Tree};
use crate::kubernetes;

/// One thing that is wrong with a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Path on the node.
    pub path: String,
    /// What is wrong, in words.
    pub reason: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.path, self.reason)
    }
}

/// Names of shells, interpreters, and programs that start others on request. Version numbers behind them are ignored
/// (`python3.13`, `lua5.4`).
const NAMES: &[&str] = &[
    "ash",
    "awk",
    "bash",
    "busybox",
    "csh",
    "dash",
    "elvish",
    "env",
    "expect",
    "fish",
    "gawk",
    "gdb",
    "gdbserver",
    "guile",
    "irb",
    "java",
    "jjs",
    "jq",
    "jrunscript",
    "ksh",
    "lksh",
    "lua",
    "luajit",
    "m4",
    "make",
    "mawk",
    "mksh",
    "nawk",
    "node",
    "nodejs",
    "nu",
    "original-awk",
    "osh",
    "pdksh",
    "perl",
    "php",
    "posh",
    "pwsh",
    "pypy",
    "python",
    "rbash",
    "rc",
    "rksh",
    "ruby",
    "rzsh",
    "sash",
    "screen",
    "script",
    "sed",
    "sh",
    "socat",
    "static-sh",
    "su",
    "sudo",
    "tclsh",
    "tcsh",
    "tmux",
    "toybox",
    "vi",
    "vim",
    "wish",
    "xonsh",
    "yash",
    "zsh",
];

/// Strings that give an interpreter away under any name, and what they give away.
const MARKS: &[(&[u8], &str)] = &[
    (b"BusyBox v", "BusyBox"),
    (b"BusyBox is copyrighted", "BusyBox"),
    (b"toybox help", "Toybox"),
    (b"GNU bash, version", "bash"),
    (b"BASH_VERSINFO", "bash"),
    (b"OPTIND=1\0", "an Almquist shell"),
    (b"PS4=+ \0", "a shell"),
    (b"@(#)MIRBSD KSH", "mksh"),
    (b"ZSH_VERSION", "zsh"),
    (b"fish_greeting", "fish"),
    (b"PYTHONHOME\0", "Python"),
    (b"PYTHONSTARTUP", "Python"),
    (b"PERL5LIB", "Perl"),
    (b"LUA_INIT", "Lua"),
    (b"RUBYLIB\0", "Ruby"),
    (b"TCLLIBPATH", "Tcl"),
    (b"AWKPATH", "awk"),
    (b"MAWK_LONG_OPTIONS", "awk"),
    (b"NODE_REPL_HISTORY", "Node.js"),
    (b"GUILE_LOAD_PATH", "Guile"),
];

/// Programs that hold marks of shells and run none: the end of the path, where it must have come from, and what is excused.
const EXCUSED: &[(&str, &str, &[&[u8]])] = &[
    // kubectl prints what makes people's shells complete its words; the text asks which shell it is in.
    ("/usr/bin/kube", kubernetes::PROGRAM, &[b"BASH_VERSINFO", b"ZSH_VERSION"]),
];

/// Everything in `tree` that may not be in an image; empty when all is well. Kernel modules are not searched for marks.
///
/// # Errors
/// A file that cannot be read.
pub fn check(tree: &Tree) -> std::io::Result<Vec<Refusal>> {
    let mut found = Vec::new();
    for (path, node) in tree.iter() {
        let mut refuse = |reason: String| found.push(Refusal { path: format!("/{path}"), reason });
        let name = path.rsplit('/').next().unwrap_or(path);
        match node {
            Node::Directory { mode } => {
                if mode & 0o002 != 0 {
                    refuse("a directory that everybody may write to".to_owned());
                }
            }
            Node::Symlink { .. } => {
                if is_named_like_a_shell(name) {
                    refuse("a link with the name of a shell or interpreter".to_owned());
                }
            }
            Node::File { mode, content, origin } => {
                mode_reasons(*mode).for_each(&mut refuse);
                if is_named_like_a_shell(name) && is_program_path(path, *mode) {
                    refuse("has the name of a shell or interpreter".to_owned());
                }
                if !path.ends_with(".ko")
                    && let Some(reason) = content_reason(content, &excused(path, origin))?
                {
                    refuse(reason);
                }
            }
        }
    }
    Ok(found)
}

fn mode_reasons(mode: u32) -> impl Iterator<Item = String> {
    let set_id = (mode & 0o6000 != 0)
        .then(|| "runs with its owner's rights (set-uid or set-gid)".to_owned());
    let writable = (mode & 0o002 != 0).then(|| "a file that everybody may write to".to_owned());
    set_id.into_iter().chain(writable)
}

/// A data file may be called `rc` or `make`; a program or anything in a program directory may not.
fn is_program_path(path: &str, mode: u32) -> bool {
    mode & 0o111 != 0 || path.split('/').any(|part| matches!(part, "bin" | "sbin" | "libexec"))
}

fn is_named_like_a_shell(name: &str) -> bool {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    NAMES.contains(&name) || NAMES.contains(&base)
}

fn excused<'a>(path: &str, origin: &str) -> Vec<&'a [u8]> {
    let mine = EXCUSED.iter().filter(|(end, from, _)| path.ends_with(end) && origin == *from);
    mine.flat_map(|(_, _, marks)| marks.iter().copied()).collect()
}

fn content_reason(content: &Content, excused: &[&[u8]]) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let bytes = match content {
        Content::Bytes(bytes) => bytes,
        Content::Path(path) => {
            fs_err::File::open(path)?.read_to_end(&mut bytes)?;
            &bytes
        }
    };
    if bytes.starts_with(b"#!") {
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line =
            String::from_utf8_lossy(line.get(..line.len().min(80)).unwrap_or(line)).into_owned();
        return Ok(Some(format!("a script that wants an interpreter ({line})")));
    }
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    let counts = |mark: &[u8]| !excused.contains(&mark) && contains(bytes, mark);
    let mark = MARKS.iter().find(|(mark, _)| counts(mark));
    Ok(mark.map(|(_, what)| format!("holds {what}, whatever it is called")))
}

/// True when `bytes` holds `mark`; looks only where the first byte matches.
fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    let Some(first) = mark.first() else { return false };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        let from = rest.get(at..).unwrap_or_default();
        if from.starts_with(mark) {
            return true;
        }
        rest = from.get(1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(path: &str, mode: u32, content: &[u8]) -> Vec<String> {
        let mut tree = Tree::default();
        tree.file(path, mode, Content::Bytes(content.to_vec()), "test").expect("new");
        check(&tree).expect("readable").into_iter().map(|refusal| refusal.reason).collect()
    }

    const ELF: &[u8] = b"\x7fELF\x02\x01\x01 nothing special";

    #[test]
    fn shells_and_interpreters_are_refused_by_name() {
        for name in [
            "sh",
            "bash",
            "dash",
            "busybox",
            "python3",
            "python3.13",
            "perl",
            "lua5.4",
            "mawk",
            "env",
        ] {
            assert!(!reasons(&format!("/usr/bin/{name}"), 0o755, ELF).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_link_named_like_a_shell_is_refused() {
        let mut tree = Tree::default();
        tree.symlink("/bin/sh", "ingotd").expect("new");
        assert_eq!(check(&tree).expect("readable").len(), 1);
    }

    #[test]
    fn a_renamed_interpreter_is_refused_by_what_it_holds() {
        for (mark, what) in MARKS {
            let content = [ELF, b"\0", mark, b"\0"].concat();
            let found = reasons("/usr/bin/innocent", 0o755, &content);
            assert!(
                found.iter().any(|reason| reason.contains("whatever it is called")),
                "{what}: {found:?}"
            );
        }
    }

    #[test]
    fn kubectl_s_completion_is_excused_there_only_and_nothing_else_is() {
        let found = |path: &str, origin: &str, mark: &[u8]| {
            let mut tree = Tree::default();
            let content = Content::Bytes([ELF, b"\0", mark].concat());
            tree.file(path, 0o755, content, origin).expect("new");
            !check(&tree).expect("readable").is_empty()
        };
        assert!(!found("/x/rootfs/usr/bin/kube", "kube", b"ZSH_VERSION"));
        assert!(found("/x/rootfs/usr/bin/other", "kube", b"ZSH_VERSION"));
        assert!(found("/x/rootfs/usr/bin/kube", "recipe", b"ZSH_VERSION"));
        assert!(found("/x/rootfs/usr/bin/kube", "kube", b"BusyBox v"));
    }

    #[test]
    fn the_machines_own_shell_is_recognised_under_another_name() {
        for shell in ["/bin/bash", "/bin/dash", "/usr/bin/perl"] {
            let Ok(content) = std::fs::read(shell) else { continue };
            assert!(!reasons("/usr/bin/innocent", 0o755, &content).is_empty(), "{shell}");
        }
    }

    #[test]
    fn a_script_is_refused_even_when_it_is_not_executable() {
        assert_eq!(reasons("/usr/share/x", 0o644, b"#!/bin/sh\necho\n").len(), 1);
    }

    #[test]
    fn set_uid_set_gid_and_world_writable_files_are_refused() {
        assert_eq!(reasons("/usr/bin/a", 0o4755, ELF).len(), 1);
        assert_eq!(reasons("/usr/bin/a", 0o2755, ELF).len(), 1);
        assert_eq!(reasons("/etc/a", 0o666, b"text").len(), 1);
        let mut tree = Tree::default();
        tree.directory("/tmp", 0o1777).expect("new");
        assert_eq!(check(&tree).expect("readable").len(), 1);
    }

    #[test]
    fn ordinary_programs_and_files_pass() {
        assert_eq!(reasons("/usr/bin/ingotd", 0o755, ELF), Vec::<String>::new());
        assert_eq!(
            reasons("/etc/ssl/certs/ca-certificates.crt", 0o644, b"-----BEGIN"),
            Vec::<String>::new()
        );
        assert_eq!(reasons("/usr/share/doc/make", 0o644, b"text"), Vec::<String>::new());
    }
}
