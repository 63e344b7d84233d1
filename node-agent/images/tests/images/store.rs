//! The list of images over time: tags that move, removals, holders, interrupted pulls, damage.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ingot_images::{Auth, Error, ImageStore};

use crate::build::{Built, Tar, gzip};
use crate::registry::{Node, Registry};

fn image(name: &str) -> Built {
    let base = Tar::default().file("base", "base").end();
    Built::new(&[(base, gzip), (Tar::default().file(name, name).end(), gzip)])
}

async fn pull(store: &ImageStore, name: &str) -> std::sync::Arc<ingot_images::Image> {
    store.pull(name, &Auth::default(), None).await.unwrap()
}

#[tokio::test]
async fn one_image_may_have_many_names_and_they_all_go_with_it() {
    let registry = Registry::start().await;
    for (repository, tag) in [("a", "1"), ("a", "2"), ("b", "3")] {
        registry.offer(repository, tag, &image("x"));
    }
    let node = Node::new(&registry);
    let store = node.open().await;
    for name in ["r.test/a:1", "r.test/a:2", "r.test/b:3"] {
        pull(&store, name).await;
    }
    let [found] = &store.list()[..] else { panic!("one image") };
    assert_eq!(found.repo_tags, ["r.test/a:1", "r.test/a:2", "r.test/b:3"]);
    assert_eq!(found.repo_digests.len(), 2);
    store.remove("r.test/a:2").await.unwrap();
    assert!(store.list().is_empty());
    store.remove("r.test/a:2").await.unwrap();
    store.remove(&found.id).await.unwrap();
    node.assert_empty();
    assert_eq!(store.usage().bytes, 0);
}

#[tokio::test]
async fn a_tag_that_moved_leaves_the_old_image_without_it() {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image("old"));
    let node = Node::new(&registry);
    let store = node.open().await;
    let old = pull(&store, "r.test/a:1").await;
    registry.offer("a", "1", &image("new"));
    let new = pull(&store, "r.test/a:1").await;
    for store in [store, node.open().await] {
        assert_eq!(store.find("r.test/a:1").unwrap().id, new.id);
        let old = store.find(&old.id).unwrap();
        assert!(old.repo_tags.is_empty() && old.repo_digests.len() == 1);
    }
}

#[tokio::test]
async fn layers_stay_while_another_image_has_them() {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image("x"));
    registry.offer("b", "1", &image("y"));
    let node = Node::new(&registry);
    let store = node.open().await;
    pull(&store, "r.test/a:1").await;
    let other = pull(&store, "r.test/b:1").await;
    assert_eq!(node.list("layers").len(), 3);
    store.remove("r.test/a:1").await.unwrap();
    assert_eq!(node.list("layers").len(), 2);
    assert!(other.layers.iter().all(|layer| layer.exists()));
}

#[tokio::test]
async fn a_held_image_is_gone_from_the_list_and_its_layers_stay_also_over_a_restart() {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image("x"));
    let node = Node::new(&registry);
    let store = node.open().await;
    let pulled = pull(&store, "r.test/a:1").await;
    let hold = store.hold(&pulled.id).unwrap();
    store.remove("r.test/a:1").await.unwrap();
    assert!(store.list().is_empty() && store.find(&pulled.id).is_none());
    assert!(hold.layers.iter().all(|layer| layer.exists()));
    // The agent restarts, and its containers take their holds again.
    std::mem::forget(hold);
    let store = node.open().await;
    assert!(store.list().is_empty());
    let hold = store.hold(&pulled.id).unwrap();
    store.gc().await.unwrap();
    assert!(hold.layers.iter().all(|layer| layer.exists()));
    drop(hold);
    assert!(store.gc().await.unwrap() > 0);
    node.assert_empty();
    assert!(store.hold(&pulled.id).is_none());
}

#[tokio::test]
async fn an_image_that_was_removed_while_held_can_be_pulled_again() {
    let registry = Registry::start().await;
    let image = image("x");
    registry.offer("a", "1", &image);
    registry.offer("b", "1", &image);
    let node = Node::new(&registry);
    let store = node.open().await;
    let pulled = pull(&store, "r.test/a:1").await;
    let hold = store.hold(&pulled.id).unwrap();
    store.remove("r.test/a:1").await.unwrap();
    let again = pull(&store, "r.test/b:1").await;
    assert_eq!(again.repo_tags, ["r.test/b:1"]);
    drop(hold);
    store.gc().await.unwrap();
    assert!(again.layers.iter().all(|layer| layer.exists()));
    assert_eq!(registry.asked(&image.layer_path(0)), 1);
}

#[tokio::test]
async fn what_an_interrupted_pull_left_is_removed() {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image("x"));
    let node = Node::new(&registry);
    let pulled = pull(&node.open().await, "r.test/a:1").await;
    // Killed while unpacking, and killed between the layer and the index.
    let root = &node.config.root;
    fs::create_dir_all(root.join("ingest/7/fs/usr/bin")).unwrap();
    fs::write(root.join("ingest/7/fs/usr/bin/x"), "half").unwrap();
    fs::write(root.join("ingest/8"), "{").unwrap();
    let stray = root.join("layers").join("ab".repeat(32));
    fs::create_dir_all(stray.join("fs")).unwrap();
    fs::write(stray.join("layer.json"), "{\"bytes\":1,\"inodes\":1,\"skipped\":0,\"implicit\":0}")
        .unwrap();
    fs::create_dir_all(root.join("layers/not-a-digest")).unwrap();
    let store = node.open().await;
    assert_eq!(store.find("r.test/a:1"), Some(pulled));
    assert_eq!((node.list("ingest").len(), node.list("layers").len()), (0, 2));
}

#[tokio::test]
async fn a_damaged_image_is_left_out_and_can_be_pulled_again() {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image("x"));
    let node = Node::new(&registry);
    let pulled = pull(&node.open().await, "r.test/a:1").await;
    let config = node.config.root.join("documents").join(&pulled.id[7..]);
    fs::write(config, "{\"rootfs\":{}}").unwrap();
    let store = node.open().await;
    assert!(store.list().is_empty());
    assert_eq!(pull(&store, "r.test/a:1").await, pulled);
    // A layer that vanished.
    fs::remove_dir_all(pulled.layers[0].parent().unwrap()).unwrap();
    let store = node.open().await;
    assert!(store.list().is_empty());
    assert_eq!(pull(&store, "r.test/a:1").await, pulled);
    assert_eq!(node.open().await.find("r.test/a:1"), Some(pulled));
}

#[tokio::test]
async fn nobody_else_may_walk_in_the_store_cve_2021_41103_cve_2024_25621() {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image("x"));
    let node = Node::new(&registry);
    pull(&node.open().await, "r.test/a:1").await;
    for folder in ["", "layers", "documents", "ingest"] {
        let mode = fs::metadata(node.config.root.join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder:?}");
    }
    let index = fs::metadata(node.config.root.join("index.json")).unwrap().permissions().mode();
    assert_eq!(index & 0o777, 0o600);
}

#[tokio::test]
async fn a_snapshot_does_not_change_under_its_reader() {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image("x"));
    let node = Node::new(&registry);
    let store = node.open().await;
    let before = store.list();
    pull(&store, "r.test/a:1").await;
    assert_eq!((before.len(), store.list().len()), (0, 1));
}

#[tokio::test]
async fn a_bundled_image_is_never_fetched_whatever_the_registry_has() {
    let registry = Registry::start().await;
    registry.offer("ingot/tool", "1", &image("x"));
    let node = Node::new(&registry);
    let bundled = node.config.bundled.join("ingot/tool/1");
    fs::create_dir_all(bundled.join("rootfs")).unwrap();
    fs::write(bundled.join("config.json"), "{}").unwrap();
    let store = node.open().await;
    let found = pull(&store, "docker.io/ingot/tool:1").await;
    assert!(found.pinned && registry.requests().is_empty());
    let refused = store.remove(&found.id).await.unwrap_err();
    assert!(matches!(refused, Error::Bundled { .. }));
    store.gc().await.unwrap();
    assert!(bundled.join("rootfs").exists());
}
