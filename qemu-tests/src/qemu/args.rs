//! The command line of QEMU for one machine. Pure: turns a description into words, touches nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// Software emulation.
    Tcg,
}

impl Accelerator {
    /// KVM where the processor says that it has hardware virtualisation, software emulation otherwise. `/dev/kvm` alone
    /// proves nothing: some hosts have the device and no processor flag behind it.
    #[must_use]
    pub(crate) fn detect() -> Self {
        let processor = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let device = fs_err::OpenOptions::new().read(true).write(true).open("/dev/kvm");
        if has_virtualisation(&processor) && device.is_ok() { Self::Kvm } else { Self::Tcg }
    }
}

fn has_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_whitespace)
        .any(|flag| flag == "vmx" || flag == "svm")
}

/// What the guest's clocks follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The host's clock: a slow host makes everything look slow.
    Host,
    /// The guest's own instructions, one nanosecond each, and the host's clock while the guest idles: a busy host does
    /// not make the guest look slow. One processor, software emulation only.
    Instructions,
}

/// A hardware clock that says the host's time.
pub(crate) const RIGHT_TIME: &str = "utc";

/// How the machine starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// UEFI firmware from flash, then whatever the disk holds.
    Firmware {
        /// The firmware's code, read-only.
        code: PathBuf,
        /// The firmware's variables, a copy of this machine's own.
        variables: PathBuf,
    },
    /// QEMU loads the kernel itself.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// Its initrd.
        initrd: PathBuf,
        /// Its command line.
        command_line: String,
    },
}

/// A disk of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    /// "raw" or "qcow2".
    pub(crate) format: &'static str,
    pub(crate) read_only: bool,
}

/// A second network card, whose cable leads to that of one other machine and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wire {
    /// The socket at which this machine hears the other.
    pub(crate) own: PathBuf,
    /// The one at which the other hears this machine.
    pub(crate) other: PathBuf,
    /// The card's address: two machines with the same one would not hear each other.
    pub(crate) mac: String,
}

/// Everything that decides the command line.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub(crate) accelerator: Accelerator,
    pub(crate) clock: Clock,
    /// What the hardware clock says at power-on, as QEMU takes it.
    pub(crate) hardware_clock: String,
    pub(crate) memory_mib: u32,
    pub(crate) processors: u32,
    pub(crate) start: Start,
    /// In the order the guest sees them; the first is the boot disk.
    pub(crate) disks: Vec<Disk>,
    pub(crate) console: PathBuf,
    pub(crate) control_socket: PathBuf,
    /// Host port and guest port, TCP.
    pub(crate) forwards: Vec<(u16, u16)>,
    pub(crate) wire: Option<Wire>,
    pub(crate) uuid: String,
    /// Disks are NVMe drives instead of virtio's: for kernels that have only the former built in.
    pub(crate) nvme: bool,
    pub(crate) extra: Vec<String>,
}

impl Description {
    /// The words after the program's name.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words = Words::default();
        words.all([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "q35,vmport=off",
        ]);
        self.processor(&mut words);
        words.option("-m", format!("{}M", self.memory_mib));
        words.option("-uuid", self.uuid.clone());
        words.option("-rtc", format!("base={}", self.hardware_clock));
        self.start(&mut words);
        words.option("-chardev", with_path("file,id=console,append=on,path=", &self.console));
        words.option("-serial", "chardev:console");
        words.option("-qmp", with_path_then("unix:", &self.control_socket, ",server=on,wait=off"));
        for (index, disk) in self.disks.iter().enumerate() {
            let read_only = if disk.read_only { "on" } else { "off" };
            let options = format!(
                "if=none,id=disk{index},format={},readonly={read_only},cache=writeback,discard=unmap,file=",
                disk.format
            );
            words.option("-drive", with_path(&options, &disk.path));
            // Index 0 is the kernel's in a direct boot.
            let device = if self.nvme { "nvme" } else { "virtio-blk-pci" };
            words.option(
                "-device",
                format!(
                    "{device},drive=disk{index},bootindex={},serial=ingot-test-{index}",
                    index + 1
                ),
            );
        }
        if let Some(wire) = &self.wire {
            // Before the card that leads outside: what a node finds first is how others of its cluster reach it.
            let mut ends = with_path("dgram,id=wire,local.type=unix,local.path=", &wire.own);
            ends.push(",remote.type=unix");
            ends.push(with_path(",remote.path=", &wire.other));
            words.option("-netdev", ends);
            let card = format!("virtio-net-pci,netdev=wire,mac={},romfile=", wire.mac);
            words.option("-device", card);
        }
        let mut network = "user,id=net0".to_owned();
        for (host, guest) in &self.forwards {
            network.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
        }
        words.option("-netdev", network);
        // No boot ROM: nothing here boots over the network, and trying costs seconds.
        words.option("-device", "virtio-net-pci,netdev=net0,romfile=");
        words.option("-device", "virtio-rng-pci");
        words.option("-device", "i6300esb");
        words.option("-action", "watchdog=reset");
        words.all(self.extra.iter().map(String::as_str));
        words.0
    }

    fn processor(&self, words: &mut Words) {
        match (self.accelerator, self.clock) {
            (Accelerator::Kvm, Clock::Host) => {
                words.all(["-accel", "kvm", "-cpu", "host"]);
                words.option("-smp", self.processors.to_string());
            }
            (Accelerator::Tcg, Clock::Host) => {
                words.all(["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max"]);
                words.option("-smp", self.processors.to_string());
            }
            (_, Clock::Instructions) => {
                words.all(["-accel", "tcg,thread=single,tb-size=256", "-cpu", "max", "-smp", "1"]);
                words.all(["-icount", "shift=0,sleep=on"]);
            }
        }
    }

    fn start(&self, words: &mut Words) {
        match &self.start {
            Start::Firmware { code, variables } => {
                words.option("-drive", with_path("if=pflash,format=raw,readonly=on,file=", code));
                words.option("-drive", with_path("if=pflash,format=raw,file=", variables));
            }
            Start::Kernel { kernel, initrd, command_line } => {
                words.option("-kernel", kernel.as_os_str().to_owned());
                words.option("-initrd", initrd.as_os_str().to_owned());
                words.option("-append", command_line.clone());
            }
        }
    }
}

#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }

    fn all<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(OsString::from));
    }
}

fn with_path(prefix: &str, path: &Path) -> OsString {
    with_path_then(prefix, path, "")
}

/// A comma ends a path in QEMU's options unless it is doubled.
fn with_path_then(prefix: &str, path: &Path, suffix: &str) -> OsString {
    format!("{prefix}{}{suffix}", path.display().to_string().replace(',', ",,")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            accelerator: Accelerator::Tcg,
            clock: Clock::Host,
            hardware_clock: RIGHT_TIME.to_owned(),
            memory_mib: 512,
            processors: 2,
            start: Start::Kernel {
                kernel: "/k".into(),
                initrd: "/i".into(),
                command_line: "a=b c".into(),
            },
            disks: vec![Disk { path: "/d,1".into(), format: "qcow2", read_only: false }],
            console: "/c".into(),
            control_socket: "/q".into(),
            forwards: vec![(4000, 50000)],
            uuid: "00000000-0000-0000-0000-000000000001".into(),
            nvme: false,
            wire: None,
            extra: Vec::new(),
        }
    }

    fn line(description: &Description) -> String {
        let words = description.words();
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_the_option() {
        assert!(line(&description()).contains("file=/d,,1 "));
    }

    #[test]
    fn the_instruction_clock_never_uses_hardware_virtualisation() {
        let mut machine = description();
        machine.accelerator = Accelerator::Kvm;
        machine.clock = Clock::Instructions;
        let line = line(&machine);
        assert!(
            line.contains("tcg,thread=single") && line.contains("-icount") && !line.contains("kvm")
        );
    }

    #[test]
    fn virtualisation_is_read_from_whole_words_of_the_flags() {
        assert!(has_virtualisation("flags\t\t: fpu vmx sse"));
        assert!(has_virtualisation("flags : svm"));
        assert!(!has_virtualisation("flags : vmx_something fpu\nmodel name : svm"));
    }
}
