//! Suite `hardening`: what an attacker would look for on a running node, looked for through the API.

use anyhow::ensure;
use ingot_api::machine::v1::FileInfo;

use super::SharedNode;
use crate::client::Api;
use crate::machine::{API_PORT, Machine};
use crate::report::Report;

/// `S_IFMT` and `S_IFREG` of `st_mode`.
const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
/// Any of the three execute bits.
const EXECUTABLE: u32 = 0o111;
/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// Names, and beginnings of names that go on with a version, of programs that run what they are given.
const INTERPRETERS: &[&str] = &[
    "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh", "busybox", "toybox",
    "rbash", "python", "perl", "ruby", "lua", "luajit", "node", "nodejs", "php", "tclsh", "wish",
    "expect", "awk", "gawk", "mawk", "nawk", "guile", "java", "deno", "bun", "sed", "gdb", "make",
    "m4", "bc", "dc", "ed", "vi", "vim",
];

/// Runs the suite.
pub(super) async fn run(node: &mut SharedNode<'_>, report: &Report) {
    let Some(machine) = node.get(report).await else { return };
    report.check("there is no shell and no interpreter on the root", machine, no_interpreter).await;
    report.check("nothing is set-uid or set-gid", machine, nothing_set_id).await;
    report.check("no file begins with #!", machine, no_script).await;
    report.check("the root is read-only on dm-verity", machine, verified_root).await;
    report.check("nothing listens but the API", machine, nothing_else_listens).await;
    report
        .check("secrets of the node are not readable through the API", machine, secrets_are_kept)
        .await;
}

async fn root(machine: &Machine) -> anyhow::Result<(Api, Vec<FileInfo>)> {
    let mut api = machine.api()?;
    let files = api.files("/").await?;
    let programs = files.iter().filter(|file| file.path.ends_with("/ingotd")).count();
    ensure!(
        programs == 1 && files.len() > 50,
        "this is no listing of the root: {} files",
        files.len()
    );
    Ok((api, files))
}

/// `python3.13` is `python`, `shadow` is not `sh`.
fn is_interpreter(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&stem)
}

async fn no_interpreter(machine: &mut Machine) -> anyhow::Result<()> {
    let (_, files) = root(machine).await?;
    let found: Vec<&str> =
        files.iter().map(|file| file.path.as_str()).filter(|path| is_interpreter(path)).collect();
    ensure!(found.is_empty(), "found {found:?}");
    Ok(())
}

async fn nothing_set_id(machine: &mut Machine) -> anyhow::Result<()> {
    let (_, files) = root(machine).await?;
    let found: Vec<&str> = files
        .iter()
        .filter(|file| file.mode & TYPE_MASK == REGULAR && file.mode & SET_ID != 0)
        .map(|file| file.path.as_str())
        .collect();
    ensure!(found.is_empty(), "found {found:?}");
    Ok(())
}

async fn no_script(machine: &mut Machine) -> anyhow::Result<()> {
    let (mut api, files) = root(machine).await?;
    let programs = files.iter().filter(|file| {
        file.mode & TYPE_MASK == REGULAR && file.mode & EXECUTABLE != 0 && file.size_bytes > 2
    });
    for file in programs {
        let begin = api.read(&file.path, 2).await?;
        ensure!(begin != b"#!", "{} is a script", file.path);
    }
    Ok(())
}

async fn verified_root(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let root = api.status().await?.root.unwrap_or_default();
    ensure!(root.verity == "verified" && root.read_only && root.root_hash.len() == 64, "{root:?}");
    let mounts = api.read_text("/proc/self/mounts").await?;
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/"));
    let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
    let options = words.get(3).copied().unwrap_or_default();
    ensure!(
        words.get(2) == Some(&"erofs") && options.split(',').any(|option| option == "ro"),
        "mounted as {words:?}"
    );
    let kind = api.read_text("/sys/block/dm-0/dm/uuid").await.unwrap_or_default();
    let name = api.read_text("/sys/block/dm-0/dm/name").await?;
    ensure!(name.trim() == "root", "dm-0 is {name:?} {kind:?}");
    Ok(())
}

async fn nothing_else_listens(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        // Absent when the kernel has no IPv6: then nothing listens there either.
        let text = match api.read_text(&format!("/proc/self/net/{table}")).await {
            Ok(text) => text,
            Err(_) if table.ends_with('6') => continue,
            Err(error) => return Err(error),
        };
        for port in open_ports(&text, table.starts_with("udp")) {
            ensure!(port == API_PORT, "{table} port {port} is open:\n{text}");
        }
    }
    Ok(())
}

/// Local ports of a table of `/proc/net` that take what anybody sends: TCP sockets that listen, UDP sockets without a
/// peer.
fn open_ports(table: &str, datagrams: bool) -> Vec<u16> {
    const LISTEN: &str = "0A";
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| {
        let (local, peer, state) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let open = if datagrams { peer.ends_with(":0000") } else { *state == LISTEN };
        open.then(|| u16::from_str_radix(local.rsplit(':').next()?, 16).ok())?
    })
    .collect()
}

async fn secrets_are_kept(machine: &mut Machine) -> anyhow::Result<()> {
    let mut api = machine.api()?;
    let config = api.config().await?.config;
    ensure!(!config.contains("PRIVATE KEY"), "GetConfig shows a private key");
    ensure!(config.contains("<redacted>"), "GetConfig shows no sign of a secret");
    let files = api.files("/state").await?;
    for file in files.iter().filter(|file| file.mode & TYPE_MASK == REGULAR) {
        if let Ok(bytes) = api.read(&file.path, 0).await {
            let text = String::from_utf8_lossy(&bytes);
            ensure!(!text.contains("PRIVATE KEY"), "{} is readable and holds a key", file.path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{is_interpreter, open_ports};

    #[test]
    fn interpreters_are_known_with_their_versions_and_only_by_whole_names() {
        for path in ["/bin/sh", "/usr/bin/python3.13", "/usr/bin/perl5.40", "/x/busybox"] {
            assert!(is_interpreter(path), "{path}");
        }
        for path in ["/usr/bin/ingotd", "/etc/shadow", "/lib/modules/sha256-ssse3.ko"] {
            assert!(!is_interpreter(path), "{path}");
        }
    }

    #[test]
    fn only_sockets_that_take_from_anybody_are_open() {
        let table = "  sl  local_address rem_address   st\n\
                     0: 00000000:C350 00000000:0000 0A\n\
                     1: 0100007F:0050 0100007F:1234 01\n";
        assert_eq!(open_ports(table, false), [50000]);
        let table = "  sl  local_address rem_address   st\n\
                     0: 00000000:0044 00000000:0000 07\n\
                     1: 0F02000A:9999 0302000A:0035 01\n";
        assert_eq!(open_ports(table, true), [68]);
    }
}
