//! What the machine gets before anything runs on it: mounts, kernel settings, limits, cgroup roots. Tables, with the
//! reason in each row.
//!
//! Nothing here is fatal: a machine that lacks one of these still starts its agent, and the agent says what is wrong.

use std::ffi::CStr;
use std::fs;
use std::path::Path;

use ingot_linux::cgroup::Cgroup;
use ingot_linux::mount::{self, MountFlags};
use rustix::process::{Resource, Rlimit};

use crate::agent;
use crate::system::System;

/// Has the kernel read the agent's program while the rest is prepared. Otherwise its start waits for the disk many times, a
/// few pages each.
pub fn read_ahead() {
    if let Ok(program) = fs::File::open(agent::PROGRAM) {
        // It starts without this, too.
        let _ = rustix::fs::fadvise(program, 0, None, rustix::fs::Advice::WillNeed);
    }
}

/// One mount.
struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static CStr,
    /// Absent on some machines; its absence is no news.
    optional: bool,
}

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const NO_SUID: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

#[rustfmt::skip]
const MOUNTS: [Mount; 13] = [
    // The first three come from the initrd; here for a machine that was started without one.
    Mount { kind: "proc", target: "/proc", flags: SAFE, options: c"", optional: false },
    Mount { kind: "sysfs", target: "/sys", flags: SAFE, options: c"", optional: false },
    Mount { kind: "devtmpfs", target: "/dev", flags: MountFlags::NOSUID, options: c"mode=0755", optional: false },
    // Terminals of containers and of exec.
    Mount { kind: "devpts", target: "/dev/pts", flags: MountFlags::NOSUID.union(MountFlags::NOEXEC), options: c"mode=0620,ptmxmode=0666,gid=5", optional: false },
    // POSIX shared memory; bounded, so that nobody fills the memory through it.
    Mount { kind: "tmpfs", target: "/dev/shm", flags: SAFE, options: c"mode=1777,size=25%", optional: true },
    // Executable: runtimes execute from bundles below it.
    Mount { kind: "tmpfs", target: "/run", flags: NO_SUID, options: c"mode=0755,size=25%", optional: false },
    Mount { kind: "tmpfs", target: "/tmp", flags: SAFE, options: c"mode=1777,size=10%", optional: true },
    // Where the agent reads its security modules' state, and the TPM's log.
    Mount { kind: "securityfs", target: "/sys/kernel/security", flags: SAFE, options: c"", optional: true },
    // Network plugins pin their programs here.
    Mount { kind: "bpf", target: "/sys/fs/bpf", flags: SAFE, options: c"mode=0700", optional: true },
    // Last words of the boot before.
    Mount { kind: "pstore", target: "/sys/fs/pstore", flags: SAFE, options: c"", optional: true },
    // Read-only: a wrong write can make a board unbootable. Who must write remounts.
    Mount { kind: "efivarfs", target: "/sys/firmware/efi/efivars", flags: SAFE.union(MountFlags::RDONLY), options: c"", optional: true },
    Mount { kind: "mqueue", target: "/dev/mqueue", flags: SAFE, options: c"", optional: true },
    // nsdelegate: a container cannot loosen its own limits. memory_recursiveprot: protection reaches the groups below.
    // favordynmods: moving and creating groups does not wait for a grace period, which is felt at every container start.
    Mount { kind: "cgroup2", target: "/sys/fs/cgroup", flags: SAFE, options: c"nsdelegate,memory_recursiveprot,favordynmods", optional: false },
];

/// For kernels that do not know favordynmods.
const CGROUP_OPTIONS_OLD: &CStr = c"nsdelegate,memory_recursiveprot";

/// Kernel settings below /proc/sys. The machine config may change them later; these are the floor.
#[rustfmt::skip]
const SETTINGS: [(&str, &str); 28] = [
    // A machine without its kernel restarts by itself; ten seconds are enough to read the console.
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    // Our programs log through /dev/kmsg; the default limit of ten lines would swallow them.
    ("kernel/printk_devkmsg", "on"),
    // Kernel Self Protection Project: addresses, log and counters are nobody's business.
    ("kernel/kptr_restrict", "1"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/yama/ptrace_scope", "1"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/randomize_va_space", "2"),
    ("kernel/sysrq", "0"),
    ("net/core/bpf_jit_harden", "1"),
    ("dev/tty/ldisc_autoload", "0"),
    ("dev/tty/legacy_tiocsti", "0"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    ("fs/suid_dumpable", "0"),
    ("vm/unprivileged_userfaultfd", "0"),
    // What the kubelet demands of a protected kernel.
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
    // Room for many pods: the defaults of these are a classic surprise on small servers.
    ("fs/inotify/max_user_instances", "8192"),
    ("fs/inotify/max_user_watches", "524288"),
    ("vm/max_map_count", "262144"),
    ("kernel/pid_max", "4194304"),
    // Open files cost memory, which is counted for the pod that has them. A number for the whole machine would be one that a single
    // pod can use up for all others.
    ("fs/file-max", "9223372036854775807"),
];

/// Descriptors a process may have. Thousands are kept for the agent; the kernel's own ceiling is this number.
const DESCRIPTORS_MAX: u64 = 1_048_576;

/// One cgroup.
struct Group {
    path: &'static str,
    /// Groups below it get controllers. A group that has processes of its own cannot: it is one or the other.
    hands_down: bool,
    settings: &'static [(&'static str, &'static str)],
}

#[rustfmt::skip]
const GROUPS: [Group; 5] = [
    // Never reclaimed: PID 1 that waits for its own pages to come back from a dying disk could not end the machine.
    Group { path: "/init", hands_down: false, settings: &[("memory.min", "8388608")] },
    // The sum of what its services are promised.
    Group { path: "/system", hands_down: true, settings: &[("memory.min", "50331648")] },
    // More CPU than any pod when all want it, so that the API answers beside a pod that spins; memory it surely has, and a
    // ceiling that a leak hits before the machine does.
    Group { path: agent::CGROUP, hands_down: false, settings: &[("memory.min", "33554432"), ("memory.max", "268435456"), ("cpu.weight", "1000"), ("pids.max", "2048")] },
    Group { path: "/pods", hands_down: true, settings: &[] },
    Group { path: "/kubepods", hands_down: true, settings: &[] },
];

/// Controllers that groups are given where the kernel has them.
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

/// Mounts what is not mounted yet.
pub fn mounts(system: &System) {
    let mounted = mount::table().unwrap_or_default();
    for row in &MOUNTS {
        let target = Path::new(row.target);
        if mounted.iter().any(|point| point.target == target) {
            continue;
        }
        // Exists already on most file systems, and cannot be made on the others.
        let _ = fs::create_dir(target);
        let with =
            |options| mount::mount(Path::new(row.kind), target, row.kind, row.flags, options);
        let mut result = with(row.options);
        if result.is_err() && row.kind == "cgroup2" {
            result = with(CGROUP_OPTIONS_OLD);
        }
        match result {
            Err(error) if !row.optional => system.warn("going on without it", &error),
            _ => {}
        }
    }
    // What is mounted on the node is to appear in containers that ask for it: volume drivers rely on it.
    if let Err(error) = mount::make_shared(Path::new("/")) {
        system.warn("going on without it", &error);
    }
}

/// Writes the kernel settings. One that this kernel does not have is no news.
pub fn settings(system: &System) {
    for (name, value) in SETTINGS {
        // With a line end: printk_devkmsg takes nothing else.
        match fs::write(Path::new("/proc/sys").join(name), format!("{value}\n")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                system.say(format_args!("kernel setting {name}={value} refused: {error}"));
            }
            _ => {}
        }
    }
}

/// Limits of PID 1, which everything inherits.
pub fn limits(system: &System) {
    let descriptors = Rlimit { current: Some(DESCRIPTORS_MAX), maximum: Some(DESCRIPTORS_MAX) };
    let no_core = Rlimit { current: Some(0), maximum: None };
    for (resource, limit) in [(Resource::Nofile, descriptors), (Resource::Core, no_core)] {
        if let Err(error) = rustix::process::setrlimit(resource, limit) {
            system.say(format_args!("limit {resource:?} refused: {error}"));
        }
    }
}

/// Makes the top groups and moves PID 1 into its own.
pub fn cgroups(system: &System) {
    let root = Cgroup::root();
    let report = |result: Result<(), ingot_linux::cgroup::CgroupError>| {
        if let Err(error) = result {
            system.warn("cgroups", &error);
        }
    };
    let available = root.read("cgroup.controllers").unwrap_or_default();
    let wanted: Vec<String> = CONTROLLERS
        .iter()
        .filter(|name| available.split(' ').any(|word| word == **name))
        .map(|name| format!("+{name}"))
        .collect();
    let wanted = wanted.join(" ");
    let init = root.child("init");
    report(init.create());
    report(init.add_process(0));
    report(root.write("cgroup.subtree_control", &wanted));
    for row in &GROUPS {
        let group = Cgroup::at(row.path);
        report(group.create());
        if row.hands_down {
            report(group.write("cgroup.subtree_control", &wanted));
        }
        for (file, value) in row.settings {
            report(group.write(file, value));
        }
    }
}
