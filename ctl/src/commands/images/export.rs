//! `images export`: an image as an archive, to a file or to standard output. A file that is not complete does not stay.

use crate::client::NodeStream;
use crate::failure::{Exit, Failure};
use crate::session::Session;
use ingot_api::machine::v1::{ExportImageRequest, ExportImageResponse};
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

/// What the name of a file ends in while it is written.
const PART: &str = ".part";

pub(super) async fn run(session: &Session<'_>, image: &str, file: &Path) -> Result<(), Failure> {
    if file == Path::new("-") {
        if io::stdout().is_terminal() {
            return Err(Failure::usage("an archive is nothing for a terminal")
                .hint("name a file, or write to a pipe"));
        }
        let mut pieces = ask(session, image).await?;
        return receive(&mut pieces, io::stdout(), file).await;
    }
    let mut part = file.as_os_str().to_owned();
    part.push(PART);
    let part = Path::new(&part);
    // What is wrong here is told before anything is asked of a node.
    let to = std::fs::File::create(part).map_err(|error| cannot_write(part, &error))?;
    let result = async {
        let mut pieces = ask(session, image).await?;
        receive(&mut pieces, to, file).await?;
        std::fs::rename(part, file).map_err(|error| cannot_write(file, &error))
    }
    .await;
    if result.is_err() {
        // It was made a moment ago, and is worth nothing.
        let _gone = std::fs::remove_file(part);
    }
    result
}

async fn ask(
    session: &Session<'_>,
    image: &str,
) -> Result<NodeStream<ExportImageResponse>, Failure> {
    let node = session.connect().await?;
    let request = ExportImageRequest { image: image.to_owned() };
    // The node packs all layers before it sends the first: it may be silent for minutes.
    let pieces = node
        .stream("ExportImage", true, request, async |mut api, request| {
            api.export_image(request).await
        })
        .await?;
    Ok(pieces)
}

async fn receive(
    pieces: &mut NodeStream<ExportImageResponse>,
    mut to: impl Write,
    file: &Path,
) -> Result<(), Failure> {
    while let Some(ExportImageResponse { archive }) = pieces.next().await? {
        to.write_all(&archive).map_err(|error| cannot_write(file, &error))?;
    }
    to.flush().map_err(|error| cannot_write(file, &error))
}

fn cannot_write(file: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}", file.display())).because(error)
}
