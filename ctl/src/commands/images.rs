//! `images`: images of the node.

mod export;

use crate::cli::{Format, Images, ImagesCommand};
use crate::failure::Failure;
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{
    CollectImagesRequest, Image, ImportImagesRequest, ListImagesRequest, ListImagesResponse,
    PullImageRequest, PullImageResponse, RemoveImageRequest,
};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use zeroize::Zeroizing;

/// Bytes of an archive that are sent at once.
const PIECE: usize = 64 * 1024;

/// Pieces on their way to the node.
const AHEAD: usize = 4;

/// Longest password that is read.
const PASSWORD_MAX: u64 = 64 * 1024;

pub(super) async fn run(session: &Session<'_>, args: &Images) -> Result<(), Failure> {
    match &args.command {
        ImagesCommand::List => list(session).await,
        ImagesCommand::Pull { image, username, password_file } => {
            let password = password_file.as_deref().map(password).transpose()?;
            let request = PullImageRequest {
                reference: image.clone(),
                username: username.clone().unwrap_or_default(),
                password: password.map(|password| password.to_string()).unwrap_or_default(),
            };
            Box::pin(pull(session, request)).await
        }
        ImagesCommand::Import { file } => Box::pin(import(session, file)).await,
        ImagesCommand::Export { image, file } => Box::pin(export::run(session, image, file)).await,
        ImagesCommand::Rm { image } => {
            let node = session.connect().await?;
            let request = RemoveImageRequest { image: image.clone() };
            let answer = node
                .call("RemoveImage", request, async |mut api, request| {
                    api.remove_image(request).await
                })
                .await?;
            session.output.answer("RemoveImageResponse", &answer, |_| format!("removed {image}\n"))
        }
        ImagesCommand::Gc { unused } => {
            let node = session.connect().await?;
            let request = CollectImagesRequest { unused: *unused };
            let answer = node
                .call("CollectImages", request, async |mut api, request| {
                    api.collect_images(request).await
                })
                .await?;
            session.output.answer("CollectImagesResponse", &answer, |answer| {
                let freed = text::bytes(answer.freed_bytes);
                format!("removed {} images, freed {freed}\n", answer.removed.len())
            })
        }
    }
}

async fn list(session: &Session<'_>) -> Result<(), Failure> {
    let node = session.connect().await?;
    let answer = node
        .call("ListImages", ListImagesRequest {}, async |mut api, request| {
            api.list_images(request).await
        })
        .await?;
    session.output.answer("ListImagesResponse", &answer, show)
}

fn show(answer: &ListImagesResponse) -> String {
    let rows = answer.images.iter().map(|image| {
        let names = if image.tags.is_empty() { &image.digests } else { &image.tags };
        let id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
        [
            text::or_dash(&names.join(", ")),
            id.chars().take(12).collect(),
            if image.bundled { "bundled".to_owned() } else { text::bytes(image.size_bytes) },
            image.containers.to_string(),
        ]
    });
    let images = table(["IMAGE", "ID", "SIZE", "CONTAINERS"], rows.collect());
    format!("{images}\n{} on the disk\n", text::bytes(answer.store_bytes))
}

async fn import(session: &Session<'_>, file: &Path) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| {
        Failure::usage(format!("cannot read {}", file.display())).because(error)
    };
    let source: Box<dyn std::io::Read + Send> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(|error| failed(&error))?)
    };
    let node = session.connect().await?;
    let (sender, pieces) = mpsc::channel(AHEAD);
    let reading = tokio::task::spawn_blocking(move || read_pieces(source, &sender));
    // A file that cannot be read to its end arrives as an archive that was cut, which the node refuses.
    let messages = ReceiverStream::new(pieces).map(|archive| ImportImagesRequest { archive });
    let answer = node
        .upload("ImportImages", messages, async |mut api, request| api.import_images(request).await)
        .await;
    match (answer, reading.await) {
        (_, Ok(Err(error))) => Err(failed(&error)),
        (Err(error), _) => Err(error.into()),
        (Ok(answer), _) => session.output.answer("ImportImagesResponse", &answer, |answer| {
            let line = |image: &Image| format!("{} {}\n", image.id, image.tags.join(" "));
            answer.images.iter().map(line).collect()
        }),
    }
}

/// Sends a file in pieces until it ends or nobody wants more.
pub(super) fn read_pieces(
    mut source: impl std::io::Read,
    to: &mpsc::Sender<Vec<u8>>,
) -> Result<(), std::io::Error> {
    loop {
        let mut piece = vec![0; PIECE];
        let count = source.read(&mut piece)?;
        piece.truncate(count);
        if count == 0 || to.blocking_send(piece).is_err() {
            return Ok(());
        }
    }
}

async fn pull(session: &Session<'_>, request: PullImageRequest) -> Result<(), Failure> {
    let node = session.connect().await?;
    let mut reports = node
        .stream("PullImage", false, request, async |mut api, request| api.pull_image(request).await)
        .await?;
    let people = session.output.format == Format::Table && std::io::stderr().is_terminal();
    let mut last = None;
    let result = loop {
        match reports.next().await {
            Ok(Some(report)) => {
                if people {
                    progress(&report);
                }
                last = Some(report);
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if people {
        eprint!("\r\u{1b}[K");
    }
    result?;
    let last = last.unwrap_or_default();
    session.output.answer("PullImageResponse", &last, |last| format!("{}\n", last.id))
}

/// A line on a terminal that is written over by the next one.
fn progress(report: &PullImageResponse) {
    let total = match report.bytes_total {
        0 => String::new(),
        total => format!(" of {}", text::bytes(total)),
    };
    eprint!("\r\u{1b}[K{}{total}", text::bytes(report.bytes));
    // Progress that is not seen is no failure.
    let _unseen = std::io::stderr().flush();
}

fn password(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().take(PASSWORD_MAX).read_to_string(&mut text)
    } else {
        fs_err::File::open(path).and_then(|file| file.take(PASSWORD_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::usage("cannot read the password").because(&error))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}
