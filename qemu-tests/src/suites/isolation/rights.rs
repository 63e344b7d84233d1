//! What a container may and may not do: tables of what it is given, what it tries and what it must see.

use super::bench::{Refusal, Trial, limits, namespaces, privileged_pod, profile, rights, sysctl};
use crate::cri::v1;
use v1::security_profile::ProfileType;

/// Prints each place of the kernel that shows what it must not, or that can be written.
pub(crate) const WINDOWS: &str = r#"
for path in /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/sched_debug /proc/interrupts; do
  [ ! -e $path ] || [ -z "$(head -c 1 $path 2>/dev/null)" ] || echo "$path is readable"
done
for folder in /proc/acpi /proc/scsi /proc/asound /sys/firmware /sys/devices/virtual/powercap; do
  [ -z "$(ls $folder 2>/dev/null)" ] || echo "$folder has something in it"
done
for file in /proc/sys/kernel/core_pattern /proc/sys/vm/panic_on_oom /proc/sysrq-trigger /proc/irq/default_smp_affinity \
  /sys/kernel/uevent_helper /sys/kernel/profiling /sys/power/state /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory.max; do
  [ ! -e $file ] || ! (: >>$file) 2>/dev/null || echo "$file can be written"
done
"#;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        name: "what the kernel tells and takes is masked",
        pod: None,
        // Ingot's own profile would forbid most of it once more.
        ask: |it| rights(it).apparmor = Some(profile(ProfileType::Unconfined, "")),
        script: WINDOWS,
        expect: "",
    },
    Trial {
        name: "the default capabilities are Docker's, and none is inherited",
        pod: None,
        ask: |_| {},
        script: "awk '/^Cap(Inh|Eff|Bnd|Amb)/ {print $1 $2}' /proc/1/status",
        expect: "CapInh:0000000000000000\nCapEff:00000000a80425fb\nCapBnd:00000000a80425fb\nCapAmb:0000000000000000",
    },
    Trial {
        name: "root without capabilities owns nothing of others",
        pod: None,
        ask: |it| {
            let drop_capabilities = vec!["ALL".to_owned()];
            rights(it).capabilities =
                Some(v1::Capability { drop_capabilities, ..Default::default() });
        },
        script: "chown 1:1 /tmp; ip link set lo mtu 1400",
        expect: "chown: /tmp: Operation not permitted\nip: SIOCSIFMTU: Operation not permitted",
    },
    Trial {
        name: "a capability that is added works, in the pod's network only",
        pod: None,
        ask: |it| {
            let add_capabilities = vec!["NET_ADMIN".to_owned()];
            rights(it).capabilities =
                Some(v1::Capability { add_capabilities, ..Default::default() });
        },
        script: "ip link set lo mtu 1400; cat /sys/class/net/lo/mtu",
        expect: "1400",
    },
    Trial {
        name: "an ambient capability reaches a user that is not root",
        pod: None,
        ask: |it| {
            let list = vec!["NET_BIND_SERVICE".to_owned()];
            rights(it).run_as_user = Some(v1::Int64Value { value: 1000 });
            rights(it).capabilities = Some(v1::Capability {
                add_capabilities: list.clone(),
                add_ambient_capabilities: list,
                ..Default::default()
            });
        },
        script: "awk '/^CapEff/ {print $2}' /proc/1/status",
        expect: "0000000000000400",
    },
    Trial {
        name: "the default filter of system calls is there and refuses",
        pod: None,
        ask: |it| rights(it).seccomp = Some(profile(ProfileType::RuntimeDefault, "")),
        script: "awk '/^Seccomp:/ {print $2}' /proc/1/status; unshare -U true",
        expect: "2\nunshare: unshare(0x10000000): Operation not permitted",
    },
    Trial {
        name: "without a filter the same call works",
        pod: None,
        ask: |it| rights(it).seccomp = Some(profile(ProfileType::Unconfined, "")),
        script: "awk '/^Seccomp:/ {print $2}' /proc/1/status; unshare -U true && echo made",
        expect: "0\nmade",
    },
    Trial {
        name: "nodes that were not given can be made and not opened",
        pod: None,
        ask: |_| {},
        script: "mknod /dev/serial c 4 64; echo x >/dev/serial; mknod /dev/disk b 254 0; head -c 1 /dev/disk; \
                 echo x >/dev/null && head -c 1 /dev/zero | wc -c",
        expect: "sh: can't create /dev/serial: Operation not permitted\n\
                 head: /dev/disk: Operation not permitted\n1",
    },
    Trial {
        name: "a device that is given for reading is read and not written",
        pod: None,
        ask: |it| {
            it.devices = vec![v1::Device {
                host_path: "/dev/vda".to_owned(),
                container_path: "/dev/given".to_owned(),
                permissions: "r".to_owned(),
            }];
        },
        script: "head -c 512 /dev/given | wc -c; (: >>/dev/given) 2>&1",
        expect: "512\nsh: can't create /dev/given: Operation not permitted",
    },
    Trial {
        name: "a read-only root takes no writes, and memory for the pod does",
        pod: None,
        ask: |it| rights(it).readonly_rootfs = true,
        script: "touch /x; touch /dev/shm/x && echo shared memory",
        expect: "touch: /x: Read-only file system\nshared memory",
    },
    Trial {
        name: "groups of the image are merged with those that were asked for",
        pod: None,
        ask: |it| {
            rights(it).run_as_user = Some(v1::Int64Value { value: 1000 });
            rights(it).supplemental_groups = vec![3000];
        },
        script: "id -G | tr ' ' '\\n' | sort -nu | tr '\\n' ' '",
        expect: "1000 3000 50000",
    },
    Trial {
        name: "groups of the image are left out when that was asked for",
        pod: None,
        ask: |it| {
            rights(it).run_as_user = Some(v1::Int64Value { value: 1000 });
            rights(it).supplemental_groups = vec![3000];
            rights(it).supplemental_groups_policy = v1::SupplementalGroupsPolicy::Strict.into();
        },
        script: "id -G | tr ' ' '\\n' | sort -nu | tr '\\n' ' '",
        expect: "1000 3000",
    },
    Trial {
        name: "kernel parameters of the pod are set in the pod",
        pod: Some(|it| {
            sysctl(it, "kernel.shm_rmid_forced", "1");
            sysctl(it, "net.core.somaxconn", "123");
            sysctl(it, "net/ipv4/ip_local_port_range", "40000 41000");
            sysctl(it, "fs.mqueue.msg_max", "12");
        }),
        ask: |_| {},
        script: "cd /proc/sys; cat kernel/shm_rmid_forced net/core/somaxconn net/ipv4/ip_local_port_range fs/mqueue/msg_max",
        expect: "1\n123\n40000\t41000\n12",
    },
    Trial {
        name: "a container sees its own cgroup as the root, and cannot change it",
        pod: None,
        ask: |_| {},
        script: "cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x",
        expect: "0::/\nmkdir: can't create directory '/sys/fs/cgroup/x': Read-only file system",
    },
    Trial {
        name: "a privileged container has all rights",
        pod: Some(privileged_pod),
        ask: |it| rights(it).privileged = true,
        script: "awk '/^(CapEff|Seccomp:)/ {print $2}' /proc/1/status; head -c 512 /dev/vda | wc -c; \
                 mkdir -p /mnt; mount -t tmpfs none /mnt && echo mounted; \
                 (: >>/proc/sys/kernel/core_pattern) && echo written",
        expect: "000001ffffffffff\n0\n512\nmounted\nwritten",
    },
];

pub(super) const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "a kernel parameter of the node is refused",
        pod: Some(|it| sysctl(it, "vm.swappiness", "1")),
        ask: |_| {},
        says: "vm.swappiness",
    },
    Refusal {
        name: "a kernel parameter of a network that is the node's is refused",
        pod: Some(|it| {
            namespaces(it).network = v1::NamespaceMode::Node.into();
            it.hostname = String::new();
            sysctl(it, "net.core.somaxconn", "1");
        }),
        ask: |_| {},
        says: "net.core.somaxconn",
    },
    Refusal {
        name: "a seccomp profile that is not there is named",
        pod: None,
        ask: |it| {
            rights(it).seccomp =
                Some(profile(ProfileType::Localhost, "/var/lib/no-such-profile.json"));
        },
        says: "no-such-profile.json",
    },
    Refusal {
        name: "a device that is not there is named",
        pod: None,
        ask: |it| {
            it.devices = vec![v1::Device {
                host_path: "/dev/no-such-device".to_owned(),
                container_path: "/dev/x".to_owned(),
                permissions: "rwm".to_owned(),
            }];
        },
        says: "/dev/no-such-device",
    },
    Refusal {
        name: "memory of a node that is not there is refused",
        pod: None,
        ask: |it| limits(it).cpuset_mems = "7".to_owned(),
        says: "cpuset.mems",
    },
    Refusal {
        name: "a capability that Linux does not have is named",
        pod: None,
        ask: |it| {
            let add_capabilities = vec!["FLY".to_owned()];
            rights(it).capabilities =
                Some(v1::Capability { add_capabilities, ..Default::default() });
        },
        says: "FLY",
    },
];
