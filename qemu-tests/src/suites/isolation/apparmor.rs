//! AppArmor: profiles are applied when the kernel has it, and it is said when it has not.

use anyhow::ensure;

use super::bench::{Bench, profile, rights};
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
