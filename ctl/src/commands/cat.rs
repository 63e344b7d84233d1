//! `cat`: the bytes of a file of the node.

use crate::cli::{Cat, Format};
use crate::failure::Failure;
use crate::session::Session;
use ingot_api::machine::v1::ReadFileRequest;

pub(super) async fn run(session: &Session<'_>, args: &Cat) -> Result<(), Failure> {
    let node = session.connect().await?;
    let message = ReadFileRequest { path: args.path.clone(), offset: 0, limit: 0 };
    let mut parts = node
        .stream("ReadFile", false, message, async |mut api, request| api.read_file(request).await)
        .await?;
    while let Some(part) = parts.next().await? {
        if session.output.format == Format::Table {
            session.output.raw(&part.data)?;
        } else {
            session.output.item("ReadFileResponse", &part, |_| String::new())?;
        }
    }
    Ok(())
}
