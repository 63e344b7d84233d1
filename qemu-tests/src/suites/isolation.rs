//! Suite `isolation`: what a container can and cannot do, asserted from inside it, and what of it shows on the node. One boot
//! serves all.

mod apparmor;
pub(crate) mod bench;
mod credentials;
mod limits;
mod mounts;
mod processes;
mod rights;
pub(crate) mod users;

use anyhow::ensure;

use self::bench::{BUSYBOX, Bench, Tried, WORKLOAD, refuse_all, try_all};
use super::Context;
use crate::leaks::Held;
use crate::machine::Machine;
use crate::report::Report;

/// An image with a set-user-ID program.
const SET_USER_ID: &str = "mirror.test/e2e-test-images/nonewprivs:1.3";

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let images = &[BUSYBOX, WORKLOAD, SET_USER_ID];
    let Some(mut tried) = Tried::start(context, report, "isolation", images, mounts::PREPARE).await
    else {
        return;
    };
    let (machine, bench) = (&mut tried.machine, &mut tried.bench);
    try_all(machine, bench, report, rights::TRIALS).await;
    windows_open(machine, bench, report).await;
    credentials::run(machine, bench, report).await;
    new_privileges(machine, bench, report).await;
    refuse_all(machine, bench, report, rights::REFUSALS).await;
    try_all(machine, bench, report, users::TRIALS).await;
    users::from_outside(machine, bench, report).await;
    refuse_all(machine, bench, report, users::REFUSALS).await;
    try_all(machine, bench, report, mounts::TRIALS).await;
    refuse_all(machine, bench, report, mounts::REFUSALS).await;
    mounts::travel(machine, bench, report).await;
    mounts::vendors(machine, bench, report).await;
    processes::run(machine, bench, report).await;
    limits::run(machine, bench, report).await;
    apparmor::run(machine, bench, report).await;
    report
        .check("nothing of all that is left behind", machine, async |machine| {
            bench.leave_plain().await?;
            tried.held.compare(&Held::count(&mut machine.api()?).await?)
        })
        .await;
}

/// What is masked for all others is there: otherwise their test would find nothing to mask.
async fn windows_open(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    report
        .check(
            "a privileged container sees and writes what is masked for others",
            machine,
            async |_| {
                let pod = bench.pod(bench::privileged_pod).await?;
                let id = bench.run(&pod, |it| bench::rights(it).privileged = true).await?;
                let seen = bench.shell(&id, &format!("{{ {}\n}}; true", rights::WINDOWS)).await?;
                for word in [
                    "/proc/interrupts is readable",
                    "/proc/sys/kernel/core_pattern can be written",
                    "/sys/kernel/profiling can be written",
                    "/sys/firmware has something",
                ] {
                    ensure!(seen.contains(word), "no {word:?} in {seen}");
                }
                bench.cri.remove_sandbox(&pod.id).await
            },
        )
        .await;
}

/// A set-user-ID program gains what its file says, unless new privileges are forbidden.
async fn new_privileges(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    report
        .check("a set-user-ID program gains nothing where that is forbidden", machine, async |_| {
            let pod = bench.pod(|_| {}).await?;
            for (forbidden, expect) in [(false, "Effective uid: 0"), (true, "Effective uid: 1000")]
            {
                let ask = |it: &mut crate::cri::v1::ContainerConfig| {
                    it.image = Some(crate::cri::image(SET_USER_ID));
                    it.command = vec!["/nnp".to_owned(), "sleep".to_owned()];
                    bench::rights(it).run_as_user =
                        Some(crate::cri::v1::Int64Value { value: 1000 });
                    bench::rights(it).no_new_privs = forbidden;
                };
                let id = bench.run(&pod, ask).await?;
                let seen = bench.cri.exec(&id, &["/nnp", "effective-uid"]).await?;
                ensure!(seen.trim() == expect, "forbidden {forbidden}: {seen:?}");
            }
            bench.cri.remove_sandbox(&pod.id).await
        })
        .await;
}
