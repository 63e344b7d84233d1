//! Upstream's kubectl on the host: the multi-call program of `kubernetes/`, through a link of that name.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::command::{Ran, run};
use crate::wait;

/// One call, with a server that emulation makes slow.
const CALL_LIMIT: Duration = Duration::from_secs(180);
/// Between two questions while something is waited for: kubectl costs more than the answer.
const POLL: Duration = Duration::from_secs(2);

/// A user's kubectl with their kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Kubectl {
    /// A program called kubectl, and a kubeconfig. What kubectl caches goes to `home`.
    #[must_use]
    pub fn new(program: &Path, kubeconfig: &Path, home: &Path) -> Self {
        Self {
            program: program.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            home: home.to_owned(),
        }
    }

    /// The command with these words, not started.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home);
        command.stdin(Stdio::null());
        command
    }

    /// Runs kubectl to its end, however that is.
    pub async fn run(&self, words: &[&str], input: &str) -> anyhow::Result<Ran> {
        run(self.command(words), input, CALL_LIMIT).await
    }

    /// What kubectl prints; it must succeed.
    pub async fn ok(&self, words: &[&str]) -> anyhow::Result<String> {
        self.run(words, "").await?.ok()
    }

    /// What kubectl complains of; it must fail and say each of `parts`.
    pub async fn refused(&self, words: &[&str], parts: &[&str]) -> anyhow::Result<String> {
        self.run(words, "").await?.refused(parts)
    }

    /// Makes the objects of `manifest` what they are to be.
    pub async fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        self.run(&["apply", "-f", "-"], manifest).await?.ok()
    }

    /// Applies objects that must not be taken, for a reason that says each of `parts`.
    pub async fn apply_refused(&self, manifest: &str, parts: &[&str]) -> anyhow::Result<String> {
        self.run(&["apply", "-f", "-"], manifest).await?.refused(parts)
    }

    /// `kubectl get WORDS` as a value.
    pub async fn get(&self, words: &[&str]) -> anyhow::Result<Value> {
        let words = [&["get", "-o", "json"], words].concat();
        serde_json::from_str(&self.ok(&words).await?).context("read kubectl's JSON")
    }

    /// One field by its JSON path, e.g. `{.status.podIP}`.
    pub async fn field(&self, words: &[&str], path: &str) -> anyhow::Result<String> {
        let output = format!("jsonpath={path}");
        self.ok(&[&["get", "-o", &output], words].concat()).await
    }

    /// Waits for a field of an object to be `value`.
    pub async fn wait_field(
        &self,
        words: &[&str],
        path: &str,
        value: &str,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let name = format!("{path} of {} to be {value:?}", words.join(" "));
        wait::until(&name, limit, async || {
            let found = self.field(words, path).await?;
            if found == value {
                return Ok(Some(()));
            }
            tokio::time::sleep(POLL).await;
            anyhow::bail!("it is {found:?}")
        })
        .await
    }

    /// `kubectl wait --for=CONDITION WORDS`, which watches instead of asking again and again.
    pub async fn wait_for(
        &self,
        condition: &str,
        words: &[&str],
        limit: Duration,
    ) -> anyhow::Result<()> {
        let (condition, timeout) =
            (format!("--for={condition}"), format!("--timeout={}s", limit.as_secs()));
        let words = [&["wait", &condition, &timeout], words].concat();
        // A watch ends with an API server; then it is begun again until the whole time is over.
        wait::until(&format!("kubectl {}", words.join(" ")), limit, async || {
            run(self.command(&words), "", limit).await?.ok()?;
            Ok(Some(()))
        })
        .await
    }

    /// `kubectl rollout status`: waits for a workload to be as its template says.
    pub async fn rolled_out(&self, words: &[&str], limit: Duration) -> anyhow::Result<()> {
        let timeout = format!("--timeout={}s", limit.as_secs());
        let words = [&["rollout", "status", &timeout], words].concat();
        run(self.command(&words), "", limit + CALL_LIMIT).await?.ok().map(drop)
    }

    /// What a program in a pod prints; its exit code must be 0.
    pub async fn exec(&self, words: &[&str], program: &[&str]) -> anyhow::Result<String> {
        self.ok(&[&["exec"], words, &["--"], program].concat()).await
    }

    /// Waits until `kubectl WORDS` succeeds and prints something with `part` in it; returns what it printed.
    pub async fn until(
        &self,
        words: &[&str],
        part: &str,
        limit: Duration,
    ) -> anyhow::Result<String> {
        let name = format!("`kubectl {}` to say {part:?}", words.join(" "));
        wait::until(&name, limit, async || {
            let said = self.ok(words).await;
            match said {
                Ok(text) if text.contains(part) => Ok(Some(text)),
                Ok(text) => {
                    tokio::time::sleep(POLL).await;
                    let end = text.len().saturating_sub(400);
                    let end = text.ceil_char_boundary(end);
                    anyhow::bail!("it says {:?}", &text[end..])
                }
                Err(error) => {
                    tokio::time::sleep(POLL).await;
                    Err(error)
                }
            }
        })
        .await
    }

    /// The same cluster as another user: whoever has this token, and nothing else.
    pub async fn with_token(&self, name: &str, token: &str) -> anyhow::Result<Self> {
        let text = self.ok(&["config", "view", "--raw", "--minify", "-o", "json"]).await?;
        let mut config: Value = serde_json::from_str(&text).context("read the kubeconfig")?;
        let user = config.pointer_mut("/users/0/user").context("the kubeconfig has no user")?;
        *user = json!({ "token": token });
        let kubeconfig = self.home.join(format!("{name}.kubeconfig"));
        fs_err::write(&kubeconfig, config.to_string())?;
        Ok(Self { kubeconfig, ..self.clone() })
    }
}
