//! Suite `pull`: images come from a registry as there are many in the world: it has a name, a certificate of a private authority, and
//! sells tokens to who has the password. What one of them would not allow is refused with a reason.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use ingot_pki::{Ca, Validity};

use super::Context;
use super::density::IMAGE;
use crate::credentials::Credentials;
use crate::cri::{self, Cri, RELAY_PORT, v1};
use crate::documents;
use crate::machine::{Firmware, Machine};
use crate::registry::{Guard, Registry};
use crate::report::Report;
use crate::wait;

/// Name of the registry; only the node's own name server knows it.
const HOST: &str = "registry.lan.example";
/// The host, as a guest with user-mode networking reaches it.
const ADDRESS: &str = "10.0.2.2";
const USER: &str = "node";
const PASSWORD: &str = "of-the-tests";
/// An image of every registry here: not the one of the name server, or nothing would be left to pull.
const REPOSITORY: &str = "e2e-test-images/busybox";
const TAG: &str = "1.29-2";
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
const PULL_LIMIT: Duration = Duration::from_secs(300);

/// A node and the registries it can reach.
struct Scene {
    machine: Machine,
    /// Serves the program that stands for a name server; over plain HTTP, through a mirror rule.
    _mirror: Registry,
    /// Whom the node's config trusts and has a password for.
    trusted: Registry,
    /// The same by its name and port, but of an authority nobody has told the node of.
    stranger: Registry,
}

/// Runs the suite.
pub(super) async fn run(context: &Context, report: &Report) {
    let Some(kit) = &context.cri else { return };
    let mut scene = match scene(context, &kit.images).await {
        Ok(scene) => scene,
        Err(error) => return report.check_alone("a node boots", async { Err(error) }).await,
    };
    let (trusted, stranger) = (name(&scene.trusted), name(&scene.stranger));
    let machine = &mut scene.machine;
    report.check("a name server starts on the node", machine, name_server).await;
    report
        .check(
            "a pull finds the registry by name, believes its authority and buys a token",
            machine,
            async |machine| reach(machine).await?.pull(&trusted).await.map(drop),
        )
        .await;
    report
        .check(
            "the image is listed by the name it was asked for, and runs",
            machine,
            async |machine| runs(&mut reach(machine).await?, &trusted).await,
        )
        .await;
    let log = scene.trusted.log();
    report
        .check("the password was shown to who sells tokens, once", machine, async |_| {
            sold_once(&log)
        })
        .await;
    for (check, image, password, words) in [
        (
            "a wrong password is refused, and the message tells by whom",
            &trusted,
            "wrong",
            &[HOST, "refuses access"][..],
        ),
        (
            "a certificate of an unknown authority is refused",
            &stranger,
            PASSWORD,
            &["TLS", "certificate"],
        ),
        (
            "a name that nobody knows is reported as such",
            &format!("nowhere.lan.example/{REPOSITORY}:{TAG}"),
            PASSWORD,
            &["look up nowhere.lan.example"],
        ),
    ] {
        report
            .check(check, machine, async |machine| {
                refused(&mut reach(machine).await?, image, password, words).await
            })
            .await;
    }
}

async fn scene(context: &Context, images: &std::path::Path) -> anyhow::Result<Scene> {
    let validity = Validity::starting(SystemTime::now(), LIFETIME);
    let ca = Ca::generate("Registry of the tests", validity).context("make an authority")?;
    let unknown = Ca::generate("Nobody knows it", validity).context("make an authority")?;
    let guarded = |ca: &Ca| {
        Registry::start_guarded(images, |port| Guard::new(ca, HOST, port, USER, PASSWORD))
    };
    let (mirror, trusted, stranger) = (Registry::start(images)?, guarded(&ca)?, guarded(&unknown)?);
    let credentials = Rc::new(Credentials::generate()?);
    let machine = documents::with_own_name_server(&documents::machine(&credentials, "pull"));
    let host = format!("{HOST}:{}", trusted.port());
    let host = documents::registry_host(&host, &ca.certificate().to_pem(), USER, PASSWORD);
    let machine = format!(
        "{machine}registries:\n  mirrors:\n    - registry: mirror.test\n      endpoints: [\"{}\"]\n  hosts:\n{host}",
        mirror.guest_url()
    );
    let builder = Machine::builder(&context.artifacts, "pull")
        .firmware(Firmware::Direct)
        .forward(RELAY_PORT)
        .memory_mib(1024)
        .cidata(documents::stream(&[machine, documents::relay()]))
        .credentials(credentials);
    let mut machine = builder.boot().await?;
    machine.wait_running().await.context("boot a node that pulls")?;
    Ok(Scene { machine, _mirror: mirror, trusted, stranger })
}

/// The image as it is named in a guarded registry.
fn name(registry: &Registry) -> String {
    format!("{HOST}:{}/{REPOSITORY}:{TAG}", registry.port())
}

async fn reach(machine: &Machine) -> anyhow::Result<Cri> {
    Cri::wait_at(machine.forwarded(RELAY_PORT)?).await
}

/// A container with the node's network that knows one name.
async fn name_server(machine: &mut Machine) -> anyhow::Result<()> {
    let mut cri = reach(machine).await?;
    cri.pull(IMAGE).await?;
    let config = cri::node_sandbox("names");
    let sandbox = cri.run_sandbox(&config).await?;
    let words = ["/workload", "names", HOST, ADDRESS];
    let id = cri.create(&sandbox, &cri::node_container("main", IMAGE, &words), &config).await?;
    cri.start(&id).await?;
    let status = cri.status(&id).await?;
    let running = v1::ContainerState::ContainerRunning;
    ensure!(status.state() == running, "it does not run: {status:?}");
    Ok(())
}

async fn runs(cri: &mut Cri, image: &str) -> anyhow::Result<()> {
    let request = v1::ImageStatusRequest { image: Some(cri::image(image)), verbose: false };
    let call = cri.image.image_status(request);
    let found = cri::answer("ImageStatus", PULL_LIMIT, call).await?.image.context("no image")?;
    ensure!(found.repo_tags.iter().any(|tag| tag == image), "tags: {:?}", found.repo_tags);
    let config = cri::sandbox("pulled");
    let sandbox = cri.run_sandbox(&config).await?;
    let main = cri::container("main", image, &["sh", "-c", "exit 9"]);
    let id = cri.create(&sandbox, &main, &config).await?;
    cri.start(&id).await?;
    wait::until("the container to end with its code", PULL_LIMIT, async || {
        let status = cri.status(&id).await?;
        let ended = status.state() == v1::ContainerState::ContainerExited;
        ensure!(!ended || status.exit_code == 9, "it ended with {status:?}");
        Ok(ended.then_some(()))
    })
    .await?;
    cri.remove_sandbox(&sandbox).await
}

/// One token paid for the manifest, the config and the layer, and nothing given before that.
fn sold_once(log: &[String]) -> anyhow::Result<()> {
    let count = |words: &[&str]| {
        log.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
    };
    ensure!(count(&["/token", "200"]) == 1, "tokens were sold more than once or never: {log:?}");
    ensure!(count(&["/manifests/", "401"]) >= 1, "nobody was sent to buy a token: {log:?}");
    let manifest = count(&["GET", "/manifests/", "200"]);
    ensure!(manifest >= 1 && count(&["/blobs/", "200"]) >= 2, "not all was pulled: {log:?}");
    Ok(())
}

/// A pull that must fail with an error that has all `words` in it.
async fn refused(cri: &mut Cri, image: &str, password: &str, words: &[&str]) -> anyhow::Result<()> {
    let auth = v1::AuthConfig {
        username: USER.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    };
    let request = v1::PullImageRequest {
        image: Some(cri::image(image)),
        auth: Some(auth),
        ..Default::default()
    };
    let call = cri.image.pull_image(request);
    let Err(error) = cri::answer("PullImage", PULL_LIMIT, call).await else {
        bail!("it was pulled")
    };
    let text = format!("{error:#}");
    let absent: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
    ensure!(absent.is_empty(), "{absent:?} is not in the error: {text}");
    ensure!(!text.contains("was not answered"), "it hangs");
    ensure!(!text.contains(password), "the password is in the error: {text}");
    Ok(())
}
