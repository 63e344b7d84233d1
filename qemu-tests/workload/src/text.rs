//! Behaviours that print and write.

use std::io::{BufWriter, Write as _};

use anyhow::Context as _;

use crate::resources::pause;

/// Prints numbered lines in a steady rhythm, each with one write so that a line is never cut.
pub(crate) fn tick(ms: u64, lines: u64, code: i32) -> anyhow::Result<i32> {
    for number in 1..=lines {
        let line = format!("tick {number}\n");
        std::io::stdout().write_all(line.as_bytes()).context("print")?;
        if number < lines {
            pause(ms);
        }
    }
    Ok(code)
}

/// Prints numbered lines as fast as they are taken.
pub(crate) fn flood(lines: u64) -> anyhow::Result<i32> {
    let mut out = BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    for number in 1..=lines {
        writeln!(out, "line {number}").context("print")?;
    }
    out.flush().context("print")?;
    Ok(0)
}

/// Writes a line to a file.
pub(crate) fn write(path: &str, text: &str) -> anyhow::Result<i32> {
    std::fs::write(path, format!("{text}\n")).with_context(|| format!("write {path}"))?;
    println!("wrote {path}");
    Ok(0)
}

/// Writes a line to the end of a file.
pub(crate) fn append(path: &str, text: &str) -> anyhow::Result<i32> {
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.append(true).create(true).open(path).with_context(|| format!("open {path}"))?;
    file.write_all(format!("{text}\n").as_bytes()).with_context(|| format!("write {path}"))?;
    Ok(0)
}

/// Prints a file, writes to its end that this begins, and does nothing more; see [`last_words`].
pub(crate) fn journal(path: &str, name: &str) -> anyhow::Result<i32> {
    print!("{}", std::fs::read_to_string(path).unwrap_or_default());
    append(path, &format!("{name} begins"))?;
    loop {
        pause(1_000_000);
    }
}

/// What a journal writes when it is asked to end.
pub(crate) fn last_words(words: &[String]) -> Option<(String, String)> {
    match words {
        [command, path, name] if command == "journal" => {
            Some((path.clone(), format!("{name} ends")))
        }
        _ => None,
    }
}

/// Prints mode, owner, group and text of a file, and again whenever they change.
pub(crate) fn show(path: &str) -> anyhow::Result<i32> {
    use std::os::unix::fs::MetadataExt as _;
    let mut before = String::new();
    loop {
        let now = match (std::fs::metadata(path), std::fs::read_to_string(path)) {
            (Ok(metadata), Ok(text)) => {
                let mode = metadata.mode() & 0o7777;
                let (owner, group) = (metadata.uid(), metadata.gid());
                format!("{mode:04o} {owner} {group} {}", text.trim_end())
            }
            (Err(error), _) | (_, Err(error)) => format!("{error}"),
        };
        if now != before {
            println!("{now}");
            before = now;
        }
        pause(200);
    }
}

/// Writes a large file.
pub(crate) fn fill(path: &str, mebibytes: u64) -> anyhow::Result<i32> {
    let mut file = std::fs::File::create(path).with_context(|| format!("create {path}"))?;
    let block = vec![0xa5_u8; 1 << 20];
    for written in 0..mebibytes {
        file.write_all(&block).with_context(|| format!("write {path} after {written} MiB"))?;
    }
    println!("wrote {mebibytes} MiB to {path}");
    Ok(0)
}

/// Makes a file with room of its own, which is taken from the file system at once.
pub(crate) fn allocate(path: &str, bytes: u64) -> anyhow::Result<i32> {
    let file = std::fs::File::create(path).with_context(|| format!("create {path}"))?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)
        .with_context(|| format!("allocate {bytes} bytes for {path}"))?;
    println!("allocated {bytes}");
    Ok(0)
}

/// Exchanges two names with each other as fast as it can: whoever looks twice sees two things.
pub(crate) fn exchange(a: &str, b: &str) -> anyhow::Result<i32> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    println!("exchanging {a} and {b}");
    loop {
        renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)
            .with_context(|| format!("exchange {a} and {b}"))?;
    }
}

/// Waits for a file to have a whole line, and prints it.
pub(crate) fn cat(path: &str) -> anyhow::Result<i32> {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => {
                print!("{text}");
                return Ok(0);
            }
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("read {path}")),
        }
        pause(100);
    }
}

/// Prints the environment, sorted.
pub(crate) fn environment() -> anyhow::Result<i32> {
    let mut lines: Vec<String> =
        std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    lines.sort();
    println!("{}", lines.join("\n"));
    Ok(0)
}

/// Prints what the kernel says of this process, its cgroup and its mounts.
pub(crate) fn identity() -> anyhow::Result<i32> {
    let status = std::fs::read_to_string("/proc/self/status").context("read status")?;
    let wanted = ["Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "CapEff", "CapBnd", "NSpid"];
    for line in status.lines() {
        if wanted.iter().any(|name| line.split(':').next() == Some(name)) {
            println!("{line}");
        }
    }
    for file in ["/proc/self/cgroup", "/proc/sys/kernel/hostname", "/proc/self/mountinfo"] {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        print!("{text}");
    }
    Ok(0)
}

/// Prints whose rights this process has, in the words of the program that conformance tests of containers use for that.
pub(crate) fn effective_user() -> anyhow::Result<i32> {
    println!("Effective uid: {}", rustix::process::geteuid().as_raw());
    Ok(0)
}
