//! Suite `attacks`: the attacks of known weaknesses of container runtimes, on a node. Each check has the number of the weakness in its name; the
//! table of all, with those that need no kernel and are tested on the host, is in docs/security.md.

mod images;
mod paths;
mod requests;
mod rights;

use anyhow::ensure;

use super::Context;
use super::isolation::bench::{BUSYBOX, Bench, Tried, WORKLOAD};
use crate::leaks::Held;
use crate::machine::Machine;
use crate::report::Report;

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let prepare = "mkdir -p /node/var/attacks && echo of the node >/node/var/attacks/secret";
    let images = &[BUSYBOX, WORKLOAD];
    let Some(mut tried) = Tried::start(context, report, "attacks", images, prepare).await else {
        return;
    };
    let (machine, bench) = (&mut tried.machine, &mut tried.bench);
    images::run(machine, bench, report).await;
    paths::run(machine, bench, report).await;
    rights::run(machine, bench, report).await;
    requests::run(machine, bench, report).await;
    aftermath(machine, bench, report, &tried.held).await;
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
