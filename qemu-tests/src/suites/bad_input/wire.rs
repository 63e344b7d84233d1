//! Messages of the CRI made from its description and sent as bytes, so that they need not make sense.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// The CRI's description.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Messages inside each other that are followed; one of the CRI contains itself nowhere, but maps and lists go deep.
const DEPTH_MAX: usize = 6;

/// A call's answer that never ends (events) is left after so many messages or this long.
const MESSAGES_MAX: usize = 100;
const STREAM_LIMIT: Duration = Duration::from_secs(3);
/// Any call is answered by then; emulation is slow.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// Kinds of nonsense that [`Schema::nonsense`] knows.
pub(super) const KINDS: usize = 4;

/// An RPC.
#[derive(Debug, Clone)]
pub(super) struct Method {
    /// `/package.Service/Method`.
    pub(super) path: String,
    /// Name of its request.
    pub(super) input: String,
    /// It answers with a stream.
    pub(super) streams: bool,
}

/// The CRI's messages.
#[derive(Debug)]
pub(super) struct Schema {
    messages: HashMap<String, DescriptorProto>,
    /// All RPCs.
    pub(super) methods: Vec<Method>,
}

/// The way to a field: the fields on the way, from the outside.
pub(super) type Path = Vec<FieldDescriptorProto>;

impl Schema {
    /// Reads it.
    pub(super) fn load() -> anyhow::Result<Self> {
        let set = FileDescriptorSet::decode(DESCRIPTORS).context("decode the CRI's description")?;
        let mut schema = Self { messages: HashMap::new(), methods: Vec::new() };
        for file in &set.file {
            let package = format!(".{}", file.package());
            for message in &file.message_type {
                schema.add(&package, message);
            }
            for service in &file.service {
                let path = format!("/{}.{}", file.package(), service.name());
                schema.methods.extend(service.method.iter().map(|method| Method {
                    path: format!("{path}/{}", method.name()),
                    input: method.input_type().to_owned(),
                    streams: method.server_streaming(),
                }));
            }
        }
        Ok(schema)
    }

    fn add(&mut self, prefix: &str, message: &DescriptorProto) {
        let name = format!("{prefix}.{}", message.name());
        for inner in &message.nested_type {
            self.add(&name, inner);
        }
        self.messages.insert(name, message.clone());
    }

    /// The ways to all fields of a message that hold no message, at most `depth` messages deep.
    pub(super) fn leaves(&self, message: &str, depth: usize) -> Vec<Path> {
        let mut found = Vec::new();
        let Some(described) = self.messages.get(message) else { return found };
        for field in &described.field {
            if field.r#type() != Type::Message {
                found.push(vec![field.clone()]);
            } else if depth > 0 {
                for mut rest in self.leaves(field.type_name(), depth - 1) {
                    rest.insert(0, field.clone());
                    found.push(rest);
                }
            }
        }
        found
    }

    /// A message with nonsense of one kind in every field.
    pub(super) fn nonsense(&self, message: &str, kind: usize) -> Vec<u8> {
        let leaves = self.leaves(message, DEPTH_MAX);
        leaves.iter().flat_map(|path| one_field(path, kind)).collect()
    }

    /// The deepest ways that are followed.
    pub(super) fn all_leaves(&self, message: &str) -> Vec<Path> {
        self.leaves(message, DEPTH_MAX)
    }
}

/// A message with nonsense in one field. Behind a message that makes sense it takes the place of what that has there.
pub(super) fn one_field(path: &[FieldDescriptorProto], kind: usize) -> Vec<u8> {
    let Some((field, rest)) = path.split_first() else { return Vec::new() };
    if rest.is_empty() {
        return leaf(field, kind);
    }
    delimited(field.number(), &one_field(rest, kind))
}

fn key(number: i32, wire: u64) -> Vec<u8> {
    varint((u64::from(number.unsigned_abs()) << 3) | wire)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.extend_from_slice(&[value.to_le_bytes()[0] | 0x80]);
        value >>= 7;
    }
    bytes.extend_from_slice(&[value.to_le_bytes()[0]]);
    bytes
}

fn delimited(number: i32, bytes: &[u8]) -> Vec<u8> {
    [key(number, 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn leaf(field: &FieldDescriptorProto, kind: usize) -> Vec<u8> {
    let number = field.number();
    match field.r#type() {
        Type::String | Type::Bytes => {
            let text = match kind {
                0 => "../../../../run/ingot".to_owned(),
                1 => "a\0b\u{1b}[2J\u{202e}\n".to_owned(),
                2 => "x".repeat(20_000),
                _ => "-1".to_owned(),
            };
            delimited(number, text.as_bytes())
        }
        Type::Double | Type::Fixed64 | Type::Sfixed64 => {
            [key(number, 1), f64::NAN.to_le_bytes().to_vec()].concat()
        }
        Type::Float | Type::Fixed32 | Type::Sfixed32 => {
            [key(number, 5), f32::NAN.to_le_bytes().to_vec()].concat()
        }
        Type::Group | Type::Message => delimited(number, b""),
        Type::Bool => [key(number, 0), varint(1)].concat(),
        _ => {
            let value = match kind {
                0 => u64::MAX,
                1 => i64::MAX.unsigned_abs(),
                2 => i64::MIN.cast_unsigned(),
                _ => 77_777,
            };
            [key(number, 0), varint(value)].concat()
        }
    }
}

/// Bytes in, bytes out.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length).to_vec()))
    }
}

/// Sends bytes as the request of an RPC; the first message of the answer, or why there is none. An error when the node
/// does not answer, or answers in a way that no caller can understand.
pub(super) async fn call(
    channel: &Channel,
    method: &Method,
    request: Vec<u8>,
) -> anyhow::Result<Result<Vec<u8>, Status>> {
    let name = &method.path;
    let path: PathAndQuery = name.parse().context("name the call")?;
    let mut client = tonic::client::Grpc::new(channel.clone());
    let limit = if method.streams { STREAM_LIMIT } else { CALL_LIMIT };
    let asked = async {
        client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let request = tonic::Request::new(request);
        let mut answer = client.server_streaming(request, path, Raw).await?.into_inner();
        let first = answer.message().await?.unwrap_or_default();
        for _ in 1..MESSAGES_MAX {
            if answer.message().await?.is_none() {
                break;
            }
        }
        Ok::<_, Status>(first)
    };
    let status = match tokio::time::timeout(limit, asked).await {
        Ok(Ok(message)) => return Ok(Ok(message)),
        // What never ends was listened to for long enough.
        Err(_) if method.streams => return Ok(Ok(Vec::new())),
        Err(_) => bail!("{name} was not answered in {} s", limit.as_secs()),
        Ok(Err(status)) => status,
    };
    // For what is no message at all gRPC itself wants "internal".
    let is_undecodable = status.message().contains("failed to decode Protobuf message");
    // "unknown" is what this and other runtimes answer when the kernel refuses a value; then the message has to name it. Without
    // one from the node, it is an error of the connection.
    let is_broken = std::error::Error::source(&status).is_some()
        || status.message().contains("transport error");
    let is_vague = (status.code() == Code::Internal && !is_undecodable) || is_broken;
    if is_vague || status.message().is_empty() {
        bail!("{name}: not a clear error: {status:?}");
    }
    Ok(Err(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::v1;

    #[test]
    fn all_calls_are_known_and_nonsense_takes_the_place_of_sense() {
        let schema = Schema::load().unwrap();
        assert_eq!(schema.methods.len(), 41);
        assert!(schema.methods.iter().all(|method| schema.messages.contains_key(&method.input)));
        let sense = v1::RunPodSandboxRequest {
            config: Some(crate::cri::sandbox("pod")),
            runtime_handler: String::new(),
        };
        let input = ".runtime.v1.RunPodSandboxRequest";
        let leaves = schema.all_leaves(input);
        let named = |path: &Path| path.iter().map(|f| f.name().to_owned()).collect::<Vec<_>>();
        let hostname = leaves.iter().find(|path| named(path) == ["config", "hostname"]).unwrap();
        let bytes = [sense.encode_to_vec(), one_field(hostname, 0)].concat();
        let read = v1::RunPodSandboxRequest::decode(&bytes[..]).unwrap().config.unwrap();
        assert_eq!(read.hostname, "../../../../run/ingot");
        assert_eq!(read.metadata.unwrap().name, "pod");
        for kind in [0, 2, 3] {
            v1::RunPodSandboxRequest::decode(&schema.nonsense(input, kind)[..]).unwrap();
        }
    }
}
