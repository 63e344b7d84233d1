//! Pulls that succeed, by all ways there are.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ingot_images::{Auth, Digest, Mirror, Progress};
use serde_json::json;
use tokio::sync::watch;

use crate::build::{Built, INDEX, Tar, gzip, plain, zstd};
use crate::registry::{Answer, Node, Registry};

fn two_layers() -> Built {
    let lower = Tar::default().folder("etc").file("etc/a", "lower").end();
    let upper = Tar::default().file("etc/a", "upper").end();
    Built::new(&[(lower, gzip), (upper, zstd)])
}

#[tokio::test]
async fn an_image_is_pulled_by_tag_and_found_by_all_its_names() {
    let registry = Registry::start().await;
    let image = two_layers();
    registry.offer("a/b", "1", &image);
    let node = Node::new(&registry);
    let store = node.open().await;
    let pulled = store.pull("r.test/a/b:1", &Auth::default(), None).await.unwrap();
    assert_eq!(pulled.id, image.id());
    assert_eq!(pulled.repo_tags, ["r.test/a/b:1"]);
    let digest = format!("r.test/a/b@{}", image.digest());
    assert_eq!(pulled.repo_digests, std::slice::from_ref(&digest));
    assert_eq!((&pulled.config.cmd[..], &pulled.config.user[..]), (&["/x".to_owned()][..], "7"));
    for name in ["r.test/a/b:1", &digest, &pulled.id, &pulled.id[7..19]] {
        assert_eq!(store.find(name).as_ref(), Some(&pulled), "{name}");
    }
    // Top first, as overlayfs wants it.
    let read = |index: usize| fs::read_to_string(pulled.layers[index].join("etc/a")).unwrap();
    assert_eq!((read(0), read(1)), ("upper".into(), "lower".into()));
    assert!(pulled.size_bytes > 0 && store.usage().inodes == 4);
    assert_eq!(node.list("ingest"), [""; 0]);
}

#[tokio::test]
async fn an_image_survives_a_restart_and_is_not_fetched_again() {
    let registry = Registry::start().await;
    let image = two_layers();
    registry.offer("a", "1", &image);
    let node = Node::new(&registry);
    let pulled = node.open().await.pull("r.test/a:1", &Auth::default(), None).await.unwrap();
    let store = node.open().await;
    assert_eq!(store.find("r.test/a:1"), Some(pulled.clone()));
    let again = store.pull("r.test/a:1", &Auth::default(), None).await.unwrap();
    assert_eq!(again, pulled);
    assert_eq!(registry.asked(&image.layer_path(0)), 1);
}

#[tokio::test]
async fn a_digest_in_the_name_is_what_counts_and_no_tag_is_given() {
    let registry = Registry::start().await;
    let image = two_layers();
    registry.offer("a", "1", &image);
    let node = Node::new(&registry);
    let store = node.open().await;
    let name = format!("r.test/a:other@{}", image.digest());
    let pulled = store.pull(&name, &Auth::default(), None).await.unwrap();
    assert_eq!((pulled.repo_tags.len(), pulled.repo_digests.len()), (0, 1));
    assert!(store.find(&name).is_some() && store.find("r.test/a:other").is_none());
}

#[tokio::test]
async fn the_image_for_this_machine_is_taken_from_an_index() {
    let registry = Registry::start().await;
    let image = two_layers();
    registry.offer("a", "ours", &image);
    let digest = image.digest();
    let size = image.manifest.len();
    let other = Digest::of(b"other");
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"digest": other, "size": 1, "platform": {"os": "linux", "architecture": "s390x"}},
        {"digest": digest, "size": size, "platform": {"os": "linux", "architecture": "amd64"}},
    ]});
    let index = index.to_string().into_bytes();
    registry.offer_manifest("a", "multi", INDEX, &index);
    let node = Node::new(&registry);
    let store = node.open().await;
    let pulled = store.pull("r.test/a:multi", &Auth::default(), None).await.unwrap();
    assert_eq!(pulled.id, image.id());
    assert_eq!(pulled.repo_digests, [format!("r.test/a@{}", Digest::of(&index))]);
}

#[tokio::test]
async fn plain_layers_and_several_compressed_parts_in_a_row_are_read() {
    let registry = Registry::start().await;
    let halves = |bytes: &[u8], pack: fn(&[u8]) -> Vec<u8>| {
        let (a, b) = bytes.split_at(700);
        [pack(a), pack(b)].concat()
    };
    let tar = |name: &str| Tar::default().file(name, "content").end();
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9][..], &zstd(&tar("c"))].concat();
    let layers = vec![tar("a"), halves(&tar("b"), gzip), skipped, halves(&tar("d"), zstd)];
    let diff_ids: Vec<Digest> = ["a", "b", "c", "d"].map(|n| Digest::of(&tar(n))).into();
    let image = Built::from_parts(&diff_ids, layers, &json!(null));
    registry.offer("a", "1", &image);
    let node = Node::new(&registry);
    let store = node.open().await;
    let pulled = store.pull("r.test/a:1", &Auth::default(), None).await;
    assert_eq!(
        pulled.map(|image| image.layers.len()).map_err(|e| crate::registry::told(&e)),
        Ok(4)
    );
}

#[tokio::test]
async fn equal_layers_are_fetched_once_and_mounted_once() {
    let registry = Registry::start().await;
    let same = Tar::default().file("a", "same").end();
    let between = Tar::default().file("a", "between").end();
    let image = Built::new(&[(same.clone(), gzip), (between, plain), (same, gzip)]);
    registry.offer("a", "1", &image);
    let node = Node::new(&registry);
    let store = node.open().await;
    let pulled = store.pull("r.test/a:1", &Auth::default(), None).await.unwrap();
    assert_eq!(pulled.layers.len(), 2);
    assert_eq!(fs::read_to_string(pulled.layers[0].join("a")).unwrap(), "same");
    assert_eq!(registry.asked(&image.layer_path(0)), 1);
}

#[tokio::test]
async fn two_pulls_of_the_same_join_and_a_caller_who_leaves_stops_neither() {
    let registry = Registry::start().await;
    let image = two_layers();
    registry.offer("a", "1", &image);
    let (held, gate) = (Arc::new(AtomicBool::new(true)), image.layer_path(0));
    let blob = image.layers[0].clone();
    let closed = held.clone();
    registry.hook(move |request| {
        let stalled = closed.load(Ordering::SeqCst) && request.path.contains(&gate);
        stalled.then(|| Answer { cut: Some(blob.len() / 2), ..Answer::ok(blob.clone()) })
    });
    let mut node = Node::new(&registry);
    node.config.timeouts.retries = 1_000_000;
    let store = node.open().await;
    let auth = Auth::default();
    let (sender, mut progress) = watch::channel(Progress::default());
    let first = store.pull("r.test/a:1", &auth, Some(sender));
    let mut first = Box::pin(first);
    // Some of the layer has come, and then the caller goes away.
    tokio::select! {
        _ = &mut first => panic!("the layer is not there"),
        _ = progress.wait_for(|p| p.bytes > 0) => {}
    }
    drop(first);
    let second = store.pull("r.test/a:1", &auth, None);
    let third = store.pull("r.test/a:1", &auth, None);
    held.store(false, Ordering::SeqCst);
    let (second, third) = tokio::join!(second, third);
    assert_eq!(second.unwrap(), third.unwrap());
    assert_eq!(registry.asked("/manifests/"), 1);
}

#[tokio::test]
async fn images_pulled_together_share_the_layers_they_have_in_common() {
    let registry = Registry::start().await;
    let base = Tar::default().file("base", &"x".repeat(100_000)).end();
    let other = |name: &str| Tar::default().file(name, "").end();
    let a = Built::new(&[(base.clone(), gzip), (other("a"), gzip)]);
    let b = Built::new(&[(base, gzip), (other("b"), gzip)]);
    registry.offer("a", "1", &a);
    registry.offer("b", "1", &b);
    let node = Node::new(&registry);
    let store = node.open().await;
    let auth = Auth::default();
    let both =
        tokio::join!(store.pull("r.test/a:1", &auth, None), store.pull("r.test/b:1", &auth, None));
    assert_eq!(both.0.unwrap().layers[1], both.1.unwrap().layers[1]);
    assert_eq!(registry.asked(&a.layer_path(0)), 1);
    assert_eq!(node.list("layers").len(), 3);
}

#[tokio::test]
async fn a_mirror_without_the_image_is_passed_over() {
    let empty = Registry::start().await;
    let full = Registry::start().await;
    full.offer("cache/a", "1", &two_layers());
    let mut node = Node::new(&empty);
    node.config.sources.mirrors = vec![Mirror {
        prefix: "r.test".into(),
        endpoints: vec![empty.url(), format!("{}/cache", full.url())],
        endpoints_only: true,
    }];
    node.open().await.pull("r.test/a:1", &Auth::default(), None).await.unwrap();
    assert_eq!(empty.asked("/v2/a/manifests/1?ns=r.test"), 1);
    assert_eq!(full.asked("/v2/cache/a/manifests/1?ns=r.test"), 1);
}
