//! `apply`: makes a config the node's wish; pairs first with a node that has none.

use super::problems::{Shown, name, read, refused};
use crate::cli::{Apply, Format};
use crate::client::{Error, Node, Unpaired};
use crate::failure::{Exit, Failure};
use crate::session::Session;
use ingot_api::machine::v1::ApplyConfigResponse;
use ingot_pki::pairing::PairingCode;
use std::io::{self, BufRead, IsTerminal};
use zeroize::Zeroizing;

/// Longer input at the prompt is no code.
const PROMPT_BYTES_MAX: usize = 256;

pub(super) async fn run(session: &Session<'_>, args: &Apply) -> Result<(), Failure> {
    let config = Zeroizing::new(read(&args.file)?);
    let answer = match &args.pairing_code {
        Some(code) => {
            let code = parse(code)?;
            let node = Unpaired::connect(&session.endpoint()?, session.timeout()).await?;
            node.apply(&code, &config, args.dry_run).await?
        }
        None => apply(session, &config, args.dry_run).await?,
    };
    show(session, args, &answer)
}

/// Applies as whom the context says; asks for the code when the node turns out to have no config.
async fn apply(
    session: &Session<'_>,
    config: &str,
    dry_run: bool,
) -> Result<ApplyConfigResponse, Failure> {
    let interactive = io::stdin().is_terminal() && io::stderr().is_terminal();
    let endpoint = match session.target() {
        Ok(target) => match Node::connect(&target).await {
            Ok(node) => return Ok(node.apply(config, dry_run).await?),
            Err(Error::Maintenance { endpoint }) if interactive => endpoint,
            Err(error) => return Err(error.into()),
        },
        // Without a context nothing but pairing is possible.
        Err(failure) => match &session.globals.endpoint {
            Some(endpoint) if interactive => endpoint.clone(),
            _ => return Err(failure),
        },
    };
    let node = Unpaired::connect(&endpoint, session.timeout()).await?;
    eprintln!("{endpoint} has no config yet. Its certificate fingerprint is");
    eprintln!("  {}", node.fingerprint());
    eprint!("Compare it with the node's console and type the pairing code: ");
    let code = prompt()?;
    Ok(node.apply(&code, config, dry_run).await?)
}

fn prompt() -> Result<PairingCode, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(PROMPT_BYTES_MAX));
    let mut input = io::Read::take(io::stdin().lock(), PROMPT_BYTES_MAX as u64);
    input
        .read_until(b'\n', &mut line)
        .map_err(|error| Failure::usage("cannot read the pairing code").because(&error))?;
    parse(&String::from_utf8_lossy(&line))
}

fn parse(text: &str) -> Result<PairingCode, Failure> {
    PairingCode::parse(text).map_err(|error| {
        Failure::usage("this is no pairing code")
            .because(&error)
            .hint("the node shows it on its console, as XXXX-XXXX-XXXX-XXXX")
    })
}

fn show(session: &Session<'_>, args: &Apply, answer: &ApplyConfigResponse) -> Result<(), Failure> {
    let problems = answer.problems.iter().map(|problem| Shown {
        path: &problem.path,
        line: problem.line,
        column: problem.column,
        message: &problem.message,
        hint: &problem.hint,
    });
    if session.output.format == Format::Table {
        if !answer.problems.is_empty() {
            return Err(refused(&args.file, problems));
        }
        return session.output.text(&summary(args.dry_run, answer));
    }
    session.output.answer("ApplyConfigResponse", answer, |_| String::new())?;
    if answer.problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, format!("{} was refused", name(&args.file))))
}

fn summary(dry_run: bool, answer: &ApplyConfigResponse) -> String {
    if answer.unchanged {
        return format!("unchanged, generation {}\n", answer.generation);
    }
    let mut text = if dry_run {
        format!("would become generation {}\n", answer.generation)
    } else {
        format!("applied, generation {}\n", answer.generation)
    };
    text.extend(answer.changes.iter().map(|change| format!("  {change}\n")));
    text
}
