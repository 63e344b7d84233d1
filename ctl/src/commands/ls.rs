//! `ls`: files of the node, as they come.

use crate::cli::{Format, Ls};
use crate::failure::{Exit, Failure};
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{FileInfo, ListFilesRequest};

pub(super) async fn run(session: &Session<'_>, args: &Ls) -> Result<(), Failure> {
    let node = session.connect().await?;
    let message = ListFilesRequest {
        path: args.path.clone(),
        recursive: args.recursive,
        one_file_system: args.one_file_system,
    };
    let mut files = node
        .stream("ListFiles", false, message, async |mut api, request| api.list_files(request).await)
        .await?;
    let mut unread = 0_u64;
    while let Some(file) = files.next().await? {
        unread += u64::from(!file.error.is_empty());
        if session.output.format == Format::Table && !file.error.is_empty() {
            eprintln!(
                "warning: {}: {}, ignoring",
                text::printable(&file.path),
                text::printable(&file.error)
            );
            continue;
        }
        session.output.item("FileInfo", &file, |file| line(file, args.long))?;
    }
    if unread == 0 {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, format!("{unread} of the files could not be read")))
}

fn line(file: &FileInfo, long: bool) -> String {
    // A name may hold a line end; one line is one file.
    let path = file.path.replace('\n', "\\n");
    if !long {
        return format!("{path}\n");
    }
    let target = match file.link_target.as_str() {
        "" => String::new(),
        target => format!(" -> {}", target.replace('\n', "\\n")),
    };
    format!(
        "{} {:>5} {:>5} {:>12} {} {path}{target}\n",
        text::mode(file.mode),
        file.uid,
        file.gid,
        file.size_bytes,
        text::time(file.modified_at.as_ref()),
    )
}
