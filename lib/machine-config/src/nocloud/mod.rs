//! CIDATA drives (NoCloud), as Proxmox VE and cloud-init's own tools make them: three files into a config or part of one.
//!
//! `user-data` that is an Ingot config is the config. `network-config` (version 1 or 2), `local-hostname` of `meta-data` and
//! `hostname` of a `#cloud-config` fill in what the config leaves open, and are all there is when `user-data` is something
//! else. Reading the drive is the agent's work. Other people's tools write these files, so unlike in a config unknown
//! fields are passed over.

mod network;

use crate::check;
use crate::format;
use crate::problem::Problem;
use crate::tree::{self, Node};
use crate::v1::network::Network;
use crate::{Config, load};

/// The files of a drive, each as it was found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// `meta-data`: identity and name of the instance.
    pub meta_data: Option<&'a str>,
    /// `user-data`: an Ingot config, or something for cloud-init.
    pub user_data: Option<&'a str>,
    /// `network-config`.
    pub network_config: Option<&'a str>,
}

/// What a drive says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seed {
    /// The whole config, when `user-data` holds a sound one; what it left open is filled in.
    pub config: Option<Config>,
    /// The text to keep for `config`: `user-data` itself, or a new text when something was filled in.
    pub text: Option<String>,
    /// Hostname and network from the drive, for a node that has no config yet, too.
    pub network: Network,
    /// `instance-id` of `meta-data`: another one means that the drive is for another machine, such as a clone.
    pub instance_id: Option<String>,
    /// What is wrong. Without a config the node goes to maintenance mode, and shows these.
    pub problems: Vec<SeedProblem>,
}

/// A problem, and the file it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedProblem {
    /// Name of the file on the drive.
    pub file: &'static str,
    /// The problem; its line is one of the file.
    pub problem: Problem,
}

impl std::fmt::Display for SeedProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.problem)
    }
}

/// Name of the file that holds the config.
const USER_DATA: &str = "user-data";
/// Name of the file with the identity of the instance.
const META_DATA: &str = "meta-data";
/// Name of the file about the network.
const NETWORK_CONFIG: &str = "network-config";

/// Reads the files of a drive. Never fails; what cannot be used is told in the problems.
#[must_use]
pub fn read(files: Files<'_>) -> Seed {
    let mut seed = Seed::default();
    if let Some(text) = files.network_config {
        network_config(&mut seed, text);
    }
    if let Some(text) = files.meta_data {
        meta_data(&mut seed, text);
    }
    match files.user_data.map(|text| (text, contents(text))) {
        None | Some((_, Contents::Nothing)) => {
            let hint = "put an Ingot config there (on Proxmox: qm set <id> --cicustom user=local:snippets/<file>)";
            seed.problem(USER_DATA, 0, "there is none, so the node has no config".to_owned(), hint);
        }
        Some((text, Contents::CloudConfig)) => {
            cloud_config(&mut seed, text);
            let hint =
                "put an Ingot config there; only hostname and network were taken from this drive";
            seed.problem(
                USER_DATA,
                1,
                "this is a #cloud-config, which is for cloud-init".to_owned(),
                hint,
            );
        }
        Some((_, Contents::Foreign(what))) => {
            let hint = "put an Ingot config there, as plain YAML";
            seed.problem(USER_DATA, 1, format!("this is {what}, not an Ingot config"), hint);
        }
        Some((text, Contents::Config)) => config(&mut seed, text),
    }
    seed
}

impl Seed {
    fn problem(&mut self, file: &'static str, line: u32, message: String, hint: &str) {
        let problem = Problem { line, message, hint: hint.to_owned(), ..Problem::default() };
        self.problems.push(SeedProblem { file, problem });
    }
}

/// What `user-data` is.
enum Contents {
    Nothing,
    Config,
    CloudConfig,
    Foreign(&'static str),
}

/// Tells by the first line, as cloud-init does.
fn contents(text: &str) -> Contents {
    let first = text
        .trim_start_matches(['\u{feff}', '\n', '\r', ' '])
        .lines()
        .next()
        .unwrap_or_default()
        .trim_end();
    if text.trim().is_empty() {
        Contents::Nothing
    } else if first == "#cloud-config" || first.starts_with("#cloud-config ") {
        Contents::CloudConfig
    } else if first.starts_with("#!") {
        Contents::Foreign("a script")
    } else if first.starts_with("Content-Type:") || first.starts_with("MIME-Version:") {
        Contents::Foreign("a MIME message")
    } else if first.starts_with("#cloud-")
        || first.starts_with("#include")
        || first.starts_with("## template:")
    {
        Contents::Foreign("made for cloud-init")
    } else {
        Contents::Config
    }
}

/// An Ingot config: taken whole, with what it leaves open filled in.
fn config(seed: &mut Seed, text: &str) {
    let loaded = load(text);
    seed.problems.extend(
        loaded.problems.into_iter().map(|problem| SeedProblem { file: USER_DATA, problem }),
    );
    let Some(written) = loaded.config else { return };
    let mut filled = written.clone();
    fill(&mut filled.machine.network, &seed.network);
    if filled == written {
        seed.text = Some(text.to_owned());
        seed.config = Some(written);
        return;
    }
    // The two were written apart, so that together they may still contradict each other.
    let problems = check::config(&filled);
    if problems.is_empty() {
        seed.text = Some(filled.to_yaml());
        seed.config = Some(filled);
    } else {
        seed.problems.extend(
            problems.into_iter().map(|problem| SeedProblem { file: NETWORK_CONFIG, problem }),
        );
    }
}

/// Takes from the drive what the config leaves open. Links and routes belong together: routes follow the links.
fn fill(network: &mut Network, drive: &Network) {
    if network.hostname.is_none() {
        network.hostname.clone_from(&drive.hostname);
    }
    if network.links.is_empty() {
        network.links.clone_from(&drive.links);
        if network.routes.is_empty() {
            network.routes.clone_from(&drive.routes);
        }
    }
    if network.dns.servers.is_empty() {
        network.dns.servers.clone_from(&drive.dns.servers);
    }
    if network.dns.search.is_empty() {
        network.dns.search.clone_from(&drive.dns.search);
    }
}

/// The first document of a file; syntax errors become problems.
fn document(seed: &mut Seed, file: &'static str, text: &str) -> Option<Node> {
    let (documents, problems) = tree::parse(text);
    seed.problems
        .extend(problems.finish().into_iter().map(|problem| SeedProblem { file, problem }));
    documents.into_iter().next().map(|document| document.root)
}

fn network_config(seed: &mut Seed, text: &str) {
    let Some(root) = document(seed, NETWORK_CONFIG, text) else { return };
    let mut reader = network::Reader::default();
    reader.read(&root);
    let (network, problems) = reader.finish();
    seed.network = network;
    seed.problems
        .extend(problems.into_iter().map(|problem| SeedProblem { file: NETWORK_CONFIG, problem }));
}

fn meta_data(seed: &mut Seed, text: &str) {
    let Some(root) = document(seed, META_DATA, text) else { return };
    seed.instance_id = root.get("instance-id").and_then(Node::text).map(str::to_owned);
    if let Some(name) = root.get("local-hostname").or_else(|| root.get("hostname")) {
        hostname(seed, META_DATA, name);
    }
}

/// Proxmox writes the name of the VM here, and only here.
fn cloud_config(seed: &mut Seed, text: &str) {
    let Some(root) = document(seed, USER_DATA, text) else { return };
    let name = root.get("fqdn").or_else(|| root.get("hostname"));
    if let Some(name) = name.filter(|_| seed.network.hostname.is_none()) {
        hostname(seed, USER_DATA, name);
    }
}

fn hostname(seed: &mut Seed, file: &'static str, node: &Node) {
    let name = node.text().unwrap_or_default();
    if format::find("hostname").is_some_and(|format| (format.accepts)(name)) {
        seed.network.hostname = Some(name.to_owned());
    } else if !node.is_null() {
        seed.problem(
            file,
            node.place.line,
            "the host name is none".to_owned(),
            "use letters, digits and dashes",
        );
    }
}
