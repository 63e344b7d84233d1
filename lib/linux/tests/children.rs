//! Starting and collecting children, in one test: a process has one table of children, and tests share it.

use std::ffi::CStr;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use ingot_linux::process::{self, EndedChild};
use ingot_linux::spawn::{self, NOT_STARTED, Program};

/// The next child that ends, and its wait status.
fn next_end() -> (i32, i32) {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "no child ended");
        if let EndedChild::Ended(pid) = process::peek_ended_child().expect("waitid") {
            assert!(process::start_time(pid).expect("a zombie shows when it started") > 0);
            let status = process::collect_child(pid).expect("waitpid");
            return (pid, status.expect("it had ended"));
        }
        std::thread::yield_now();
    }
}

#[test]
fn children_start_clean_and_are_collected_one_by_one() {
    assert_eq!(process::peek_ended_child().expect("waitid"), EndedChild::NoChildren);
    let null = std::fs::File::open("/dev/null").expect("/dev/null");
    let (mut read, write) = std::io::pipe().expect("pipe");
    let environment: [&CStr; 1] = [c"WORD=fine"];
    let script = c"test -e /proc/self/fd/3 && ! test -e /proc/self/fd/4 && echo $WORD >&3 && read adj </proc/self/oom_score_adj && echo $adj >&3; exit 5";
    let start = |path: &CStr| {
        spawn::start(&Program {
            path,
            arguments: &[c"sh", c"-c", script],
            environment: &environment,
            descriptors: [null.as_fd(), null.as_fd(), null.as_fd(), write.as_fd()],
            cgroup: None,
            oom_score_adj: c"700",
        })
        .expect("clone3")
    };

    let shell = start(c"/bin/sh");
    assert_eq!(next_end(), (shell, 5 << 8));
    let missing = start(c"/no/such/program");
    assert_eq!(next_end(), (missing, NOT_STARTED << 8));
    let helper = spawn::run_in_child(|| 3).expect("clone3");
    assert_eq!(next_end(), (helper, 3 << 8));
    assert_eq!(process::collect_child(helper).expect("waitpid"), None, "collected once");
    assert_eq!(process::peek_ended_child().expect("waitid"), EndedChild::NoChildren);

    drop(write);
    let mut said = String::new();
    read.read_to_string(&mut said).expect("read");
    assert_eq!(
        said, "fine\n700\n",
        "descriptor 3, the environment, nothing above 3, and the score"
    );
}
