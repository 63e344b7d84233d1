//! Hostile images and registries, against a node: each pull ends in an error that says why, and leaves nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tonic::Code;

use super::archive::{Tar, bomb};
use super::registry::{Fault, Hostile, Layer, digest};
use super::{HOSTILE, Node};
use crate::client::{Api, whole_error};
use crate::cri::{self, v1};
use crate::report::Report;
use crate::wait;

/// A pull that must fail, does so within this time. A registry that breaks off is asked a few times more.
const REFUSAL_LIMIT: Duration = Duration::from_secs(300);
/// The node's store.
const STORE: &str = "/var/lib/ingot/images";
/// Unpacks to 1 GiB, and travels as 32 KiB.
const BOMB_RUNS: usize = 8192;

/// An image that is refused: its name, the layers, and a word of the error.
struct Bad {
    name: &'static str,
    layers: fn() -> Vec<Layer>,
    word: &'static str,
}

fn one(archive: Vec<u8>) -> Vec<Layer> {
    vec![Layer::plain(archive)]
}

/// A layer of a megabyte that is sent with this fault.
fn faulty(fault: Fault) -> Vec<Layer> {
    vec![Layer { fault, ..Layer::plain(Tar::default().zeros("data", 1 << 20).end()) }]
}

const BAD: &[Bad] = &[
    Bad {
        name: "climbs-out",
        layers: || one(Tar::default().file("../../../../hostile", b"x").end()),
        word: "leads out of its folder",
    },
    Bad {
        name: "climbs-out-later",
        layers: || one(Tar::default().file("a/../../../hostile", b"x").end()),
        word: "leads out of its folder",
    },
    Bad {
        name: "hard-link-out",
        layers: || one(Tar::default().hard_link("a", "../../../../../../etc/passwd").end()),
        word: "leads out of its folder",
    },
    Bad {
        name: "hard-link-through-a-link",
        layers: || one(Tar::default().link("etc", "/etc").hard_link("a", "etc/os-release").end()),
        word: "is a hard link to what is not in the layer",
    },
    Bad {
        name: "bomb",
        layers: || {
            let stream = bomb(BOMB_RUNS);
            let zeros = digest(b"never compared");
            vec![Layer { diff_id: zeros, ..Layer::plain(stream) }]
        },
        word: "compressed too well",
    },
    Bad {
        name: "damaged-stream",
        layers: || {
            let mut stream = bomb(4);
            stream.truncate(9);
            one(stream)
        },
        word: "decompress",
    },
    Bad { name: "no-archive", layers: || one(vec![b'x'; 5000]), word: "archive" },
    Bad {
        name: "wrong-digest",
        layers: || {
            let mut layer = Layer::plain(Tar::default().file("a", b"promised").end());
            layer.bytes = Tar::default().file("a", b"deceived").end();
            vec![layer]
        },
        word: "digest",
    },
    Bad {
        name: "wrong-archive",
        layers: || {
            let archive = Tar::default().file("a", b"x").end();
            vec![Layer { diff_id: digest(b"another"), ..Layer::plain(archive) }]
        },
        word: "the archive has digest",
    },
    Bad { name: "cut", layers: || faulty(Fault::Cut(300_000)), word: "talk to" },
    Bad { name: "announces-more", layers: || faulty(Fault::Length(4 << 20)), word: "expected" },
    Bad { name: "announces-less", layers: || faulty(Fault::Length(1000)), word: "expected" },
    Bad {
        name: "sends-more-than-the-manifest-says",
        layers: || {
            let layer = Layer::plain(Tar::default().zeros("data", 1 << 20).end());
            vec![Layer { size: 4096, ..layer }]
        },
        word: "expected",
    },
];

/// All of it.
pub(super) async fn run(node: &mut Node<'_>, hostile: &Hostile, report: &Report) {
    let before = match listed(&mut node.api).await {
        Ok(before) => before,
        Err(error) => return report.check_alone("the store is listed", async { Err(error) }).await,
    };
    for bad in BAD {
        hostile.offer(bad.name, &(bad.layers)());
        let name = format!("an image is refused: {}", bad.name);
        report
            .check(&name, node.machine, async |_| {
                refused(&mut node.cri.clone(), bad.name, bad.word).await
            })
            .await;
    }
    for (name, manifest, word) in [
        ("nonsense", b"{\"schemaVersion\":".to_vec(), "of the image"),
        ("deep", [b"[".repeat(100_000), b"]".repeat(100_000)].concat(), "of the image"),
        ("without-end", vec![b' '; 5 << 20], "longer than"),
    ] {
        hostile.offer_manifest(name, manifest);
        let check = format!("a manifest is refused: {name}");
        report
            .check(&check, node.machine, async |_| refused(&mut node.cri.clone(), name, word).await)
            .await;
    }
    report
        .check("what was refused left nothing in the store", node.machine, async |machine| {
            let mut api = machine.api()?;
            wait::until("the store to hold nothing new", REFUSAL_LIMIT, async || {
                let now = listed(&mut api).await?;
                let new: Vec<&String> = now.difference(&before).collect();
                ensure!(new.is_empty(), "new: {new:?}");
                Ok(Some(()))
            })
            .await
        })
        .await;
    tolerated(node, hostile, report).await;
}

/// Images that are taken, without what they may not bring.
async fn tolerated(node: &mut Node<'_>, hostile: &Hostile, report: &Report) {
    report
        .check("device nodes are left out and the operator is told", node.machine, async |m| {
            let archive = Tar::default().device("dev/sda").device("tty").file("a", b"x").end();
            hostile.offer("devices", &one(archive));
            node.cri.clone().pull(&format!("{HOSTILE}/devices:1")).await?;
            let mut api = m.api()?;
            wait::until("the event", REFUSAL_LIMIT, async || {
                let events = api.events().await?;
                let told = |event: &&ingot_api::machine::v1::Event| {
                    event.reason == "ImageDevicesLeftOut" && event.message.contains("devices:1")
                };
                Ok(events.iter().find(told).map(|event| event.message.clone()))
            })
            .await
            .and_then(|text| {
                ensure!(text.contains("has 2 device nodes"), "{text}");
                Ok(())
            })
        })
        .await;
    report
        .check("a write through a link stays in the image", node.machine, async |machine| {
            let archive = Tar::default().link("out", "/run/ingot").file("out/hostile", b"x").end();
            hostile.offer("through-a-link", &one(archive));
            // Taken or refused: it is not written there.
            let _ = node.cri.clone().pull(&format!("{HOSTILE}/through-a-link:1")).await;
            let mut api = machine.api()?;
            let files = api.files("/run/ingot").await?;
            ensure!(!files.iter().any(|file| file.path.ends_with("/hostile")), "{files:?}");
            Ok(())
        })
        .await;
    for name in ["devices", "through-a-link"] {
        if let Err(error) = remove(&node.cri, &format!("{HOSTILE}/{name}:1")).await {
            report.note(&format!("{name} was not removed: {error:#}"));
        }
    }
}

/// A registry that falls silent: the caller may go, others are served, and at last the node gives it up.
pub(super) async fn silent_registry(node: &mut Node<'_>, hostile: &Hostile, report: &Report) {
    hostile.offer("silent", &faulty(Fault::Stall(100_000)));
    hostile.offer("honest", &one(Tar::default().file("a", b"x").end()));
    report
        .check("a registry that falls silent holds up nobody else", node.machine, async |_| {
            let mut cri = node.cri.clone();
            let name = format!("{HOSTILE}/silent:1");
            let patience = Duration::from_secs(5);
            // The caller goes away.
            let gone = tokio::time::timeout(patience, cri.pull(&name)).await;
            ensure!(gone.is_err(), "the pull ended early: {gone:?}");
            let honest = format!("{HOSTILE}/honest:1");
            cri.pull(&honest).await?;
            remove(&cri, &honest).await
        })
        .await;
}

/// What the silent registry had begun is gone.
pub(super) async fn silence_is_over(node: &mut Node<'_>, report: &Report) {
    report
        .check("the silent registry was given up and left nothing", node.machine, async |machine| {
            let mut api = machine.api()?;
            wait::until("no layer to be in the making", REFUSAL_LIMIT, async || {
                let files = api.files(&format!("{STORE}/ingest")).await?;
                ensure!(files.is_empty(), "{files:?}");
                Ok(Some(()))
            })
            .await
        })
        .await;
}

/// Takes nearly all of the disk in a container of its own, and pulls.
pub(super) async fn full_disk(node: &mut Node<'_>, hostile: &Hostile, report: &Report) {
    let data = Tar::default().zeros("data", 8 << 20).end();
    hostile.offer("no-room", &one(data));
    let mut sandbox = None;
    report
        .check("a full disk ends a pull with a clear error", node.machine, async |_| {
            let mut cri = node.cri.clone();
            let config = cri::sandbox("filler");
            let id = cri.run_sandbox(&config).await?;
            sandbox = Some(id.clone());
            let main = cri::container("main", super::BUSYBOX, &["sleep", "100000"]);
            let container = cri.create(&id, &main, &config).await?;
            cri.start(&container).await?;
            // All but 100 MiB, which is less than what the store leaves free.
            let fill = "free=$(df -k / | awk 'END {print $4}'); \
                        fallocate -l $(( (free - 102400) * 1024 )) /fill && df -k /";
            cri.exec(&container, &["sh", "-c", fill]).await?;
            refused(&mut cri, "no-room", "the disk is full").await
        })
        .await;
    report
        .check("when there is room again the same pull works", node.machine, async |_| {
            let mut cri = node.cri.clone();
            if let Some(id) = &sandbox {
                cri.remove_sandbox(id).await?;
            }
            let name = format!("{HOSTILE}/no-room:1");
            cri.pull(&name).await?;
            remove(&cri, &name).await
        })
        .await;
}

/// The pull fails, soon enough, for a reason that a caller can read.
async fn refused(cri: &mut cri::Cri, name: &str, word: &str) -> anyhow::Result<()> {
    let image = Some(cri::image(&format!("{HOSTILE}/{name}:1")));
    let request = v1::PullImageRequest { image, ..Default::default() };
    let call = cri.image.pull_image(request);
    let answer = tokio::time::timeout(REFUSAL_LIMIT, call).await.context("the pull hangs")?;
    let Err(status) = answer else { bail!("it was taken") };
    let text = whole_error(&status);
    ensure!(!matches!(status.code(), Code::Unknown | Code::Internal), "{status:?}");
    ensure!(text.contains(word), "the error does not say {word:?}: {text}");
    Ok(())
}

async fn remove(cri: &cri::Cri, name: &str) -> anyhow::Result<()> {
    let request = v1::RemoveImageRequest { image: Some(cri::image(name)) };
    let mut client = cri.image.clone();
    cri::answer("RemoveImage", REFUSAL_LIMIT, client.remove_image(request)).await.map(drop)
}

/// What is in the store: layers and documents. Not the files of layers, which are many, nor what is in the making: the silent registry
/// is asked again and again under a new name, and [`silence_is_over`] sees that nothing stays there.
async fn listed(api: &mut Api) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for folder in ["layers", "documents"] {
        let request = ingot_api::machine::v1::ListFilesRequest {
            path: format!("{STORE}/{folder}"),
            recursive: false,
            one_file_system: true,
        };
        let mut files = api.rpc.list_files(request).await.context("list the store")?.into_inner();
        while let Some(file) = files.message().await.context("list the store")? {
            found.insert(file.path);
        }
    }
    Ok(found)
}
