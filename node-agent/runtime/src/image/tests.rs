//! References and the two places where builders of images differ.

use super::*;

#[test]
fn references_split_into_repository_and_tag() {
    assert_eq!(split("ingot/workload"), Some(("ingot/workload", "latest")));
    assert_eq!(split("ingot/workload:1.2"), Some(("ingot/workload", "1.2")));
    assert_eq!(split("registry:5000/a/b"), Some(("registry:5000/a/b", "latest")));
    assert_eq!(split("registry:5000/a/b:c"), Some(("registry:5000/a/b", "c")));
}

#[test]
fn references_cannot_leave_the_folder_of_images() {
    for reference in ["", "/etc", "../x", "a/../b", "a//b", "a:..", "a:", "a b", "a/.", "a\0b"] {
        assert_eq!(split(reference), None, "{reference:?}");
    }
}

#[test]
fn an_absent_image_is_not_bundled() {
    let folder = tempfile::tempdir().unwrap();
    let error = find(folder.path(), "nothing/here:1").unwrap_err();
    assert!(matches!(error, ImageError::NotBundled { .. }));
}

#[test]
fn null_and_absent_lists_are_empty() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("a/b/latest");
    std::fs::create_dir_all(&image).unwrap();
    let text = r#"{"config":{"Entrypoint":["/x"],"Cmd":null,"Env":null,"Labels":{"a":"b"}}}"#;
    std::fs::write(image.join("config.json"), text).unwrap();
    let found = find(folder.path(), "a/b").unwrap();
    assert_eq!(found.config.entrypoint, ["/x"]);
    assert!(found.config.cmd.is_empty() && found.config.env.is_empty());
    assert_eq!(found.rootfs, image.join("rootfs"));
}
