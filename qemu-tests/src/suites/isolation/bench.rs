//! Where containers are tried: a node with a CRI, one privileged container that sees all of the node, and pods beside it. A library of the
//! suites `isolation` and `attacks`; it checks nothing by itself.

use anyhow::{Context as _, ensure};

use crate::cri::{self, Cri, RELAY_PORT, v1};
use crate::cri_node;
use crate::leaks::Held;
use crate::machine::Machine;
use crate::registry::Registry;
use crate::report::Report;
use crate::suites::Context;

/// A shell and its applets.
pub(crate) const BUSYBOX: &str = "mirror.test/e2e-test-images/busybox:1.29-2";
/// The test program alone.
pub(crate) const WORKLOAD: &str = "mirror.test/ingot/test-workload:latest";
/// What a container does that is only looked at.
pub(crate) const WAIT: &[&str] = &["sleep", "100000"];

/// Memory of the node.
const MEMORY_MIB: u32 = 1024;

/// A pod.
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) config: v1::PodSandboxConfig,
}

/// The node.
pub(crate) struct Bench {
    pub(crate) cri: Cri,
    /// A privileged container with the node's root at /node.
    node: String,
    /// A pod in which nothing is special.
    plain: Option<Pod>,
    /// So that no two names are the same.
    made: usize,
}

/// A booted node on which something is tried, and what it held before.
pub(crate) struct Tried {
    pub(crate) machine: Machine,
    pub(crate) bench: Bench,
    pub(crate) held: Held,
    /// Lives as long as the node pulls.
    _registry: Registry,
}

/// What a container is asked to do, and what it must print.
pub(crate) struct Trial {
    pub(crate) name: &'static str,
    /// `None`: the pod in which nothing is special.
    pub(crate) pod: Option<fn(&mut v1::PodSandboxConfig)>,
    pub(crate) ask: fn(&mut v1::ContainerConfig),
    pub(crate) script: &'static str,
    /// The whole output.
    pub(crate) expect: &'static str,
}

/// What the CRI must refuse, and a word of why.
pub(crate) struct Refusal {
    pub(crate) name: &'static str,
    pub(crate) pod: Option<fn(&mut v1::PodSandboxConfig)>,
    pub(crate) ask: fn(&mut v1::ContainerConfig),
    pub(crate) says: &'static str,
}

impl Tried {
    /// Boots a node for the suite `name`, pulls `images`, runs `prepare` on the node, and counts what the node holds once its
    /// first pod has come and gone. When that fails it is a failed check, and there is nothing to try.
    pub(crate) async fn start(
        context: &Context,
        report: &Report,
        name: &str,
        images: &[&str],
        prepare: &str,
    ) -> Option<Self> {
        let kit = context.cri.as_ref()?;
        let booted = cri_node::boot(&context.artifacts, &kit.images, name, MEMORY_MIB).await;
        let (mut machine, registry) = match booted {
            Ok(booted) => booted,
            Err(error) => {
                report.check_alone("a node with a CRI boots", async { Err(error) }).await;
                return None;
            }
        };
        let mut started = None;
        report
            .check(
                "the images are pulled and the node can be looked at",
                &mut machine,
                async |machine| {
                    let mut bench = Bench::new(machine, images).await?;
                    bench.on_node(prepare).await?;
                    bench.warm_up().await?;
                    started = Some((bench, Held::count(&mut machine.api()?).await?));
                    Ok(())
                },
            )
            .await;
        let (bench, held) = started?;
        Some(Self { machine, bench, held, _registry: registry })
    }
}

impl Bench {
    /// Waits for the CRI, pulls `images` and makes the container that sees the node.
    pub(crate) async fn new(machine: &Machine, images: &[&str]) -> anyhow::Result<Self> {
        let mut cri = Cri::wait_at(machine.forwarded(RELAY_PORT)?).await?;
        for image in images {
            cri.pull(image).await?;
        }
        let config = cri::node_sandbox("node");
        let sandbox = cri.run_sandbox(&config).await?;
        let mut container = cri::node_container("node", BUSYBOX, WAIT);
        container.mounts =
            vec![v1::Mount { container_path: "/node".to_owned(), ..cri::node_path("/") }];
        let node = cri.create(&sandbox, &container, &config).await?;
        cri.start(&node).await?;
        Ok(Self { cri, node, plain: None, made: 0 })
    }

    /// One pod comes and goes. It makes what stays on purpose: the bridge, and the default filter of system calls.
    async fn warm_up(&mut self) -> anyhow::Result<()> {
        let first = self.pod(|_| {}).await?;
        let default = profile(v1::security_profile::ProfileType::RuntimeDefault, "");
        self.run(&first, |it| rights(it).seccomp = Some(default)).await?;
        self.cri.remove_sandbox(&first.id).await
    }

    /// Runs a script with all rights of the node, whose files are at /node and whose processes are in /proc.
    pub(crate) async fn on_node(&mut self, script: &str) -> anyhow::Result<String> {
        let node = self.node.clone();
        self.shell(&node, script).await.context("on the node")
    }

    /// Runs a script in a container.
    pub(crate) async fn shell(&mut self, id: &str, script: &str) -> anyhow::Result<String> {
        Ok(self.cri.exec(id, &["sh", "-c", script]).await?.trim().to_owned())
    }

    /// A name that nothing has yet.
    pub(crate) fn name(&mut self, start: &str) -> String {
        self.made += 1;
        format!("{start}-{}", self.made)
    }

    /// A pod.
    pub(crate) async fn pod(
        &mut self,
        ask: impl FnOnce(&mut v1::PodSandboxConfig),
    ) -> anyhow::Result<Pod> {
        let mut config = cri::sandbox(&self.name("pod"));
        ask(&mut config);
        let id = self.cri.run_sandbox(&config).await?;
        Ok(Pod { id, config })
    }

    /// A container that waits, unless `ask` says otherwise; made, not started.
    pub(crate) async fn create(
        &mut self,
        pod: &Pod,
        ask: impl FnOnce(&mut v1::ContainerConfig),
    ) -> anyhow::Result<String> {
        let mut config = cri::container(&self.name("container"), BUSYBOX, WAIT);
        ask(&mut config);
        self.cri.create(&pod.id, &config, &pod.config).await
    }

    /// The same, started.
    pub(crate) async fn run(
        &mut self,
        pod: &Pod,
        ask: impl FnOnce(&mut v1::ContainerConfig),
    ) -> anyhow::Result<String> {
        let id = self.create(pod, ask).await?;
        self.cri.start(&id).await?;
        Ok(id)
    }

    /// The pod that a trial wants, and whether it is for it alone.
    async fn pod_for(
        &mut self,
        ask: Option<fn(&mut v1::PodSandboxConfig)>,
    ) -> anyhow::Result<(Pod, bool)> {
        match (ask, self.plain.take()) {
            (Some(ask), plain) => {
                self.plain = plain;
                Ok((self.pod(ask).await?, true))
            }
            (None, Some(plain)) => Ok((plain, false)),
            (None, None) => Ok((self.pod(|_| {}).await?, false)),
        }
    }

    /// Removes the pod in which nothing is special.
    pub(crate) async fn leave_plain(&mut self) -> anyhow::Result<()> {
        match self.plain.take() {
            Some(pod) => self.cri.remove_sandbox(&pod.id).await,
            None => Ok(()),
        }
    }

    async fn give_back(&mut self, pod: Pod, alone: bool) -> anyhow::Result<()> {
        if alone {
            return self.cri.remove_sandbox(&pod.id).await;
        }
        self.plain = Some(pod);
        Ok(())
    }

    async fn try_one(&mut self, trial: &Trial) -> anyhow::Result<()> {
        let (pod, alone) = self.pod_for(trial.pod).await?;
        let result = self.try_in(&pod, trial).await;
        self.give_back(pod, alone).await?;
        result
    }

    async fn try_in(&mut self, pod: &Pod, trial: &Trial) -> anyhow::Result<()> {
        let id = self.run(pod, trial.ask).await?;
        let text = self.shell(&id, &format!("{{ {}\n}} 2>&1; true", trial.script)).await?;
        ensure!(text == trial.expect, "it printed {text:?}, not {:?}", trial.expect);
        self.cri.remove(&id).await
    }

    async fn refuse_one(&mut self, refusal: &Refusal) -> anyhow::Result<()> {
        let (pod, alone) = match self.pod_for(refusal.pod).await {
            Ok(found) => found,
            Err(error) => return says(&error, refusal.says),
        };
        let result = match self.run(&pod, refusal.ask).await {
            Ok(id) => Err(anyhow::anyhow!("it was made as {id}")),
            Err(error) => says(&error, refusal.says),
        };
        self.give_back(pod, alone).await?;
        result
    }
}

fn says(error: &anyhow::Error, word: &str) -> anyhow::Result<()> {
    let text = format!("{error:#}");
    ensure!(text.contains(word), "the error does not say {word:?}: {text}");
    Ok(())
}

/// Tries each, one check each.
pub(crate) async fn try_all(
    machine: &mut Machine,
    bench: &mut Bench,
    report: &Report,
    trials: &[Trial],
) {
    for trial in trials {
        report.check(trial.name, machine, async |_| bench.try_one(trial).await).await;
    }
}

/// Asks for each, one check each.
pub(crate) async fn refuse_all(
    machine: &mut Machine,
    bench: &mut Bench,
    report: &Report,
    refusals: &[Refusal],
) {
    for refusal in refusals {
        report.check(refusal.name, machine, async |_| bench.refuse_one(refusal).await).await;
    }
}

/// The rights of a container, to be changed.
pub(crate) fn rights(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

/// The limits of a container, to be changed.
pub(crate) fn limits(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerResources {
    config.linux.get_or_insert_default().resources.get_or_insert_default()
}

/// The namespaces of a pod, to be changed.
pub(crate) fn namespaces(config: &mut v1::PodSandboxConfig) -> &mut v1::NamespaceOption {
    let context = config.linux.get_or_insert_default().security_context.get_or_insert_default();
    context.namespace_options.get_or_insert_default()
}

/// A pod in which privileged containers can be.
pub(crate) fn privileged_pod(config: &mut v1::PodSandboxConfig) {
    config.linux.get_or_insert_default().security_context.get_or_insert_default().privileged = true;
}

/// A kernel parameter of a pod.
pub(crate) fn sysctl(config: &mut v1::PodSandboxConfig, name: &str, value: &str) {
    let linux = config.linux.get_or_insert_default();
    linux.sysctls.insert(name.to_owned(), value.to_owned());
}

/// A folder of the node in a container.
pub(crate) fn mount(host: &str, container: &str) -> v1::Mount {
    v1::Mount {
        host_path: host.to_owned(),
        container_path: container.to_owned(),
        ..Default::default()
    }
}

/// The test program in a container of another image, as /tools/workload.
pub(crate) fn tools() -> v1::Mount {
    v1::Mount {
        container_path: "/tools".to_owned(),
        image: Some(cri::image(WORKLOAD)),
        readonly: true,
        ..Default::default()
    }
}

/// A profile of system calls or of AppArmor.
pub(crate) fn profile(kind: v1::security_profile::ProfileType, name: &str) -> v1::SecurityProfile {
    v1::SecurityProfile { profile_type: kind.into(), localhost_ref: name.to_owned() }
}
