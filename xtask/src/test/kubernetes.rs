//! Prepares what the suite `kubernetes` needs: an image with Kubernetes in it, kubectl for this machine, and images for the pods.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::anyhow;
use ingot_image_builder::progress::Progress;
use ingot_image_builder::tools::Tools;
use ingot_qemu_tests::report::Report;
use ingot_qemu_tests::suites::{KubernetesKit, SUITES};

use super::{Args, PROFILE, cri, helm};
use crate::{image, kubernetes, workspace};

/// The suite.
const NAME: &str = "kubernetes";
/// With `--focus`, the form that runs without names.
const SHORT: &str = "short";

/// A build of Kubernetes that goes on beside other work.
pub(super) type Build = JoinHandle<anyhow::Result<kubernetes::Built>>;

/// Says what is compiled beside the output of other work: now and then a line, with what it is about.
struct Beside;

impl Progress for Beside {
    fn step(&self, text: &str) {
        eprintln!("  [Kubernetes] {text}");
    }

    fn detail(&self, _: &str) {}

    fn notice(&self, text: &str) {
        self.step(text);
    }
}

/// Begins to compile Kubernetes where the suite is wanted: from nothing that takes many minutes, in which the workspace's own tests are
/// compiled and run as well.
pub(super) fn begin(args: &Args) -> Option<Build> {
    let suite = SUITES.iter().find(|suite| suite.name == NAME)?;
    let wanted = suite.is_wanted(&args.names, args.full);
    wanted.then(|| std::thread::spawn(|| kubernetes::ensure_with(&Beside)))
}

/// What the suite needs, once the `build` that was begun is over. Where Kubernetes cannot be built the suite is skipped and the last
/// lines say why and what would help; in CI that is a failure.
pub(super) fn kit(
    tools: &Tools,
    build: Option<Build>,
    args: &Args,
    report: &Report,
) -> anyhow::Result<Option<KubernetesKit>> {
    let Some(build) = build else { return Ok(None) };
    let begin = Instant::now();
    let built = match build.join().map_err(|_| anyhow!("the build of Kubernetes panicked"))? {
        Ok(built) => built,
        Err(error) if std::env::var_os("CI").is_some() => {
            let error = error.context("the suite `kubernetes` must run in CI");
            report.suite(NAME).failed("Kubernetes can be built", begin, &error);
            return Ok(None);
        }
        Err(error) => {
            let why = "Kubernetes cannot be built; see the last lines";
            let about = SUITES.iter().find(|suite| suite.name == NAME).map_or("", |it| it.about);
            report.suite(NAME).skip(about, why);
            report.last_word(&format!("the suite `kubernetes` was not run: {error:#}"));
            return Ok(None);
        }
    };
    if !args.no_build {
        image::build_with(PROFILE, args.quick, Some(built.clone()))?;
    }
    let kube = built.program.clone();
    let artifacts = image::artifacts_with(tools, PROFILE, args.quick, Some(built))?;
    // The short form is for everybody who changes something; whoever names the suite wants to know all, unless they say so.
    let named = args.names.iter().any(|name| name == NAME);
    let long = (args.full || named) && !args.focus.iter().any(|part| part == SHORT);
    let images = if long { Some(cri::pod_images(tools)?) } else { None };
    let focus = args.focus.clone();
    let mut kit = KubernetesKit { artifacts, kube, images, helm: None, controller: None, focus };
    if long && (kit.focus.is_empty() || kit.focus.iter().any(|group| group == "clients")) {
        kit.helm = with_helm(report);
        kit.controller = Some(controller()?);
    }
    Ok(Some(kit))
}

/// Helm; without it the rest is still tried.
fn with_helm(report: &Report) -> Option<PathBuf> {
    let begin = Instant::now();
    match helm::ensure() {
        Ok(program) => return Some(program),
        Err(error) if std::env::var_os("CI").is_some() => {
            report.suite(NAME).failed("Helm can be built", begin, &error);
        }
        Err(error) => report.last_word(&format!("Helm was not tried: {error:#}")),
    }
    None
}

/// The controller that stands for other people's, with what it needs of crates that nothing else here uses.
fn controller() -> anyhow::Result<PathBuf> {
    let words = ["build", "--quiet", "--locked", "--profile", "quick", "--features", "kube"];
    let package = ["--package", "ingot-qemu-tests", "--bin", "kube-controller"];
    workspace::run(workspace::cargo().args(words).args(package))?;
    Ok(workspace::target().join("x86_64-unknown-linux-gnu/quick/kube-controller"))
}
