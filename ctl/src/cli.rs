//! Every command and flag, with the text that explains it. Parsing only: what commands do is in `commands/`.

mod containers;
mod kubernetes;

pub use containers::{
    Attach, Containers, Cp, Exec, Images, ImagesCommand, Place, Port, PortForward, Target, Top,
};

pub use kubernetes::{
    Bootstrap, Etcd, EtcdCommand, Health, JoinToken, Kubeconfig, UpgradeKubernetes,
};

use crate::client::{DEFAULT_TIMEOUT, Endpoint};
use crate::failure::Failure;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ingot_pki::Role;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Exit codes, for help and manual. WHEN CHANGING: the numbers are in `failure.rs`.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage, or a file that cannot be used
  3  the config was refused; nothing was changed
  4  no connection to the node, or it is not in the mode for this
  5  not authenticated or not permitted
  6  a deadline passed
`exec` ends with the exit code of its program instead.";

/// Asks and manages Ingot nodes through their machine API.
#[derive(Debug, Parser)]
#[command(name = "ingotctl", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// Flags of all commands.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of all commands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Contexts file [default: ~/.config/ingot/config.yaml]
    #[arg(long, global = true, env = "INGOTCONFIG", value_name = "FILE", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Context to use instead of the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Node to ask instead of the context's: HOST or HOST:PORT
    #[arg(long, global = true, value_name = "HOST[:PORT]", value_parser = parse_endpoint)]
    pub endpoint: Option<Endpoint>,
    /// Form of the answer
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Deadline of connecting and of each call, e.g. 30s, 500ms, 2m
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration, default_value = "20s")]
    pub timeout: Duration,
}

impl Globals {
    /// The contexts file: as given, or in the user's configuration directory.
    ///
    /// # Errors
    /// When neither is known.
    pub fn config_path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.config {
            return Ok(path.clone());
        }
        let directory = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        directory("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| directory("HOME").map(|home| PathBuf::from(home).join(".config")))
            .map(|directory| directory.join("ingot/config.yaml"))
            .ok_or_else(|| {
                Failure::usage("cannot tell where the contexts file is: $HOME is not set")
                    .hint("name it: --config FILE, or $INGOTCONFIG")
            })
    }
}

/// Forms of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs; one object per line where there are many
    Json,
    /// For programs
    Yaml,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "each is explained by the text of its arguments, which is the help"
)]
pub enum Command {
    Gen(Gen),
    Validate(Validate),
    Apply(Apply),
    GetConfig(GetConfig),
    Status(Status),
    Version(Version),
    Pods(Pods),
    Logs(Logs),
    Stats(Stats),
    Top(Top),
    Containers(Containers),
    Exec(Exec),
    Attach(Attach),
    PortForward(PortForward),
    Cp(Cp),
    Images(Images),
    Bootstrap(Bootstrap),
    Kubeconfig(Kubeconfig),
    JoinToken(JoinToken),
    UpgradeKubernetes(UpgradeKubernetes),
    Health(Health),
    Etcd(Etcd),
    Cgroups(Cgroups),
    Services(Services),
    Service(Service),
    Dmesg(Dmesg),
    Events(Events),
    Ls(Ls),
    Cat(Cat),
    Reboot(Reboot),
    Shutdown(Shutdown),
    Config(Config),
    Completion(Completion),
}

/// Make a new installation: authority, administrator's certificate, machine config
///
/// Writes ca.crt, ca.key and NAME.yaml to the output directory and adds a context with an administrator's certificate. Run
/// again in the same directory with another --hostname, it makes a config for one more node of the same installation.
///
/// Example: ingotctl gen home --hostname node-1 --address 192.0.2.10/24 --gateway 192.0.2.1
#[derive(Debug, Args)]
pub struct Gen {
    /// Name of the installation and of the context
    #[arg(default_value = "ingot")]
    pub name: String,
    /// Directory for the files
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub output_dir: PathBuf,
    /// Name of the node; the config file is named after it
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Static address of the node with its prefix, e.g. 192.0.2.10/24; without one the node asks DHCP
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    pub address: Vec<String>,
    /// Next router, for static addresses
    #[arg(long, value_name = "ADDRESS", requires = "address")]
    pub gateway: Vec<IpAddr>,
    /// Name server
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<IpAddr>,
    /// Link for the static addresses, by name or MAC address
    #[arg(long, value_name = "NAME|MAC", default_value = "eth0")]
    pub link: String,
    /// Add a pod with CPU and memory limits as an example; it runs `spin` in --pod-image
    #[arg(long)]
    pub with_pod: bool,
    /// Image of the example pod
    #[arg(long, value_name = "IMAGE", default_value = "ingot/workload:latest")]
    pub pod_image: String,
    /// Keep the authority's key off the node: put a certificate made for it into the config, to be renewed by hand
    #[arg(long)]
    pub without_ca_key: bool,
    /// Days until the administrator's certificate expires
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    pub days: u32,
}

/// Check a machine config without a node: all problems at once
///
/// Example: ingotctl validate -f node-1.yaml
#[derive(Debug, Args)]
pub struct Validate {
    /// Config, "-" for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
}

/// Make a config the node's wish
///
/// The node checks it as a whole; with a problem nothing is changed. A node that has no config yet takes one from who knows
/// the code on its console: it is asked for on a terminal, or given with --pairing-code. The config is sent only after
/// the node has proven that it knows the code too.
///
/// Example: ingotctl apply -f node-1.yaml --endpoint 192.0.2.10
#[derive(Debug, Args)]
pub struct Apply {
    /// Config, "-" for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Only check it and say what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Code on the console of a node without config, XXXX-XXXX-XXXX-XXXX
    #[arg(long, value_name = "CODE", env = "INGOT_PAIRING_CODE", hide_env_values = true)]
    pub pairing_code: Option<String>,
}

/// Show the config the node works towards, without its secrets
#[derive(Debug, Args)]
pub struct GetConfig {}

/// Show the state of the node: what is done, what is waited for, what failed
#[derive(Debug, Args)]
pub struct Status {}

/// Show the versions of this program and of the node
#[derive(Debug, Args)]
pub struct Version {
    /// This program only
    #[arg(long)]
    pub client: bool,
}

/// List pods and their containers, or tell everything about one
///
/// Example: ingotctl pods describe web
#[derive(Debug, Args)]
pub struct Pods {
    /// Only this namespace
    #[arg(short, long, value_name = "NAME", global = true)]
    pub namespace: Option<String>,
    /// What to do instead of listing
    #[command(subcommand)]
    pub command: Option<PodsCommand>,
}

/// What can be done with pods.
#[derive(Debug, Subcommand)]
pub enum PodsCommand {
    /// Tell everything about one pod: its state, its containers, what happened to it
    ///
    /// Example: ingotctl pods describe web
    Describe {
        /// The pod
        #[arg(value_name = "POD")]
        pod: String,
    },
}

/// Print the log of a container
///
/// Example: ingotctl logs -f --tail 20 web/app
#[derive(Debug, Args)]
pub struct Logs {
    /// Pod, and its container where it has several
    #[arg(value_name = "POD[/CONTAINER]")]
    pub pod: String,
    /// Namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// Go on with new lines
    #[arg(short, long)]
    pub follow: bool,
    /// Newest lines only
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u32>,
    /// All runs of the container that are kept, not only the newest
    #[arg(long)]
    pub all_attempts: bool,
    /// Begin each line with its time (UTC) and stream
    #[arg(long)]
    pub timestamps: bool,
}

/// Show CPU, memory and processes of containers beside their limits
///
/// Example: ingotctl stats web --interval 5s
#[derive(Debug, Args)]
pub struct Stats {
    /// Only this pod
    pub pod: Option<String>,
    /// Namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// Measure twice, this far apart, and show the CPU used in between
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub interval: Option<Duration>,
}

/// Show the tree of cgroups with limits, use and pressure
#[derive(Debug, Args)]
pub struct Cgroups {
    /// Only below this path, e.g. pods
    #[arg(default_value = "")]
    pub path: String,
}

/// List the services that PID 1 keeps running
#[derive(Debug, Args)]
pub struct Services {}

/// Act on one service
#[derive(Debug, Args)]
pub struct Service {
    /// What to do
    #[command(subcommand)]
    pub command: ServiceCommand,
}

/// What can be done with a service.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Stop the service and start it again
    ///
    /// Example: ingotctl service restart ingotd
    Restart {
        /// Name, as in `ingotctl services`
        name: String,
        /// Kill it at once, without grace
        #[arg(long)]
        kill: bool,
    },
}

/// Print the kernel's log
#[derive(Debug, Args)]
pub struct Dmesg {
    /// Go on with new records
    #[arg(short, long)]
    pub follow: bool,
    /// Newest records only
    #[arg(long, value_name = "RECORDS")]
    pub tail: Option<u32>,
}

/// Print what happened on the node
#[derive(Debug, Args)]
pub struct Events {
    /// Go on with new events
    #[arg(short, long)]
    pub follow: bool,
    /// Newest events only
    #[arg(long, value_name = "EVENTS")]
    pub tail: Option<u32>,
}

/// List files of the node
///
/// Example: ingotctl ls -l /usr/bin
#[derive(Debug, Args)]
pub struct Ls {
    /// Where
    #[arg(default_value = "/")]
    pub path: String,
    /// Mode, owner, size and time too
    #[arg(short)]
    pub long: bool,
    /// Everything below
    #[arg(short = 'R')]
    pub recursive: bool,
    /// Stay on one file system
    #[arg(short = 'x', requires = "recursive")]
    pub one_file_system: bool,
}

/// Print a file of the node
///
/// Example: ingotctl cat /proc/cmdline
#[derive(Debug, Args)]
pub struct Cat {
    /// Which
    pub path: String,
}

/// Stop everything in order and start the machine again
#[derive(Debug, Args)]
pub struct Reboot {
    /// Time that pods get to stop [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub grace: Option<Duration>,
}

/// Stop everything in order and switch the machine off
#[derive(Debug, Args)]
pub struct Shutdown {
    /// Time that pods get to stop [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub grace: Option<Duration>,
}

/// Manage contexts: which installation and node, and as whom
#[derive(Debug, Args)]
pub struct Config {
    /// What to do
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What can be done with contexts.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// List contexts, whom they are for, and when they expire
    Contexts,
    /// Make a context the current one
    Use {
        /// Which
        name: String,
    },
    /// Set the node that a context asks
    Endpoint {
        /// Which context
        name: String,
        /// HOST or HOST:PORT
        #[arg(value_parser = parse_endpoint)]
        endpoint: Endpoint,
    },
    /// Add a context with a new certificate from an authority's directory
    ///
    /// Example: ingotctl config add home-reader --ca-dir . --role reader
    Add(Issue),
    /// Give a context a new certificate, with the role it had
    Renew {
        /// Which context
        name: String,
        /// Directory with ca.crt and ca.key, as `ingotctl gen` writes them
        #[arg(long, value_name = "DIR", default_value = ".")]
        ca_dir: PathBuf,
        /// Days until the certificate expires
        #[arg(long, value_name = "DAYS", default_value_t = 365)]
        days: u32,
    },
    /// Remove a context and its key
    Remove {
        /// Which
        name: String,
    },
}

/// A new client certificate.
#[derive(Debug, Args)]
pub struct Issue {
    /// Name of the new context
    pub name: String,
    /// Directory with ca.crt and ca.key, as `ingotctl gen` writes them
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub ca_dir: PathBuf,
    /// What it may do: reader, operator or admin
    #[arg(long, default_value = "reader")]
    pub role: Role,
    /// Days until the certificate expires
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    pub days: u32,
}

/// Print a completion script for a shell
///
/// Example: ingotctl completion bash > /etc/bash_completion.d/ingotctl
#[derive(Debug, Args)]
pub struct Completion {
    /// Which shell
    pub shell: clap_complete::Shell,
}

fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse().map_err(|_| "expected HOST or HOST:PORT, e.g. 192.0.2.7:50000".to_owned())
}

/// Longest time a flag takes: a day. More is a typing error.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit_ms))
        .map(Duration::from_millis)
        .filter(|time| !time.is_zero() && *time <= TIME_MAX)
        .ok_or_else(|| "expected a number and ms, s, m or h, e.g. 30s; at most 24h".to_owned())
}

const _: () = assert!(DEFAULT_TIMEOUT.as_secs() == 20, "the help says 20s");
