//! A store whose list of images, documents or layers were damaged: no layer that a container may run from is lost, and the
//! operator is told.

use std::fs;
use std::path::PathBuf;

use ingot_images::{Auth, ErrorKind, ImageStore};

use crate::build::{Built, Entry, Tar, gzip};
use crate::registry::{Node, Registry};

fn image(name: &str) -> Built {
    let base = Tar::default().file("base", "base").end();
    Built::new(&[(base, gzip), (Tar::default().file(name, name).end(), gzip)])
}

async fn pull(store: &ImageStore, name: &str) -> std::sync::Arc<ingot_images::Image> {
    store.pull(name, &Auth::default(), None).await.unwrap()
}

/// Reasons of the store's notices, and whether each is about what.
fn told(store: &ImageStore) -> Vec<(&'static str, String)> {
    let mut notices = store.notices().unwrap();
    std::iter::from_fn(|| notices.try_recv().ok()).map(|n| (n.reason, n.message)).collect()
}

fn path(node: &Node, name: &str) -> PathBuf {
    node.config.root.join(name)
}

#[tokio::test]
async fn a_damaged_list_of_images_loses_no_image() {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image("x"));
    for damage in ["", "{", "{\"version\":1,\"images\":[{}]}"] {
        let node = Node::new(&registry);
        let pulled = pull(&node.open().await, "r.test/a:1").await;
        fs::write(path(&node, "index.json"), damage).unwrap();
        let store = node.open().await;
        assert_eq!(store.find("r.test/a:1"), Some(pulled.clone()), "{damage:?}");
        assert!(
            pulled
                .layers
                .iter()
                .all(|layer| layer.join("base").exists() || layer.join("x").exists())
        );
        let [(reason, message)] = &told(&store)[..] else { panic!("one notice") };
        assert_eq!(*reason, "ImageIndexDamaged");
        assert!(message.contains("its copy is used: 1 images"), "{message}");
        // It is whole again, and so is its copy.
        let store = node.open().await;
        assert!(told(&store).is_empty());
        fs::remove_file(path(&node, "index.json")).unwrap();
        assert_eq!(node.open().await.find("r.test/a:1"), Some(pulled));
    }
}

#[tokio::test]
async fn what_an_older_copy_does_not_name_is_set_aside() {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image("x"));
    registry.offer("b", "1", &image("y"));
    let node = Node::new(&registry);
    let store = node.open().await;
    let old = pull(&store, "r.test/a:1").await;
    let copy = fs::read(path(&node, "index.copy.json")).unwrap();
    let new = pull(&store, "r.test/b:1").await;
    // The machine lost its power between the two.
    fs::write(path(&node, "index.copy.json"), copy).unwrap();
    fs::write(path(&node, "index.json"), "").unwrap();
    let store = node.open().await;
    assert_eq!((store.find("r.test/a:1"), store.find("r.test/b:1")), (Some(old), None));
    assert!(told(&store)[0].1.contains("1 layers of others lie in"));
    assert_eq!((node.list("layers").len(), node.list("damaged/layers").len()), (2, 1));
    assert_eq!(pull(&store, "r.test/b:1").await, new);
}

#[tokio::test]
async fn when_all_lists_are_lost_layers_stay_until_the_machine_was_started_again() {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image("x"));
    let node = Node::new(&registry);
    let store = node.open().await;
    let pulled = pull(&store, "r.test/a:1").await;
    let size = store.usage();
    for name in ["index.json", "index.copy.json"] {
        fs::write(path(&node, name), "?").unwrap();
    }
    let store = node.open().await;
    assert!(store.list().is_empty());
    let [(reason, message)] = &told(&store)[..] else { panic!("one notice") };
    assert_eq!(*reason, "ImageIndexDamaged");
    assert!(message.contains("2 layers of others lie in"), "{message}");
    // They count, and neither collecting nor pulling nor the next agent takes them away.
    assert_eq!(store.usage(), size);
    store.gc().await.unwrap();
    store.forget_damaged().await.unwrap();
    assert_eq!(pull(&store, "r.test/a:1").await, pulled);
    let store = node.open().await;
    assert_eq!(store.usage().bytes, 2 * size.bytes);
    for folder in ["damaged/layers", "damaged/documents", "layers", "documents"] {
        assert_eq!(node.list(folder).len(), 2, "{folder}");
    }
    // After another start of the machine nothing runs from them.
    fs::write(path(&node, "damaged/boot_id"), "another").unwrap();
    store.forget_damaged().await.unwrap();
    assert!(!path(&node, "damaged").exists());
    assert_eq!(store.usage(), size);
    assert_eq!(node.open().await.find("r.test/a:1"), Some(pulled));
}

#[tokio::test]
async fn device_nodes_that_were_left_out_are_told() {
    let device = |path| Entry { path, kind: b'3', mode: 0o666, ..Entry::default() };
    let upper = Tar::default().entry(&device("char")).entry(&device("dev/tty")).file("b", "").end();
    let registry = Registry::start().await;
    let base = Tar::default().entry(&device("dev/null")).end();
    registry.offer("a", "1", &Built::new(&[(base, gzip), (upper, gzip)]));
    registry.offer("b", "1", &image("y"));
    let node = Node::new(&registry);
    let store = node.open().await;
    pull(&store, "r.test/a:1").await;
    pull(&store, "r.test/b:1").await;
    let [(reason, message)] = &told(&store)[..] else { panic!("one notice") };
    assert_eq!(*reason, "ImageDevicesLeftOut");
    assert!(message.starts_with("r.test/a:1 has 3 device nodes, which were left out"), "{message}");
}

#[tokio::test]
async fn an_export_that_would_fill_the_disk_is_refused() {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image("x"));
    let mut node = Node::new(&registry);
    pull(&node.open().await, "r.test/a:1").await;
    node.config.limits.reserve_bytes = 1 << 62;
    let refused = node.open().await.export("r.test/a:1", Vec::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
}

#[tokio::test]
async fn layers_of_a_broken_image_stay_for_who_runs_from_them() {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image("x"));
    registry.offer("b", "1", &image("y"));
    let node = Node::new(&registry);
    let pulled = pull(&node.open().await, "r.test/a:1").await;
    fs::write(path(&node, "documents").join(&pulled.id[7..]), "{}").unwrap();
    for _ in 0..2 {
        let store = node.open().await;
        assert!(store.list().is_empty() && store.find(&pulled.id).is_none());
        let [(reason, message)] = &told(&store)[..] else { panic!("one notice") };
        assert_eq!(*reason, "ImageDamaged");
        assert!(message.contains("its digest is wrong"), "{message}");
        let hold = store.hold(&pulled.id).unwrap();
        store.gc().await.unwrap();
        pull(&store, "r.test/b:1").await;
        store.forget_damaged().await.unwrap();
        store.remove("r.test/b:1").await.unwrap();
        assert!(pulled.layers.iter().all(|layer| layer.exists()));
        drop(hold);
    }
    // Nobody holds them any more, and the operator wants the room.
    let store = node.open().await;
    store.forget_damaged().await.unwrap();
    store.gc().await.unwrap();
    node.assert_empty();
    assert!(told(&node.open().await).is_empty());
}
