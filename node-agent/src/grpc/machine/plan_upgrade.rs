//! `PlanKubernetesUpgrade`: what another version of Kubernetes would change and meet. Changes nothing.

use crate::grpc::Api;
use crate::grpc::status::with_hint;
use crate::kubernetes::access::get;
use crate::kubernetes::image;
use crate::kubernetes::upgrade::{self, Version};
use ingot_api::machine::v1 as pb;
use tonic::{Code, Status};

pub(super) async fn call(
    api: &Api,
    request: pb::PlanKubernetesUpgradeRequest,
) -> Result<pb::PlanKubernetesUpgradeResponse, Status> {
    let record = super::made_cluster(api)?;
    let image = image().unwrap_or_default();
    let image = image.rsplit_once(':').map(|(_, tag)| tag.to_owned()).unwrap_or_default();
    let to = if request.to_version.is_empty() { image.as_str() } else { &request.to_version };
    let to: Version = to.parse().map_err(|()| {
        let message = format!("\"{to}\" is no version of Kubernetes");
        with_hint(Code::InvalidArgument, message, "write like 1.37.1")
    })?;
    let client = super::api_server(api, &record).await?;
    let failed = |error: anyhow::Error| super::no_api_server(&error);
    let version = get(&client, "/version").await.map_err(failed)?;
    let nodes = get(&client, "/api/v1/nodes?limit=500").await.map_err(failed)?;
    let uses = upgrade::deprecated(&client).await.map_err(failed)?;
    let from = version["gitVersion"].as_str().unwrap_or_default();
    let from: Version = from.parse().map_err(|()| {
        Status::internal(format!("the API server says that its version is \"{from}\""))
    })?;
    let kubelets = upgrade::kubelets(&nodes);
    let findings = upgrade::findings(from, to, image.parse().ok(), &kubelets, &uses);
    let finding = |finding: upgrade::Finding| pb::UpgradeFinding {
        level: finding.level.name().to_owned(),
        message: finding.message,
    };
    let kubelet = |(node, version): (String, String)| pb::KubeletVersion { node, version };
    Ok(pb::PlanKubernetesUpgradeResponse {
        from_version: from.to_string(),
        to_version: to.to_string(),
        image_version: image,
        kubelets: kubelets.into_iter().map(kubelet).collect(),
        findings: findings.into_iter().map(finding).collect(),
    })
}
