//! What was measured, and the tables made of it. Knows no machine.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;

use super::System;
use crate::bench::table::Table;

/// Numbers of every system, by the measurement and its step.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Milliseconds of the guest's clock.
    times: BTreeMap<(&'static str, String, System), Vec<f64>>,
    memory: BTreeMap<System, Vec<Point>>,
    /// What else was counted, by what it is called.
    counts: BTreeMap<(System, String), f64>,
    /// What could not be measured, and why.
    failures: Vec<String>,
}

/// Memory with a number of idle pods.
#[derive(Debug, Clone, Deserialize)]
struct Point {
    pods: f64,
    processes_kib: f64,
    own_processes_kib: f64,
    used_kib: f64,
    /// Charged to cgroups that are not those of the pods' own processes.
    #[serde(default)]
    charged_kib: f64,
    #[serde(default)]
    parts_kib: BTreeMap<String, f64>,
}

/// Parts of the kernel's memory that are told; smaller ones are left out.
const PARTS_MAX: usize = 16;

#[derive(Deserialize)]
struct Load {
    #[serde(default)]
    microseconds: BTreeMap<String, Vec<f64>>,
    #[serde(default)]
    points: Vec<Point>,
    #[serde(default)]
    counts: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Benchmark {
    operations_names: Vec<String>,
    datapoints: Vec<Datapoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Datapoint {
    operations_durations_ns: Vec<f64>,
}

/// A promise about a time: measurement, step, which value of the sorted times, what it is called, and how it is judged.
struct Promise {
    load: &'static str,
    step: &'static str,
    part: Part,
    what: &'static str,
    judged: Judged,
}

/// Which of many times.
#[derive(Clone, Copy)]
enum Part {
    Median,
    Late,
}

enum Judged {
    /// Ours is at most so many milliseconds.
    AtMost(f64, &'static str),
    /// containerd with runc takes at least so many times as long as ours.
    Ratio(f64, &'static str),
    /// Ours takes at most this part of containerd's time.
    Part(f64, &'static str),
    Nothing,
}

/// Calls that are made with 250 pods on the node.
const LISTS: [&str; 4] = [
    "ListPodSandbox of 250 pods, p99",
    "ListContainers of 250 pods, p99",
    "ContainerStatus among 250 pods, p99",
    "PodSandboxStatus among 250 pods, p99",
];

const PROMISES: &[Promise] = &[
    promise(
        "lifecycle",
        "all",
        Part::Median,
        "create, start, wait, remove",
        Judged::AtMost(13.0, "P1"),
    ),
    promise("lifecycle", "all", Part::Late, "the same, p99", Judged::Nothing),
    promise("lifecycle", "create", Part::Median, "  create", Judged::Nothing),
    promise("lifecycle", "start", Part::Median, "  start", Judged::Nothing),
    promise("lifecycle", "wait", Part::Median, "  wait", Judged::Nothing),
    promise("lifecycle", "remove", Part::Median, "  remove", Judged::Nothing),
    promise("sandboxes", "run", Part::Median, "run a sandbox", Judged::Nothing),
    promise("sandboxes", "stop and remove", Part::Median, "stop and remove it", Judged::Nothing),
    promise("critest pod", "all", Part::Median, "critest: pod", Judged::Ratio(4.0, "P2")),
    promise("critest pod", "all", Part::Late, "critest: pod, p99", Judged::Ratio(4.0, "P2")),
    promise(
        "critest container",
        "all",
        Part::Median,
        "critest: container",
        Judged::Ratio(4.0, "P2"),
    ),
    promise(
        "critest container",
        "all",
        Part::Late,
        "critest: container, p99",
        Judged::Ratio(4.0, "P2"),
    ),
    promise("burst", "all", Part::Median, "90 pods at once", Judged::Ratio(4.0, "P3")),
    promise("exits", "exit to event", Part::Median, "exit to event", Judged::Nothing),
    promise("exits", "exit to event", Part::Late, "exit to event, p99", Judged::AtMost(5.0, "P7")),
    promise("pull", "pull", Part::Median, "pull a 200 MB image", Judged::Part(0.5, "unpack")),
    promise("lists", "ListPodSandbox", Part::Late, LISTS[0], Judged::AtMost(50.0, "lists")),
    promise("lists", "ListContainers", Part::Late, LISTS[1], Judged::AtMost(50.0, "lists")),
    promise("lists", "ContainerStatus", Part::Late, LISTS[2], Judged::AtMost(50.0, "lists")),
    promise("lists", "PodSandboxStatus", Part::Late, LISTS[3], Judged::AtMost(50.0, "lists")),
    promise("disk", "idle", Part::Late, "8 KiB to the disk, p99", Judged::Nothing),
    promise("disk", "pulling", Part::Late, "8 KiB to the disk during pulls, p99", Judged::Nothing),
];

const fn promise(
    load: &'static str,
    step: &'static str,
    part: Part,
    what: &'static str,
    judged: Judged,
) -> Promise {
    Promise { load, step, part, what, judged }
}

impl Numbers {
    /// Notes how a measurement went, and shows what it has found so far: the whole takes hours.
    pub(super) fn took(
        &mut self,
        system: System,
        load: &'static str,
        measured: anyhow::Result<()>,
    ) {
        let name = system.name();
        if let Err(error) = measured {
            println!("  {name}: {load} NOT MEASURED: {error:#}");
            self.failures.push(format!("{name}: {load} was not measured: {error:#}"));
            return;
        }
        println!("  {name}: {load}");
        for key in self.times.keys().filter(|key| key.0.starts_with(load) && key.2 == system) {
            let (median, late) = (self.part(key, Part::Median), self.part(key, Part::Late));
            let (median, late) = (median.unwrap_or(f64::NAN), late.unwrap_or(f64::NAN));
            println!("    {}: {median:.2} ms, p99 {late:.2} ms", key.1);
        }
        for (key, count) in self.counts.iter().filter(|((of, _), _)| *of == system) {
            println!("    {}: {count}", key.1);
        }
        for point in self.memory.get(&system).into_iter().flatten().filter(|_| load == "idle") {
            let Point { pods, processes_kib, own_processes_kib, used_kib, charged_kib, .. } = point;
            println!(
                "    {pods} pods: PSS {processes_kib} KiB, of pods' own processes {own_processes_kib}, used \
                 {used_kib}, charged to other cgroups {charged_kib}"
            );
        }
    }

    /// Takes what `cri-load` printed.
    pub(super) fn load(
        &mut self,
        system: System,
        load: &'static str,
        text: &str,
    ) -> anyhow::Result<()> {
        let read: Load = serde_json::from_str(text.trim()).context("read what cri-load printed")?;
        for (step, times) in read.microseconds {
            let times = times.into_iter().map(|time| time / 1000.0).collect();
            self.times.insert((load, step, system), times);
        }
        if !read.points.is_empty() {
            self.memory.insert(system, read.points);
        }
        for (what, count) in read.counts {
            self.counts.insert((system, what), count);
        }
        Ok(())
    }

    /// Takes a file of critest's benchmarks.
    pub(super) fn critest(&mut self, system: System, what: &str, text: &str) -> anyhow::Result<()> {
        let read: Benchmark = serde_json::from_str(text).context("read critest's numbers")?;
        let load = if what == "pod" { "critest pod" } else { "critest container" };
        for (index, step) in read.operations_names.iter().enumerate() {
            let times =
                read.datapoints.iter().filter_map(|it| it.operations_durations_ns.get(index));
            let times = times.map(|time| time / 1e6).collect();
            self.times.insert((load, step.clone(), system), times);
        }
        let all = read.datapoints.iter();
        let all = all.map(|it| it.operations_durations_ns.iter().sum::<f64>() / 1e6).collect();
        self.times.insert((load, "all".to_owned(), system), all);
        Ok(())
    }

    /// The tables, with the promises that are made about them.
    pub(super) fn tables(&self) -> Vec<Table> {
        vec![self.times_table(), self.memory_table(), self.disk_and_counts()]
    }

    /// What is not a time of one call: the disk's neighbours, and what is left behind.
    fn disk_and_counts(&self) -> Table {
        let mut table = Table::new("What a runtime does to its neighbours, and leaves behind");
        for system in [System::Ingot, System::Runc, System::Crun] {
            let late = |step: &str| self.part(&("disk", step.to_owned(), system), Part::Late);
            if let (Some(idle), Some(pulling)) = (late("idle"), late("pulling")) {
                let what = format!("{}: sync to the disk, during pulls / idle", system.name());
                table.add(&what, &[pulling / idle], "");
                if system == System::Ingot {
                    table.at_most(1.5, "P8");
                }
            }
            for ((_, what), count) in self.counts.iter().filter(|((of, _), _)| *of == system) {
                table.add(&format!("{}: {what}", system.name()), &[*count], "");
                if system == System::Ingot {
                    let limit = if what.contains("KiB") { 1024.0 } else { 0.0 };
                    table.at_most(limit, "M5");
                }
            }
        }
        table
    }

    fn value(&self, promise: &Promise, system: System) -> Option<f64> {
        self.part(&(promise.load, promise.step.to_owned(), system), promise.part)
    }

    fn part(&self, key: &(&'static str, String, System), part: Part) -> Option<f64> {
        let mut sorted = self.times.get(key)?.clone();
        sorted.sort_by(f64::total_cmp);
        match part {
            Part::Median => sorted.get(sorted.len() / 2).copied(),
            // The 99th percentile; of fewer than a hundred times it is the longest.
            Part::Late => sorted.get((sorted.len() * 99).div_ceil(100).max(1) - 1).copied(),
        }
    }

    fn times_table(&self) -> Table {
        let mut table =
            Table::new("Container runtimes, in milliseconds of the guest's clock (one processor)");
        for promise in PROMISES {
            let Some(ours) = self.value(promise, System::Ingot) else { continue };
            table.add(&format!("{}: ours", promise.what), &[ours], "vms");
            if let Judged::AtMost(limit, name) = promise.judged {
                table.at_most(limit, name);
            }
            for system in [System::Runc, System::Crun] {
                let Some(theirs) = self.value(promise, system) else { continue };
                let what = format!("{}: {}", promise.what, system.name());
                table.add(&what, &[theirs], "vms");
                if system == System::Runc {
                    ratio(&mut table, promise, ours, theirs);
                }
            }
        }
        table.notes.extend(self.failures.iter().cloned());
        table.notes.push(
            "containerd manages cgroups itself, without asking systemd, which is its faster way"
                .to_owned(),
        );
        table
    }

    fn memory_table(&self) -> Table {
        let mut table = Table::new("Memory of an idle pod outside its own processes");
        for (system, points) in &self.memory {
            let line = |value: fn(&Point) -> f64| each_pod(points, value);
            let name = system.name();
            table.add(
                &format!("{name}: PSS of other processes"),
                &[line(|it| it.processes_kib)],
                "KiB",
            );
            if *system == System::Ingot {
                table.at_most(256.0, "M2");
            }
            let charged = line(|it| it.charged_kib);
            let what = format!("{name}: memory of cgroups but the pods' own");
            table.add(&what, &[charged], "KiB");
            if *system == System::Ingot {
                table.at_most(512.0, "M2");
            }
            let rest = line(|it| it.used_kib - it.processes_kib - it.own_processes_kib);
            table.add(&format!("{name}: the kernel's share of all"), &[rest], "KiB");
            table.notes.extend(parts(points).map(|part| format!("{name}: {part} KiB a pod")));
        }
        table.notes.push(
            "slopes over 0, 10, 50 and 100 pods; the kernel's share is MemTotal - MemAvailable without the PSS of all \
             processes"
                .to_owned(),
        );
        table
    }
}

/// How much a value grows with each pod.
fn each_pod(points: &[Point], value: impl Fn(&Point) -> f64) -> f64 {
    slope(&points.iter().map(|it| (it.pods, value(it))).collect::<Vec<_>>())
}

/// The largest parts of the kernel's memory that grow with pods.
fn parts(points: &[Point]) -> impl Iterator<Item = String> {
    let names = points.last().into_iter().flat_map(|point| point.parts_kib.keys());
    let line =
        |name: &String| each_pod(points, |it| it.parts_kib.get(name).copied().unwrap_or_default());
    let mut parts: Vec<(f64, &String)> = names.map(|name| (line(name), name)).collect();
    parts.sort_by(|one, other| other.0.total_cmp(&one.0));
    parts.into_iter().take(PARTS_MAX).map(|(slope, name)| format!("{name} {slope:.1}"))
}

fn ratio(table: &mut Table, promise: &Promise, ours: f64, theirs: f64) {
    match promise.judged {
        Judged::Ratio(at_least, name) => {
            table.add(&format!("{}: runc / ours", promise.what), &[theirs / ours], "");
            table.at_least(at_least, name);
        }
        Judged::Part(at_most, name) => {
            table.add(&format!("{}: ours / runc", promise.what), &[ours / theirs], "");
            table.at_most(at_most, name);
        }
        Judged::AtMost(..) | Judged::Nothing => {}
    }
}

/// Slope of the straight line that fits the points best.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.iter().map(|_| 1.0).sum::<f64>();
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (x, y) = (mean(|it| it.0), mean(|it| it.1));
    let above: f64 = points.iter().map(|it| (it.0 - x) * (it.1 - y)).sum();
    let below: f64 = points.iter().map(|it| (it.0 - x).powi(2)).sum();
    above / below
}

#[cfg(test)]
mod tests {
    use super::{Numbers, System, slope};

    #[test]
    fn a_line_has_its_slope() {
        let points = [(0.0, 100.0), (10.0, 350.0), (50.0, 1350.0), (100.0, 2600.0)];
        assert!((slope(&points) - 25.0).abs() < 1e-9);
    }

    #[test]
    fn ours_is_held_against_the_promise_and_against_runc() {
        let mut numbers = Numbers::default();
        let load = |ms: u32| format!("{{\"microseconds\": {{\"all\": [{}]}}}}", ms * 1000);
        numbers.load(System::Ingot, "burst", &load(100)).expect("numbers");
        numbers.load(System::Runc, "burst", &load(350)).expect("numbers");
        let text = numbers.tables()[0].to_string();
        assert!(text.contains("runc / ours") && text.contains("3.500"), "{text}");
        assert!(text.contains("NOT MET"), "{text}");
    }

    #[test]
    fn what_could_not_be_measured_is_told_and_what_is_left_behind_is_judged() {
        let mut numbers = Numbers::default();
        numbers.took(System::Runc, "burst", Err(anyhow::anyhow!("it did not start")));
        let counts = r#"{"counts": {"mounts, more": 1, "memory in KiB, more": 900}}"#;
        numbers.load(System::Ingot, "churn", counts).expect("numbers");
        let tables = numbers.tables();
        assert!(tables[0].to_string().contains("burst was not measured: it did not start"));
        let left: Vec<_> = tables[2].rows.iter().map(|row| row.met).collect();
        assert_eq!(left, [Some(true), Some(false)], "{}", tables[2]);
    }

    #[test]
    fn critest_s_files_are_read_as_they_are_written() {
        let text = r#"{"operationsNames": ["CreatePod", "StopPod"], "numParallel": 1, "datapoints": [
            {"sampleIndex": 0, "operationsDurationsNs": [2000000, 1000000], "metaInfo": {}}]}"#;
        let mut numbers = Numbers::default();
        numbers.critest(System::Ingot, "pod", text).expect("numbers");
        assert!(numbers.tables()[0].to_string().contains("3.000"));
    }
}
