//! Tests of the reading and judging around the compilation; nothing here needs Go.

use super::*;

#[test]
fn another_source_or_another_go_makes_another_program() {
    let directory = tempfile::tempdir().expect("directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs_err::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs_err::write(path, text).expect("file");
        inputs(&sources(directory.path()).expect("read"), "go1.26.8")
    };
    let first = write("main.go", "a");
    let pinned = write("go.sum", "x");
    let deeper = write("localpath/localpath.go", "b");
    let read = write("README.md", "c");
    assert_ne!(first, pinned);
    assert_ne!(pinned, deeper);
    assert_eq!(deeper, read, "what is no source does not matter");
    let other = inputs(&sources(directory.path()).expect("read"), "go1.26.9");
    assert_ne!(read, other);
}

#[test]
fn the_version_of_go_is_read_from_the_module() {
    assert_eq!(go_needed("module x\n\ngo 1.26.4\n").expect("read"), [1, 26, 4]);
    assert_eq!(go_needed("go 1.27\n").expect("read"), [1, 27, 0]);
    assert!(go_needed("module x\n").is_err());
    let own = workspace::root().join("kubernetes/go.mod");
    assert!(go_needed(&fs_err::read_to_string(own).expect("go.mod")).is_ok());
}

#[test]
fn a_replaced_module_is_listed_as_what_it_was_replaced_by() {
    let text = "kube: go1.26.8\n\tpath\tingot/kubernetes\n\tmod\tingot/kubernetes\t(devel)\n\
                \tdep\tcel.dev/expr\tv0.25.2\n\t=>\tcel.dev/expr\tv0.25.1\th1:a=\n\
                \tdep\tk8s.io/klog/v2\tv2.140.0\th1:b=\n\tbuild\t-trimpath=true\n";
    let found: Vec<String> = modules(text)
        .into_iter()
        .map(|module| format!("{} {} {}", module.path, module.version, module.sum))
        .collect();
    assert_eq!(found, ["cel.dev/expr v0.25.1 h1:a=", "k8s.io/klog/v2 v2.140.0 h1:b="]);
}

#[test]
fn the_program_says_the_release_s_version_and_date() {
    let flags = linker_flags("v1.36.3", "2026-07-22T18:07:38Z").expect("flags");
    for package in VERSION_PACKAGES {
        for value in ["gitMajor=1", "gitMinor=36", "buildDate=2026-07-22T18:07:38Z"] {
            assert!(flags.contains(&format!("-X {package}.{value}")), "{flags}");
        }
    }
    assert!(linker_flags("master", "").is_err());
}

#[test]
fn a_failed_command_shows_its_last_lines() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo one >&2; echo two >&2; exit 3"]);
    let mut seen = Vec::new();
    let error = watch(&mut command, |line| seen.push(line.to_owned())).expect_err("failed");
    assert_eq!(seen, ["one", "two"]);
    assert!(error.to_string().contains("two"), "{error}");
}

#[test]
fn help_is_told_from_a_panic_and_from_silence() {
    assert!(judge("etcd", Some(0), "Usage:\n  etcd [flags]").is_ok());
    assert!(judge("coredns", Some(2), "Usage of coredns:\n  -conf string").is_ok());
    let error = judge("etcd", Some(2), "Usage\npanic: flag redefined: p").expect_err("a panic");
    assert!(error.to_string().contains("flag redefined"), "{error}");
    assert!(judge("etcd", Some(1), "Usage").is_err());
    assert!(judge("etcd", None, "Usage").is_err());
    assert!(judge("etcd", Some(0), "").is_err());
}
