//! The words of the command line: help of every command, and the manual made of it.

use crate::transcript::{Shell, check, golden};
use clap::CommandFactory;
use ingot_ctl::cli::Cli;
use std::fmt::Write;
use std::path::Path;

/// Every command with its parents, depth first, as words after `ingotctl`.
fn commands(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
    found.push(words.to_vec());
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        let mut words = words.to_vec();
        words.push(child.get_name().to_owned());
        commands(child, &words, found);
    }
}

fn all() -> Vec<Vec<String>> {
    let mut command = Cli::command();
    command.build();
    let mut found = Vec::new();
    commands(&command, &[], &mut found);
    found
}

#[test]
fn every_command_explains_itself() {
    let shell = Shell::new();
    for words in all() {
        let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        arguments.push("--help");
        let name = if words.is_empty() { "ingotctl".to_owned() } else { words.join("-") };
        golden(&format!("help/{name}.txt"), &shell.run(&arguments));
    }
}

#[test]
fn the_manual_of_the_command_line_is_up_to_date() {
    let mut text = String::from(
        "<!-- Made from ctl/src/cli.rs by `UPDATE=1 cargo test -p ingot-ctl --test suite`. -->\n\
         # ingotctl\n\n\
         The operator's command line. A node is managed by nothing else.\n\n\
         ## How a node is recognised\n\n\
         A context holds the certificate authority of an installation and the operator's own certificate. A node is \
         trusted when its certificate comes from that authority and carries the DNS name `ingot-node`, which every node \
         certificate does; the address it is reached by does not matter, so a node behind a forwarded port or a NAT works. \
         What the certificates cannot tell apart is two nodes of one installation: `ingotctl status` names the node.\n\n\
         A node without config has a certificate that nobody vouches for. `ingotctl apply` then uses the pairing code on \
         the node's console: first the node proves that it knows the code, bound to the certificate of that connection, \
         then the config is sent with a proof of its own. Nothing leaves this machine before.\n\n\
         ## Contexts file\n\n\
         `--config FILE`, else `$INGOTCONFIG`, else `$XDG_CONFIG_HOME/ingot/config.yaml`, else \
         `~/.config/ingot/config.yaml`. It holds private keys: it is written with mode 0600 and replaced as a whole.\n\n\
         ```yaml\n\
         current: home\n\
         contexts:\n  home:\n    endpoint: 192.0.2.10:50000\n    ca: |\n      -----BEGIN CERTIFICATE-----\n      ...\n    \
         certificate: |\n      -----BEGIN CERTIFICATE-----\n      ...\n    key: |\n      -----BEGIN PRIVATE KEY-----\n      ...\n\
         ```\n\n\
         ## Errors\n\n\
         A failure is printed to standard error as `error:` (what), `cause:` (why, one line for each cause) and `hint:` \
         (what to do). The exit codes are below.\n",
    );
    for words in all() {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut found = &mut command;
        for word in &words {
            found = found.find_subcommand_mut(word).unwrap();
        }
        let title = ["ingotctl"].into_iter().chain(words.iter().map(String::as_str));
        let title = title.collect::<Vec<_>>().join(" ");
        let help = found.render_long_help().to_string();
        // The global options stand once, with the program itself.
        let help = if words.is_empty() {
            help.as_str()
        } else {
            help.split("\nGlobal options:").next().unwrap_or_default()
        };
        let _ = write!(text, "\n## {title}\n\n```text\n{}\n```\n", help.trim_end());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/cli.md");
    check(&path, &text);
}

#[test]
fn wrong_words_are_explained() {
    let shell = Shell::new();
    let mut text = String::new();
    for arguments in [
        &["statsu"][..],
        &["apply"],
        &["status", "--timeout", "5"],
        &["status", "--timeout", "0s"],
        &["status", "--endpoint", "https://node"],
        &["status", "--output", "xml"],
        &["config", "add", "x", "--role", "root"],
        &["status"],
        &["status", "--context", "nowhere"],
        &["config", "use", "nowhere"],
        &["apply", "-f", "absent.yaml"],
        &["config", "renew", "x"],
    ] {
        text += &shell.run(arguments);
        text.push('\n');
    }
    golden("usage.txt", &text);
}

#[test]
fn every_shell_gets_a_completion_script() {
    let shell = Shell::new();
    for name in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = shell.run(&["completion", name]);
        assert!(script.contains("cgroups") && script.ends_with("--- exit 0\n"), "{name}");
    }
}
