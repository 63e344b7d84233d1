//! `config`: the operator's contexts. Talks to no node.

use crate::cli::{Config, ConfigCommand, Format, Issue};
use crate::contexts::{Context, Contexts};
use crate::failure::{Exit, Failure};
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_pki::{Ca, Certificate, CertificateInfo, Role, Validity};
use serde::Serialize;
use std::path::Path;
use std::time::SystemTime;
use zeroize::Zeroizing;

pub(super) fn run(session: &Session<'_>, args: &Config) -> Result<(), Failure> {
    let path = session.globals.config_path()?;
    let mut contexts = Contexts::read(&path)?;
    let done = match &args.command {
        ConfigCommand::Contexts => return list(session, &contexts),
        ConfigCommand::Use { name } => {
            get(&mut contexts, name)?;
            contexts.current = Some(name.clone());
            format!("context \"{name}\" is now the current one\n")
        }
        ConfigCommand::Endpoint { name, endpoint } => {
            get(&mut contexts, name)?.endpoint = Some(endpoint.to_string());
            format!("context \"{name}\" asks {endpoint}\n")
        }
        ConfigCommand::Add(issue) => add(&mut contexts, issue)?,
        ConfigCommand::Renew { name, ca_dir, days } => renew(&mut contexts, name, ca_dir, *days)?,
        ConfigCommand::Remove { name } => {
            get(&mut contexts, name)?;
            contexts.contexts.remove(name);
            contexts.current.take_if(|current| current == name);
            format!("context \"{name}\" is removed\n")
        }
    };
    contexts.write(&path)?;
    if session.output.format == Format::Table { session.output.text(&done) } else { Ok(()) }
}

fn get<'a>(contexts: &'a mut Contexts, name: &str) -> Result<&'a mut Context, Failure> {
    contexts.contexts.get_mut(name).ok_or_else(|| {
        Failure::usage(format!("there is no context \"{name}\""))
            .hint("list them with `ingotctl config contexts`")
    })
}

fn add(contexts: &mut Contexts, issue: &Issue) -> Result<String, Failure> {
    let name = &issue.name;
    if contexts.contexts.contains_key(name) {
        return Err(Failure::usage(format!("there is a context \"{name}\" already"))
            .hint("choose another name, or remove it first"));
    }
    let ca = read_ca(&issue.ca_dir)?;
    // Another context of the same installation knows a node.
    let endpoint = contexts
        .contexts
        .values()
        .find(|other| other.ca == ca.certificate().to_pem())
        .and_then(|other| other.endpoint.clone());
    let context = issue_context(&ca, name, issue.role, issue.days, endpoint)?;
    contexts.contexts.insert(name.clone(), context);
    contexts.current.get_or_insert_with(|| name.clone());
    Ok(format!("context \"{name}\" has the role {} for {} days\n", issue.role, issue.days))
}

fn renew(contexts: &mut Contexts, name: &str, ca_dir: &Path, days: u32) -> Result<String, Failure> {
    let ca = read_ca(ca_dir)?;
    let context = get(contexts, name)?;
    let role = info(context).and_then(|info| info.role).ok_or_else(|| {
        Failure::usage(format!("context \"{name}\" has no certificate with a role"))
            .hint("remove it and add it again: `ingotctl config add`")
    })?;
    *context = issue_context(&ca, name, role, days, context.endpoint.take())?;
    Ok(format!("context \"{name}\" has the role {role} for {days} days\n"))
}

/// A context with a fresh certificate.
pub(super) fn issue_context(
    ca: &Ca,
    name: &str,
    role: Role,
    days: u32,
    endpoint: Option<String>,
) -> Result<Context, Failure> {
    let validity = Validity::starting(SystemTime::now(), Validity::days(days));
    let identity = ca.issue_client(name, role, validity).map_err(|error| {
        Failure::new(Exit::Failed, "cannot issue the client certificate").because(&error)
    })?;
    Ok(Context::new(endpoint, ca.certificate(), &identity))
}

/// Reads the authority that `gen` wrote.
pub(super) fn read_ca(directory: &Path) -> Result<Ca, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::usage(format!("cannot read the authority in {}", directory.display()))
            .because(error)
            .hint("name the directory that `ingotctl gen` wrote ca.crt and ca.key to")
    };
    let certificate =
        fs_err::read_to_string(directory.join("ca.crt")).map_err(|error| failed(&error))?;
    let key = fs_err::read_to_string(directory.join("ca.key")).map_err(|error| failed(&error))?;
    Ca::from_pem(&certificate, &Zeroizing::new(key)).map_err(|error| failed(&error))
}

fn info(context: &Context) -> Option<CertificateInfo> {
    let certificate = Certificate::from_pem(context.certificate.as_deref()?).ok()?;
    certificate.info().ok()
}

/// A context for programs.
#[derive(Serialize)]
struct Item<'a> {
    name: &'a str,
    current: bool,
    endpoint: Option<&'a str>,
    role: Option<&'static str>,
    expires: Option<String>,
}

fn list(session: &Session<'_>, contexts: &Contexts) -> Result<(), Failure> {
    let items: Vec<Item<'_>> = contexts
        .contexts
        .iter()
        .map(|(name, context)| {
            let info = info(context);
            Item {
                name,
                current: contexts.current.as_ref() == Some(name),
                endpoint: context.endpoint.as_deref(),
                role: info.as_ref().and_then(|info| info.role).map(Role::name),
                expires: info.and_then(|info| moment(info.validity.not_after)),
            }
        })
        .collect();
    if session.output.format != Format::Table {
        return session.output.data(&items, false);
    }
    let rows = items.iter().map(|item| {
        [
            if item.current { "*" } else { "" }.to_owned(),
            item.name.to_owned(),
            text::or_dash(item.endpoint.unwrap_or_default()),
            text::or_dash(item.role.unwrap_or_default()),
            text::or_dash(item.expires.as_deref().unwrap_or_default()),
        ]
    });
    session.output.text(&table(["", "NAME", "ENDPOINT", "ROLE", "EXPIRES"], rows.collect()))
}

fn moment(time: SystemTime) -> Option<String> {
    jiff::Timestamp::try_from(time).ok().map(|moment| moment.to_string())
}
