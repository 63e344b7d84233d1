//! How indexes are read and patterns match.

use super::*;

fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let tree = Tree { folder: folder.path().into() };
    (folder, tree)
}

#[test]
fn what_a_module_needs_comes_first() {
    let dep = "kernel/a.ko:\nkernel/net/virtio-net.ko: kernel/failover.ko kernel/net_core.ko\n";
    let (_folder, tree) = tree(&[("modules.dep", dep)]);
    let files = tree.files("virtio_net").unwrap().unwrap();
    assert_eq!(files, ["kernel/net_core.ko", "kernel/failover.ko", "kernel/net/virtio-net.ko"]);
    assert_eq!(tree.files("none").unwrap(), None);
}

#[test]
fn drivers_are_found_by_pattern() {
    let alias = "# Aliases\nalias virtio:d00000001v* virtio_net\nalias pci:v00008086d*sv*sd*bc01sc06i01* ahci\n\
                 alias virtio:d00000004v* virtio-rng\nalias acpi*:LNXPWRBN:* button\n";
    let (_folder, tree) = tree(&[("modules.alias", alias)]);
    let hardware: BTreeSet<String> = [
        "virtio:d00000001v00001AF4",
        "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
        "acpi:LNXPWRBN:",
    ]
    .map(str::to_owned)
    .into();
    let drivers = tree.drivers(&hardware).unwrap();
    assert_eq!(drivers, ["ahci", "button", "virtio_net"].map(str::to_owned).into());
}

#[test]
fn soft_dependencies_before_a_module_are_known() {
    let soft = "softdep virtio_net pre: a-b c post: d\nsoftdep other pre: x\n";
    let (_folder, tree) = tree(&[("modules.softdep", soft)]);
    assert_eq!(tree.soft_dependencies("virtio_net"), ["a-b", "c"]);
}

#[test]
fn patterns_match_as_depmod_means_them() {
    for (pattern, text, expected) in [
        ("a*c", "abbc", true),
        ("a*c", "abbd", false),
        ("*", "", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("v[0-3]x", "v2x", true),
        ("v[0-3]x", "v4x", false),
        ("v[ab]", "vb", true),
        ("a", "ab", false),
        ("*a*b*", "xxaxxbxx", true),
        ("[", "[", false),
    ] {
        let result = matches(pattern.as_bytes(), text.as_bytes());
        assert_eq!(result, expected, "{pattern} {text}");
    }
}
