//! `etcd`: the cluster's database.

use crate::cli::{Etcd, EtcdCommand, Format};
use crate::failure::Failure;
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{
    EtcdDefragmentRequest, EtcdDefragmentResponse, EtcdMembersRequest, EtcdMembersResponse,
    EtcdRestoreRequest, EtcdSnapshotRequest, EtcdStatusRequest, EtcdStatusResponse,
};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

/// Pieces of a file on their way.
const AHEAD: usize = 4;

pub(super) async fn run(session: &Session<'_>, args: &Etcd) -> Result<(), Failure> {
    match &args.command {
        EtcdCommand::Members => members(session).await,
        EtcdCommand::Status => status(session).await,
        EtcdCommand::Snapshot { file } => snapshot(session, file).await,
        // It holds a piece of the file: large, and seldom made.
        EtcdCommand::Restore { file, yes } => Box::pin(restore(session, file, *yes)).await,
        EtcdCommand::Defrag => defragment(session).await,
    }
}

async fn members(session: &Session<'_>) -> Result<(), Failure> {
    let node = session.connect().await?;
    let answer = node
        .call("EtcdMembers", EtcdMembersRequest {}, async |mut api, request| {
            api.etcd_members(request).await
        })
        .await?;
    session.output.answer("EtcdMembersResponse", &answer, |answer: &EtcdMembersResponse| {
        let rows = answer.members.iter().map(|member| {
            let learner = if member.learner { "learner" } else { "voter" };
            [
                member.id.clone(),
                text::printable(&member.name).into_owned(),
                learner.to_owned(),
                text::printable(&member.peer_urls.join(",")).into_owned(),
                text::printable(&member.client_urls.join(",")).into_owned(),
            ]
        });
        table(["ID", "NAME", "ROLE", "PEER URLS", "CLIENT URLS"], rows.collect())
    })
}

async fn status(session: &Session<'_>) -> Result<(), Failure> {
    let node = session.connect().await?;
    let answer = node
        .call("EtcdStatus", EtcdStatusRequest {}, async |mut api, request| {
            api.etcd_status(request).await
        })
        .await?;
    session.output.answer("EtcdStatusResponse", &answer, |answer: &EtcdStatusResponse| {
        let row = [
            answer.version.clone(),
            text::bytes(answer.size_bytes),
            text::bytes(answer.used_bytes),
            if answer.leader { "yes" } else { "no" }.to_owned(),
            answer.raft_index.to_string(),
            text::or_dash(&text::printable(&answer.errors.join("; "))),
        ];
        table(["VERSION", "SIZE", "IN USE", "LEADER", "RAFT INDEX", "ERRORS"], vec![row])
    })
}

async fn snapshot(session: &Session<'_>, path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::usage(format!("cannot write {}", path.display())).because(&error)
    };
    let node = session.connect().await?;
    let mut parts = node
        .stream("EtcdSnapshot", false, EtcdSnapshotRequest {}, async |mut api, request| {
            api.etcd_snapshot(request).await
        })
        .await?;
    // It holds everything of the cluster: for nobody else's eyes.
    let mut file =
        File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let mut written = 0_u64;
    loop {
        match parts.next().await {
            Ok(Some(part)) => {
                file.write_all(&part.data).map_err(failed)?;
                written += part.data.len() as u64;
            }
            Ok(None) => break,
            Err(error) => {
                // Half a snapshot is worse than none.
                let _ = std::fs::remove_file(path);
                return Err(error.into());
            }
        }
    }
    file.sync_all().map_err(failed)?;
    if session.output.format == Format::Table {
        session.output.text(&format!("{} in {}\n", text::bytes(written), path.display()))?;
    }
    Ok(())
}

async fn restore(session: &Session<'_>, path: &Path, yes: bool) -> Result<(), Failure> {
    if !yes {
        let message = "everything that changed in the cluster since the snapshot will be lost";
        return Err(Failure::usage(message).hint("if you want that, say so: --yes"));
    }
    let failed = |error: std::io::Error| {
        Failure::usage(format!("cannot read {}", path.display())).because(&error)
    };
    let source = File::open(path).map_err(failed)?;
    let node = session.connect().await?;
    let (sender, pieces) = mpsc::channel(AHEAD);
    // A file that cannot be read to its end arrives as a snapshot that was cut, which the node refuses.
    let reading = tokio::task::spawn_blocking(move || super::images::read_pieces(source, &sender));
    let messages = ReceiverStream::new(pieces).map(|data| EtcdRestoreRequest { data });
    let answer = node
        .upload("EtcdRestore", messages, async |mut api, request| api.etcd_restore(request).await)
        .await;
    match (answer, reading.await) {
        (_, Ok(Err(error))) => return Err(failed(error)),
        (Err(error), _) => return Err(error.into()),
        (Ok(_), _) => {}
    }
    if session.output.format == Format::Table {
        session.output.text("the snapshot is being restored; see: ingotctl health\n")?;
    }
    Ok(())
}

async fn defragment(session: &Session<'_>) -> Result<(), Failure> {
    let node = session.connect().await?;
    let answer = node
        .call("EtcdDefragment", EtcdDefragmentRequest {}, async |mut api, request| {
            api.etcd_defragment(request).await
        })
        .await?;
    session.output.answer("EtcdDefragmentResponse", &answer, |answer: &EtcdDefragmentResponse| {
        let (before, after) = (answer.size_bytes_before, answer.size_bytes_after);
        format!("{} became {}\n", text::bytes(before), text::bytes(after))
    })
}
