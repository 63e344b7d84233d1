//! `gen`: a new installation, or one more node of it: authority, machine config, context. Talks to no node.

use super::config::{issue_context, read_ca};
use crate::cli::{Format, Gen};
use crate::contexts::{Contexts, write_private};
use crate::failure::{Exit, Failure};
use crate::session::Session;
use ingot_pki::{Ca, Role, SubjectName, Validity};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use zeroize::Zeroizing;

/// Ten years: replacing an authority means visiting every node, so it is not to be hurried.
const CA_DAYS: u32 = 3650;
/// As long as the administrator's: both are renewed by hand.
const NODE_DAYS: u32 = 365;

pub(super) fn run(session: &Session<'_>, args: &Gen) -> Result<(), Failure> {
    let directory = &args.output_dir;
    let config_file =
        directory.join(format!("{}.yaml", args.hostname.as_deref().unwrap_or("machine")));
    // Checked before anything is written, so that a mistake leaves nothing behind.
    if config_file.exists() {
        return Err(in_the_way(&config_file));
    }
    let path = session.globals.config_path()?;
    let mut contexts = Contexts::read(&path)?;
    let (ca, fresh) = authority(args, &contexts)?;
    let config = machine_config(args, &ca)?;
    check(&config)?;

    let mut wrote: Vec<PathBuf> = Vec::new();
    let mut write = |file: PathBuf, text: &str| {
        write_private(&file, text.as_bytes(), false).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot write {}", file.display())).because(&error)
        })?;
        wrote.push(file);
        Ok::<(), Failure>(())
    };
    if fresh {
        write(directory.join("ca.key"), &ca.key().to_pem())?;
        write(directory.join("ca.crt"), &ca.certificate().to_pem())?;
    }
    write(config_file.clone(), &config)?;
    let known = session.globals.endpoint.is_some() || !args.address.is_empty();
    let added = !contexts.contexts.contains_key(&args.name);
    if added {
        let endpoint = session.globals.endpoint.as_ref().map(ToString::to_string);
        let endpoint = endpoint.or_else(|| first_address(args).map(|ip| ip.to_string()));
        let context = issue_context(&ca, &args.name, Role::Admin, args.days, endpoint)?;
        contexts.contexts.insert(args.name.clone(), context);
        contexts.current = Some(args.name.clone());
        contexts.write(&path)?;
    }
    if session.output.format != Format::Table {
        return Ok(());
    }
    let mut text: String =
        wrote.iter().map(|file| format!("wrote  {}\n", file.display())).collect();
    if added {
        let _ = writeln!(text, "added  context \"{}\" to {}", args.name, path.display());
    }
    // A context made now asks this node; one that was there asks another.
    let endpoint = if known && added { "" } else { " --endpoint NODE" };
    let _ = writeln!(text, "next   ingotctl apply -f {}{endpoint}", config_file.display());
    session.output.text(&text)
}

/// The directory's authority, or a new one. A context of this name must belong to it.
fn authority(args: &Gen, contexts: &Contexts) -> Result<(Ca, bool), Failure> {
    let [certificate, key] = ["ca.crt", "ca.key"].map(|name| args.output_dir.join(name).exists());
    if certificate || key {
        let ca = read_ca(&args.output_dir)?;
        let other = contexts.contexts.get(&args.name);
        if other.is_some_and(|context| context.ca != ca.certificate().to_pem()) {
            return Err(another_installation(&args.name));
        }
        return Ok((ca, false));
    }
    if contexts.contexts.contains_key(&args.name) {
        return Err(another_installation(&args.name));
    }
    let validity = Validity::starting(SystemTime::now(), Validity::days(CA_DAYS));
    let ca = Ca::generate(&args.name, validity)
        .map_err(|error| Failure::new(Exit::Failed, "cannot make the authority").because(&error))?;
    Ok((ca, true))
}

fn another_installation(name: &str) -> Failure {
    Failure::usage(format!("context \"{name}\" belongs to another installation"))
        .hint("choose another name, or `ingotctl config remove` that context")
}

fn in_the_way(file: &Path) -> Failure {
    Failure::usage(format!("{} is there already", file.display()))
        .hint("choose another --hostname or --output-dir, or move it away")
}

/// A config that we wrote must be one that nodes take; what is wrong came from a flag.
fn check(config: &str) -> Result<(), Failure> {
    let problems = ingot_machine_config::load(config).problems;
    let Some(first) = problems.first() else { return Ok(()) };
    let failure = Failure::usage(format!("{}: {}", first.path, first.message));
    Err(if first.hint.is_empty() { failure } else { failure.hint(first.hint.clone()) })
}

/// The text holds private keys: it wipes itself.
fn machine_config(args: &Gen, ca: &Ca) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::from("apiVersion: ingot/v1\nkind: Machine\n"));
    *text += &network(args);
    *text += "api:\n";
    if args.without_ca_key {
        let _ = writeln!(*text, "  ca:\n{}", block("certificate", &ca.certificate().to_pem(), 4));
        let name = args.hostname.as_deref().unwrap_or("node");
        let names: Vec<SubjectName> =
            first_address(args).map(SubjectName::Ip).into_iter().collect();
        let validity = Validity::starting(SystemTime::now(), Validity::days(NODE_DAYS));
        let identity = ca.issue_server(name, &names, validity).map_err(|error| {
            Failure::new(Exit::Failed, "cannot issue the node's certificate").because(&error)
        })?;
        let _ = writeln!(
            *text,
            "  certificate:\n{}\n{}",
            block("certificate", &identity.certificate.to_pem(), 4),
            block("key", &identity.key.to_pem(), 4)
        );
    } else {
        let _ = writeln!(
            *text,
            "  ca:\n{}\n    # With the authority's key the node renews its own certificate.\n{}",
            block("certificate", &ca.certificate().to_pem(), 4),
            block("key", &ca.key().to_pem(), 4)
        );
    }
    if args.with_pod {
        *text += &pod(&args.pod_image);
    }
    Ok(text)
}

/// Text that came from a flag is written as a quoted scalar, which JSON's are: it stays what it is.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn network(args: &Gen) -> String {
    let mut text = String::new();
    if let Some(hostname) = &args.hostname {
        let _ = writeln!(text, "  hostname: {}", quoted(hostname));
    }
    if !args.address.is_empty() {
        let selector = if args.link.matches(':').count() == 5 { "mac" } else { "name" };
        let _ = writeln!(text, "  links:\n    - {selector}: {}", quoted(&args.link));
        let _ = writeln!(text, "      addresses:");
        for address in &args.address {
            let _ = writeln!(text, "        - {}", quoted(address));
        }
    }
    if !args.gateway.is_empty() {
        text += "  routes:\n";
        for gateway in &args.gateway {
            let _ =
                writeln!(text, "    - to: default\n      via: {}", quoted(&gateway.to_string()));
        }
    }
    if !args.dns.is_empty() {
        text += "  dns:\n    servers:\n";
        for server in &args.dns {
            let _ = writeln!(text, "      - {}", quoted(&server.to_string()));
        }
    }
    if text.is_empty() { text } else { format!("network:\n{text}") }
}

fn first_address(args: &Gen) -> Option<IpAddr> {
    args.address.first()?.split('/').next()?.parse().ok()
}

/// A key with a block of lines below it.
fn block(key: &str, lines: &str, indent: usize) -> String {
    let space = " ".repeat(indent);
    let mut text = format!("{space}{key}: |");
    for line in lines.lines() {
        let _ = write!(text, "\n{space}  {line}");
    }
    text
}

fn pod(image: &str) -> String {
    format!(
        "---\n\
         # A pod is plain Kubernetes YAML; the node runs it by itself.\n\
         apiVersion: v1\n\
         kind: Pod\n\
         metadata:\n  name: example\n\
         spec:\n  containers:\n    - name: app\n      image: {}\n      \
         # The bundled workload spins; the limits hold it. Another image may want other words.\n      \
         args: [spin]\n      \
         resources:\n        limits:\n          cpu: 250m\n          memory: 64Mi\n",
        quoted(image)
    )
}
