//! The three forms of every answer: a table for people, JSON and YAML for programs. Keys are the API's, in protobuf's
//! JSON form; every field is present; 64-bit numbers are numbers.

use crate::cli::Format;
use crate::failure::{Exit, Failure};
use crate::text;
use comfy_table::{Table, presets};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

/// Where answers go: standard output.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) format: Format,
    /// Whether standard output is one.
    pub(crate) terminal: bool,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, terminal: io::stdout().is_terminal() }
    }

    /// Shows one answer: as the text `table` makes of it, or as the message itself.
    pub(crate) fn answer<M: prost::Message>(
        &self,
        name: &str,
        message: &M,
        table: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.text(&table(message)),
            Format::Json | Format::Yaml => self.data(&Shown(dynamic(name, message)?), false),
        }
    }

    /// Shows one of many answers: JSON takes one line each, YAML one document each.
    pub(crate) fn item<M: prost::Message>(
        &self,
        name: &str,
        message: &M,
        line: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.text(&line(message)),
            Format::Json | Format::Yaml => self.data(&Shown(dynamic(name, message)?), true),
        }
    }

    /// Shows a value of our own as JSON or YAML; `many` as in [`Output::item`].
    pub(crate) fn data(&self, value: &impl Serialize, many: bool) -> Result<(), Failure> {
        let failed = |error: &dyn std::error::Error| {
            Failure::new(Exit::Failed, "cannot write the answer in this format").because(error)
        };
        let text = match self.format {
            Format::Yaml => {
                let text = serde_saphyr::to_string(value).map_err(|error| failed(&error))?;
                if many { format!("---\n{text}") } else { text }
            }
            Format::Json | Format::Table if many => {
                serde_json::to_string(value).map_err(|error| failed(&error))? + "\n"
            }
            Format::Json | Format::Table => {
                serde_json::to_string_pretty(value).map_err(|error| failed(&error))? + "\n"
            }
        };
        self.write(text.as_bytes())
    }

    /// Text for people; words of a node in it are made harmless.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        self.write(text::printable(text).as_bytes())
    }

    /// Bytes as they are, unless a terminal would obey them.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        if self.terminal { self.text(&String::from_utf8_lossy(bytes)) } else { self.write(bytes) }
    }

    /// Bytes as they are, also to a terminal: for programs that the operator gave it to.
    pub(crate) fn verbatim(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.write(bytes)
    }

    /// The same to standard error.
    pub(crate) fn errors(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stderr = io::stderr().lock();
        stderr
            .write_all(bytes)
            .and_then(|()| stderr.flush())
            .map_err(|error| Failure::output(&error))
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::output(&error))
    }
}

/// Rows below headings, without borders.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for row in rows {
        table.add_row(row.map(|cell| text::printable(&cell).replace(['\n', '\t'], " ")));
    }
    table.trim_fmt() + "\n"
}

/// The API's own description of its messages.
fn pool() -> Result<&'static DescriptorPool, Failure> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(ingot_api::FILE_DESCRIPTOR_SET).ok())
        .as_ref()
        .ok_or_else(|| Failure::new(Exit::Failed, "the API's description cannot be read"))
}

fn dynamic<M: prost::Message>(name: &str, message: &M) -> Result<DynamicMessage, Failure> {
    let full_name = format!("ingot.machine.v1.{name}");
    let descriptor = pool()?.get_message_by_name(&full_name).ok_or_else(|| {
        Failure::new(Exit::Failed, format!("the API's description has no {full_name}"))
    })?;
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| Failure::new(Exit::Failed, "cannot show the answer").because(&error))
}

struct Shown(DynamicMessage);

impl Serialize for Shown {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options =
            SerializeOptions::new().skip_default_fields(false).stringify_64_bit_integers(false);
        self.0.serialize_with_options(serializer, &options)
    }
}
