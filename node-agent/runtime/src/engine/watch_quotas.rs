//! Looks now and then at what nobody is told of: containers that meet their limits without dying, which the kernel only
//! counts, and exits of processes that belong to no container any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::{number_after, pressure_some_avg10};
use crate::context::Context;
use crate::event::{Event, Reason, Severity};
use crate::status::{ContainerState, ContainerStatus, PodStatus};

/// How often to look.
const EVERY: Duration = Duration::from_secs(10);

/// Share of the periods in which a container was held back that is worth an event, in percent.
const THROTTLED_PERCENT: u64 = 80;

/// Looks in a row before throttling is worth an event: a minute.
const THROTTLED_LOOKS: u32 = 6;

/// Share of time in which some task waited for memory that is worth an event, in percent.
const PRESSURE_PERCENT: f64 = 40.0;

/// What was seen of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    pids_refused: u64,
    periods: u64,
    throttled: u64,
    throttled_looks: u32,
    pressed: bool,
}

/// Looks until the engine is gone.
pub(super) async fn run(context: Arc<Context>) {
    let mut seen: HashMap<String, Seen> = HashMap::new();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let snapshot = context.snapshot.borrow().clone();
        // Of starts that were given up after PID 1 had been told to watch.
        if let Err(error) = context.pid1.acknowledge_unclaimed().await {
            tracing::warn!(error = crate::report::chain(&error), "acknowledge exits");
        }
        let mut present = HashMap::new();
        for pod in snapshot.iter() {
            for container in &pod.containers {
                if container.state == ContainerState::Running {
                    let before = seen.get(&container.id).copied();
                    let now = look(&context, pod, container, before);
                    present.insert(container.id.clone(), now);
                }
            }
        }
        seen = present;
    }
}

fn look(
    context: &Context,
    pod: &PodStatus,
    container: &ContainerStatus,
    before: Option<Seen>,
) -> Seen {
    let folder = context.paths().cgroup.join(&container.cgroup);
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    let cpu = read("cpu.stat");
    let mut now = Seen {
        pids_refused: number_after(&read("pids.events"), "max").unwrap_or(0),
        periods: number_after(&cpu, "nr_periods").unwrap_or(0),
        throttled: number_after(&cpu, "nr_throttled").unwrap_or(0),
        ..Seen::default()
    };
    let send = |reason, message| {
        let object = format!("container/{}/{}/{}", pod.namespace, pod.name, container.name);
        tracing::info!(object, message, "quota");
        let _ = context.events.send(Event { reason, severity: Severity::Warning, object, message });
    };
    let old = before.unwrap_or_default();
    if now.pids_refused > old.pids_refused {
        let limit = read("pids.max");
        let refused = now.pids_refused - old.pids_refused;
        send(
            Reason::PidsLimit,
            format!("{refused} new processes were refused at its limit of {}", limit.trim()),
        );
    }
    let periods = now.periods.saturating_sub(old.periods);
    let throttled = now.throttled.saturating_sub(old.throttled);
    if before.is_some() && periods > 0 && throttled * 100 >= periods * THROTTLED_PERCENT {
        now.throttled_looks = old.throttled_looks.saturating_add(1);
        if now.throttled_looks == THROTTLED_LOOKS {
            let limit = read("cpu.max");
            send(
                Reason::Throttled,
                format!("held back at its CPU limit ({}) for a minute", limit.trim()),
            );
        }
    }
    let pressure = pressure_some_avg10(&read("memory.pressure"));
    now.pressed = pressure >= PRESSURE_PERCENT;
    if now.pressed && !old.pressed {
        send(Reason::MemoryPressure, format!("waits for memory {pressure:.0} % of the time"));
    }
    now
}
