//! One HTTP/1.1 request and the status of its answer. It reads no more of an answer than its head, and follows no
//! redirection: 200 to 399 is a yes.

use ingot_machine_config::v1::pod::HttpGetAction;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest status line, in bytes.
const LINE_MAX: usize = 4096;

/// Asks. `authority` is host and port, for the header `Host`.
pub(super) async fn get(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    authority: &str,
    action: &HttpGetAction,
) -> Result<(), String> {
    let request = request(authority, action);
    stream.write_all(request.as_bytes()).await.map_err(|error| format!("send: {error}"))?;
    let mut line = Vec::new();
    while !line.contains(&b'\n') {
        if line.len() >= LINE_MAX {
            return Err("the answer is not HTTP".to_owned());
        }
        let mut buffer = [0; 512];
        match stream.read(&mut buffer).await {
            Ok(0) => return Err("the connection was closed without an answer".to_owned()),
            Ok(count) => line.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) => return Err(format!("receive: {error}")),
        }
    }
    let line = String::from_utf8_lossy(&line);
    let line = line.lines().next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().and_then(|status| status.parse::<u16>().ok()).filter(|_| is_http);
    match status {
        Some(200..400) => Ok(()),
        Some(status) => Err(format!("HTTP probe failed with status code {status}")),
        None => Err("the answer is not HTTP".to_owned()),
    }
}

fn request(authority: &str, action: &HttpGetAction) -> String {
    let path = if action.path.starts_with('/') {
        action.path.clone()
    } else {
        format!("/{}", action.path)
    };
    let given = |name: &str| action.http_headers.iter().any(|h| h.name.eq_ignore_ascii_case(name));
    let mut request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in [
        ("Host", authority),
        ("User-Agent", concat!("ingot-probe/", env!("CARGO_PKG_VERSION"))),
        ("Accept", "*/*"),
    ] {
        if !given(name) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for header in &action.http_headers {
        request.push_str(&format!("{}: {}\r\n", header.name, header.value));
    }
    request.push_str("\r\n");
    request
}
