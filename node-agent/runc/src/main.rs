//! `ingot-runc`: builds one container or one pod sandbox and is gone; the container then belongs to PID 1.
//!
//! Why a program of its own: a container's first process is cloned with a raw system call and runs ordinary Rust, so a
//! second thread that holds the heap lock would make it hang, and what it inherits (oom_score_adj, limits, dumpable) is set
//! on its maker. One thread, one job, then exit. It must never become a service, never start a thread, and never
//! print: its descriptors 0 to 2 are /dev/null once the request is read.
//!
//! What it does is described by the types of `ingot-runc-api`.
#![deny(unsafe_op_in_unsafe_fn)]

mod create;
mod empty;
mod exec;
mod fork;
mod init;
mod limits;
mod lock;
mod mounts;
mod namespaces;
mod place;
mod program;
mod reaper;
mod rights;
mod rootfs;
mod sandbox;
mod seccomp;
mod spec;
mod step;
mod userns;
mod wire;

use std::os::fd::OwnedFd;

use anyhow::Context as _;
use exec::Outcome;
use ingot_runc_api::{Reply, Request};

fn main() -> std::process::ExitCode {
    // The agent starts us with an empty environment; a caller that does not is a mistake.
    if std::env::vars_os().next().is_some() {
        return std::process::ExitCode::from(2);
    }
    // The agent leaves it to us to leave its working folder.
    if rustix::process::chdir("/").is_err() {
        return std::process::ExitCode::from(2);
    }
    let (socket, request, descriptors) = match wire::receive() {
        Ok(received) => received,
        // Nobody to tell: the agent is gone or never was.
        Err(_) => return std::process::ExitCode::from(2),
    };
    let outcome = run(request, descriptors).unwrap_or_else(|error| {
        let reply = Reply::Failed { message: format!("{error:#}") };
        Outcome { reply, descriptor: None, process: None }
    });
    let failed = matches!(outcome.reply, Reply::Failed { .. });
    // An agent that died meanwhile finds the result in the file that was written.
    if wire::send(&socket, &outcome.reply, outcome.descriptor.as_ref()).is_err() {
        outcome.abandon();
    }
    std::process::ExitCode::from(u8::from(failed))
}

fn run(request: Request, descriptors: Vec<OwnedFd>) -> anyhow::Result<Outcome> {
    let (reply, descriptor) = match request {
        Request::Sandbox(sandbox) => {
            sandbox::build(&sandbox).context("build sandbox")?;
            (Reply::Sandbox, None)
        }
        Request::Empty => {
            let namespace = empty::make().context("make an empty mount namespace")?;
            (Reply::Empty, Some(namespace))
        }
        Request::Create(create) => {
            let (created, terminal) =
                create::build(&create, descriptors).context("build container")?;
            (Reply::Created(created), terminal)
        }
        Request::Exec(exec) => {
            return exec::start(&exec, descriptors).context("execute in container");
        }
    };
    Ok(Outcome { reply, descriptor, process: None })
}
