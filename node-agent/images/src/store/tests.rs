//! Finding images by all their names.

use super::find::find;
use super::*;

fn image(id: &str, tags: &[&str], digests: &[&str]) -> Arc<Image> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Arc::new(Image {
        id: format!("sha256:{id}"),
        repo_tags: owned(tags),
        repo_digests: owned(digests),
        pinned: tags.iter().any(|tag| tag.starts_with("ingot/")),
        ..Image::default()
    })
}

#[test]
fn an_image_is_found_by_tag_digest_id_and_beginning_of_an_id() {
    let hash = format!("sha256:{}", "d".repeat(64));
    let digest = format!("example.test/a@{hash}");
    let a = "abc".to_owned() + &"1".repeat(61);
    let b = "abc".to_owned() + &"2".repeat(61);
    let images = [image(&a, &["ingot/a:1"], &[]), image(&b, &["example.test/a:2"], &[&digest])];
    let found = |text: &str| find(&images, text).map(|image| image.id[10..11].to_owned());
    for name in
        ["ingot/a:1", "docker.io/ingot/a:1", &a, &format!("sha256:{a}"), "abc1", "sha256:abc1"]
    {
        assert_eq!(found(name).as_deref(), Some("1"), "{name}");
    }
    for name in ["example.test/a:2", &digest, &format!("example.test/a:7@{hash}"), &b, "abc2"] {
        assert_eq!(found(name).as_deref(), Some("2"), "{name}");
    }
    for name in ["abc", "ab", "", "ingot/a", "other.test/a:2", &hash, "sha256:", "x"] {
        assert_eq!(found(name), None, "{name}");
    }
}

#[tokio::test]
async fn bundled_images_are_found_by_plain_and_by_full_names_and_stay() {
    let top = tempfile::tempdir().unwrap();
    let image = top.path().join("bundled/ingot/workload/latest");
    std::fs::create_dir_all(image.join("rootfs")).unwrap();
    std::fs::write(image.join("config.json"), "{}").unwrap();
    let config = StoreConfig {
        root: top.path().join("store"),
        bundled: top.path().join("bundled"),
        ..StoreConfig::default()
    };
    let store = ImageStore::open(config).await.unwrap();
    for name in ["ingot/workload", "ingot/workload:latest", "docker.io/ingot/workload"] {
        assert!(store.find(name).unwrap().pinned, "{name}");
    }
    let pulled = store.pull("ingot/workload", &Auth::default(), None).await.unwrap();
    assert_eq!(pulled, store.find("ingot/workload").unwrap());
    let refused = store.remove("ingot/workload").await.unwrap_err();
    assert!(matches!(refused, Error::Bundled { .. }));
    let hold = store.hold(&pulled.id).unwrap();
    assert_eq!(hold.layers, [image.join("rootfs")]);
}
