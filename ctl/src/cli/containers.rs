//! Commands that reach into containers, and those about images. Parsing only.

use super::parse_duration;
use clap::{Args, Subcommand};
use ingot_api::machine::v1::ContainerRef;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// List containers of all pods: the node's own and those of a kubelet
///
/// SOURCE says who asked for a container: config, control-plane, or cri for a kubelet.
#[derive(Debug, Args)]
pub struct Containers {
    /// Only this namespace
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Only what this one asked for: config, control-plane or cri
    #[arg(long, value_name = "NAME", value_parser = ["config", "control-plane", "cri"])]
    pub source: Option<String>,
    /// Ended ones too
    #[arg(short, long)]
    pub all: bool,
}

/// Run a program in a container
///
/// Ends with the program's exit code. Needs the role admin; the node records it as an event.
///
/// Example: ingotctl exec -it web/app -- sh
#[derive(Debug, Args)]
pub struct Exec {
    /// Pass standard input on to the program
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// Variable in the program's environment, beside the container's
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Pod and its container where it has several, or id: and the beginning of a container's id
    #[arg(value_name = "POD[/CONTAINER]|id:ID")]
    pub target: Target,
    /// Program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Connect to what a container runs
///
/// Shows its output from now on. Ends with the container, or with Ctrl-C; in a terminal with -i, with Ctrl-P Ctrl-Q. The container runs
/// on. Needs the role admin; the node records it as an event.
///
/// Example: ingotctl attach -i web/app
#[derive(Debug, Args)]
pub struct Attach {
    /// Pass standard input on to the container
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// Pod and its container where it has several, or id: and the beginning of a container's id
    #[arg(value_name = "POD[/CONTAINER]|id:ID")]
    pub target: Target,
}

/// Forward ports of this machine to ports of a pod
///
/// Needs the role admin; the node records each connection as an event. Ends with Ctrl-C.
///
/// Example: ingotctl port-forward web 8080:80
#[derive(Debug, Args)]
pub struct PortForward {
    /// Namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// Address of this machine to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// Pod, or id: and the beginning of its sandbox's id
    #[arg(value_name = "POD|id:ID")]
    pub target: Target,
    /// Port here and port of the pod; one number for both, nothing before the colon for any free port here
    #[arg(value_name = "[[LOCAL]:]REMOTE", required = true)]
    pub ports: Vec<Port>,
}

/// Copy files to or from a container
///
/// One side is a path here, the other a path in a container. As `cp -r` does: below a folder that exists, else under the new name. The node
/// packs and unpacks; the container needs no program for it. Needs the role admin; the node records it as an event.
///
/// Example: ingotctl cp web/app:/var/log ./logs
#[derive(Debug, Args)]
pub struct Cp {
    /// Namespace of the pod
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// What
    #[arg(value_name = "SOURCE")]
    pub from: Place,
    /// Where to
    #[arg(value_name = "DESTINATION")]
    pub to: Place,
}

/// Show what containers use, busiest first, again and again
///
/// On a terminal until Ctrl-C, else once.
#[derive(Debug, Args)]
pub struct Top {
    /// Only this namespace
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Time between two looks
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2s")]
    pub interval: Duration,
    /// Look once
    #[arg(long)]
    pub once: bool,
}

/// List, fetch and remove images
#[derive(Debug, Args)]
pub struct Images {
    /// What to do
    #[command(subcommand)]
    pub command: ImagesCommand,
}

/// What can be done with images.
#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// List images, their sizes and how many containers use them
    List,
    /// Fetch an image from its registry
    ///
    /// Example: ingotctl images pull registry.example/web:1
    Pull {
        /// As in a pod
        #[arg(value_name = "IMAGE")]
        image: String,
        /// User name at the registry, instead of the node's own credentials
        #[arg(long, value_name = "NAME", requires = "password_file")]
        username: Option<String>,
        /// File with the password, "-" for standard input
        #[arg(long, value_name = "FILE", requires = "username")]
        password_file: Option<PathBuf>,
    },
    /// Take in the images of an archive: an OCI layout as a tar, or what `docker save` writes
    ///
    /// Example: docker save web:1 | ingotctl images import -
    Import {
        /// Archive, "-" for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Write an image as an archive: an OCI layout as a tar, which import takes
    ///
    /// It has the same files and names, uncompressed layers, and another id.
    ///
    /// Example: ingotctl images export web:1 web.tar
    Export {
        /// Tag, digest, id or the beginning of an id
        #[arg(value_name = "IMAGE")]
        image: String,
        /// Archive, "-" for standard output; one that is there is replaced
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Remove an image with all its names
    Rm {
        /// Tag, digest, id or the beginning of an id
        #[arg(value_name = "IMAGE")]
        image: String,
    },
    /// Remove layers that no image has
    Gc {
        /// Images that no container uses too
        #[arg(long)]
        unused: bool,
    },
}

/// A container or pod on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pod: String,
    container: String,
    id: String,
}

impl Target {
    /// As the API names a container.
    #[must_use]
    pub fn container(&self, namespace: &str) -> ContainerRef {
        ContainerRef {
            namespace: namespace.to_owned(),
            pod: self.pod.clone(),
            container: self.container.clone(),
            id: self.id.clone(),
        }
    }

    /// Its pod.
    #[must_use]
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Its id, empty when it was named.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected POD, POD/CONTAINER or id:ID".to_owned();
        if let Some(id) = text.strip_prefix("id:") {
            let hex = id.len() >= 4 && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
            let id = id.to_owned();
            return hex
                .then_some(Self { pod: String::new(), container: String::new(), id })
                .ok_or_else(|| "an id has at least 4 hexadecimal digits".to_owned());
        }
        let (pod, container) = text.split_once('/').unwrap_or((text, ""));
        let empty_container = container.is_empty() && text.contains('/');
        if pod.is_empty() || empty_container || container.contains('/') {
            return Err(wrong());
        }
        Ok(Self { pod: pod.to_owned(), container: container.to_owned(), id: String::new() })
    }
}

/// A path here or in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Here.
    Here(PathBuf),
    /// In a container.
    There(Target, String),
}

impl FromStr for Place {
    type Err = String;

    /// As scp does it: a colon before the first slash of a path names another place. `./a:b` is a path here.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected a path".to_owned());
        }
        if text.starts_with(['/', '.']) {
            return Ok(Self::Here(text.into()));
        }
        let (prefix, rest) = match text.strip_prefix("id:") {
            Some(rest) => ("id:", rest),
            None => ("", text),
        };
        let Some((target, path)) = rest.split_once(':') else {
            return Ok(Self::Here(text.into()));
        };
        if path.is_empty() {
            return Err("expected a path after the colon".to_owned());
        }
        Ok(Self::There(format!("{prefix}{target}").parse()?, path.to_owned()))
    }
}

/// A pair of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Here; 0 for any.
    pub local: u16,
    /// Of the pod.
    pub remote: u16,
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        let local = if local.is_empty() { "0" } else { local };
        let wrong = || "expected REMOTE, LOCAL:REMOTE or :REMOTE, e.g. 8080:80".to_owned();
        let remote = remote.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        Ok(Self { local: local.parse().map_err(|_| wrong())?, remote })
    }
}

#[cfg(test)]
mod tests {
    //! What words on the command line mean.

    use super::*;

    fn here(path: &str) -> Place {
        Place::Here(path.into())
    }

    #[test]
    fn a_colon_before_the_first_slash_names_a_container() {
        let place = |text: &str| text.parse::<Place>().unwrap();
        let target = |text: &str| text.parse::<Target>().unwrap();
        assert_eq!(place("web:/etc"), Place::There(target("web"), "/etc".into()));
        assert_eq!(place("web/app:etc"), Place::There(target("web/app"), "etc".into()));
        assert_eq!(place("id:abcd:/x:y"), Place::There(target("id:abcd"), "/x:y".into()));
        for path in ["./a:b", "/a:b", "a", "a/b", "..", "."] {
            assert_eq!(place(path), here(path));
        }
        assert!("web:".parse::<Place>().is_err());
        assert!("".parse::<Place>().is_err());
    }

    #[test]
    fn targets_and_ports_that_make_no_sense_are_refused() {
        for wrong in ["", "/x", "x/", "a/b/c", "id:", "id:xyz1", "id:abc"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
        for wrong in ["", ":", "80:", "0", "x", "70000", "1:2:3", "-1"] {
            assert!(wrong.parse::<Port>().is_err(), "{wrong}");
        }
        assert_eq!("80".parse(), Ok(Port { local: 80, remote: 80 }));
        assert_eq!(":80".parse(), Ok(Port { local: 0, remote: 80 }));
    }
}
