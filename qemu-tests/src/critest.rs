//! Runs critest, the Kubernetes project's conformance tests of container runtimes, inside a machine, and reads its report. The machine
//! may be a node or any other system whose CRI can be reached; what counts as good is decided by who calls.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::cri::{self, Cri, v1};
use crate::wait;

/// The image that holds critest and what it calls. The host part is any: a mirror serves it.
pub const RUNNER: &str = "mirror.test/ingot/critest:latest";
/// Folder of the machine for critest's files and reports. On a tmpfs that is the same in the runner as outside.
pub const FOLDER: &str = "/run/critest";
/// What the toolbox does: it also mounts what profiles of AppArmor are loaded through, where nobody has.
const PREPARE: &str = "mkdir -p /run/critest; grep -q ' /sys/kernel/security ' /proc/mounts || \
                       mount -t securityfs securityfs /sys/kernel/security; exec sleep 100000";
/// How often a running shard is asked for.
const POLL: Duration = Duration::from_secs(2);
/// A call of ours that fails because somebody killed the runtime succeeds within this time.
const AGAIN_LIMIT: Duration = Duration::from_secs(180);
/// Where the go-between listens that asks again what a killed runtime did not answer, and where it keeps its account.
pub const RETRY_SOCKET: &str = "/run/critest/retry.sock";
const RETRY_LOG: &str = "/run/critest/retry.log";

/// Part of the specs, run one after the other by one critest.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Name of its report.
    pub name: String,
    /// Files of critest's source whose specs it runs; all when there are none.
    pub files: Vec<&'static str>,
    /// Regular expressions of specs that are left out.
    pub skip: Vec<String>,
    /// More words for critest.
    pub flags: Vec<String>,
}

/// Characters of a failure's message that are shown; the whole is in the evidence.
const MESSAGE_LIMIT: usize = 500;

/// One spec and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// What it is about: the outermost description, such as `Streaming`.
    pub group: String,
    /// All descriptions from the outermost to its own.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Seconds it took, by the machine's clock.
    pub seconds: u64,
    /// How often it was begun.
    pub attempts: u32,
}

/// How a spec ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Passed,
    /// It skipped itself, and says why.
    Skipped(String),
    /// Not as it should: the message, with the place in critest's source.
    Failed(String),
}

/// critest in a machine: a privileged sandbox that shares the node's namespaces, and a toolbox in it.
#[derive(Debug)]
pub struct Runner {
    cri: Cri,
    config: v1::PodSandboxConfig,
    sandbox: String,
    toolbox: String,
    /// The CRI's socket in the machine.
    socket: String,
}

impl Runner {
    /// Pulls the image and starts the sandbox in the machine behind `cri`, whose socket is at `socket`.
    pub async fn start(mut cri: Cri, socket: &str) -> anyhow::Result<Self> {
        cri.pull(RUNNER).await?;
        let config = cri::node_sandbox("critest");
        let sandbox = cri.run_sandbox(&config).await.context("start the sandbox for critest")?;
        let tools = container("toolbox", &["sh", "-c", PREPARE]);
        let toolbox = cri.create(&sandbox, &tools, &config).await?;
        cri.start(&toolbox).await?;
        Ok(Self { cri, config, sandbox, toolbox, socket: socket.to_owned() })
    }

    /// The words of a command, run beside critest with the same view of the machine.
    pub async fn tool(&self, command: &[&str]) -> anyhow::Result<String> {
        self.cri.clone().exec(&self.toolbox, command).await
    }

    /// Runs one shard to its end, `limit` at most, and returns what became of every spec it was to run.
    pub async fn run(&self, shard: &Shard, limit: Duration) -> anyhow::Result<Vec<Spec>> {
        let report = format!("{FOLDER}/{}.json", shard.name);
        let command = self.command(shard, &report);
        let ended = self.command_to_end(&shard.name, &command, limit).await;
        // What it wrote tells more than that it did not end.
        let text = match ended {
            Err(_) => self.tool(&["cat", &report]).await,
            // Asked again for the runs in which the runtime is killed.
            Ok(_) => {
                wait::until("critest's report", AGAIN_LIMIT, async || {
                    self.tool(&["cat", &report]).await.map(Some)
                })
                .await
            }
        };
        let code = ended?;
        let text = text.with_context(|| format!("critest ended with {code} and left no report"))?;
        specs(&text)
    }

    /// Runs a shell's command in a container called `name`, to its end; the exit code. Beside the toolbox's commands it may take
    /// long.
    pub async fn command_to_end(
        &self,
        name: &str,
        command: &str,
        limit: Duration,
    ) -> anyhow::Result<i32> {
        let id = self.begin(name, command).await?;
        let mut cri = self.cri.clone();
        wait::until(&format!("{name} to end"), limit, async || {
            tokio::time::sleep(POLL).await;
            let status = cri.status(&id).await?;
            let ended = status.state() == v1::ContainerState::ContainerExited;
            Ok(ended.then_some(status.exit_code))
        })
        .await
    }

    /// Starts a shell's command in a container called `name`; the container's id.
    async fn begin(&self, name: &str, command: &str) -> anyhow::Result<String> {
        let command = format!("export TMPDIR={FOLDER}; {command}");
        let config = container(name, &["sh", "-c", &command]);
        // Either call may be interrupted by a kill, and both may be repeated.
        wait::until(&format!("{name} to be started"), AGAIN_LIMIT, async || {
            let mut cri = self.cri.clone();
            let id = cri.create(&self.sandbox, &config, &self.config).await?;
            if cri.status(&id).await?.state() == v1::ContainerState::ContainerCreated {
                cri.start(&id).await?;
            }
            Ok(Some(id))
        })
        .await
    }

    /// Starts the go-between, and has everything that is run from now on use it.
    pub async fn ask_again(&mut self) -> anyhow::Result<()> {
        let command = format!("exec cri-retry {RETRY_SOCKET} {} {RETRY_LOG}", self.socket);
        self.begin("retry", &command).await?;
        wait::until("the go-between to listen", AGAIN_LIMIT, async || {
            self.tool(&["test", "-S", RETRY_SOCKET]).await.map(Some)
        })
        .await?;
        RETRY_SOCKET.clone_into(&mut self.socket);
        Ok(())
    }

    /// How many calls the go-between asked again, by the call's name.
    pub async fn asked_again(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let text = self.tool(&["cat", RETRY_LOG]).await?;
        let mut counts = BTreeMap::new();
        for line in text.lines() {
            let call = line.rsplit('/').next().unwrap_or_default();
            *counts.entry(call.to_owned()).or_default() += 1;
        }
        Ok(counts)
    }

    /// Runs a shell's command to its end, and returns what it printed; an error carries what it complained of.
    pub async fn output_of(
        &self,
        name: &str,
        command: &str,
        limit: Duration,
    ) -> anyhow::Result<String> {
        let (out, err) = (format!("{FOLDER}/{name}.out"), format!("{FOLDER}/{name}.err"));
        let code = self.command_to_end(name, &format!("{command} >{out} 2>{err}"), limit).await?;
        if code != 0 {
            let complaint = self.tool(&["tail", "-n", "20", &err]).await?;
            anyhow::bail!("{name} ended with {code}: {}", complaint.trim());
        }
        self.tool(&["cat", &out]).await
    }

    /// The end of what a shard printed.
    pub async fn output(&self, shard: &str) -> anyhow::Result<String> {
        let path = format!("{FOLDER}/{shard}.log");
        self.tool(&["tail", "-n", "4000", &path]).await
    }

    /// Takes everything away again.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.cri.remove_sandbox(&self.sandbox).await
    }

    /// The shell's words that run critest.
    fn command(&self, shard: &Shard, report: &str) -> String {
        let mut words = vec![
            format!(
                "exec critest -runtime-endpoint unix://{0} -image-endpoint unix://{0}",
                self.socket
            ),
            "-ginkgo.no-color -ginkgo.v".to_owned(),
            format!("-ginkgo.json-report={report}"),
        ];
        words.extend(shard.files.iter().map(|file| format!("-ginkgo.focus-file '/{file}'")));
        words.extend(shard.skip.iter().map(|spec| format!("-ginkgo.skip '{spec}'")));
        words.extend(shard.flags.iter().cloned());
        words.push(format!(">{FOLDER}/{}.log 2>&1", shard.name));
        words.join(" ")
    }
}

/// A container of the runner's image that sees the machine as a program on it does, as far as critest looks.
fn container(name: &str, command: &[&str]) -> v1::ContainerConfig {
    let mut config = cri::node_container(name, RUNNER, command);
    config.mounts = ["/run", "/var", "/sys"].map(cri::node_path).to_vec();
    config
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SuiteReport {
    #[serde(default)]
    spec_reports: Option<Vec<SpecReport>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SpecReport {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    #[serde(default)]
    leaf_node_text: String,
    #[serde(default)]
    leaf_node_type: String,
    state: String,
    #[serde(default)]
    run_time: u64,
    #[serde(default)]
    num_attempts: u32,
    #[serde(default)]
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
    #[serde(default)]
    location: Location,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Location {
    file_name: String,
    line_number: u64,
}

/// The specs of a JSON report that were to run. Those that the choice of files or words left out are not in it.
fn specs(report: &str) -> anyhow::Result<Vec<Spec>> {
    let suites: Vec<SuiteReport> = serde_json::from_str(report).context("read critest's report")?;
    let reports = suites.into_iter().flat_map(|suite| suite.spec_reports.unwrap_or_default());
    let mut found = Vec::new();
    for one in reports {
        let above = one.container_hierarchy_texts.unwrap_or_default();
        let group = above.first().map_or("critest", |text| text.as_str());
        let group = group.trim_start_matches("[k8s.io] ").trim_end_matches(" [Conformance]");
        let (outcome, is_spec) = (outcome(&one.state, one.failure), one.leaf_node_type == "It");
        // What prepares the suite matters only when it fails.
        if !is_spec && !matches!(outcome, Outcome::Failed(_)) {
            continue;
        }
        if matches!(&outcome, Outcome::Skipped(why) if why.is_empty()) {
            continue;
        }
        let mut words: Vec<&str> = above.iter().skip(1).map(String::as_str).collect();
        words.push(if is_spec { &one.leaf_node_text } else { &one.leaf_node_type });
        found.push(Spec {
            group: group.to_owned(),
            name: words.join(" "),
            outcome,
            seconds: one.run_time / 1_000_000_000,
            attempts: one.num_attempts,
        });
    }
    ensure!(!found.is_empty(), "critest ran no spec");
    Ok(found)
}

fn outcome(state: &str, failure: Option<Failure>) -> Outcome {
    let text = failure.map_or_else(String::new, |failure| {
        let file = failure.location.file_name;
        let file = file.rsplit('/').next().unwrap_or_default();
        let message = shortened(failure.message.trim());
        format!("{message} ({file}:{})", failure.location.line_number)
    });
    match state {
        "passed" => Outcome::Passed,
        // A spec that skips itself says so with a message; one that was filtered out has none.
        "skipped" | "pending" => Outcome::Skipped(text),
        _ => Outcome::Failed(format!("{state}: {text}")),
    }
}

/// The beginning of a message, on one line: Go prints a whole tree of values.
fn shortened(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((end, _)) = line.char_indices().nth(MESSAGE_LIMIT) else { return line };
    format!("{}...", &line[..end])
}

/// Specs by group, in the order of the groups' names.
#[must_use]
pub fn by_group(specs: Vec<Spec>) -> BTreeMap<String, Vec<Spec>> {
    let mut groups: BTreeMap<String, Vec<Spec>> = BTreeMap::new();
    for spec in specs {
        groups.entry(spec.group.clone()).or_default().push(spec);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::{Outcome, specs};

    #[test]
    fn a_report_tells_passed_failed_and_skipped_specs_apart_from_those_left_out() {
        let report = r#"[{"SpecReports": [
            {"LeafNodeType": "BeforeSuite", "State": "passed"},
            {"ContainerHierarchyTexts": ["[k8s.io] Streaming", "runtime should"], "LeafNodeType": "It",
             "LeafNodeText": "exec", "State": "passed", "RunTime": 2500000000, "NumAttempts": 3},
            {"ContainerHierarchyTexts": ["[k8s.io] Streaming"], "LeafNodeType": "It", "LeafNodeText": "attach",
             "State": "failed", "Failure": {"Message": "no\n", "Location": {"FileName": "a/streaming.go", "LineNumber": 7}}},
            {"ContainerHierarchyTexts": null, "LeafNodeType": "It", "LeafNodeText": "x", "State": "skipped",
             "Failure": {"Message": "not here", "Location": {"FileName": "x.go", "LineNumber": 1}}},
            {"ContainerHierarchyTexts": ["[k8s.io] Image"], "LeafNodeType": "It", "LeafNodeText": "y", "State": "skipped"}
        ]}]"#;
        let specs = specs(report).expect("a report");
        assert_eq!(specs.len(), 3, "{specs:?}");
        assert_eq!((specs[0].group.as_str(), specs[0].seconds), ("Streaming", 2));
        assert_eq!(specs[0].attempts, 3);
        assert_eq!(specs[0].name, "runtime should exec");
        assert_eq!(specs[1].outcome, Outcome::Failed("failed: no (streaming.go:7)".to_owned()));
        assert!(matches!(&specs[2].outcome, Outcome::Skipped(why) if why.contains("not here")));
    }

    #[test]
    fn a_suite_that_could_not_be_prepared_is_a_failure() {
        let report = r#"[{"SpecReports": [{"LeafNodeType": "BeforeSuite", "State": "failed"}]}]"#;
        let specs = specs(report).expect("a report");
        assert!(matches!(specs[0].outcome, Outcome::Failed(_)), "{specs:?}");
    }
}
