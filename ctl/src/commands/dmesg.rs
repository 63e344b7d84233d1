//! `dmesg`: the kernel's log.

use crate::cli::Dmesg;
use crate::failure::Failure;
use crate::session::Session;
use ingot_api::machine::v1::{DmesgRequest, DmesgResponse};

pub(super) async fn run(session: &Session<'_>, args: &Dmesg) -> Result<(), Failure> {
    let node = session.connect().await?;
    let message = DmesgRequest { follow: args.follow, tail: args.tail.unwrap_or(0) };
    let mut records = node
        .stream("Dmesg", args.follow, message, async |mut api, request| api.dmesg(request).await)
        .await?;
    while let Some(record) = records.next().await? {
        session.output.item("DmesgResponse", &record, line)?;
    }
    Ok(())
}

fn line(record: &DmesgResponse) -> String {
    let (seconds, nanos) =
        record.time.as_ref().map_or((0, 0), |time| (time.seconds, time.nanos.max(0)));
    let severity = match record.severity {
        0 => "emerg",
        1 => "alert",
        2 => "crit",
        3 => "err",
        4 => "warn",
        5 => "notice",
        6 => "info",
        _ => "debug",
    };
    let stamp = format!("[{seconds:5}.{:06}]", nanos / 1000);
    format!("{stamp} {}.{severity}: {}\n", record.facility, record.message)
}
