//! A controller as people write them with `kube`: for each config map with the label `mirror: yes` it keeps another one that says the same
//! backwards, and that goes with it. It stands for any operator, so it must not know anything about Ingot.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Api, Client, Resource as _, ResourceExt as _};

/// What each call is told as.
const MANAGER: &str = "mirror";
/// Everything is looked at again after this, changed or not.
const AGAIN: Duration = Duration::from_secs(300);
/// After an error.
const SOON: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    // KUBECONFIG says which cluster.
    let client = Client::try_default().await?;
    let all: Api<ConfigMap> = Api::all(client.clone());
    let wanted = watcher::Config::default().labels("mirror=yes");
    let owned = watcher::Config::default().labels("mirror=no");
    let controller = Controller::new(all.clone(), wanted).owns(all, owned);
    controller
        .run(reconcile, |_, _, _| Action::requeue(SOON), Arc::new(client))
        .for_each(|result| async move {
            match result {
                Ok((object, _)) => println!("reconciled {}", object.name),
                Err(error) => println!("{error}"),
            }
        })
        .await;
    Ok(())
}

async fn reconcile(object: Arc<ConfigMap>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let namespace = object.namespace().unwrap_or_default();
    let backwards = |text: &String| text.chars().rev().collect::<String>();
    let data = object.data.iter().flatten().map(|(name, text)| (name.clone(), backwards(text)));
    let name = format!("{}-mirror", object.name_any());
    let mirror = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(BTreeMap::from([("mirror".to_owned(), "no".to_owned())])),
            owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(data.collect()),
        ..ConfigMap::default()
    };
    let api: Api<ConfigMap> = Api::namespaced((*client).clone(), &namespace);
    api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&mirror)).await?;
    Ok(Action::requeue(AGAIN))
}
