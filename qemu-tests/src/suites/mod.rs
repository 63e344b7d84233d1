//! The suites: one file for each promise. They run in two lanes side by side (two processors are what there is): one
//! lane shares one node among all suites that only ask, the other boots machines of its own to break them.

mod agent_crash;
mod api;
mod attacks;
mod bad_input;
mod boot;
mod churn;
mod config;
mod cri_crash;
mod cri_limits;
mod cri_power_cut;
mod crictl;
mod critest;
mod density;
mod exec;
mod hardening;
mod isolation;
mod kubernetes;
mod network;
mod pods;
mod pods_full;
mod power_cut;
mod pull;
mod quotas;
mod reach;
mod verity;

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context as _;

use crate::artifacts::Artifacts;
use crate::client::Api;
use crate::credentials::Credentials;
use crate::documents;
use crate::faults::Faults;
use crate::machine::Machine;
use crate::report::Report;

/// What a run is given.
#[derive(Debug)]
pub struct Context {
    /// What to boot.
    pub artifacts: Artifacts,
    /// Run what takes long, too.
    pub full: bool,
    /// So many pods, containers or kills, where a suite makes very many.
    pub count: Option<usize>,
    /// Where chance comes from.
    pub faults: Faults,
    /// What the suites of the CRI need; `None` when none of them is to run.
    pub cri: Option<CriKit>,
    /// What the suite `kubernetes` needs; `None` when it is not to run.
    pub kubernetes: Option<KubernetesKit>,
}

/// What the suite `kubernetes` needs.
#[derive(Debug, Clone)]
pub struct KubernetesKit {
    /// An image with Kubernetes in it.
    pub artifacts: Artifacts,
    /// The program with kubectl in it, for this machine.
    pub kube: PathBuf,
    /// The OCI image layout with the images of the long form; `None` for the short form.
    pub images: Option<PathBuf>,
    /// Helm, where it could be built; for the long form.
    pub helm: Option<PathBuf>,
    /// The controller written with `kube`; for the long form.
    pub controller: Option<PathBuf>,
    /// Run only these groups of checks; all when there are none.
    pub focus: Vec<String>,
}

impl Context {
    /// How many of something a suite makes: what was asked for, else its own number for a short and for a full run.
    fn many(&self, (short, full): (usize, usize)) -> usize {
        self.count.unwrap_or(if self.full { full } else { short })
    }
}

/// What the suites of the CRI need beside a node.
#[derive(Debug, Clone)]
pub struct CriKit {
    /// The OCI image layout with all images.
    pub images: PathBuf,
    /// Whether critest and crictl are among them.
    pub has_cri_tools: bool,
    /// Run only these files of critest's specs; all when there are none.
    pub focus: Vec<String>,
}

/// A suite's name, what it promises, and whether it uses the shared node.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// What `cargo xtask test NAME` takes.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Hardening,
    Api,
    Pods,
    PodsFull,
    Reach,
    Quotas,
    Config,
    Boot,
    Network,
    AgentCrash,
    PowerCut,
    Verity,
    Critest,
    Crictl,
    Density,
    Churn,
    CriCrash,
    CriPowerCut,
    CriLimits,
    Exec,
    Isolation,
    Attacks,
    BadInput,
    Pull,
    Kubernetes,
}

impl Suite {
    /// Whether it only asks, on the shared node.
    fn asks(&self) -> bool {
        // A node with a CRI is booted by its suite.
        !self.needs_cri()
            && !matches!(
                self.kind,
                Kind::AgentCrash
                    | Kind::PowerCut
                    | Kind::Verity
                    | Kind::Critest
                    | Kind::Network
                    | Kind::Kubernetes
            )
    }

    /// Whether it is part of a run of the suites called `names`. Without names, the suites of the CRI wait for a full run: with them, two
    /// emulated processors need longer than anybody waits for every change.
    #[must_use]
    pub fn is_wanted(&self, names: &[String], full: bool) -> bool {
        match names {
            [] => full || !self.needs_cri(),
            names => names.iter().any(|name| name == self.name),
        }
    }

    /// Whether it needs a [`CriKit`].
    #[must_use]
    pub fn needs_cri(&self) -> bool {
        matches!(
            self.kind,
            Kind::Critest
                | Kind::Crictl
                | Kind::Density
                | Kind::Churn
                | Kind::CriCrash
                | Kind::CriPowerCut
                | Kind::CriLimits
                | Kind::Exec
                | Kind::Isolation
                | Kind::Attacks
                | Kind::BadInput
                | Kind::Pull
        )
    }
}

/// Every suite. Those of the shared node run in this order: the ones that disturb it most come last.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "hardening",
        about: "no shell, no set-uid, nothing listens but the API",
        kind: Kind::Hardening,
    },
    Suite {
        name: "api",
        about: "who may call what, and what everybody else is told",
        kind: Kind::Api,
    },
    Suite { name: "pods", about: "pods start, stop, fail and say why", kind: Kind::Pods },
    Suite {
        name: "pods_full",
        about: "all that a pod can say is carried out without Kubernetes",
        kind: Kind::PodsFull,
    },
    Suite {
        name: "reach",
        about: "an operator's exec, ports and files reach containers",
        kind: Kind::Reach,
    },
    Suite { name: "quotas", about: "limits on CPU, memory and processes hold", kind: Kind::Quotas },
    Suite {
        name: "config",
        about: "a wrong config changes nothing, a full disk loses nothing",
        kind: Kind::Config,
    },
    Suite {
        name: "boot",
        about: "every way to start, configure and stop a node",
        kind: Kind::Boot,
    },
    Suite {
        name: "network",
        about: "who reaches whom: pods, the node, outside, and ports of the node",
        kind: Kind::Network,
    },
    Suite {
        name: "agent_crash",
        about: "killing the agent is a boring event",
        kind: Kind::AgentCrash,
    },
    Suite {
        name: "power_cut",
        about: "a power cut at any moment leaves a node that boots",
        kind: Kind::PowerCut,
    },
    Suite { name: "verity", about: "a tampered root block is never served", kind: Kind::Verity },
    Suite {
        name: "kubernetes",
        about: "one command makes a cluster, and what people use of one works",
        kind: Kind::Kubernetes,
    },
    Suite {
        name: "crictl",
        about: "the command line for container runtimes, as it is",
        kind: Kind::Crictl,
    },
    Suite {
        name: "critest",
        about: "the Kubernetes project's tests of container runtimes",
        kind: Kind::Critest,
    },
    Suite {
        name: "cri_limits",
        about: "every limit that the CRI can ask for holds",
        kind: Kind::CriLimits,
    },
    Suite {
        name: "exec",
        about: "a program started in a container has the container's rights and no others",
        kind: Kind::Exec,
    },
    Suite {
        name: "isolation",
        about: "what containers can do, what they cannot, and who of them sees whom",
        kind: Kind::Isolation,
    },
    Suite {
        name: "attacks",
        about: "the attacks of known weaknesses of other runtimes do nothing here",
        kind: Kind::Attacks,
    },
    Suite {
        name: "pull",
        about: "images come from a registry with a name, a private authority and tokens",
        kind: Kind::Pull,
    },
    Suite {
        name: "bad_input",
        about: "hostile images and callers get a clear error and touch nothing else",
        kind: Kind::BadInput,
    },
    Suite {
        name: "density",
        about: "many pods on a small node, and what they cost",
        kind: Kind::Density,
    },
    Suite {
        name: "churn",
        about: "very many containers come and go, and nothing of them stays",
        kind: Kind::Churn,
    },
    Suite {
        name: "cri_crash",
        about: "the agent is killed under a client of the CRI",
        kind: Kind::CriCrash,
    },
    Suite {
        name: "cri_power_cut",
        about: "the power is cut under clients of the CRI",
        kind: Kind::CriPowerCut,
    },
];

/// Runs the suites called `names`, all when there are none.
pub async fn run(context: &Context, names: &[String], report: &Report) {
    let wanted = |suite: &&Suite| suite.is_wanted(names, context.full);
    let (breaking, asking): (Vec<&Suite>, Vec<&Suite>) =
        SUITES.iter().filter(wanted).partition(|suite| !suite.asks());
    let ask = async {
        let mut node = SharedNode::new(context);
        for suite in asking {
            let report = report.suite(suite.name);
            match suite.kind {
                Kind::Hardening => Box::pin(hardening::run(&mut node, &report)).await,
                Kind::Api => Box::pin(api::run(&mut node, &report)).await,
                Kind::Pods => Box::pin(pods::run(&mut node, &report)).await,
                Kind::PodsFull => Box::pin(pods_full::run(&mut node, &report)).await,
                Kind::Reach => Box::pin(reach::run(&mut node, &report)).await,
                Kind::Quotas => Box::pin(quotas::run(&mut node, &report)).await,
                Kind::Config => Box::pin(config::run(&mut node, &report)).await,
                Kind::Boot => Box::pin(boot::run(&mut node, &report)).await,
                _ => {}
            }
        }
    };
    let break_them = async {
        for suite in breaking {
            let report = report.suite(suite.name);
            match suite.kind {
                Kind::Network => Box::pin(network::run(context, &report)).await,
                Kind::AgentCrash => Box::pin(agent_crash::run(context, &report)).await,
                Kind::PowerCut => Box::pin(power_cut::run(context, &report)).await,
                Kind::Verity => Box::pin(verity::run(context, &report)).await,
                Kind::Kubernetes => Box::pin(kubernetes::run(context, &report)).await,
                Kind::Density => Box::pin(density::run(context, &report)).await,
                Kind::Churn => Box::pin(churn::run(context, &report)).await,
                Kind::CriCrash => Box::pin(cri_crash::run(context, &report)).await,
                Kind::CriPowerCut => Box::pin(cri_power_cut::run(context, &report)).await,
                Kind::CriLimits => Box::pin(cri_limits::run(context, &report)).await,
                Kind::Exec => Box::pin(exec::run(context, &report)).await,
                Kind::Isolation => Box::pin(isolation::run(context, &report)).await,
                Kind::Attacks => Box::pin(attacks::run(context, &report)).await,
                Kind::BadInput => Box::pin(bad_input::run(context, &report)).await,
                Kind::Pull => Box::pin(pull::run(context, &report)).await,
                Kind::Crictl => Box::pin(crictl::run(context, &report)).await,
                Kind::Critest => Box::pin(critest::run(context, &report)).await,
                _ => {}
            }
        }
    };
    futures::join!(ask, break_them);
}

/// Runs those suites that need nothing but a CRI against the one at `socket` of a machine with a relay.
pub async fn run_against(
    machine: &mut Machine,
    socket: &str,
    kit: &CriKit,
    names: &[String],
    report: &Report,
) {
    let wanted = |name: &str| names.is_empty() || names.iter().any(|it| it == name);
    if wanted("critest") {
        Box::pin(critest::against(machine, socket, kit, &report.suite("critest"))).await;
    }
    if wanted("crictl") {
        Box::pin(crictl::session(machine, socket, &report.suite("crictl"))).await;
    }
    if wanted("cri_limits") {
        Box::pin(cri_limits::against(machine, &report.suite("cri_limits"))).await;
    }
}

/// One node for many suites: booted when first asked for, and again when a suite left it broken.
#[derive(Debug)]
pub(crate) struct SharedNode<'a> {
    pub(crate) context: &'a Context,
    machine: Option<Machine>,
}

/// The check that fails when there is no node to check.
const NAME_OF_BOOT: &str = "the shared node boots";

/// The name of the shared node in its config.
const SHARED_NAME: &str = "shared";

impl<'a> SharedNode<'a> {
    fn new(context: &'a Context) -> Self {
        Self { context, machine: None }
    }

    /// The node, running. When it cannot be had, that is one failed check of the suite that asked.
    pub(crate) async fn get(&mut self, report: &Report) -> Option<&mut Machine> {
        if !self.is_healthy().await {
            self.machine = None;
            match self.boot().await {
                Ok(machine) => self.machine = Some(machine),
                Err((machine, error)) => {
                    match machine {
                        Some(mut machine) => {
                            report.check(NAME_OF_BOOT, &mut machine, async |_| Err(error)).await;
                        }
                        None => report.check_alone(NAME_OF_BOOT, async { Err(error) }).await,
                    }
                    return None;
                }
            }
        }
        self.machine.as_mut()
    }

    async fn is_healthy(&mut self) -> bool {
        let Some(machine) = &mut self.machine else { return false };
        let Ok(mut api) = machine.api() else { return false };
        let limit = std::time::Duration::from_secs(20);
        matches!(tokio::time::timeout(limit, api.version()).await, Ok(Ok(_)))
    }

    async fn boot(&self) -> Result<Machine, (Option<Machine>, anyhow::Error)> {
        let alone = |error| (None, error);
        let credentials = Rc::new(Credentials::generate().map_err(alone)?);
        let builder = Machine::builder(&self.context.artifacts, "shared")
            .cidata(documents::machine(&credentials, SHARED_NAME))
            .credentials(credentials);
        let mut machine = builder.boot().await.map_err(alone)?;
        match machine.wait_running().await {
            Ok(_) => Ok(machine),
            Err(error) => Err((Some(machine), error)),
        }
    }
}

/// Makes the pods of `documents` the only ones of a node, beside its unchanged machine document.
pub(crate) async fn apply_pods(
    machine: &Machine,
    api: &mut Api,
    pods: &[String],
) -> anyhow::Result<()> {
    let mut all = vec![documents::machine(machine.credentials(), SHARED_NAME)];
    all.extend_from_slice(pods);
    apply(api, &documents::stream(&all)).await.map(drop)
}

/// Applies a config that must be accepted, and returns its generation.
pub(crate) async fn apply(api: &mut Api, config: &str) -> anyhow::Result<u64> {
    let answer = api.apply(config).await.context("apply a config")?;
    anyhow::ensure!(answer.problems.is_empty(), "the config was refused: {:#?}", answer.problems);
    Ok(answer.generation)
}
