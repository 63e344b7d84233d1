//! Device rules of a container, as a BPF program on its cgroup: on cgroup v2 there is no other way.
//!
//! Some forty instructions, written here: libbpf, libelf and zlib would be a lot of code for them. The rules are runc's
//! defaults: any node may be made, only the harmless ones opened.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::Context as _;
use ingot_runc_api::DeviceRule;

const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ALL: i32 = MKNOD | READ | WRITE;
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

/// A rule that allows: kind, major, minor (`None` is any), kinds of access.
type Rule = (i32, Option<i32>, Option<i32>, i32);

/// What every container may do with devices. Everything else is refused.
const RULES: &[Rule] = &[
    (CHAR, None, None, MKNOD), // a node alone is harmless: opening it asks again
    (BLOCK, None, None, MKNOD),
    (CHAR, Some(1), Some(3), ALL), // null
    (CHAR, Some(1), Some(5), ALL), // zero
    (CHAR, Some(1), Some(7), ALL), // full
    (CHAR, Some(1), Some(8), ALL), // random
    (CHAR, Some(1), Some(9), ALL), // urandom
    (CHAR, Some(5), Some(0), ALL), // tty
    (CHAR, Some(5), Some(2), ALL), // ptmx
    (CHAR, Some(136), None, ALL),  // pseudo terminals
];

/// The rules of a container: those of every one, and its own. Deny is what happens without a rule (GO-2022-0396).
fn rules(devices: &[DeviceRule]) -> anyhow::Result<Vec<Rule>> {
    let number = |number: Option<u32>| number.map(i32::try_from).transpose();
    let own = devices.iter().map(|device| {
        let access = [(device.read, READ), (device.write, WRITE), (device.make, MKNOD)];
        let access = access.iter().filter(|(wanted, _)| *wanted).map(|(_, bit)| bit).sum();
        let kind = if device.block { BLOCK } else { CHAR };
        anyhow::Ok((kind, number(device.major)?, number(device.minor)?, access))
    });
    RULES.iter().copied().map(Ok).chain(own).collect()
}

/// One BPF instruction as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: dst | (src << 4), offset, immediate }
}

const LOAD_U32: u8 = 0x61;
const AND: u8 = 0x54; // 32 bit, immediate
const SHIFT_RIGHT: u8 = 0x74; // 32 bit, immediate
const MOVE: u8 = 0xb4; // 32 bit, immediate
const MOVE_REGISTER: u8 = 0xbc; // 32 bit
const JUMP_NOT_EQUAL: u8 = 0x56; // 32 bit, immediate
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5e; // 32 bit
const EXIT: u8 = 0x95;

/// The program: 1 in register 0 allows, 0 refuses. The context is three words: access and kind, major, minor.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        instruction(LOAD_U32, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),     // r2: kind
        instruction(SHIFT_RIGHT, 3, 0, 0, 16), // r3: access wanted
        instruction(LOAD_U32, 4, 1, 4, 0),     // r4: major
        instruction(LOAD_U32, 5, 1, 8, 0),     // r5: minor
    ];
    for &(kind, major, minor, access) in rules {
        let mut tests = vec![(JUMP_NOT_EQUAL, 2, 0, kind)];
        tests.extend(major.map(|major| (JUMP_NOT_EQUAL, 4, 0, major)));
        tests.extend(minor.map(|minor| (JUMP_NOT_EQUAL, 5, 0, minor)));
        // Access matches when nothing is wanted beyond what the rule allows.
        let mut rule =
            vec![instruction(MOVE_REGISTER, 1, 3, 0, 0), instruction(AND, 1, 0, 0, access)];
        tests.push((JUMP_NOT_EQUAL_REGISTER, 1, 3, 0));
        rule.extend(tests.iter().map(|&(code, dst, src, imm)| instruction(code, dst, src, 0, imm)));
        rule.extend([instruction(MOVE, 0, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
        let length = rule.len();
        for (at, step) in rule.iter_mut().enumerate() {
            if matches!(step.code, JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER) {
                // Past the end of this rule; a rule is a handful of instructions.
                step.offset = i16::try_from(length - at - 1).unwrap_or(i16::MAX);
            }
        }
        code.append(&mut rule);
    }
    code.extend([instruction(MOVE, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    code
}

/// The start of `union bpf_attr` for BPF_PROG_LOAD; what is left out the kernel takes as zero.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The start of `union bpf_attr` for BPF_PROG_ATTACH.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Refuses every device but the harmless ones and `devices` to the processes of `cgroup`.
pub(crate) fn attach(cgroup: &Path, devices: &[DeviceRule]) -> anyhow::Result<()> {
    let code = program(&rules(devices)?);
    let attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(code.len()).context("count instructions")?,
        instructions: code.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: `attributes` is laid out as the kernel's union begins; its two pointers refer to `code` and to a constant,
    // both alive during the call and of the length given; the kernel copies them.
    #[expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]
    let program = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of::<LoadAttributes>(),
        )
    };
    if program < 0 {
        return Err(std::io::Error::last_os_error()).context("load the program");
    }
    let program = i32::try_from(program).context("descriptor of the program")?;
    // SAFETY: the kernel just returned this descriptor to us and nobody else knows it.
    #[expect(unsafe_code, reason = "owns the descriptor that bpf(2) returned")]
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let folder =
        std::fs::File::open(cgroup).with_context(|| format!("open {}", cgroup.display()))?;
    let attributes = AttachAttributes {
        target: folder.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: as above, without pointers; both descriptors are open during the call.
    #[expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attributes,
            size_of::<AttachAttributes>(),
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).context("attach the program");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
