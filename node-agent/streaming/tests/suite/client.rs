//! A client: HTTP upgrade by hand, and the client's side of SPDY as moby/spdystream writes it.

use crate::backend::PATIENCE;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::collections::HashMap;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends a request and reads the head of the answer.
pub(crate) async fn request(url: &str, headers: &[(&str, &str)]) -> (TcpStream, String) {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut text = format!("POST /{path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap();
        match byte {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    (stream, String::from_utf8(head).unwrap())
}

/// Upgrades to SPDY with a subprotocol.
pub(crate) async fn spdy(url: &str, protocol: &str) -> Spdy<TcpStream> {
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", protocol),
    ];
    let (stream, head) = request(url, &headers).await;
    assert_upgraded(&head, "spdy/3.1");
    Spdy::new(stream)
}

/// What every client looks for in the answer.
pub(crate) fn assert_upgraded(head: &str, protocol: &str) {
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let lines: Vec<_> = head.lines().map(str::to_ascii_lowercase).collect();
    assert!(lines.contains(&"connection: upgrade".to_owned()), "{head}");
    assert!(lines.contains(&format!("upgrade: {protocol}")), "{head}");
}

/// What the server sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Reply(u32),
    Data(u32, Vec<u8>),
    End(u32),
    Reset(u32),
    Pong(u32),
    Other,
    Closed,
}

/// What arrived on one stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ended: bool,
    pub(crate) reset: bool,
}

pub(crate) struct Spdy<C> {
    pub(crate) stream: C,
    compress: Compress,
    decompress: Decompress,
    next: u32,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Spdy<C> {
    pub(crate) fn new(stream: C) -> Self {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&dictionary()).unwrap();
        Self { stream, compress, decompress: Decompress::new(true), next: 1 }
    }

    /// Opens a stream and returns its number, without waiting for the answer.
    pub(crate) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let mut block = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for (name, value) in headers {
            for text in [name.to_ascii_lowercase().as_str(), value] {
                block.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                block.extend(text.as_bytes());
            }
        }
        let mut body = self.next.to_be_bytes().to_vec();
        body.extend([0; 6]);
        let mut compressed = Vec::with_capacity(4096);
        self.compress.compress_vec(&block, &mut compressed, FlushCompress::Sync).unwrap();
        body.extend(compressed);
        self.control(1, &body).await;
        self.next += 2;
        self.next - 2
    }

    pub(crate) async fn control(&mut self, kind: u8, body: &[u8]) {
        let mut frame = vec![0x80, 3, 0, kind];
        frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        frame.extend(body);
        self.stream.write_all(&frame).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends data; fails when the server has gone.
    pub(crate) async fn send(
        &mut self,
        stream: u32,
        bytes: &[u8],
        fin: bool,
    ) -> std::io::Result<()> {
        let mut frame = stream.to_be_bytes().to_vec();
        let length = u32::try_from(bytes.len()).unwrap() | (u32::from(fin) << 24);
        frame.extend(length.to_be_bytes());
        frame.extend(bytes);
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }

    pub(crate) async fn event(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.read()).await.unwrap().unwrap_or(Event::Closed)
    }

    async fn read(&mut self) -> std::io::Result<Event> {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head).await?;
        let number = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
        let mut body = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut body).await?;
        let word = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
        Ok(match number {
            0x8003_0002 => {
                // Go's reader gives out nothing before zlib's mark of a flush.
                assert!(body.ends_with(&[0, 0, 0, 0xff, 0xff]), "{body:?}");
                assert_eq!(self.inflate(&body[4..]), [0; 4], "headers of an answer");
                Event::Reply(word(&body))
            }
            0x8003_0003 => Event::Reset(word(&body)),
            0x8003_0006 => Event::Pong(word(&body)),
            _ if number & 0x8000_0000 != 0 => Event::Other,
            _ if head[4] == 1 => {
                assert!(body.is_empty());
                Event::End(number)
            }
            _ => Event::Data(number, body),
        })
    }

    fn inflate(&mut self, block: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(4096);
        self.decompress.decompress_vec(block, &mut plain, FlushDecompress::Sync).unwrap();
        plain
    }

    /// Reads until all of `streams` have ended or were reset, or the server closed.
    pub(crate) async fn receive(&mut self, streams: &[u32]) -> HashMap<u32, Received> {
        let mut received: HashMap<u32, Received> = HashMap::new();
        let over = |received: &HashMap<u32, Received>| {
            streams
                .iter()
                .all(|id| received.get(id).is_some_and(|stream| stream.ended || stream.reset))
        };
        while !over(&received) {
            match self.event().await {
                Event::Data(id, bytes) => received.entry(id).or_default().bytes.extend(bytes),
                Event::End(id) => received.entry(id).or_default().ended = true,
                Event::Reset(id) => received.entry(id).or_default().reset = true,
                Event::Closed => break,
                Event::Reply(_) | Event::Pong(_) | Event::Other => {}
            }
        }
        received
    }
}

/// SPDY's dictionary, for the client.
pub(crate) fn dictionary() -> Vec<u8> {
    include_bytes!("dictionary.bin").to_vec()
}
