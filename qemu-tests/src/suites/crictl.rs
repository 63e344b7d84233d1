//! Suite `crictl`: the Kubernetes project's command line for container runtimes works with the node as it is, typed as its manual
//! says. It runs on the node, where the addresses that exec, attach and port-forward hand out lead somewhere.

use anyhow::{Context as _, ensure};

use super::Context;
use crate::cri::{Cri, RELAY_PORT};
use crate::cri_node::{self, SOCKET};
use crate::critest::Runner;
use crate::machine::Machine;
use crate::report::Report;

/// A shell and its applets.
const BUSYBOX: &str = "mirror.test/e2e-test-images/busybox:1.29-2";
/// A web server on port 80.
const NGINX: &str = "mirror.test/e2e-test-images/nginx:1.14-2";

/// Files the commands are given, in a folder of the runner's.
const FILES: &str = r#"mkdir -p /tmp/c && cd /tmp/c
cat >pod.json <<END
{"metadata": {"name": "demo", "namespace": "crictl", "uid": "crictl-demo", "attempt": 0},
 "log_directory": "/var/log/pods/crictl_demo", "linux": {}}
END
cat >shell.json <<END
{"metadata": {"name": "shell"}, "image": {"image": "BUSYBOX"}, "stdin": true, "tty": true,
 "command": ["sh"], "log_path": "shell.log", "linux": {}}
END
cat >web.json <<END
{"metadata": {"name": "web"}, "image": {"image": "NGINX"}, "log_path": "web.log", "linux": {}}
END
cat >talk.json <<END
{"metadata": {"name": "talk"}, "image": {"image": "BUSYBOX"}, "log_path": "talk.log", "linux": {},
 "command": ["sh", "-c", "echo to stdout; echo to stderr >&2; sleep 1000"]}
END
"#;

/// A check: its sentence, the commands, and words that must be in what they print.
type Check = (&'static str, &'static str, &'static [&'static str]);

/// In the order of a session; each begins in the folder of the files, with `$pod`, `$shell`, `$web`, `$talk` where they are known.
const CHECKS: &[Check] = &[
    ("version names the runtime", "crictl version", &["RuntimeName", "ingot", "v1"]),
    (
        "info says that runtime and network are ready",
        "crictl info",
        &["RuntimeReady", "NetworkReady"],
    ),
    (
        "pull fetches images and images lists them",
        "crictl pull BUSYBOX && crictl pull NGINX && crictl images",
        &["e2e-test-images/busybox", "1.29-2", "e2e-test-images/nginx"],
    ),
    (
        "runp and create and start run containers that pods and ps list",
        "crictl runp pod.json >pod && pod=$(cat pod) && \
         for name in shell web talk; do crictl create $pod $name.json pod.json >$name && crictl start $(cat $name); done && \
         crictl pods && crictl ps",
        &["demo", "Ready", "shell", "web", "talk", "Running"],
    ),
    (
        "inspect, inspectp and inspecti describe them",
        "crictl inspect $web && crictl inspectp $pod && crictl inspecti BUSYBOX",
        &["CONTAINER_RUNNING", "SANDBOX_READY", "repoTags"],
    ),
    ("exec runs a command", "crictl exec $talk echo from exec", &["from exec"]),
    (
        "exec hands the exit code on",
        "crictl exec $talk sh -c 'exit 7' 2>&1; echo",
        &["exit code 7"],
    ),
    ("exec -s runs a command without a stream", "crictl exec -s $talk echo sync", &["sync"]),
    (
        "exec -i hands standard input on to its end",
        "echo typed | crictl exec -i $talk cat",
        &["typed"],
    ),
    (
        "exec -it gives a terminal",
        "script -q -c \"crictl exec -it $talk sh -c 'test -t 0 && tty'\" /dev/null </dev/null",
        &["/dev/pts/"],
    ),
    (
        "attach reaches a running shell",
        "(sleep 3; echo 'echo $((6*7))'; sleep 3) | script -q -c \"timeout 15 crictl attach -it $shell\" /dev/null || true",
        &["42"],
    ),
    (
        "port-forward carries requests into the pod",
        "crictl port-forward $pod 18080:80 >/tmp/c/forward.log 2>&1 & forward=$!; \
         for i in 1 2 3 4 5 6 7 8 9 10; do wget -q -O - http://127.0.0.1:18080/ && break; sleep 1; done; \
         kill $forward; cat /tmp/c/forward.log",
        &["Welcome to nginx!"],
    ),
    ("logs shows both streams", "crictl logs $talk 2>&1", &["to stdout", "to stderr"]),
    ("stats shows what containers use", "sleep 1; crictl stats -a", &["CPU %", "web", "talk"]),
    ("statsp shows what pods use", "crictl statsp", &["demo"]),
    ("imagefsinfo tells the disk usage of images", "crictl imagefsinfo", &["usedBytes"]),
    (
        "update changes limits",
        "crictl update --memory 67108864 $talk && crictl inspect $talk",
        &["67108864"],
    ),
    ("stop ends a container with its code", "crictl stop -t 1 $talk && crictl ps -a", &["Exited"]),
    ("rm removes it", "crictl rm $talk && crictl ps -a -q | grep -c $talk || echo gone", &["gone"]),
    (
        "stopp and rmp take a pod away",
        "crictl stopp $pod && crictl rmp $pod && crictl pods -q | grep -c $pod || echo gone",
        &["gone"],
    ),
    (
        "rmi removes an image",
        "crictl rmi NGINX && crictl images | grep -c nginx || echo gone",
        &["gone"],
    ),
];

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.cri else { return };
    if !kit.has_cri_tools {
        return report.skip("crictl against a node", "there is no crictl; see the last lines");
    }
    match cri_node::boot(&context.artifacts, &kit.images, "crictl", 1024).await {
        Ok((mut machine, _registry)) => session(&mut machine, SOCKET, report).await,
        Err(error) => report.check_alone("a node with a CRI boots", async { Err(error) }).await,
    }
}

/// The whole session against the CRI at `socket` of a machine with a relay.
pub(super) async fn session(machine: &mut Machine, socket: &str, report: &Report) {
    let mut runner = None;
    report
        .check("crictl starts on the machine", machine, async |machine| {
            let cri = Cri::wait_at(machine.forwarded(RELAY_PORT)?).await?;
            let started = Runner::start(cri, socket).await?;
            let files = with_images(FILES);
            // crictl's own patience is 2 s, which a busy host with emulated processors can use up.
            let config = format!(
                "printf 'runtime-endpoint: unix://{socket}\\ntimeout: 60\\n' >/etc/crictl.yaml"
            );
            started.tool(&["sh", "-c", &format!("{config}\n{files}")]).await?;
            runner = Some(started);
            Ok(())
        })
        .await;
    let Some(runner) = runner else { return };
    for (name, commands, words) in CHECKS {
        report
            .check(name, machine, async |_| {
                let names = "pod=$(cat pod 2>/dev/null); shell=$(cat shell 2>/dev/null); \
                             web=$(cat web 2>/dev/null); talk=$(cat talk 2>/dev/null)";
                let commands = format!("cd /tmp/c; {names}; {}", with_images(commands));
                let text = runner.tool(&["sh", "-c", &commands]).await.context("crictl")?;
                let absent: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
                ensure!(absent.is_empty(), "{absent:?} is not in what it printed:\n{text}");
                Ok(())
            })
            .await;
    }
}

fn with_images(text: &str) -> String {
    text.replace("BUSYBOX", BUSYBOX).replace("NGINX", NGINX)
}
