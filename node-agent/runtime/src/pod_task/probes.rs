//! Asking the probes of running containers, and what their verdicts lead to.

use std::time::Duration;

use ingot_machine_config::v1::pod::Probe;
use tokio::time::{Instant, MissedTickBehavior};

use super::PodTask;
use super::hooks::{Reach, execute};
use super::live::{Happened, Helper, Probing};
use crate::event::{Reason, Severity};
use crate::lifecycle;
use crate::probe::{self, Judge, Kind, Question};

impl PodTask {
    /// The hook of a container is over: it has started, unless a startup probe has to say so first.
    pub(super) async fn begin_probes(&mut self, index: usize) {
        let Some(container) = self.pod.container(index) else { return };
        if container.startup_probe.is_some() {
            self.spawn_probe(index, Kind::Startup);
        } else {
            self.has_started(index).await;
        }
    }

    /// A container has started: others may, and its probes are asked.
    pub(super) async fn has_started(&mut self, index: usize) {
        let (role, boot_id) = (self.role(index), self.context.boot_id.clone());
        let pod = self.pod.clone();
        let Some(spec) = pod.container(index) else { return };
        let Some(container) = self.container_mut(index) else { return };
        lifecycle::has_started(container, role, &boot_id);
        if let Some(run) = container.run.as_mut().filter(|_| spec.readiness_probe.is_none()) {
            run.ready = true;
        }
        self.save_or_log().await;
        for kind in [Kind::Liveness, Kind::Readiness] {
            if kind.of(spec).is_some() {
                self.spawn_probe(index, kind);
            }
        }
    }

    fn spawn_probe(&mut self, index: usize, kind: Kind) {
        let pod = self.pod.clone();
        let Some((container, probe)) =
            pod.container(index).and_then(|c| Some((c, kind.of(c)?.clone())))
        else {
            return;
        };
        let Some(reach) = self.reach(index) else { return };
        let run = self.record.containers.get(index).and_then(|c| c.run.as_ref());
        let ready = run.is_some_and(|run| run.ready);
        let started_ms = run.map_or(0, |run| run.started_ms);
        let age = Duration::from_millis(super::now_ms().saturating_sub(started_ms));
        let judge = Judge::new(kind, &probe).resume(kind == Kind::Readiness && ready);
        let question = Question::of(&probe, container);
        let happened = self.happened_tx.clone();
        let asking = Helper::spawn(async move {
            let id = reach.target.id.clone();
            let delay = Duration::from_secs(probe.initial_delay_seconds.into()).saturating_sub(age);
            let period = Duration::from_secs(probe.period_seconds.max(1).into());
            let mut ticks = tokio::time::interval_at(Instant::now() + delay, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let answer = ask(&reach, &probe, question.as_ref()).await;
                let message = Happened::Probed { index, id: id.clone(), kind, answer };
                if happened.send(message).await.is_err() {
                    return;
                }
            }
        });
        if let Some(live) = self.live.get_mut(index) {
            live.probes.retain(|probing| probing.kind != kind);
            live.probes.push(Probing { kind, judge, _asking: asking });
        }
    }

    /// A container answered, or did not in time.
    pub(super) async fn take_answer(
        &mut self,
        index: usize,
        id: &str,
        kind: Kind,
        answer: Result<(), String>,
    ) {
        if !self.is_current(index, id) {
            return;
        }
        let passed = answer.is_ok();
        let live = self.live.get_mut(index);
        let Some(probing) = live.and_then(|l| l.probes.iter_mut().find(|p| p.kind == kind)) else {
            return;
        };
        let verdict = probing.judge.take(passed);
        // The first of a row and the one that decides: an unready container must not fill the list of events.
        let is_news = probing.judge.row_length() == 1 || verdict.is_some();
        if let Some(message) = answer.err().filter(|_| is_news) {
            let (name, kind) = (self.name(index), kind.name());
            let message = format!("{kind} probe failed: {message}");
            self.event(Reason::Unhealthy, Severity::Warning, Some(&name), message);
        }
        match (kind, verdict) {
            (_, None) => {}
            (Kind::Startup, Some(true)) => {
                if let Some(live) = self.live.get_mut(index) {
                    live.probes.retain(|probing| probing.kind != Kind::Startup);
                }
                self.has_started(index).await;
            }
            (Kind::Readiness, Some(ready)) => {
                if let Some(run) = self.container_mut(index).and_then(|c| c.run.as_mut()) {
                    run.ready = ready;
                }
                self.save_or_log().await;
            }
            (Kind::Liveness, Some(true)) => {}
            (Kind::Startup | Kind::Liveness, Some(false)) => self.end_unhealthy(index, kind),
        }
    }

    fn end_unhealthy(&mut self, index: usize, kind: Kind) {
        let own =
            self.pod.container(index).and_then(|c| kind.of(c)?.termination_grace_period_seconds);
        let grace = own.map_or(self.grace(), |seconds| Duration::from_secs(seconds.into()));
        let name = self.name(index);
        let message = format!(
            "Container {name} failed {} probe, will be restarted",
            kind.name().to_ascii_lowercase()
        );
        self.event(Reason::Killing, Severity::Info, Some(&name), message);
        self.begin_stop(index, grace);
    }
}

async fn ask(reach: &Reach, probe: &Probe, question: Option<&Question>) -> Result<(), String> {
    let timeout = Duration::from_secs(probe.timeout_seconds.max(1).into());
    match (&probe.exec, question) {
        (Some(exec), _) => execute(reach, &exec.command, timeout).await,
        (None, Some(question)) => probe::ask(question, reach.address, timeout).await,
        (None, None) => Ok(()),
    }
}
