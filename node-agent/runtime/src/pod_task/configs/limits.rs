//! Quotas of containers and pods in the kernel's terms. Pure.

use ingot_machine_config::Quantity;
use ingot_machine_config::v1::pod::{self as config, Container, PriorityClass};

use crate::config::Resources;
use crate::pod::{Pod, QosClass};

/// Enforcement period of `cpu.max` in microseconds: the kernel's and Kubernetes' default.
const CPU_PERIOD_USEC: u64 = 100_000;

/// The kernel refuses a smaller quota.
const CPU_QUOTA_USEC_MIN: u64 = 1_000;

/// Score of what goes last when the node is out of memory, but for the node's own programs: the kubelet's.
const GUARANTEED_SCORE: i32 = -997;

/// Amounts of one container, or of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amounts {
    cpu_limit_millis: Option<u64>,
    cpu_request_millis: Option<u64>,
    memory_limit_bytes: Option<u64>,
    memory_request_bytes: Option<u64>,
}

impl Amounts {
    /// What is not requested is requested at its limit, as the API server does it.
    fn of(resources: &config::Resources) -> Self {
        let (limits, requests) = (&resources.limits, &resources.requests);
        let cpu_limit_millis = limits.cpu.as_ref().map(Quantity::millis);
        let memory_limit_bytes = limits.memory.as_ref().map(Quantity::units);
        Self {
            cpu_limit_millis,
            cpu_request_millis: requests.cpu.as_ref().map(Quantity::millis).or(cpu_limit_millis),
            memory_limit_bytes,
            memory_request_bytes: requests
                .memory
                .as_ref()
                .map(Quantity::units)
                .or(memory_limit_bytes),
        }
    }

    fn resources(&self) -> Resources {
        let quota = |millis: u64| {
            let quota = millis.saturating_mul(CPU_PERIOD_USEC / 1000).max(CPU_QUOTA_USEC_MIN);
            i64::try_from(quota).unwrap_or(i64::MAX)
        };
        // Without a request a pod gets the least, as best-effort pods do.
        let shares = self.cpu_request_millis.unwrap_or(0).saturating_mul(1024) / 1000;
        Resources {
            cpu_quota_us: self.cpu_limit_millis.map(quota),
            cpu_period_us: self.cpu_limit_millis.map(|_| CPU_PERIOD_USEC),
            cpu_shares: Some(shares.clamp(2, 262_144)),
            memory_limit_bytes: self.memory_limit_bytes,
            memory_low_bytes: self.memory_request_bytes,
            ..Resources::default()
        }
    }
}

/// Bytes of memory that the kernel keeps for a container under pressure.
pub(crate) fn memory_request_bytes(container: &Container) -> u64 {
    Amounts::of(&container.resources).memory_request_bytes.unwrap_or(0)
}

/// Limits of one container.
pub(super) fn of_container(pod: &Pod, container: &Container, node_memory_bytes: u64) -> Resources {
    let amounts = Amounts::of(&container.resources);
    let mut limits = amounts.resources();
    limits.pids_limit = pod.pids_limit;
    limits.oom_score_adj = Some(oom_score_adj(pod, &amounts, node_memory_bytes));
    let pages = &container.resources.limits;
    for (size, amount) in [("2MB", &pages.hugepages_2mi), ("1GB", &pages.hugepages_1gi)] {
        if let Some(amount) = amount {
            limits.hugepage_limits.insert(size.to_owned(), amount.units());
        }
    }
    // The container dies as a whole: half a container is worse than none.
    limits.unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    limits
}

/// Limits of a pod: sums, where every container that runs at the same time has the number.
pub(super) fn of_pod(pod: &Pod) -> Resources {
    let spec = &pod.spec;
    let amounts = |containers: &[Container], sidecars: bool| -> Vec<Amounts> {
        let chosen = containers.iter().filter(|c| c.is_sidecar() == sidecars);
        chosen.map(|c| Amounts::of(&c.resources)).collect()
    };
    let (init, mut stay) =
        (amounts(&spec.init_containers, false), amounts(&spec.init_containers, true));
    let sidecars = stay.clone();
    stay.extend(spec.containers.iter().map(|c| Amounts::of(&c.resources)));
    type Field = fn(&Amounts) -> Option<u64>;
    let sum = |list: &[Amounts], field: Field| {
        list.iter().try_fold(0_u64, |sum, one| Some(sum.saturating_add(field(one)?)))
    };
    // An init container runs alone with the sidecars before it, so that must fit: the larger of the two.
    let widest = |field: Field| {
        let stay = sum(&stay, field)?;
        let beside = sum(&sidecars, field)?;
        init.iter()
            .try_fold(stay, |widest, one| Some(widest.max(beside.saturating_add(field(one)?))))
    };
    let requested = |field: Field| {
        let total: u64 = stay.iter().filter_map(field).sum();
        (total > 0).then_some(total)
    };
    let total = Amounts {
        cpu_limit_millis: widest(|a| a.cpu_limit_millis),
        memory_limit_bytes: widest(|a| a.memory_limit_bytes),
        cpu_request_millis: requested(|a| a.cpu_request_millis),
        memory_request_bytes: requested(|a| a.memory_request_bytes),
    };
    Resources { pids_limit: pod.pids_limit, ..total.resources() }
}

/// Who goes first when the node, not a container, is out of memory: the kubelet's rule. A pod that asked for nothing goes
/// first, one whose limits are all requested goes last, and so does what the node cannot do without; between them those
/// that asked for less.
fn oom_score_adj(pod: &Pod, amounts: &Amounts, node_memory_bytes: u64) -> i32 {
    if pod.priority() >= PriorityClass::SystemNodeCritical.priority() {
        return GUARANTEED_SCORE;
    }
    match pod.qos_class() {
        QosClass::Guaranteed => return GUARANTEED_SCORE,
        QosClass::BestEffort => return 1000,
        QosClass::Burstable => {}
    }
    let share = u128::from(amounts.memory_request_bytes.unwrap_or(0)) * 1000;
    let permille = share.checked_div(node_memory_bytes.into()).unwrap_or(0);
    1000_i32.saturating_sub(i32::try_from(permille).unwrap_or(1000)).clamp(3, 999)
}
