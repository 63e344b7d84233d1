//! Formats: what a single text in a config must look like, and what to write instead.
//!
//! Each row of [`FORMATS`] is one format: its name in the JSON schema, a check, and the advice that goes with a refusal.
//! The types name a format through a marker (`#[schemars(with = "format::Cidr")]`). Nothing here sees more than one text.

use crate::quantity::Quantity;
use crate::v1::network::{Destination, MacAddress};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::net::IpAddr;

/// One format of texts.
pub struct Format {
    /// Name, as `format` in the JSON schema.
    pub name: &'static str,
    /// What a text of this format is, for people: "is not {noun}".
    pub noun: &'static str,
    /// What to write instead.
    pub hint: &'static str,
    /// Whether a text is of this format.
    pub accepts: fn(&str) -> bool,
}

/// The format with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// Declares for each format its marker type, and the table of them all.
macro_rules! formats {
    ($($(#[$doc:meta])* $marker:ident $type:tt $name:literal, $noun:literal, $hint:literal, $accepts:expr;)*) => {
        $(
            $(#[$doc])*
            pub enum $marker {}

            impl JsonSchema for $marker {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($marker).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    formats!(@schema $type $name)
                }
            }
        )*

        /// All formats.
        pub static FORMATS: &[Format] = &[
            $(Format { name: $name, noun: $noun, hint: $hint, accepts: $accepts },)*
        ];
    };
    (@schema text $name:literal) => { json_schema!({ "type": "string", "format": $name }) };
    (@schema scalar $name:literal) => { json_schema!({ "type": ["string", "number"], "format": $name }) };
    (@schema secret $name:literal) => {
        json_schema!({ "type": "string", "format": $name, "writeOnly": true })
    };
}

formats! {
    /// A name of one or more DNS labels.
    Hostname text "hostname", "a host name",
        "use letters, digits and dashes, parts joined by dots, like \"node-1\" or \"node-1.example.org\"", is_hostname;
    /// A host name or an IP address.
    Host text "host", "a host name or an IP address",
        "write a name like \"time.example.org\" or an address like \"192.0.2.1\"",
        |text| is_hostname(text) || text.parse::<IpAddr>().is_ok();
    /// The kernel's name of a network link.
    LinkName text "link-name", "a link name", "use the kernel's name, at most 15 characters, like \"enp1s0\"", is_link_name;
    /// A MAC address.
    Mac text "mac", "a MAC address", "write six bytes in hexadecimal, like \"bc:24:11:02:a7:3e\"",
        |text| text.parse::<MacAddress>().is_ok();
    /// An IP address.
    Ip text "ip", "an IP address", "write an address with no prefix length, like \"192.0.2.1\" or \"2001:db8::1\"",
        |text| text.parse::<IpAddr>().is_ok();
    /// An address with its prefix length.
    Cidr text "cidr", "an address with a prefix length", "write like \"192.168.1.20/24\" or \"2001:db8::20/64\"",
        |text| text.parse::<ipnet::IpNet>().is_ok();
    /// An IPv4 network.
    Cidr4 text "cidr4", "an IPv4 network", "write like \"10.244.0.0/24\"",
        |text| text.parse::<ipnet::Ipv4Net>().is_ok();
    /// An IPv6 network.
    Cidr6 text "cidr6", "an IPv6 network", "write like \"fd00:10:244::/64\"",
        |text| text.parse::<ipnet::Ipv6Net>().is_ok();
    /// Where a route leads.
    RouteDestination text "route-destination", "a route's destination", "write \"default\" or a network like \"10.1.0.0/16\"",
        |text| text.parse::<Destination>().is_ok();
    /// A resource quantity.
    AnyQuantity scalar "quantity", "a quantity", "write a number with an optional suffix, like \"250m\", \"1.5\", \"128Mi\" or \"1G\"",
        |text| text.parse::<Quantity>().is_ok();
    /// The name of a kernel parameter.
    SysctlName text "sysctl-name", "the name of a kernel parameter", "write it with dots, like \"net.ipv4.ip_forward\"", is_sysctl_name;
    /// The value of a kernel parameter.
    SysctlText scalar "sysctl-value", "the value of a kernel parameter", "write one line of at most 1024 characters", is_one_line;
    /// The name of a kernel module.
    ModuleName text "module-name", "the name of a kernel module", "use letters, digits, dashes and underscores, like \"br_netfilter\"", is_module_name;
    /// One parameter of a kernel module.
    ModuleParameter text "module-parameter", "a module parameter", "write like \"max_loop=8\", one for each entry", is_module_parameter;
    /// One or more certificates.
    CertificatePem text "certificate-pem", "a certificate in PEM",
        "paste the whole block from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, after \"|\"",
        |text| is_pem(text, &["CERTIFICATE"]);
    /// A private key.
    KeyPem secret "key-pem", "a private key in PEM",
        "paste the whole block from -----BEGIN PRIVATE KEY----- to -----END PRIVATE KEY-----, after \"|\"",
        |text| is_pem(text, &["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"]);
    /// A DNS label, as upstream's RFC 1123 label.
    DnsLabel text "dns-label", "a name Kubernetes accepts here",
        "use at most 63 lower-case letters, digits and dashes, with a letter or digit at both ends, like \"web-1\"", is_dns_label;
    /// A pod's name, as upstream's RFC 1123 subdomain.
    PodName text "pod-name", "a pod name Kubernetes accepts",
        "use lower-case letters, digits, dashes and dots, with a letter or digit at both ends, like \"web-1\"", is_pod_name;
    /// A pod's uid, which becomes a directory name.
    PodUid text "pod-uid", "a pod uid", "use at most 64 lower-case letters, digits and dashes, or leave it out", is_pod_uid;
    /// The key of a label or annotation.
    LabelName text "label-name", "a label or annotation name",
        "write like \"app\" or \"example.org/app\", at most 63 characters after the slash", is_label_name;
    /// The value of a label.
    LabelValue text "label-value", "a label value",
        "use at most 63 letters, digits, dashes, underscores and dots, with a letter or digit at both ends", is_label_value;
    /// The name of an environment variable.
    EnvName text "env-name", "the name of an environment variable", "use printable characters without \"=\", like \"LOG_LEVEL\"", is_env_name;
    /// A path from the root.
    AbsolutePath text "absolute-path", "an absolute path", "start with \"/\" and leave out \"..\", like \"/data\"", is_absolute_path;
    /// The name of an image.
    ImageReference text "image-reference", "an image reference",
        "write repository and tag, like \"ingot/workload:latest\"", is_image_reference;
    /// The beginning of images' names.
    RegistryPrefix text "registry-prefix", "the beginning of images' names",
        "write a host like \"docker.io\", with a part of its repositories where needed, or \"*\" for all others",
        is_registry_prefix;
    /// A host of images.
    RegistryHostName text "registry-host", "the host of a registry",
        "write a name or an address, with a port where needed, like \"registry.example.org:5000\"", is_registry_host;
    /// The address of a mirror.
    RegistryUrl text "registry-url", "the address of a registry",
        "write like \"https://mirror.example.org:5000/cache\", without user name, \"?\" and \"#\"", is_registry_url;
    /// The address of a proxy, which may hold a password.
    ProxyUrl secret "proxy-url", "the address of a proxy",
        "write like \"http://proxy.example.org:3128\" or \"http://user:password@proxy.example.org:3128\"",
        |text| text.strip_prefix("http://").is_some_and(|rest| is_registry_host(rest.rsplit('@').next().unwrap_or(rest)));
    /// A path that stays inside of something.
    RelativePath text "relative-path", "a path below something else", "leave out the leading \"/\" and \"..\", like \"app/config.yaml\"", is_relative_path;
    /// A key of a ConfigMap or Secret.
    DataKey text "data-key", "a key of a ConfigMap or Secret",
        "use at most 253 letters, digits, dashes, underscores and dots, like \"app.yaml\"", is_data_key;
    /// Bytes.
    Base64 text "base64", "base64", "encode the bytes in base64 with padding, or write a text to \"data\"",
        |text| crate::v1::data::decode(text).is_some();
    /// Bytes that are a secret.
    SecretBase64 secret "secret-base64", "base64", "encode the bytes in base64 with padding, or write a text to \"stringData\"",
        |text| crate::v1::data::decode(text).is_some();
    /// The permission bits of a file.
    FileModeText scalar "file-mode", "a file mode", "write it in octal with a leading zero, like \"0644\"; the most is \"0777\"",
        |text| crate::v1::pod::FileMode::parse(text).is_some();
    /// The name of a port, as upstream's IANA service name.
    PortName text "port-name", "a port name", "use at most 15 lower-case letters, digits and dashes, with a letter in it, like \"http\"", is_port_name;
    /// A port by number or name.
    PortReference scalar "port", "a port", "write a number from 1 to 65535, or the name of one of the container's ports",
        |text| text.parse::<u16>().is_ok_and(|port| port > 0) || is_port_name(text);
    /// The name of an HTTP header.
    HeaderName text "header-name", "the name of an HTTP header", "use letters, digits and dashes, like \"Accept\"",
        |text| is_word(text, 256, |c| c == '-', |c| c.is_ascii_alphanumeric() || c == '_');
    /// The value of an HTTP header.
    HeaderValue text "header-value", "the value of an HTTP header", "write one line of at most 1024 printable characters",
        |text| text.len() <= 1024 && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    /// A signal.
    SignalName text "signal", "the name of a signal", "write like \"SIGTERM\" or \"SIGRTMIN+3\"", |text| signal_number(text).is_some();
    /// A word without spaces.
    Word scalar "word", "a word", "write letters, digits and signs without spaces", |text| !text.is_empty() && text.len() <= 255 && text.chars().all(|c| c.is_ascii_graphic());
    /// A Linux capability.
    Capability text "capability", "a Linux capability", "write it in capitals without \"CAP_\", like \"NET_ADMIN\"", is_capability;
}

/// Letters, digits and whatever `extra` allows, with a letter or digit at both ends.
fn is_word(text: &str, max: usize, inside: fn(char) -> bool, ends: fn(char) -> bool) -> bool {
    !text.is_empty()
        && text.len() <= max
        && text.chars().all(|c| inside(c) || ends(c))
        && text.starts_with(ends)
        && text.ends_with(ends)
}

fn is_lower_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_letter_or_digit(c: char) -> bool {
    c.is_ascii_alphanumeric()
}

fn is_dns_label(text: &str) -> bool {
    is_word(text, 63, |c| c == '-', is_lower_or_digit)
}

/// A pod's name is also a host name and a file name, so each part between dots is a label of its own.
fn is_pod_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

fn is_hostname(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|part| is_word(part, 63, |c| c == '-', is_letter_or_digit))
}

/// What the kernel's dev_valid_name() accepts, without the characters that only confuse.
fn is_link_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%'))
}

/// The name becomes a path below /proc/sys: dots part it, so no part may be empty, and no part may hold a slash but as
/// sysctl(8) writes a dot inside a link name.
fn is_sysctl_name(text: &str) -> bool {
    text.len() <= 255
        && text.contains('.')
        && text.split('.').all(|part| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '@'))
        })
        && text.split(['.', '/']).all(|part| !part.is_empty())
}

fn is_one_line(text: &str) -> bool {
    text.len() <= 1024 && !text.chars().any(|c| c.is_control() && c != '\t')
}

fn is_module_name(text: &str) -> bool {
    is_word(text, 63, |c| matches!(c, '-' | '_'), is_letter_or_digit)
}

fn is_module_parameter(text: &str) -> bool {
    let name = text.split('=').next().unwrap_or(text);
    text.len() <= 1024
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Whole PEM blocks, all with one of `labels`, at least one, with base64 inside. What the bytes mean is not looked at.
fn is_pem(text: &str, labels: &[&str]) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut blocks = 0;
    while let Some(begin) = lines.next() {
        let Some(label) =
            begin.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"))
        else {
            return false;
        };
        let end = format!("-----END {label}-----");
        let mut body = 0;
        loop {
            match lines.next() {
                Some(line) if line == end => break,
                Some(line)
                    if line
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')) =>
                {
                    body += 1
                }
                _ => return false,
            }
        }
        if body == 0 || !labels.contains(&label) {
            return false;
        }
        blocks += 1;
    }
    blocks > 0
}

fn is_pod_uid(text: &str) -> bool {
    is_word(text, 64, |c| c == '-', is_lower_or_digit)
}

fn is_label_name(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    is_word(name, 63, |c| matches!(c, '-' | '_' | '.'), is_letter_or_digit)
        && prefix.is_none_or(is_pod_name)
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_word(text, 63, |c| matches!(c, '-' | '_' | '.'), is_letter_or_digit)
}

/// As upstream since relaxed validation: printable ASCII without the equals sign.
fn is_env_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.chars().all(|c| (c.is_ascii_graphic() || c == ' ') && c != '=')
}

fn is_absolute_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 4095
        && !text.contains('\0')
        && text.split('/').all(|part| part != ".." && part.len() <= 255)
}

/// Upstream's rule for keys, items and sub paths: relative, no part leads up.
fn is_relative_path(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('/')
        && text.len() <= 4095
        && !text.contains('\0')
        && text.split('/').all(|part| part != ".." && part.len() <= 255)
}

fn is_data_key(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.starts_with("..")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_port_name(text: &str) -> bool {
    is_word(text, 15, |c| c == '-', is_lower_or_digit)
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.contains("--")
}

/// Number of a signal of Linux on x86-64 by its name with `SIG`: `SIGTERM`, `SIGRTMIN`, `SIGRTMIN+3`, `SIGRTMAX-1`.
#[must_use]
pub fn signal_number(name: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    /// glibc keeps the first two real-time signals for itself.
    const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;
    let name = name.strip_prefix("SIG")?;
    if let Some((_, number)) = NAMES.iter().zip(1..).find(|(known, _)| **known == name) {
        return Some(number);
    }
    let offset = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i32>().ok() };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) if rest.is_empty() || rest.starts_with('+') => {
            REAL_TIME.start() + offset(rest)?
        }
        (_, Some(rest)) if rest.is_empty() || rest.starts_with('-') => {
            REAL_TIME.end() + offset(rest)?
        }
        _ => return None,
    };
    REAL_TIME.contains(&number).then_some(number)
}

/// `[registry[:port]/]path[:tag][@digest]`; only the shape, since images are found by what comes after.
fn is_image_reference(text: &str) -> bool {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let part =
        |part: &str| is_word(part, 255, |c| matches!(c, '-' | '_' | '.' | ':'), is_letter_or_digit);
    let tag_ok = |tag: &str| {
        is_word(
            tag,
            128,
            |c| matches!(c, '-' | '_' | '.'),
            |c| c.is_ascii_alphanumeric() || c == '_',
        )
    };
    text.len() <= 1024
        && path.split('/').all(part)
        && tag.is_none_or(tag_ok)
        && digest.is_none_or(|digest| {
            digest.strip_prefix("sha256:").is_some_and(|hex| {
                hex.len() == 64 && hex.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
            })
        })
}

/// `name[:port]`, `address[:port]` or `[address][:port]`.
fn is_registry_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
            ("v6", rest.strip_prefix(':').or(rest.is_empty().then_some("443")))
        }
        _ => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("443")),
        },
    };
    is_hostname(host) && port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// A host, and parts of repositories, as names of images begin.
fn is_registry_prefix(text: &str) -> bool {
    let (host, path) = text.split_once('/').unwrap_or((text, "a"));
    let part = |part: &str| is_word(part, 255, |c| matches!(c, '-' | '_' | '.'), is_lower_or_digit);
    text == "*" || (text.len() <= 255 && is_registry_host(host) && path.split('/').all(part))
}

fn is_registry_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let harmless = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
        text.len() <= 512 && is_registry_host(host) && path.chars().all(harmless)
    })
}

/// Capabilities of kernel 6.12, from capability.h, without their prefix.
const CAPABILITIES: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

fn is_capability(text: &str) -> bool {
    CAPABILITIES.contains(&text)
}
