//! What the kernel says of a container's rights: of its first process while it waits for its start and once it runs, and of
//! programs executed in it. They must be the same whichever order the rights were given up in.

use anyhow::ensure;

use super::bench::{Bench, profile, rights};
use super::users::own_users;
use crate::cri::v1;
use crate::machine::Machine;
use crate::report::Report;
use v1::security_profile::ProfileType;

/// Docker's capabilities, which are the default.
const DEFAULT: u64 = 0xa804_25fb;

/// On the node: a profile that allows all but makes the call that gives up capabilities depend on its arguments, so that the filter
/// has to be loaded after it.
const PREPARE: &str = r#"
ls /node/run/ingot/filters >/tmp/filters
mkdir -p /node/var/isolation
cat >/node/var/isolation/reluctant.json <<'END'
{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["capset"], "action": "SCMP_ACT_ERRNO",
 "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}]}
END
"#;

/// On the node: its filter is kept on purpose, but nothing else may be left behind.
const TIDY_UP: &str =
    "cd /node/run/ingot/filters; for it in *; do grep -qx $it /tmp/filters || rm $it; done";

/// How a container is asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    user: i64,
    forbidden: bool,
    /// Capability that also a user who is not root gets.
    ambient: bool,
    own_users: bool,
    reluctant: bool,
}

const PLAIN: Asked =
    Asked { user: 0, forbidden: true, ambient: false, own_users: false, reluctant: false };

const ASKED: &[Asked] = &[
    PLAIN,
    Asked { forbidden: false, ..PLAIN },
    Asked { user: 1000, ..PLAIN },
    Asked { user: 1000, forbidden: false, ..PLAIN },
    Asked { user: 1000, ambient: true, ..PLAIN },
    Asked { reluctant: true, ..PLAIN },
    Asked { user: 1000, reluctant: true, ..PLAIN },
    Asked { own_users: true, ..PLAIN },
    Asked { own_users: true, user: 1000, ..PLAIN },
];

/// NET_BIND_SERVICE, which is among the default ones.
const AMBIENT: u64 = 1 << 10;

impl Asked {
    /// What a process of it has, as the words of its `status`: also the one that waits for its start has no more.
    fn words(self) -> String {
        let ambient = if self.ambient { AMBIENT } else { 0 };
        // Who is not root gets nothing but what is ambient.
        let capabilities = if self.user == 0 { DEFAULT } else { ambient };
        let capabilities = [
            ("Inh", ambient),
            ("Prm", capabilities),
            ("Eff", capabilities),
            ("Bnd", DEFAULT),
            ("Amb", ambient),
        ];
        let capabilities = capabilities.map(|(name, set)| format!("Cap{name}:{set:016x}"));
        let forbidden = u8::from(self.forbidden);
        format!("{} NoNewPrivs:{forbidden} Seccomp:2 Seccomp_filters:1", capabilities.join(" "))
    }

    fn pod(self, pod: &mut v1::PodSandboxConfig) {
        if self.own_users {
            own_users(pod);
        }
    }

    fn container(self, config: &mut v1::ContainerConfig) {
        let rights = rights(config);
        rights.run_as_user = Some(v1::Int64Value { value: self.user });
        rights.no_new_privs = self.forbidden;
        rights.seccomp = Some(match self.reluctant {
            true => profile(ProfileType::Localhost, "/var/isolation/reluctant.json"),
            false => profile(ProfileType::RuntimeDefault, ""),
        });
        if self.ambient {
            rights.capabilities = Some(v1::Capability {
                add_ambient_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
                ..Default::default()
            });
        }
    }
}

/// The words of `status` that say what a process may do.
fn status_of(process: &str) -> String {
    format!(
        "awk '/^(Cap|NoNewPrivs|Seccomp)/ {{printf \"%s%s%s\", sep, $1, $2; sep = \" \"}}' /proc/{process}/status"
    )
}

/// One check each.
pub(super) async fn run(machine: &mut Machine, bench: &mut Bench, report: &Report) {
    report
        .check("a profile of its own is put on the node", machine, async |_| {
            bench.on_node(PREPARE).await.map(drop)
        })
        .await;
    for asked in ASKED {
        let name = format!("processes have the rights that were asked for: {asked:?}");
        report.check(&name, machine, async |_| try_one(bench, *asked).await).await;
    }
    report
        .check("its filter is taken away again", machine, async |_| {
            bench.on_node(TIDY_UP).await.map(drop)
        })
        .await;
}

async fn try_one(bench: &mut Bench, asked: Asked) -> anyhow::Result<()> {
    let pod = bench.pod(|it| asked.pod(it)).await?;
    let id = bench.create(&pod, |it| asked.container(it)).await?;
    let process = bench.cri.process_id(&id).await?.to_string();
    let waiting = bench.on_node(&status_of(&process)).await?;
    bench.cri.start(&id).await?;
    let running = bench.shell(&id, &status_of("1")).await?;
    let executed = bench.shell(&id, &status_of("self")).await?;
    bench.cri.remove_sandbox(&pod.id).await?;
    for (when, seen) in [("while it waits", waiting), ("running", running), ("executed", executed)]
    {
        ensure!(seen == asked.words(), "{when}: {seen:?}, not {:?}", asked.words());
    }
    Ok(())
}
