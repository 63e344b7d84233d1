//! Filters of system calls. To make one of its profile takes libseccomp longer than everything else that is done for a
//! container, so each is made once in a boot and kept as the kernel takes it.
//!
//! A kept filter is used only for exactly the profile it was made of: the digest of that is its name, and in the file, too.
#![expect(unsafe_code, reason = "seccomp(2) has no safe wrapper")]

mod ranges;
mod verdict;

use std::collections::BTreeSet;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use verdict::{Call, Instruction};

/// Filters that are kept: profiles of operators are few, and containers that come and go must not fill the memory.
const KEPT_MAX: usize = 64;

/// Bytes of one instruction of a filter.
const INSTRUCTION_LENGTH: usize = 8;

/// Hex digits of a SHA-256.
const DIGEST_LENGTH: usize = 64;

/// The kernel's own limit of instructions.
const INSTRUCTIONS_MAX: usize = 4096;

/// A profile, as the agent writes it. What is not known here is an error: a listener, say, who nobody is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

/// What happens with some calls.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<Argument>,
}

/// What an argument is compared with. `value` and `value_two` of a masked comparison come from the agent as value and mask.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Where a profile is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    /// SHA-256 of its text in lower-case hex.
    pub(crate) digest: &'a str,
    /// The file with its text, JSON of the OCI form. Nobody reads it as long as the filter is kept.
    pub(crate) file: &'a Path,
}

/// A filter, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Flags of seccomp(2).
    flags: u32,
    /// Instructions as the kernel takes them.
    program: Vec<u8>,
}

impl Filter {
    /// The filter of this profile: the one kept in `folder`, or a new one, which is kept there.
    pub(crate) fn of(source: Source<'_>, folder: &Path) -> anyhow::Result<Self> {
        let Source { digest, file } = source;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_digest = digest.len() == DIGEST_LENGTH && digest.bytes().all(is_hex);
        ensure!(is_digest, "{digest:?} is not the digest of a seccomp profile");
        let path = folder.join(digest);
        let kept = std::fs::read(&path).ok();
        if let Some(kept) = kept.and_then(|bytes| Self::decode(&bytes, digest)) {
            return Ok(kept);
        }
        let text = std::fs::read(file).context("read the seccomp profile")?;
        ensure!(digest_of(&text) == digest, "the seccomp profile is not the container's");
        let profile = serde_json::from_slice(&text).context("understand the seccomp profile")?;
        let made = Self::make(&profile).context("make the filter of system calls")?;
        // One that cannot be kept is made again the next time.
        let _ = made.keep(&path, digest);
        Ok(made)
    }

    /// Loads it for this thread: from here on it holds, and no_new_privs or CAP_SYS_ADMIN is needed for it.
    pub(crate) fn load(&self) -> std::io::Result<()> {
        let count = self.program.len() / INSTRUCTION_LENGTH;
        let length = u16::try_from(count)
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        // Laid out anew: the kernel wants its own alignment.
        let instructions: Vec<libc::sock_filter> =
            self.instructions()
                .into_iter()
                .map(|Instruction { code, if_true: jt, if_false: jf, operand: k }| {
                    libc::sock_filter { code, jt, jf, k }
                })
                .collect();
        let program = libc::sock_fprog { len: length, filter: instructions.as_ptr().cast_mut() };
        // SAFETY: `program` and the instructions it points to are live during the call, which only reads them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                self.flags,
                &raw const program,
            )
        };
        if result != 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    }

    /// Whether it lets this call be made whatever its arguments are, as if there were no filter.
    pub(crate) fn always_allows(&self, call: libc::c_long) -> bool {
        let verdict = u32::try_from(call).ok().and_then(|number| {
            let call = Call { architecture: verdict::X86_64, number, arguments: None };
            verdict::of(&self.instructions(), &call)
        });
        verdict == Some(verdict::ALLOW)
    }

    fn instructions(&self) -> Vec<Instruction> {
        instructions(&self.program)
    }

    /// Digest of the profile, length of the instructions, flags, instructions.
    fn encode(&self, digest: &str) -> Option<Vec<u8>> {
        let length = u32::try_from(self.program.len()).ok()?;
        let head = [length.to_ne_bytes(), self.flags.to_ne_bytes()].concat();
        Some([digest.as_bytes(), &head, &self.program].concat())
    }

    /// `None` when it is not a whole file of this very profile.
    fn decode(bytes: &[u8], digest: &str) -> Option<Self> {
        let (of, rest) = bytes.split_at_checked(DIGEST_LENGTH)?;
        let (length, rest) = rest.split_first_chunk()?;
        let (flags, program) = rest.split_first_chunk()?;
        let whole = usize::try_from(u32::from_ne_bytes(*length)) == Ok(program.len())
            && !program.is_empty()
            && program.len().is_multiple_of(INSTRUCTION_LENGTH);
        (of == digest.as_bytes() && whole)
            .then(|| Self { flags: u32::from_ne_bytes(*flags), program: program.to_vec() })
    }

    fn keep(&self, path: &Path, digest: &str) -> anyhow::Result<()> {
        let folder = path.parent().context("no folder")?;
        std::fs::create_dir_all(folder)?;
        ensure!(std::fs::read_dir(folder)?.count() < KEPT_MAX, "enough are kept");
        let bytes = self.encode(digest).context("too long")?;
        // Several helpers may make the same one at once; each has its own file, and the last one stays.
        let new = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
        std::fs::write(&new, bytes)?;
        std::fs::rename(&new, path)?;
        Ok(())
    }

    fn make(profile: &Profile) -> anyhow::Result<Self> {
        let whole = Self::make_list(profile, |_| true)?;
        // Calls of which an argument is looked at, and all that is said of them.
        let conditional: BTreeSet<&String> = profile
            .syscalls
            .iter()
            .filter(|it| !it.args.is_empty())
            .flat_map(|it| &it.names)
            .collect();
        let rest = Self::make_list(profile, |name| conditional.contains(name))?;
        let smaller = ranges::smaller(&instructions(&whole), &instructions(&rest));
        let program = match smaller {
            Some(smaller) => smaller.into_iter().flat_map(Instruction::encode).collect(),
            None => whole,
        };
        let count = program.len() / INSTRUCTION_LENGTH;
        ensure!((1..=INSTRUCTIONS_MAX).contains(&count), "the filter has {count} instructions");
        let flags = profile.flags.iter().try_fold(0, |all, name| anyhow::Ok(all | flag(name)?));
        Ok(Self { flags: flags?, program })
    }

    /// libseccomp's filter for the calls that are `wanted`.
    fn make_list(profile: &Profile, wanted: impl Fn(&String) -> bool) -> anyhow::Result<Vec<u8>> {
        let default = action(&profile.default_action, profile.default_errno_ret)?;
        let mut context = ScmpFilterContext::new(default)?;
        // A list, not libseccomp's tree of comparisons, which has a quarter more instructions.
        for name in &profile.architectures {
            let arch: ScmpArch = name.parse().with_context(|| format!("architecture {name}"))?;
            context.add_arch(arch)?;
        }
        for rule in &profile.syscalls {
            add(&mut context, default, rule, &wanted)?;
        }
        export(&context)
    }
}

/// SHA-256 in lower-case hex.
pub(crate) fn digest_of(text: &[u8]) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn instructions(program: &[u8]) -> Vec<Instruction> {
    program.chunks_exact(INSTRUCTION_LENGTH).filter_map(Instruction::decode).collect()
}

/// The instructions; this libseccomp writes them to nothing but a file.
fn export(context: &ScmpFilterContext) -> anyhow::Result<Vec<u8>> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = rustix::fs::memfd_create("filter", flags).context("make a file in memory")?;
    context.export_bpf(&file)?;
    let mut file = std::fs::File::from(file);
    file.rewind().context("read the filter")?;
    let mut program = Vec::new();
    file.read_to_end(&mut program).context("read the filter")?;
    Ok(program)
}

/// One rule of a profile, with what the same as what happens anyway left out: libseccomp refuses that.
fn add(
    context: &mut ScmpFilterContext,
    default: ScmpAction,
    rule: &Rule,
    wanted: impl Fn(&String) -> bool,
) -> anyhow::Result<()> {
    let action = action(&rule.action, rule.errno_ret)?;
    if action == default {
        return Ok(());
    }
    let indices: BTreeSet<u32> = rule.args.iter().map(|argument| argument.index).collect();
    let compared: Vec<ScmpArgCompare> =
        rule.args.iter().map(compare).collect::<anyhow::Result<_>>()?;
    for name in rule.names.iter().filter(|name| wanted(name)) {
        // A call that this architecture, or this libseccomp, does not know cannot be made by that name.
        let Ok(call) = ScmpSyscall::from_name(name) else { continue };
        if indices.len() < compared.len() {
            // One argument compared twice: either is enough, as runc has it.
            for one in &compared {
                context.add_rule_conditional(action, call, std::slice::from_ref(one))?;
            }
        } else if compared.is_empty() {
            context.add_rule(action, call)?;
        } else {
            context.add_rule_conditional(action, call, &compared)?;
        }
    }
    Ok(())
}

fn compare(argument: &Argument) -> anyhow::Result<ScmpArgCompare> {
    let operator = match argument.op.as_str() {
        "SCMP_CMP_NE" => ScmpCompareOp::NotEqual,
        "SCMP_CMP_LT" => ScmpCompareOp::Less,
        "SCMP_CMP_LE" => ScmpCompareOp::LessOrEqual,
        "SCMP_CMP_EQ" => ScmpCompareOp::Equal,
        "SCMP_CMP_GE" => ScmpCompareOp::GreaterEqual,
        "SCMP_CMP_GT" => ScmpCompareOp::Greater,
        "SCMP_CMP_MASKED_EQ" => ScmpCompareOp::MaskedEqual(argument.value_two),
        operator => bail!("comparison {operator:?}"),
    };
    Ok(ScmpArgCompare::new(argument.index, operator, argument.value))
}

fn action(name: &str, errno: Option<u32>) -> anyhow::Result<ScmpAction> {
    let errno = errno.map_or(Ok(libc::EPERM), i32::try_from).context("error number")?;
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(errno),
        "SCMP_ACT_TRACE" => ScmpAction::Trace(errno.try_into().context("number for the tracer")?),
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_NOTIFY" => bail!("nobody listens to a filter that notifies"),
        action => bail!("action {action:?}"),
    })
}

/// Flags of seccomp(2), by their names in `linux/seccomp.h`.
fn flag(name: &str) -> anyhow::Result<u32> {
    Ok(match name {
        "SECCOMP_FILTER_FLAG_TSYNC" => 1,
        "SECCOMP_FILTER_FLAG_LOG" => 1 << 1,
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 1 << 2,
        // Means something only with a listener, and the kernel refuses it without.
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
        flag => bail!("flag {flag:?}"),
    })
}

#[cfg(test)]
mod tests;
