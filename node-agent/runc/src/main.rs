//! `ingot-runc`: builds one container or one pod sandbox and is gone; the container then belongs to PID 1.
//!
//! Why a program of its own: `libcontainer` clones with a raw system call and runs ordinary Rust in the child, so a
//! second thread that holds the heap lock makes the child hang, and it changes its caller (oom_score_adj, dumpable,
//! working directory). One thread, one job, then exit. It must never become a service, never start a thread, and never
//! print: its descriptors 0 to 2 are /dev/null once the request is read.
//!
//! What it does is described by the types of `ingot-runc-api`.
#![deny(unsafe_op_in_unsafe_fn)]

mod bpf_devices;
mod create;
mod sandbox;
mod wire;

use anyhow::Context as _;
use ingot_runc_api::{Reply, Request};

fn main() -> std::process::ExitCode {
    // libcontainer honours LISTEN_FDS and copies what it finds; the agent starts us with an empty environment, and a
    // caller that does not is a mistake we do not carry into a container.
    if std::env::vars_os().next().is_some() {
        return std::process::ExitCode::from(2);
    }
    let (socket, request, descriptors) = match wire::receive() {
        Ok(received) => received,
        // Nobody to tell: the agent is gone or never was.
        Err(_) => return std::process::ExitCode::from(2),
    };
    let reply = run(request, descriptors)
        .unwrap_or_else(|error| Reply::Failed { message: format!("{error:#}") });
    let failed = matches!(reply, Reply::Failed { .. });
    // An agent that died meanwhile finds the result in the file that `create` wrote.
    let _ = wire::send(&socket, &reply);
    std::process::ExitCode::from(u8::from(failed))
}

fn run(request: Request, descriptors: Vec<std::os::fd::OwnedFd>) -> anyhow::Result<Reply> {
    match request {
        Request::Sandbox(sandbox) => {
            sandbox::build(&sandbox).context("build sandbox")?;
            Ok(Reply::Sandbox)
        }
        Request::Create(create) => {
            let created = create::build(&create, descriptors).context("build container")?;
            Ok(Reply::Created(created))
        }
    }
}
