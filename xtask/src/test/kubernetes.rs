//! Prepares what the suite `kubernetes` needs: an image with Kubernetes in it, kubectl for this machine, and images for the pods.

use ingot_image_builder::tools::Tools;
use ingot_qemu_tests::report::Report;
use ingot_qemu_tests::suites::{KubernetesKit, SUITES};

use super::{Args, PROFILE, cri};
use crate::{image, kubernetes};

/// The suite.
const NAME: &str = "kubernetes";

/// What the suite needs, if it is one of `names` or there are none. Where Kubernetes cannot be built the suite is skipped and the last
/// lines say why; in CI that is an error.
pub(super) fn kit(
    tools: &Tools,
    names: &[String],
    args: &Args,
    report: &Report,
) -> anyhow::Result<Option<KubernetesKit>> {
    let Some(suite) = SUITES.iter().find(|suite| suite.name == NAME) else { return Ok(None) };
    if !suite.is_wanted(names, args.full) {
        return Ok(None);
    }
    let built = match kubernetes::ensure() {
        Ok(built) => built,
        Err(error) if std::env::var_os("CI").is_some() => {
            return Err(error.context("the suite `kubernetes` must run in CI"));
        }
        Err(error) => {
            let why = "Kubernetes cannot be built; see the last lines";
            report.suite(NAME).skip(suite.about, why);
            report.last_word(&format!("the suite `kubernetes` was not run: {error:#}"));
            return Ok(None);
        }
    };
    if !args.no_build {
        image::build_with(PROFILE, args.quick, Some(built.clone()))?;
    }
    let kube = built.program.clone();
    let artifacts = image::artifacts_with(tools, PROFILE, args.quick, Some(built))?;
    // The short form is for everybody who changes something; whoever names the suite wants to know all.
    let long = args.full || names.iter().any(|name| name == NAME);
    let images = if long { Some(cri::pod_images(tools)?) } else { None };
    Ok(Some(KubernetesKit { artifacts, kube, images }))
}
