//! `workload`: the one program in the test image. Its first word says how it behaves: well, greedily or badly.
//!
//! It stands for any program in a container, so it must not know anything about Ingot. There is no shell in its image.
#![forbid(unsafe_code)]

mod names;
mod network;
mod resources;
mod text;

use std::process::exit;

use anyhow::{Context as _, bail};
use ingot_linux::signal::SignalQueue;
use rustix::event::{PollFd, PollFlags, poll};

/// Exit code after SIGTERM, as a shell reports it.
const TERMINATED: i32 = 128 + 15;

const USAGE: &str = "usage: workload COMMAND
  spin [THREADS]              use up processor time
  hog MIB                     take memory, MiB by MiB, and keep it
  fork-bomb [COUNT]           start processes until refused or COUNT, and keep them
  tick MS [LINES [CODE]]      print 'tick 1', 'tick 2', ... every MS ms; after LINES exit with CODE
  flood LINES                 print 'line 1', ... as fast as possible, then exit with 0
  open PATH                   open a file until refused, print how often that went, and keep all
  litter PATH                 make empty files until refused, and print how many there are
  knock COUNT                 send a datagram to each of so many ports of the router
  exit CODE [AFTER_MS]        end
  sleep                       do nothing
  write PATH TEXT             write a line to a file
  fill PATH MIB               write a large file
  keep PATH MIB               write a large file and do nothing
  allocate PATH BYTES         make a file with so much room of its own
  exchange A B                exchange two names with each other, again and again
  cat PATH                    wait for a file to have a line, and print it
  serve PORT                  answer every HTTP request with a greeting
  get HOST:PORT PATH          print the answer of an HTTP server
  echo PORT                   send every line back, and print who connects
  converse HOST:PORT MS       send a line to an echo every MS ms over one connection; end when it breaks
  relay PORT PATH             hand every connection to PORT on to the Unix socket at PATH
  names NAME ADDRESS          be a name server that knows one name, with an IPv4 address
  journal PATH NAME           write 'NAME begins' and 'NAME ends' to the end of a file, and print what is in it at the start
  append PATH TEXT            write a line to the end of a file
  exists PATH                 end with 0 when there is a file, else with 1
  show PATH                   print mode, owner, group and text of a file, and again whenever one of them changes
  net                         print the addresses of this network namespace
  env                         print the environment
  id                          print who this process is and what it may do
  effective-uid               print the effective user id";

fn main() -> anyhow::Result<()> {
    // The first process of a container gets no signal it has no handler for, so a program that wants to end when asked has
    // to listen.
    let signals = SignalQueue::open().context("listen for signals")?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let last_words = text::last_words(&words);
    std::thread::spawn(move || {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match run(&words) {
            Ok(code) => exit(code),
            Err(error) => {
                eprintln!("workload: {error:#}");
                exit(1)
            }
        }
    });
    loop {
        let mut ready = [PollFd::new(&signals, PollFlags::IN)];
        // Interrupted waits are simply begun again.
        let _ = poll(&mut ready, None);
        while let Some(number) = signals.next().context("read signals")? {
            if number == rustix::process::Signal::TERM.as_raw()
                || number == rustix::process::Signal::INT.as_raw()
            {
                if let Some((path, line)) = &last_words {
                    text::append(path, line)?;
                }
                exit(TERMINATED);
            }
        }
    }
}

fn run(words: &[&str]) -> anyhow::Result<i32> {
    match words {
        ["spin"] => resources::spin(1),
        ["spin", threads] => resources::spin(number(threads)?),
        ["hog", mebibytes] => resources::hog(number(mebibytes)?),
        ["fork-bomb"] => resources::fork_bomb(u32::MAX),
        ["fork-bomb", count] => resources::fork_bomb(number(count)?),
        ["tick", ms] => text::tick(number(ms)?, u64::MAX, 0),
        ["tick", ms, lines] => text::tick(number(ms)?, number(lines)?, 0),
        ["tick", ms, lines, code] => text::tick(number(ms)?, number(lines)?, number(code)?),
        ["flood", lines] => text::flood(number(lines)?),
        ["open", path] => resources::open(path),
        ["litter", path] => resources::litter(path),
        ["knock", count] => network::knock(number(count)?),
        ["exit", code] => number(code),
        ["exit", code, after_ms] => {
            resources::pause(number(after_ms)?);
            number(code)
        }
        ["sleep"] => resources::sleep(),
        ["write", path, text] => text::write(path, text),
        ["fill", path, mebibytes] => text::fill(path, number(mebibytes)?),
        ["keep", path, mebibytes] => {
            text::fill(path, number(mebibytes)?)?;
            resources::sleep()
        }
        ["allocate", path, bytes] => text::allocate(path, number(bytes)?),
        ["exchange", a, b] => text::exchange(a, b),
        ["cat", path] => text::cat(path),
        ["serve", port] => network::serve(number(port)?),
        ["get", server, path] => network::get(server, path),
        ["echo", port] => network::echo(number(port)?),
        ["converse", server, ms] => network::converse(server, number(ms)?),
        ["relay", port, path] => network::relay(number(port)?, path),
        ["names", name, address] => names::serve(name, address),
        ["journal", path, name] => text::journal(path, name),
        ["append", path, text] => text::append(path, text),
        ["exists", path] => Ok(i32::from(!std::path::Path::new(path).exists())),
        ["show", path] => text::show(path),
        ["net"] => network::addresses(),
        ["env"] => text::environment(),
        ["id"] => text::identity(),
        ["effective-uid"] => text::effective_user(),
        _ => bail!("{USAGE}"),
    }
}

fn number<T: std::str::FromStr>(word: &str) -> anyhow::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    word.parse().with_context(|| format!("{word:?} is not a number"))
}
