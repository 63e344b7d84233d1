//! Registries that break, lie or fall silent: a clear error, and nothing left.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ingot_images::{Auth, ErrorKind};

use crate::build::{Built, Tar, gzip};
use crate::registry::{Answer, Node, Registry, ranged, told};

fn image() -> Built {
    // Does not compress well: there must be something to cut off.
    let mut state = 1_u32;
    let mut next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b' ' + (state >> 26) as u8)
    };
    let noise: String = (0..20_000).map(&mut next).collect();
    Built::one(Tar::default().file("a", &noise).end())
}

/// Pulls an image whose layer is answered so, and returns what the error says.
async fn refused(answer: impl Fn(&[u8]) -> Answer + Send + Sync + 'static) -> (ErrorKind, String) {
    let registry = Registry::start().await;
    let image = image();
    registry.offer("a", "1", &image);
    let (path, blob) = (image.layer_path(0), image.layers[0].clone());
    registry.hook(move |request| request.path.contains(&path).then(|| answer(&blob)));
    let mut node = Node::new(&registry);
    node.config.timeouts.stall = Duration::from_millis(50);
    node.config.timeouts.response = Duration::from_millis(50);
    node.config.timeouts.retries = 1;
    let store = node.open().await;
    let error = store.pull("r.test/a:1", &Auth::default(), None).await.unwrap_err();
    node.assert_empty();
    assert!(store.list().is_empty());
    (error.kind(), told(&error))
}

#[tokio::test]
async fn a_layer_with_the_wrong_digest_is_refused() {
    let (kind, text) = refused(|blob| {
        let mut other = blob.to_vec();
        // Where gzip keeps the time: decompresses all the same.
        other[5] ^= 1;
        Answer::ok(other)
    })
    .await;
    assert_eq!(kind, ErrorKind::BadImage);
    assert!(text.contains("layer has digest sha256:"), "{text}");
}

#[tokio::test]
async fn a_layer_that_is_cut_off_each_time_is_an_error_after_some_tries() {
    let (_, text) = refused(|blob| Answer { cut: Some(0), ..Answer::ok(blob) }).await;
    assert!(text.contains("talk to 127.0.0.1"), "{text}");
}

#[tokio::test]
async fn a_registry_that_falls_silent_is_not_waited_for_for_ever() {
    let (kind, text) = refused(|blob| Answer { stall: Some(0), ..Answer::ok(blob) }).await;
    assert_eq!(kind, ErrorKind::Deadline);
    assert!(text.contains("the next byte"), "{text}");
}

#[tokio::test]
async fn a_layer_of_another_length_than_promised_is_refused() {
    let longer = |blob: &[u8]| Answer::ok([blob, b"more"].concat());
    let (kind, text) = refused(longer).await;
    assert_eq!(kind, ErrorKind::BadImage);
    assert!(text.contains("expected"), "{text}");
    let shorter = |blob: &[u8]| Answer::ok(&blob[..blob.len() - 1]);
    let (kind, text) = refused(shorter).await;
    assert_eq!(kind, ErrorKind::BadImage, "{text}");
}

#[tokio::test]
async fn a_length_that_lies_does_not_pass() {
    // Says the right length, sends less, and keeps the connection.
    let (_, text) =
        refused(|blob| Answer { stall: Some(blob.len() - 9), ..Answer::ok(blob) }).await;
    assert!(text.contains("the next byte") || text.contains("bytes"), "{text}");
}

#[tokio::test]
async fn an_error_of_the_server_is_tried_again_and_then_told() {
    let (kind, text) = refused(|_| Answer::status(503)).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("503"), "{text}");
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_ended() {
    let registry = Registry::start().await;
    let image = image();
    registry.offer("a", "1", &image);
    let (path, blob) = (image.layer_path(0), image.layers[0].clone());
    let tries = AtomicUsize::new(0);
    registry.hook(move |request| {
        let ours = request.path.contains(&path);
        let cut = ours && tries.fetch_add(1, Ordering::SeqCst) < 3;
        cut.then(|| Answer { cut: Some(1000), ..ranged(&blob, request) })
    });
    let node = Node::new(&registry);
    node.open().await.pull("r.test/a:1", &Auth::default(), None).await.unwrap();
    let ranges: Vec<String> = registry
        .requests()
        .iter()
        .filter(|r| r.path.contains(&image.layer_path(0)))
        .map(|r| r.header("range").to_owned())
        .collect();
    assert_eq!(ranges, ["", "bytes=1000-", "bytes=2000-", "bytes=3000-"]);
}

#[tokio::test]
async fn a_registry_that_knows_no_ranges_begins_again_and_the_layer_is_right() {
    let registry = Registry::start().await;
    let image = image();
    registry.offer("a", "1", &image);
    let (path, blob) = (image.layer_path(0), image.layers[0].clone());
    let tries = AtomicUsize::new(0);
    registry.hook(move |request| {
        let first = || tries.fetch_add(1, Ordering::SeqCst) == 0;
        let answer = Answer::ok(blob.clone());
        let answer = || if first() { Answer { cut: Some(1000), ..answer } } else { answer };
        request.path.contains(&path).then(answer)
    });
    let node = Node::new(&registry);
    node.open().await.pull("r.test/a:1", &Auth::default(), None).await.unwrap();
}

#[tokio::test]
async fn a_range_that_is_not_the_one_asked_for_is_refused() {
    let registry = Registry::start().await;
    let image = image();
    registry.offer("a", "1", &image);
    let (path, blob) = (image.layer_path(0), image.layers[0].clone());
    registry.hook(move |request| {
        let mut answer = ranged(&blob, request);
        if answer.status == 206 {
            answer.headers = vec![("Content-Range", format!("bytes 7-8/{}", blob.len()))];
        } else {
            answer.cut = Some(1000);
        }
        request.path.contains(&path).then_some(answer)
    });
    let node = Node::new(&registry);
    node.open().await.pull("r.test/a:1", &Auth::default(), None).await.unwrap_err();
    node.assert_empty();
}

#[tokio::test]
async fn documents_with_wrong_digests_and_without_end_are_refused() {
    let registry = Registry::start().await;
    let image = image();
    registry.offer("a", "1", &image);
    let node = Node::new(&registry);
    let store = node.open().await;
    // A manifest by digest.
    registry.offer_manifest("a", &image.digest().to_string(), "", b"{}");
    let name = format!("r.test/a@{}", image.digest());
    let error = store.pull(&name, &Auth::default(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadImage, "{}", told(&error));
    // A manifest that never ends, with and without a length (CVE-2023-25153).
    let endless = vec![b' '; 5 << 20];
    registry.offer_manifest("a", "endless", "", &endless);
    let error = store.pull("r.test/a:endless", &Auth::default(), None).await.unwrap_err();
    assert!(told(&error).contains("longer than 4194304 bytes"), "{}", told(&error));
    // A configuration that is another one.
    let config = image.id();
    let other = vec![b' '; image.config.len()];
    registry.hook(move |request| request.path.contains(&config).then(|| Answer::ok(other.clone())));
    let error = store.pull("r.test/a:1", &Auth::default(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadImage, "{}", told(&error));
    node.assert_empty();
}

#[tokio::test]
async fn redirections_in_a_circle_end() {
    let registry = Registry::start().await;
    registry.hook(|request| Some(Answer::status(302).with("Location", request.path.clone())));
    let node = Node::new(&registry);
    let error = node.open().await.pull("r.test/a:1", &Auth::default(), None).await.unwrap_err();
    assert!(told(&error).contains("too many times"), "{}", told(&error));
}

#[tokio::test]
async fn the_whole_pull_has_a_deadline_too() {
    let registry = Registry::start().await;
    let image = Built::new(&[(Tar::default().file("a", "b").end(), gzip)]);
    registry.offer("a", "1", &image);
    let path = image.layer_path(0);
    registry.hook(move |r| {
        r.path.contains(&path).then(|| Answer { stall: Some(0), ..Answer::ok(vec![0; 9]) })
    });
    let mut node = Node::new(&registry);
    node.config.timeouts.pull = Duration::from_millis(50);
    let store = node.open().await;
    let error = store.pull("r.test/a:1", &Auth::default(), None).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Deadline | ErrorKind::BadImage), "{}", told(&error));
    assert!(store.list().is_empty());
}

#[tokio::test]
async fn nobody_listening_is_told_with_the_address() {
    let registry = Registry::start().await;
    let mut node = Node::new(&registry);
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    node.config.sources.mirrors[0].endpoints[0] = format!("http://127.0.0.1:{port}");
    node.config.timeouts.retries = 1;
    let error = node.open().await.pull("r.test/a:1", &Auth::default(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(told(&error).contains(&format!("connect to 127.0.0.1:{port}")), "{}", told(&error));
}
