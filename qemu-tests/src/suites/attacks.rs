//! Suite `attacks`: the attacks of known weaknesses of container runtimes, on a node. Each check has the number of the weakness in its name; the
//! table of all, with those that need no kernel and are tested on the host, is in docs/security.md.

mod images;
mod paths;
mod requests;
mod rights;

use anyhow::ensure;

use super::Context;
use super::isolation::bench::{BUSYBOX, Bench, WORKLOAD};
use crate::cri_node;
use crate::leaks::Held;
use crate::machine::Machine;
use crate::report::Report;

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.cri else { return };
    let (mut machine, _registry) =
        match cri_node::boot(&context.artifacts, &kit.images, "attacks", 1024).await {
            Ok(booted) => booted,
            Err(error) => {
                return report.check_alone("a node with a CRI boots", async { Err(error) }).await;
            }
        };
    let mut started = None;
    report
        .check(
            "the images are pulled and the node can be looked at",
            &mut machine,
            async |machine| {
                let mut bench = Bench::new(machine, &[BUSYBOX, WORKLOAD]).await?;
                bench
                    .on_node(
                        "mkdir -p /node/var/attacks && echo of the node >/node/var/attacks/secret",
                    )
                    .await?;
                // The first pod makes what stays: the bridge, and the filter of system calls.
                let first = bench.pod(|_| {}).await?;
                bench.run(&first, |_| {}).await?;
                bench.cri.remove_sandbox(&first.id).await?;
                let held = Held::count(&mut machine.api()?).await?;
                started = Some((bench, held));
                Ok(())
            },
        )
        .await;
    let Some((mut bench, held)) = started else { return };
    let (machine, bench) = (&mut machine, &mut bench);
    images::run(machine, bench, report).await;
    paths::run(machine, bench, report).await;
    rights::run(machine, bench, report).await;
    requests::run(machine, bench, report).await;
    aftermath(machine, bench, report, &held).await;
}

/// After all attacks the node is as it was.
async fn aftermath(machine: &mut Machine, bench: &mut Bench, report: &Report, held: &Held) {
    report
        .check("no attack has left anything on the node", machine, async |machine| {
            bench.leave_plain().await?;
            let found = bench
                .on_node("ls -d /node/run/ingot/attack* /node/attack* 2>/dev/null; true")
                .await?;
            ensure!(found.is_empty(), "{found}");
            held.compare(&Held::count(&mut machine.api()?).await?)
        })
        .await;
}
