//! `cp`: files to and from containers, as a tar archive that is made and read here and on the node.

mod archive;

use crate::cli::{Cp, Place, Target};
use crate::failure::{Exit, Failure};
use crate::session::Session;
use archive::{Pieces, Reader};
use ingot_api::machine::v1::copy_in_request::Step;
use ingot_api::machine::v1::{
    CopyInRequest, CopyInResponse, CopyInStart, CopyOutRequest, CopyOutResponse,
};
use std::path::Path;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

pub(super) async fn run(session: &Session<'_>, args: &Cp) -> Result<(), Failure> {
    match (&args.from, &args.to) {
        (Place::Here(from), Place::There(target, to)) => {
            Box::pin(put(session, args, from, target, to)).await
        }
        (Place::There(target, from), Place::Here(to)) => {
            Box::pin(get(session, args, target, from, to)).await
        }
        (Place::Here(_), Place::Here(_)) => Err(Failure::usage("neither side is in a container")
            .hint("write one of them as POD[/CONTAINER]:PATH")),
        (Place::There(..), Place::There(..)) => Err(Failure::usage("both sides are in containers")
            .hint("copy to a folder here first, then on")),
    }
}

async fn put(
    session: &Session<'_>,
    args: &Cp,
    from: &Path,
    target: &Target,
    to: &str,
) -> Result<(), Failure> {
    // What is wrong here is told before anything is asked of a node.
    let (packing, pieces) = archive::pack(from)?;
    let node = session.connect().await?;
    let container = Some(target.container(&args.namespace));
    let start = CopyInStart { container, path: to.to_owned() };
    let first = CopyInRequest { step: Some(Step::Start(start)) };
    let pieces = ReceiverStream::new(pieces)
        .map(|archive| CopyInRequest { step: Some(Step::Archive(archive)) });
    let messages = tokio_stream::once(first).chain(pieces);
    let answer =
        node.upload("CopyIn", messages, async |mut api, request| api.copy_in(request).await).await;
    let packed = packing.await.map_err(|_| broken())?;
    match (answer, packed) {
        // The node saw an archive that was cut: the reason is here.
        (_, Err(failure)) if !failure.is_quiet() => Err(failure),
        (Err(error), _) => Err(error.into()),
        (Ok(answer), _) => session.output.answer("CopyInResponse", &answer, show),
    }
}

async fn get(
    session: &Session<'_>,
    args: &Cp,
    target: &Target,
    from: &str,
    to: &Path,
) -> Result<(), Failure> {
    let node = session.connect().await?;
    let container = Some(target.container(&args.namespace));
    let request = CopyOutRequest { container, path: from.to_owned() };
    let mut answers = node
        .stream("CopyOut", false, request, async |mut api, request| api.copy_out(request).await)
        .await?;
    let (pieces, reader): (Pieces, Reader) = archive::reader();
    let to = to.to_owned();
    let unpacking = tokio::task::spawn_blocking(move || archive::unpack(reader, &to));
    let received = async {
        while let Some(CopyOutResponse { archive }) = answers.next().await? {
            if pieces.send(Some(archive)).await.is_err() {
                return Ok(());
            }
        }
        // The work that has ended has all it wanted.
        let _done = pieces.send(None).await;
        Ok::<(), crate::client::Error>(())
    }
    .await;
    drop(pieces);
    let unpacked = unpacking.await.map_err(|_| broken())?;
    received?;
    let answer = unpacked?;
    session.output.answer("CopyInResponse", &answer, show)
}

fn show(answer: &CopyInResponse) -> String {
    let bytes = crate::text::bytes(answer.bytes);
    format!("{} files and folders, {bytes}\n", answer.entries)
}

fn broken() -> Failure {
    Failure::new(Exit::Failed, "the archive was not finished")
}
