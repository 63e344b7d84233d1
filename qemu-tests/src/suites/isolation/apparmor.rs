//! AppArmor: Ingot's own profile is applied unless another one is asked for, those that are asked for are applied when the
//! kernel has them, and it is said when it has not.

use anyhow::ensure;

use super::bench::{Bench, Trial, privileged_pod, profile, rights, try_all};
use super::users;
use crate::cri::{self, v1};
use crate::machine::Machine;
use crate::report::Report;
use v1::security_profile::ProfileType;

/// The image with the program that loads profiles.
pub(super) const PARSER: &str = "mirror.test/ingot/critest:latest";

/// Everything but writes below /tmp.
const PROFILE: &str = r#"
cat >/tmp/profile <<'END'
profile ingot-test flags=(attach_disconnected, mediate_deleted) {
  file,
  network,
  capability,
  signal,
  deny /tmp/** w,
}
END
mount -t securityfs none /sys/kernel/security 2>/dev/null
apparmor_parser --replace --skip-cache /tmp/profile && echo loaded
"#;

/// Under which profile the first process of a container runs, and a program that is executed there.
const WHO: &str = "cat /proc/1/attr/current /proc/self/attr/current";
const OURS: &str = "ingot-default (enforce)\ningot-default (enforce)";
const NONE: &str = "unconfined\nunconfined";
/// What a container with all capabilities and no other wall may do to the node.
const REACH: &str = "mount -t tmpfs none /tmp 2>/dev/null && echo mounted; \
     (echo 60 >/proc/sys/vm/swappiness) 2>/dev/null && echo set; (: >>/proc/irq/default_smp_affinity) 2>/dev/null && echo opened; \
     (echo 1 >/proc/sys/kernel/shm_rmid_forced) && echo own";

fn powerful(it: &mut v1::ContainerConfig) {
    let add_capabilities = vec!["ALL".to_owned()];
    let rights = rights(it);
    rights.capabilities = Some(v1::Capability { add_capabilities, ..Default::default() });
    rights.seccomp = Some(profile(ProfileType::Unconfined, ""));
    // One that is nowhere: an empty list would stand for the default.
    rights.masked_paths = vec!["/nowhere".to_owned()];
    rights.readonly_paths = vec!["/nowhere".to_owned()];
}

/// Of a kernel with AppArmor.
const TRIALS: &[Trial] = &[
    Trial {
        name: "a container that asks for nothing has Ingot's own AppArmor profile",
        pod: None,
        ask: |_| {},
        script: WHO,
        expect: OURS,
    },
    Trial {
        name: "it is that of a user without new privileges, too",
        pod: None,
        ask: |it| {
            let rights = rights(it);
            rights.apparmor = Some(profile(ProfileType::RuntimeDefault, ""));
            rights.run_as_user = Some(v1::Int64Value { value: 1000 });
            rights.no_new_privs = true;
        },
        script: WHO,
        expect: OURS,
    },
    Trial {
        name: "it is that of a pod with ids of its own, too",
        pod: Some(users::own_users),
        ask: |_| {},
        script: WHO,
        expect: OURS,
    },
    Trial {
        name: "a container that asks for no AppArmor profile has none",
        pod: None,
        ask: |it| rights(it).apparmor = Some(profile(ProfileType::Unconfined, "")),
        script: WHO,
        expect: NONE,
    },
    Trial {
        name: "a privileged container has no AppArmor profile",
        pod: Some(privileged_pod),
        ask: |it| rights(it).privileged = true,
        script: WHO,
        expect: NONE,
    },
    Trial {
        name: "Ingot's own AppArmor profile holds where every other wall is open",
        pod: None,
        ask: powerful,
        script: REACH,
        expect: "own",
    },
    Trial {
        name: "without it the same container reaches the node",
        pod: None,
        ask: |it| {
            powerful(it);
            rights(it).apparmor = Some(profile(ProfileType::Unconfined, ""));
        },
        script: REACH,
        expect: "mounted\nset\nopened\nown",
    },
    Trial {
        name: "programs under Ingot's own AppArmor profile can end each other",
        pod: None,
        ask: |_| {},
        // Whether the shell says so, too, depends on who is faster.
        script: "{ sleep 1000 & kill $! && wait $!; echo $?; } 2>/dev/null",
        expect: "143",
    },
];

fn with(it: &mut v1::ContainerConfig, name: &str) {
    rights(it).apparmor = Some(profile(ProfileType::Localhost, name));
}

pub(super) async fn run(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    let enabled =
        bench.on_node("cat /sys/module/apparmor/parameters/enabled 2>/dev/null; true").await;
    let enabled = enabled.is_ok_and(|text| text == "Y");
    report.note(if enabled { "the kernel has AppArmor" } else { "the kernel has no AppArmor" });
    report
        .check("an AppArmor profile that cannot be applied is named", machine, async |_| {
            let pod = bench.pod(|_| {}).await?;
            let made = bench.run(&pod, |it| with(it, "no-such-profile")).await;
            let error = format!("{:#}", made.err().unwrap_or_else(|| anyhow::anyhow!("it runs")));
            let why = if enabled { "not loaded" } else { "without AppArmor" };
            ensure!(error.contains("no-such-profile") && error.contains(why), "{error}");
            bench.cri.remove_sandbox(&pod.id).await
        })
        .await;
    if !enabled {
        return report
            .skip("an AppArmor profile is applied", "the kernel of this image has no AppArmor");
    }
    try_all(machine, bench, report, TRIALS).await;
    report
        .check("an AppArmor profile is applied to the container and to programs started in it", machine, async |_| {
            bench.cri.pull(PARSER).await?;
            let config = cri::node_sandbox("apparmor");
            let sandbox = bench.cri.run_sandbox(&config).await?;
            let loader = cri::node_container("loader", PARSER, super::bench::WAIT);
            let loader = bench.cri.create(&sandbox, &loader, &config).await?;
            bench.cri.start(&loader).await?;
            let loaded = bench.shell(&loader, PROFILE).await?;
            ensure!(loaded.ends_with("loaded"), "{loaded}");
            let pod = bench.pod(|_| {}).await?;
            let id = bench.run(&pod, |it| with(it, "ingot-test")).await?;
            let script = "cat /proc/1/attr/current /proc/self/attr/current; touch /tmp/x 2>&1; touch /root/x && echo elsewhere";
            let seen = bench.shell(&id, script).await?;
            let expect = "ingot-test (enforce)\ningot-test (enforce)\ntouch: /tmp/x: Permission denied\nelsewhere";
            ensure!(seen == expect, "{seen:?}");
            bench.cri.remove_sandbox(&pod.id).await?;
            bench.cri.remove_sandbox(&sandbox).await
        })
        .await;
}
