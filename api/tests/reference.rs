//! `docs/reference/api.md` says what the comments of the .proto file say. `UPDATE=1 cargo test -p ingot-api` rewrites it.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests stop at the first surprise, as tests do")]

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, MethodDescriptorProto,
};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

const PACKAGE: &str = "ingot.machine.v1";

/// Numbers of the fields of descriptors, of which the paths to comments are made (descriptor.proto).
mod tag {
    pub(crate) const MESSAGE: i32 = 4;
    pub(crate) const ENUM: i32 = 5;
    pub(crate) const SERVICE: i32 = 6;
    pub(crate) const METHOD: i32 = 2;
    pub(crate) const FIELD: i32 = 2;
    pub(crate) const VALUE: i32 = 2;
    pub(crate) const NESTED_MESSAGE: i32 = 3;
    pub(crate) const NESTED_ENUM: i32 = 4;
}

struct Comments(BTreeMap<Vec<i32>, String>);

impl Comments {
    fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        Self(
            locations
                .filter_map(|at| Some((at.path.clone(), at.leading_comments.clone()?)))
                .map(|(path, text)| (path, words(&text)))
                .collect(),
        )
    }

    fn at(&self, path: &[i32]) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }
}

/// A comment as one line that can stand in a table.
fn words(comment: &str) -> String {
    comment
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
        .replace('<', "&lt;")
}

fn machine() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(ingot_api::FILE_DESCRIPTOR_SET).unwrap();
    set.file.into_iter().find(|file| file.package() == PACKAGE).unwrap()
}

fn index(position: usize) -> i32 {
    i32::try_from(position).unwrap()
}

/// A type as people write it, with a link where this page explains it.
fn named(full: &str) -> String {
    match full.trim_start_matches('.').strip_prefix(PACKAGE) {
        Some(name) => {
            let name = name.trim_start_matches('.');
            format!("[{name}](#{})", name.to_lowercase().replace('.', ""))
        }
        None => full.trim_start_matches('.').to_owned(),
    }
}

fn kind(field: &FieldDescriptorProto) -> String {
    let name = match field.r#type() {
        Type::Message | Type::Enum => named(field.type_name()),
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    if field.label() == Label::Repeated { format!("repeated {name}") } else { name }
}

fn method(text: &mut String, method: &MethodDescriptorProto, comment: &str) {
    let stream = if method.server_streaming() { "stream of " } else { "" };
    let (request, response) = (named(method.input_type()), named(method.output_type()));
    let _ = write!(
        text,
        "\n### {}\n\n{comment}\n\nRequest: {request}. Response: {stream}{response}.\n",
        method.name()
    );
}

fn message(text: &mut String, name: &str, message: &DescriptorProto, path: &[i32], all: &Comments) {
    let _ = write!(text, "\n### {name}\n\n");
    let comment = all.at(path);
    if !comment.is_empty() {
        let _ = write!(text, "{comment}\n\n");
    }
    if message.field.is_empty() {
        text.push_str("No fields.\n");
    } else {
        text.push_str("| field | type | meaning |\n|---|---|---|\n");
    }
    for (position, field) in message.field.iter().enumerate() {
        let comment = all.at(&[path, &[tag::FIELD, index(position)]].concat());
        let _ = writeln!(text, "| `{}` | {} | {comment} |", field.name(), kind(field));
    }
    for (position, nested) in message.nested_type.iter().enumerate() {
        let path = [path, &[tag::NESTED_MESSAGE, index(position)]].concat();
        self::message(text, &format!("{name}.{}", nested.name()), nested, &path, all);
    }
    for (position, nested) in message.enum_type.iter().enumerate() {
        let path = [path, &[tag::NESTED_ENUM, index(position)]].concat();
        enumeration(text, &format!("{name}.{}", nested.name()), nested, &path, all);
    }
}

fn enumeration(
    text: &mut String,
    name: &str,
    enumeration: &EnumDescriptorProto,
    path: &[i32],
    all: &Comments,
) {
    let _ = write!(text, "\n### {name}\n\n| value | number | meaning |\n|---|---|---|\n");
    for (position, value) in enumeration.value.iter().enumerate() {
        let comment = all.at(&[path, &[tag::VALUE, index(position)]].concat());
        let _ = writeln!(text, "| `{}` | {} | {comment} |", value.name(), value.number());
    }
}

fn reference() -> String {
    let file = machine();
    let all = Comments::of(&file);
    let mut text = format!(
        "<!-- Made from api/proto by `UPDATE=1 cargo test -p ingot-api`. -->\n\
         # Machine API\n\n\
         gRPC over TLS 1.3 on port 50000, package `{PACKAGE}`. A client needs a certificate of the installation's authority; \
         its Organization is its role: `ingot:reader`, `ingot:operator` or `ingot:admin`, each including the ones before. \
         The node's certificate carries the DNS name `ingot-node`, which is what clients verify.\n\n\
         An error may carry the metadata `{}`: UTF-8 text that says what to do about it.\n",
        ingot_api::HINT_METADATA
    );
    for (position, service) in file.service.iter().enumerate() {
        let _ = write!(text, "\n## Service {}\n", service.name());
        for (number, rpc) in service.method.iter().enumerate() {
            let path = [tag::SERVICE, index(position), tag::METHOD, index(number)];
            method(&mut text, rpc, all.at(&path));
        }
    }
    text.push_str("\n## Messages\n");
    for (position, entry) in file.message_type.iter().enumerate() {
        message(&mut text, entry.name(), entry, &[tag::MESSAGE, index(position)], &all);
    }
    text.push_str("\n## Enumerations\n");
    for (position, entry) in file.enum_type.iter().enumerate() {
        enumeration(&mut text, entry.name(), entry, &[tag::ENUM, index(position)], &all);
    }
    text
}

#[test]
fn every_rpc_says_who_may_call_it() {
    let file = machine();
    let all = Comments::of(&file);
    for (number, rpc) in file.service[0].method.iter().enumerate() {
        let comment = all.at(&[tag::SERVICE, 0, tag::METHOD, index(number)]);
        let says = comment.contains("Role: ") || comment.contains("no client certificate");
        assert!(says, "{}: {comment:?}", rpc.name());
    }
}

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/api.md");
    let text = reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/reference/api.md is stale: UPDATE=1 cargo test -p ingot-api");
}
