//! Who sees credentials, and when.

use base64::Engine as _;
use ingot_images::{Auth, ErrorKind};

use crate::build::{Built, Tar};
use crate::registry::{Answer, Node, Registry, Request, told};

fn image() -> Built {
    Built::one(Tar::default().file("a", "b").end())
}

fn password() -> Auth {
    let server_address = String::new();
    Auth { username: "u".into(), password: "p".into(), server_address, ..Auth::default() }
}

fn basic() -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("u:p"))
}

/// A node for which the registry is not a mirror but the one the image is named after.
async fn at_home() -> (Registry, Node, String) {
    let registry = Registry::start().await;
    registry.offer("a", "1", &image());
    let mut node = Node::new(&registry);
    let host = format!("127.0.0.1:{}", registry.port);
    node.config.sources.mirrors[0].prefix.clone_from(&host);
    (registry, node, format!("{host}/a:1"))
}

#[tokio::test]
async fn a_password_is_sent_when_it_is_asked_for_and_not_before() {
    let (registry, node, name) = at_home().await;
    registry.hook(|request| {
        (request.header("authorization") != basic())
            .then(|| Answer::status(401).with("WWW-Authenticate", "Basic realm=\"x\""))
    });
    let store = node.open().await;
    let refused = store.pull(&name, &Auth::default(), None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthorized);
    assert!(registry.requests().iter().all(|r| r.header("authorization").is_empty()));
    store.pull(&name, &password(), None).await.unwrap();
}

fn bearer(registry: &Registry, wanted: &'static str) {
    let realm = format!("http://127.0.0.1:{}/token?x=1", registry.port);
    registry.hook(move |request| {
        if request.path.starts_with("/token") {
            let body = format!("{{\"token\":\"{wanted}\"}}");
            return Some(Answer::ok(body));
        }
        let challenge =
            format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:a:pull\"");
        (request.header("authorization") != format!("Bearer {wanted}"))
            .then(|| Answer::status(401).with("WWW-Authenticate", challenge))
    });
}

fn token_requests(registry: &Registry) -> Vec<Request> {
    registry.requests().into_iter().filter(|r| r.path.starts_with("/token")).collect()
}

#[tokio::test]
async fn a_token_is_bought_with_the_password_once_for_the_whole_image() {
    let (registry, node, name) = at_home().await;
    bearer(&registry, "secret-token");
    node.open().await.pull(&name, &password(), None).await.unwrap();
    let [token] = &token_requests(&registry)[..] else { panic!("one login") };
    assert_eq!(token.path, "/token?x=1&service=s&scope=repository:a:pull");
    assert_eq!(token.header("authorization"), basic());
}

#[tokio::test]
async fn anonymous_callers_get_a_token_without_credentials() {
    let (registry, node, name) = at_home().await;
    bearer(&registry, "anonymous");
    node.open().await.pull(&name, &Auth::default(), None).await.unwrap();
    assert_eq!(token_requests(&registry)[0].header("authorization"), "");
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_a_form() {
    let (registry, node, name) = at_home().await;
    bearer(&registry, "t");
    let auth = Auth { identity_token: "refresh/+".into(), ..Auth::default() };
    node.open().await.pull(&name, &auth, None).await.unwrap();
    let token = &token_requests(&registry)[0];
    assert_eq!(token.method, "POST");
    assert!(token.body.contains("grant_type=refresh_token"), "{}", token.body);
    assert!(token.body.contains("refresh_token=refresh/%2B"), "{}", token.body);
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is() {
    let (registry, node, name) = at_home().await;
    bearer(&registry, "given");
    let auth = Auth { registry_token: "given".into(), ..Auth::default() };
    node.open().await.pull(&name, &auth, None).await.unwrap();
    assert!(token_requests(&registry).is_empty());
    let wrong = Auth { registry_token: "wrong".into(), ..Auth::default() };
    let refused = node.open().await.pull(&name, &wrong, None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthorized);
    assert!(!told(&refused).contains("wrong"));
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirection_to_another_host_cve_2020_15157() {
    let (registry, node, name) = at_home().await;
    let thief = Registry::start().await;
    let image = image();
    thief.offer("a", "1", &image);
    let elsewhere = format!("http://127.0.0.1:{}", thief.port);
    registry.hook(move |request| {
        if request.header("authorization") != basic() {
            return Some(Answer::status(401).with("WWW-Authenticate", "Basic realm=\"x\""));
        }
        let moved = || Answer::status(307).with("Location", format!("{elsewhere}{}", request.path));
        request.path.contains("/blobs/").then(moved)
    });
    node.open().await.pull(&name, &password(), None).await.unwrap();
    assert!(thief.requests().iter().all(|r| r.header("authorization").is_empty()));
    assert!(!thief.requests().is_empty());
    // Asked for them, the other host gets none either.
    thief.hook(|_| Some(Answer::status(401).with("WWW-Authenticate", "Basic realm=\"x\"")));
    let other = Node::new(&registry);
    let mut config = node.config.clone();
    config.root.clone_from(&other.config.root);
    let store = ingot_images::ImageStore::open(config).await.unwrap();
    store.pull(&name, &password(), None).await.unwrap_err();
    assert!(thief.requests().iter().all(|r| r.header("authorization").is_empty()));
}

#[tokio::test]
async fn what_a_registry_says_about_a_refusal_is_passed_on_in_one_line() {
    let (registry, node, name) = at_home().await;
    registry.hook(|_| {
        let body = r#"{"errors":[{"code":"DENIED","message":"no\n\u001b[31m such plan"}]}"#;
        Some(Answer { body: body.into(), ..Answer::status(403) })
    });
    let refused = node.open().await.pull(&name, &password(), None).await.unwrap_err();
    let text = told(&refused);
    assert!(text.contains(": no[31m such plan"), "{text}");
    assert!(!text.contains("u:p") && !text.contains(&basic()), "{text}");
}
