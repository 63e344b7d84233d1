//! Greedy and idle behaviours.

use std::time::{Duration, Instant};

use anyhow::Context as _;

const MEBIBYTE: usize = 1 << 20;

/// Uses processor time until killed.
pub(crate) fn spin(threads: u32) -> anyhow::Result<i32> {
    println!("spinning with {threads} threads");
    for _ in 1..threads.max(1) {
        std::thread::spawn(burn);
    }
    burn()
}

fn burn() -> ! {
    let mut value = 1_u64;
    loop {
        value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

/// Takes memory and keeps it.
pub(crate) fn hog(mebibytes: usize) -> anyhow::Result<i32> {
    let mut kept = Vec::new();
    for taken in 1..=mebibytes {
        // Not zeros: a page of zeros could stay unallocated.
        kept.push(std::hint::black_box(vec![0xa5_u8; MEBIBYTE]));
        println!("took {taken} MiB");
    }
    sleep()
}

/// Opens a file until refused, and keeps it open so many times.
pub(crate) fn open(path: &str) -> anyhow::Result<i32> {
    let mut kept = Vec::new();
    let error = loop {
        match std::fs::File::open(path) {
            Ok(file) => kept.push(file),
            Err(error) => break error,
        }
    };
    println!("opened {} times: {error}", kept.len());
    sleep()
}

/// Files in one folder; many more make each one slow.
const FOLDER: u32 = 1000;

/// Makes empty files in a folder until refused, and prints how often that went.
pub(crate) fn litter(path: &str) -> anyhow::Result<i32> {
    let mut made = 0_u32;
    let error = loop {
        let folder = format!("{path}/{}", made / FOLDER);
        let new =
            if made.is_multiple_of(FOLDER) { std::fs::create_dir_all(&folder) } else { Ok(()) };
        match new.and_then(|()| std::fs::File::create(format!("{folder}/{made}"))) {
            Ok(_closed) => made += 1,
            Err(error) => break error,
        }
        if made.is_multiple_of(10 * FOLDER) {
            println!("made {made} files");
        }
    };
    println!("littered {made} files: {error}");
    sleep()
}

/// Starts processes until refused, then keeps them and looks for more room now and then.
pub(crate) fn fork_bomb(count: u32) -> anyhow::Result<i32> {
    let program = std::env::current_exe().context("find this program")?;
    let mut started = 0_u32;
    let mut said = u32::MAX;
    loop {
        while started < count {
            match std::process::Command::new(&program).arg("sleep").spawn() {
                Ok(_child) => started += 1,
                Err(error) => {
                    if said != started {
                        println!("refused after {started} processes: {error}");
                    }
                    break;
                }
            }
        }
        said = started;
        pause(500);
    }
}

/// Does nothing until killed.
pub(crate) fn sleep() -> anyhow::Result<i32> {
    loop {
        pause(3_600_000);
    }
}

/// Waits for so many milliseconds.
pub(crate) fn pause(ms: u64) {
    let end = Instant::now() + Duration::from_millis(ms);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}
