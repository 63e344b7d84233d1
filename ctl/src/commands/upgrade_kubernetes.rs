//! `upgrade-kubernetes --dry-run`: what another version would change, and what stands in its way.

use crate::cli::UpgradeKubernetes;
use crate::failure::{Exit, Failure};
use crate::output::table;
use crate::session::Session;
use crate::text;
use ingot_api::machine::v1::{PlanKubernetesUpgradeRequest, PlanKubernetesUpgradeResponse};

pub(super) async fn run(session: &Session<'_>, args: &UpgradeKubernetes) -> Result<(), Failure> {
    let node = session.connect().await?;
    let message = PlanKubernetesUpgradeRequest { to_version: args.to.clone().unwrap_or_default() };
    let answer = node
        .call("PlanKubernetesUpgrade", message, async |mut api, request| {
            api.plan_kubernetes_upgrade(request).await
        })
        .await?;
    session.output.answer("PlanKubernetesUpgradeResponse", &answer, show)?;
    let blocks = answer.findings.iter().filter(|finding| finding.level == "blocks").count();
    if blocks == 0 {
        return Ok(());
    }
    let noun = if blocks == 1 { "thing stands" } else { "things stand" };
    Err(Failure::new(Exit::Failed, format!("{blocks} {noun} in the way of the upgrade")))
}

fn show(answer: &PlanKubernetesUpgradeResponse) -> String {
    let word = |text: &str| text::printable(text).into_owned();
    let versions = vec![
        ["API server now".to_owned(), word(&answer.from_version)],
        ["after the upgrade".to_owned(), word(&answer.to_version)],
        ["in the node's image".to_owned(), text::or_dash(&word(&answer.image_version))],
    ];
    let kubelets = answer
        .kubelets
        .iter()
        .map(|kubelet| [format!("kubelet of {}", word(&kubelet.node)), word(&kubelet.version)]);
    let mut shown = table(["WHAT", "VERSION"], versions.into_iter().chain(kubelets).collect());
    if !answer.findings.is_empty() {
        let findings = answer.findings.iter();
        let rows = findings.map(|finding| [word(&finding.level), word(&finding.message)]);
        shown.push('\n');
        shown.push_str(&table(["LEVEL", "FINDING"], rows.collect()));
    }
    shown
}
