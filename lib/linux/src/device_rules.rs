//! Which devices the processes of a cgroup may use, as a BPF program: on cgroup v2 there is no other way. A program is loaded
//! once and may hold for any number of cgroups.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

/// Devices that may be used. What no rule names is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Block devices, not character devices.
    pub block: bool,
    /// Major number; `None`: any.
    pub major: Option<u32>,
    /// Minor number; `None`: any.
    pub minor: Option<u32>,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// A node for it may be made.
    pub make: bool,
}

const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

/// A rule as the program has it: kind, major, minor (`None` is any), kinds of access.
type Rule = (i32, Option<i32>, Option<i32>, i32);

impl DeviceRule {
    fn in_program(&self) -> Rule {
        let access = [(self.read, READ), (self.write, WRITE), (self.make, MKNOD)];
        let access = access.iter().filter(|(wanted, _)| *wanted).map(|(_, bit)| bit).sum();
        let number = |number: Option<u32>| number.map(u32::cast_signed);
        let kind = if self.block { BLOCK } else { CHAR };
        (kind, number(self.major), number(self.minor), access)
    }
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
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        instruction(LOAD_U32, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),     // r2: kind
        instruction(SHIFT_RIGHT, 3, 0, 0, 16), // r3: access wanted
        instruction(LOAD_U32, 4, 1, 4, 0),     // r4: major
        instruction(LOAD_U32, 5, 1, 8, 0),     // r5: minor
    ];
    for (kind, major, minor, access) in rules.iter().map(DeviceRule::in_program) {
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

/// Rules, ready to hold for cgroups.
#[derive(Debug)]
pub struct DeviceRules(OwnedFd);

impl DeviceRules {
    /// Has the kernel take these rules.
    ///
    /// # Errors
    /// When there are too many, or the caller may not.
    pub fn load(rules: &[DeviceRule]) -> io::Result<Self> {
        let code = program(rules);
        let attributes = LoadAttributes {
            program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
            instruction_count: u32::try_from(code.len()).map_err(io::Error::other)?,
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
            return Err(io::Error::last_os_error());
        }
        let program = i32::try_from(program).map_err(io::Error::other)?;
        // SAFETY: the kernel just returned this descriptor to us and nobody else knows it. It closes on execve.
        #[expect(unsafe_code, reason = "owns the descriptor that bpf(2) returned")]
        let program = unsafe { OwnedFd::from_raw_fd(program) };
        Ok(Self(program))
    }

    /// Refuses to the processes of `cgroup` every device that no rule names, for as long as the cgroup is there.
    ///
    /// # Errors
    /// When it is no cgroup, or the caller may not.
    pub fn attach(&self, cgroup: &Path) -> io::Result<()> {
        let folder = std::fs::File::open(cgroup)?;
        let attributes = AttachAttributes {
            target: folder.as_raw_fd().cast_unsigned(),
            program: self.0.as_raw_fd().cast_unsigned(),
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
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
