//! What the store is told by its owner: places, registries, bounds. Data and defaults only.

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::Auth;

/// Everything the store has to know.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Folder of the store, e.g. `/var/lib/ingot/images`. Made when it is absent, readable by root only.
    pub root: PathBuf,
    /// Images bundled in the root, `<repository>/<tag>/{config.json,rootfs/}`; used in place. May be absent.
    pub bundled: PathBuf,
    /// Certificates (PEM) of the authorities that every registry may use; an absent file means none.
    pub ca_bundle: PathBuf,
    /// Registries, mirrors and proxies.
    pub sources: Sources,
    /// Bounds for what an image or a registry may ask of the node.
    pub limits: Limits,
    /// How long to wait for a registry.
    pub timeouts: Timeouts,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            root: "/var/lib/ingot/images".into(),
            bundled: "/usr/share/ingot/images".into(),
            ca_bundle: "/etc/ssl/certs/ca-certificates.crt".into(),
            sources: Sources::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// Where images come from besides the registries they are named after, and what is special about some hosts.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Rules for mirrors. The one with the longest prefix that fits decides.
    pub mirrors: Vec<Mirror>,
    /// What is special about a registry or mirror.
    pub hosts: Vec<Host>,
    /// Proxy for requests to registries, `http://[user:password@]host:port`; empty: none.
    pub proxy: String,
    /// Hosts and domains that are reached without the proxy.
    pub no_proxy: Vec<String>,
}

/// Where images whose names begin in a certain way come from.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    /// `host[:port]`, or `host/path` for a part of a registry, or `*` for all others.
    pub prefix: String,
    /// Asked in this order, `https://host[:port][/path]` or `http://...`; a path is put before the repository.
    pub endpoints: Vec<String>,
    /// Do not ask the registry itself when no endpoint has the image.
    pub endpoints_only: bool,
}

/// How to speak with a host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// `host[:port]`, as in the name of an image or the address of a mirror.
    pub host: String,
    /// More authorities (PEM) for this host.
    pub ca_pem: String,
    /// Take any certificate. For experiments: whoever is on the way can then read the credentials.
    pub skip_verify: bool,
    /// Credentials, used when the caller of a pull brings none for this host.
    pub auth: Auth,
}

/// Bounds for one pull or import. Numbers are far above what real images have, and far below what hurts the node.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A manifest, index or configuration, in bytes. 4 MiB is what registries accept.
    pub document_bytes: u64,
    /// A layer as it travels, in bytes.
    pub blob_bytes: u64,
    /// All layers of an image unpacked, in bytes.
    pub unpacked_bytes: u64,
    /// Unpacked bytes for each byte received, once there are more than 256 MiB of them.
    pub ratio: u64,
    /// Files, folders and links in all layers together.
    pub entries: u64,
    /// Layers; overlayfs takes 500.
    pub layers: usize,
    /// Folders inside each other.
    pub depth: usize,
    /// Bytes that stay free on the file system of the store.
    pub reserve_bytes: u64,
    /// Layers of one image that are downloaded at the same time.
    pub parallel_layers: usize,
    /// Images that are pulled at the same time; more wait.
    pub parallel_pulls: usize,
    /// Unpack nothing unless the kernel (Landlock) forbids the thread that does it every other folder. Ingot's kernels
    /// can; tests run on others.
    pub fenced: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 4 << 20,
            blob_bytes: 32 << 30,
            unpacked_bytes: 64 << 30,
            ratio: 200,
            entries: 2_000_000,
            layers: 256,
            depth: 256,
            reserve_bytes: 256 << 20,
            parallel_layers: 3,
            parallel_pulls: 4,
            fenced: true,
        }
    }
}

/// How long to wait, and how often to try again.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Name lookup, TCP and TLS together.
    pub connect: Duration,
    /// From the request to the head of the answer.
    pub response: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
    /// One whole pull.
    pub pull: Duration,
    /// First pause before a request is repeated; it doubles each time.
    pub retry: Duration,
    /// How often a request is repeated.
    pub retries: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            response: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            pull: Duration::from_secs(60 * 60),
            retry: Duration::from_millis(500),
            retries: 4,
        }
    }
}
