//! One command per file. Each asks the node one thing and shows the answer; none decides anything a node should decide.

mod apply;
mod attach;
mod bootstrap;
mod cat;
mod cgroups;
mod completion;
mod config;
mod containers;
mod cp;
mod dmesg;
mod etcd;
mod events;
mod exec;
mod r#gen;
mod get_config;
mod health;
mod images;
mod join_token;
mod kubeconfig;
mod logs;
mod ls;
mod pods;
mod port_forward;
mod problems;
mod reboot;
mod service;
mod services;
mod shutdown;
mod stats;
mod status;
mod streams;
mod top;
mod upgrade_kubernetes;
mod validate;
mod version;

use crate::cli::{Cli, Command};
use crate::failure::{Exit, Failure};
use crate::session::Session;

/// Runs one command to its end.
///
/// # Errors
/// What went wrong, ready to be printed.
pub fn run(cli: &Cli) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
            Failure::new(Exit::Failed, "cannot start the event loop").because(&error)
        })?;
    let session = Session::new(&cli.globals);
    let result = runtime.block_on(Box::pin(dispatch(&session, &cli.command)));
    // A command that has failed does not wait for whoever still reads standard input.
    runtime.shutdown_background();
    result
}

async fn dispatch(session: &Session<'_>, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Gen(args) => r#gen::run(session, args),
        Command::Validate(args) => validate::run(session, args),
        Command::Apply(args) => Box::pin(apply::run(session, args)).await,
        Command::GetConfig(_) => get_config::run(session).await,
        Command::Status(_) => status::run(session).await,
        Command::Version(args) => Box::pin(version::run(session, args)).await,
        Command::Pods(args) => pods::run(session, args).await,
        Command::Logs(args) => logs::run(session, args).await,
        Command::Stats(args) => stats::run(session, args).await,
        Command::Top(args) => Box::pin(top::run(session, args)).await,
        Command::Containers(args) => containers::run(session, args).await,
        Command::Exec(args) => Box::pin(exec::run(session, args)).await,
        Command::Attach(args) => Box::pin(attach::run(session, args)).await,
        Command::PortForward(args) => Box::pin(port_forward::run(session, args)).await,
        Command::Cp(args) => Box::pin(cp::run(session, args)).await,
        Command::Images(args) => Box::pin(images::run(session, args)).await,
        Command::Bootstrap(_) => bootstrap::run(session).await,
        Command::Kubeconfig(args) => kubeconfig::run(session, args).await,
        Command::JoinToken(args) => join_token::run(session, args).await,
        Command::UpgradeKubernetes(args) => upgrade_kubernetes::run(session, args).await,
        Command::Health(args) => Box::pin(health::run(session, args)).await,
        Command::Etcd(args) => Box::pin(etcd::run(session, args)).await,
        Command::Cgroups(args) => cgroups::run(session, args).await,
        Command::Services(_) => services::run(session).await,
        Command::Service(args) => service::run(session, args).await,
        Command::Dmesg(args) => dmesg::run(session, args).await,
        Command::Events(args) => events::run(session, args).await,
        Command::Ls(args) => ls::run(session, args).await,
        Command::Cat(args) => cat::run(session, args).await,
        Command::Reboot(args) => reboot::run(session, args).await,
        Command::Shutdown(args) => shutdown::run(session, args).await,
        Command::Config(args) => config::run(session, args),
        Command::Completion(args) => completion::run(session, args),
    }
}
