//! The two places where builders of images differ, and names that come from folders.

use super::*;

fn bundle(top: &Path, folder: &str, text: &str) -> PathBuf {
    let image = top.join(folder);
    fs::create_dir_all(image.join("rootfs")).unwrap();
    fs::write(image.join(CONFIG), text).unwrap();
    image
}

#[test]
fn null_and_absent_lists_are_empty() {
    let top = tempfile::tempdir().unwrap();
    let text = r#"{"config":{"Entrypoint":["/x"],"Cmd":null,"Env":null,"Labels":{"a":"b"},"Volumes":{"/d":{}}}}"#;
    let folder = bundle(top.path(), "a/b/latest", text);
    let [image] = &list(top.path())[..] else { panic!("one image") };
    assert_eq!(image.config.entrypoint, ["/x"]);
    assert!(image.config.cmd.is_empty() && image.config.env.is_empty());
    assert_eq!(image.config.volumes, ["/d"]);
    assert_eq!(image.layers, [folder.join("rootfs")]);
    assert_eq!(image.repo_tags, ["a/b:latest"]);
    assert!(image.pinned);
}

#[test]
fn images_with_the_same_configuration_have_different_ids() {
    let top = tempfile::tempdir().unwrap();
    bundle(top.path(), "a/1", "{}");
    bundle(top.path(), "registry.test/deep/er/b/1", "{}");
    let images = list(top.path());
    assert_eq!(images.len(), 2);
    assert_ne!(images[0].id, images[1].id);
    assert_eq!(images[1].repo_tags, ["registry.test/deep/er/b:1"]);
}

#[test]
fn a_damaged_image_does_not_hide_the_others_and_no_folder_is_no_image() {
    let top = tempfile::tempdir().unwrap();
    bundle(top.path(), "a/1", "{");
    bundle(top.path(), "UPPER/1", "{}");
    bundle(top.path(), "b/1", "{}");
    assert_eq!(list(top.path()).len(), 1);
    assert!(list(&top.path().join("absent")).is_empty());
}
