//! A registry that serves what no honest one would, and sends it as no honest one would. Every blob is known by its digest,
//! whatever it is served under.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// A client that says nothing for so long is gone; more than a node waits for a silent registry.
const READ_LIMIT: Duration = Duration::from_secs(300);

/// How a blob is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// As it is.
    None,
    /// As if it had so many bytes.
    Length(u64),
    /// The connection is closed after so many bytes.
    Cut(usize),
    /// Nothing comes after so many bytes.
    Stall(usize),
}

#[derive(Debug, Clone)]
struct Offer {
    body: Vec<u8>,
    fault: Fault,
}

type Offers = Arc<Mutex<BTreeMap<String, Offer>>>;

/// A layer as it travels.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// What is sent.
    pub(super) bytes: Vec<u8>,
    /// What the configuration says the archive in it has for a digest.
    pub(super) diff_id: String,
    /// What the manifest says.
    pub(super) size: u64,
    /// How it is sent.
    pub(super) fault: Fault,
    /// What the manifest says it has for a digest.
    pub(super) digest: String,
}

impl Layer {
    /// An honest one.
    pub(super) fn plain(archive: Vec<u8>) -> Self {
        let digest = digest(&archive);
        let size = archive.len() as u64;
        Self { bytes: archive, diff_id: digest.clone(), size, fault: Fault::None, digest }
    }
}

/// `sha256:...` of these bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// A running registry. It serves until the program ends.
#[derive(Debug)]
pub(super) struct Hostile {
    port: u16,
    offers: Offers,
}

impl Hostile {
    /// One with nothing in it, on a port of its own.
    pub(super) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listen for the registry")?;
        let port = listener.local_addr().context("ask for the registry's port")?.port();
        let offers = Offers::default();
        let served = Arc::clone(&offers);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let offers = Arc::clone(&served);
                // A client that goes away early is its own affair.
                std::thread::spawn(move || drop(serve(&client, &offers)));
            }
        });
        Ok(Self { port, offers })
    }

    /// As a guest with user-mode networking names it.
    pub(super) fn guest_url(&self) -> String {
        format!("http://10.0.2.2:{}", self.port)
    }

    fn put(&self, path: String, body: Vec<u8>, fault: Fault) {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers.insert(path, Offer { body, fault });
    }

    /// Offers `NAME:1`, made of these layers.
    pub(super) fn offer(&self, name: &str, layers: &[Layer]) {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["/none"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let entries = layers.iter().map(|layer| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer.digest, "size": layer.size,
            })
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(&config), "size": config.len(),
            },
            "layers": entries.collect::<Vec<_>>(),
        });
        self.put(format!("/v2/{name}/blobs/{}", digest(&config)), config, Fault::None);
        for layer in layers {
            let path = format!("/v2/{name}/blobs/{}", layer.digest);
            self.put(path, layer.bytes.clone(), layer.fault);
        }
        self.offer_manifest(name, manifest.to_string().into_bytes());
    }

    /// Offers `NAME:1` with this for a manifest.
    pub(super) fn offer_manifest(&self, name: &str, manifest: Vec<u8>) {
        self.put(format!("/v2/{name}/manifests/1"), manifest, Fault::None);
    }
}

fn serve(client: &TcpStream, offers: &Offers) -> anyhow::Result<()> {
    client.set_read_timeout(Some(READ_LIMIT))?;
    let mut reader = BufReader::new(client);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = path.split('?').next().unwrap_or_default();
        let offer = offers.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        let is_head = method == "HEAD";
        let mut header = String::new();
        while reader.read_line(&mut header)? > 2 {
            header.clear();
        }
        if !send(client, is_head, offer)? {
            return Ok(());
        }
    }
}

/// Whether the connection can be used for more.
fn send(mut client: &TcpStream, is_head: bool, offer: Option<Offer>) -> anyhow::Result<bool> {
    let Some(Offer { body, fault }) = offer else {
        client.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    };
    let length = if let Fault::Length(length) = fault { length } else { body.len() as u64 };
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(head.as_bytes())?;
    if is_head {
        return Ok(true);
    }
    let (Fault::Cut(end) | Fault::Stall(end)) = fault else {
        client.write_all(&body)?;
        return Ok(fault == Fault::None);
    };
    client.write_all(&body[..end.min(body.len())])?;
    if matches!(fault, Fault::Stall(_)) {
        // Until the other side gives up.
        let _ = client.read(&mut [0; 1]);
    }
    Ok(false)
}
