//! Suite `exec`: a program started in a running container has the container's rights and no others, sees nothing of the node, and
//! leaves nothing behind.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::Context;
use crate::cri::{self, Cri, RELAY_PORT, v1};
use crate::cri_node;
use crate::machine::Machine;
use crate::report::Report;
use crate::wait;

/// A shell and its applets.
const BUSYBOX: &str = "mirror.test/e2e-test-images/busybox:1.29-2";

/// Longest time for a killed program to be gone, and for a killed agent to answer again.
const GONE_LIMIT: Duration = Duration::from_secs(60);

/// Prints each difference between the container's first process and a program started in the container.
const DIFFERENCES: &str = r#"
for key in Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Umask; do
  first=$(grep "^$key:" /proc/1/status); ours=$(grep "^$key:" /proc/self/status)
  [ "$first" = "$ours" ] || echo "$key: first process $first, program $ours"
done
for kind in user mnt pid net ipc uts cgroup; do
  first=$(readlink /proc/1/ns/$kind); ours=$(readlink /proc/self/ns/$kind)
  [ "$first" = "$ours" ] || echo "namespace $kind: first process $first, program $ours"
done
for file in cgroup oom_score_adj limits; do
  first=$(cat /proc/1/$file); ours=$(cat /proc/self/$file)
  [ "$first" = "$ours" ] || echo "$file: first process $first, program $ours"
done
[ "$(readlink /proc/1/cwd)" = "$(readlink /proc/$$/cwd)" ] || echo "working folder $(readlink /proc/$$/cwd)"
[ "$(grep -c . /proc/1/status)" -gt 0 ] || echo "the first process cannot be read"
"#;

/// A way to ask for rights.
struct Flavour {
    name: &'static str,
    ask: fn(&mut v1::LinuxContainerSecurityContext),
    /// What the program must see of itself, so that the comparison compares something.
    expect: &'static [(&'static str, &'static str)],
}

const FLAVOURS: &[Flavour] = &[
    Flavour {
        name: "root with the default filter",
        ask: |it| it.seccomp = Some(default_seccomp()),
        expect: &[("Uid", "0"), ("Seccomp", "2"), ("CapInh", "0000000000000000")],
    },
    Flavour {
        name: "a user with groups and nothing to gain",
        ask: |it| {
            it.run_as_user = Some(v1::Int64Value { value: 1000 });
            it.run_as_group = Some(v1::Int64Value { value: 1001 });
            it.supplemental_groups = vec![2000, 2001];
            it.no_new_privs = true;
            it.seccomp = Some(default_seccomp());
            let drop_capabilities = vec!["ALL".to_owned()];
            it.capabilities = Some(v1::Capability { drop_capabilities, ..Default::default() });
        },
        expect: &[
            ("Uid", "1000"),
            ("Gid", "1001"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
            ("CapBnd", "0000000000000000"),
            ("CapEff", "0000000000000000"),
        ],
    },
    Flavour {
        name: "root with one more right",
        ask: |it| {
            let add_capabilities = vec!["NET_ADMIN".to_owned()];
            it.capabilities = Some(v1::Capability { add_capabilities, ..Default::default() });
        },
        expect: &[("Uid", "0"), ("Seccomp", "0"), ("CapAmb", "0000000000000000")],
    },
];

fn default_seccomp() -> v1::SecurityProfile {
    let profile_type = v1::security_profile::ProfileType::RuntimeDefault.into();
    v1::SecurityProfile { profile_type, ..Default::default() }
}

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.cri else { return };
    let (mut machine, _registry) =
        match cri_node::boot(&context.artifacts, &kit.images, "exec", 768).await {
            Ok(booted) => booted,
            Err(error) => {
                return report.check_alone("a node with a CRI boots", async { Err(error) }).await;
            }
        };
    let mut started = None;
    report
        .check("the image is pulled and a sandbox runs", &mut machine, async |machine| {
            let mut cri = Cri::wait_at(machine.forwarded(RELAY_PORT)?).await?;
            cri.pull(BUSYBOX).await?;
            let config = cri::sandbox("exec");
            let sandbox = cri.run_sandbox(&config).await?;
            started = Some(Bench { cri, config, sandbox });
            Ok(())
        })
        .await;
    let Some(mut bench) = started else { return };
    rights(&mut machine, &mut bench, report).await;
    behaviour(&mut machine, &mut bench, report).await;
    over_a_restart(&mut machine, &mut bench, report).await;
}

/// Where containers are made.
struct Bench {
    cri: Cri,
    config: v1::PodSandboxConfig,
    sandbox: String,
}

impl Bench {
    /// A container that waits.
    async fn container(
        &mut self,
        name: &str,
        ask: impl FnOnce(&mut v1::LinuxContainerSecurityContext),
    ) -> anyhow::Result<String> {
        let mut config = cri::container(name, BUSYBOX, &["sleep", "100000"]);
        config.working_dir = "/tmp".to_owned();
        ask(config.linux.get_or_insert_default().security_context.get_or_insert_default());
        let id = self.cri.create(&self.sandbox, &config, &self.config).await?;
        self.cri.start(&id).await?;
        Ok(id)
    }

    async fn shell(&mut self, id: &str, script: &str) -> anyhow::Result<String> {
        self.cri.exec(id, &["sh", "-c", script]).await
    }
}

async fn rights(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    for (number, flavour) in FLAVOURS.iter().enumerate() {
        let name = format!("a program has exactly the container's rights: {}", flavour.name);
        report
            .check(&name, machine, async |_| {
                let id = bench.container(&format!("rights-{number}"), flavour.ask).await?;
                let differences = bench.shell(&id, DIFFERENCES).await?;
                ensure!(differences.trim().is_empty(), "{differences}");
                let status = bench.shell(&id, "cat /proc/self/status").await?;
                for (key, value) in flavour.expect {
                    let line =
                        status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
                    let line = line.with_context(|| format!("no {key} in {status}"))?;
                    let found = line.split_whitespace().next().unwrap_or_default();
                    ensure!(found == *value, "{key} is {found}, not {value}");
                }
                Ok(())
            })
            .await;
    }
    report
        .check(
            "cve_2024_21626 a program has no descriptor but its own three",
            machine,
            async |_| {
                let id = bench.container("descriptors", |_| {}).await?;
                let list = bench.shell(&id, "ls /proc/$$/fd; true").await?;
                let found: Vec<&str> = list.split_whitespace().collect();
                ensure!(found == ["0", "1", "2"], "it has {list}");
                Ok(())
            },
        )
        .await;
    report
        .check("cve_2019_5736 the program of the helper cannot be written", machine, async |_| {
            let id = bench.container("overwrite", |_| {}).await?;
            // Becomes the helper inside the container, which finds nobody to talk to and ends.
            let run = bench.cri.exec(&id, &["/proc/self/exe"]).await;
            ensure!(run.is_err(), "/proc/self/exe did something: {run:?}");
            bench.shell(&id, "true").await.map(drop)
        })
        .await;
}

async fn behaviour(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    report
        .check("a program that is not there is named, and not started", machine, async |_| {
            let id = bench.container("absent", |_| {}).await?;
            let error = bench.cri.exec(&id, &["no-such-program"]).await.err();
            let error = format!("{:#}", error.context("it was started")?);
            ensure!(error.contains("executable file not found in $PATH"), "{error}");
            Ok(())
        })
        .await;
    report
        .check("a program that takes too long is killed with all it started", machine, async |_| {
            let id = bench.container("timeout", |_| {}).await?;
            let script = "sleep 12341 & setsid sleep 12342 & (sleep 12343 & sleep 12344)";
            let request = v1::ExecSyncRequest {
                container_id: id.clone(),
                cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
                timeout: 3,
            };
            let code = bench.cri.runtime.exec_sync(request).await.err().map(|status| status.code());
            ensure!(code == Some(tonic::Code::DeadlineExceeded), "it ended with {code:?}");
            let left = bench.shell(&id, "ps | grep 'sleep 1234' | grep -v grep; true").await?;
            ensure!(left.trim().is_empty(), "still there: {left}");
            Ok(())
        })
        .await;
    report
        .check("what a program leaves running does not hold it up", machine, async |_| {
            let id = bench.container("background", |_| {}).await?;
            let text = bench.shell(&id, "sleep 12351 & echo done").await?;
            ensure!(text.trim() == "done", "{text:?}");
            Ok(())
        })
        .await;
    report
        .check(
            "a program that is not root can open its standard output again",
            machine,
            async |_| {
                let id = bench
                    .container("reopen", |it| it.run_as_user = Some(v1::Int64Value { value: 1000 }))
                    .await?;
                let text = bench.shell(&id, "echo again >/dev/stdout").await?;
                ensure!(text.trim() == "again", "{text:?}");
                Ok(())
            },
        )
        .await;
}

async fn over_a_restart(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    report
        .check(
            "killing the agent ends programs it waited for and nothing of the container",
            machine,
            async |machine| {
                let id = bench.container("restart", |_| {}).await?;
                let before = bench.shell(&id, "cut -d' ' -f22 /proc/1/stat").await?;
                let mut other = Cri::at(machine.forwarded(RELAY_PORT)?)?;
                let waiting = other.exec(&id, &["sleep", "12361"]);
                let kill = async {
                    wait::until("the program to run", GONE_LIMIT, async || {
                        Ok(running(bench, &id).await?.then_some(()))
                    })
                    .await?;
                    machine.api()?.kill_service("ingotd").await
                };
                let (ended, killed) = futures::join!(waiting, kill);
                killed.context("kill the agent")?;
                ensure!(ended.is_err(), "it ended by itself");
                wait::until("the program to be gone", GONE_LIMIT, async || {
                    // The agent does not answer yet, or the program is still there.
                    Ok(matches!(running(bench, &id).await, Ok(false)).then_some(()))
                })
                .await?;
                let after = bench.shell(&id, "cut -d' ' -f22 /proc/1/stat").await?;
                ensure!(before == after, "the container's first process is another one");
                Ok(())
            },
        )
        .await;
}

async fn running(bench: &mut Bench, id: &str) -> anyhow::Result<bool> {
    Ok(bench.shell(id, "ps | grep 'sleep 12361' | grep -v grep; true").await?.contains("12361"))
}
