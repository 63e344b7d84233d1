//! YAML text into trees that know where each value was written, within bounds.
//!
//! The only file that knows the YAML parser. It knows nothing about configs: what a value must be is for `validate`.
//! Anchors and aliases work; tags, duplicate keys and keys that are no text are problems.

use crate::problem::{Problem, Problems};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::collections::{HashMap, HashSet};

/// Largest text that is read, in bytes; the API accepts no more either.
pub const MAX_BYTES: usize = 4 << 20;

/// Deepest nesting. The deepest sensible config needs about eight levels; recursion over the tree rests on this bound.
const MAX_DEPTH: usize = 32;

/// Most values in a stream once aliases are replaced by what they stand for. A config of 1000 pods has 50,000; twice that
/// takes about 30 MiB while it is checked, on nodes that have 512 MiB.
const MAX_NODES: usize = 100_000;

/// Where something was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Line, from 1.
    pub(crate) line: u32,
    /// Column, from 1, in characters.
    pub(crate) column: u32,
    /// First character, counted from the start of the text.
    pub(crate) start: usize,
    /// One past the last character.
    pub(crate) end: usize,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// A value as written; what a plain scalar means depends on what is wanted.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A scalar; `plain` when it had no quotes and was no block.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// The name of a field and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) place: Place,
}

impl Node {
    /// True for an empty value, `~` and `null`: nothing was written.
    pub(crate) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain } => *plain && is_null(text),
            _ => false,
        }
    }

    /// The value of a field, when this is a map that has it.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(fields) => {
                fields.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
            }
            _ => None,
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    fn count(&self) -> usize {
        match &self.value {
            Value::Scalar { .. } => 1,
            Value::List(items) => items.iter().map(Node::count).sum::<usize>() + 1,
            Value::Map(fields) => {
                fields.iter().map(|(_, node)| node.count() + 1).sum::<usize>() + 1
            }
        }
    }

    fn depth(&self) -> usize {
        match &self.value {
            Value::Scalar { .. } => 1,
            Value::List(items) => items.iter().map(Node::depth).max().unwrap_or(0) + 1,
            Value::Map(fields) => {
                fields.iter().map(|(_, node)| node.depth()).max().unwrap_or(0) + 1
            }
        }
    }
}

/// True when YAML's core schema reads a plain scalar as nothing.
pub(crate) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// One document of the stream.
#[derive(Debug)]
pub(crate) struct Document {
    /// Index in the stream, from 0; empty documents count.
    pub(crate) index: u32,
    pub(crate) root: Node,
}

/// Reads a whole stream. After a syntax error reading goes on at the next `---`, so that one slip hides little.
///
/// Documents that hold nothing are left out; so are those with a syntax error.
pub(crate) fn parse(text: &str) -> (Vec<Document>, Problems) {
    let mut stream = Stream::default();
    if text.len() > MAX_BYTES {
        stream.problems.push(Problem {
            message: format!("the config is larger than {} MiB", MAX_BYTES >> 20),
            hint: "split it, or leave out what is not needed".to_owned(),
            ..Problem::default()
        });
        return (stream.documents, stream.problems);
    }
    // The parser puts what it misses at the end, and an empty value there, on a line that does not exist.
    stream.last_line = u32::try_from(line_breaks(text) + 1).unwrap_or(u32::MAX);
    let mut base = Base::default();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    base.chars = usize::from(rest.len() != text.len());
    while let Some(failed_at) = stream.read(rest, base) {
        let Some(next) = next_document(rest, failed_at) else { break };
        let (skipped, after) = rest.split_at(next);
        base.chars += skipped.chars().count();
        base.lines += line_breaks(skipped);
        rest = after;
        stream.next_index += 1;
    }
    (stream.documents, stream.problems)
}

/// Line breaks as YAML counts them: a line feed, a carriage return, or both together.
fn line_breaks(text: &str) -> usize {
    text.matches(['\n', '\r']).count() - text.matches("\r\n").count()
}

/// Byte offset of the first line after character `from` that starts a document.
fn next_document(text: &str, from: usize) -> Option<usize> {
    let from = text.char_indices().nth(from).map_or(text.len(), |(at, _)| at);
    text.get(from..)?.match_indices("\n---").map(|(at, _)| from + at + 1).find(|at| {
        text.get(at + 3..)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
    })
}

/// How much text came before the part being read.
#[derive(Clone, Copy, Default)]
struct Base {
    chars: usize,
    lines: usize,
}

/// What has been read of the stream so far.
#[derive(Default)]
struct Stream {
    documents: Vec<Document>,
    problems: Problems,
    next_index: u32,
    nodes: usize,
    last_line: u32,
}

/// A list or map whose end has not been seen.
struct Open {
    anchor: usize,
    place: Place,
    value: Value,
    /// The key that waits for its value, in a map. `None` inside is a key that was refused.
    key: Option<Option<Key>>,
    seen: HashSet<String>,
}

/// The document being read.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
}

impl Stream {
    /// Reads documents until the end (`None`) or a syntax error; then returns the character it was noticed at.
    fn read(&mut self, text: &str, base: Base) -> Option<usize> {
        let mut parser = Parser::new_from_str(text);
        let mut builder = Builder::default();
        let mut last = 0;
        loop {
            let (event, span) = match parser.next_event()? {
                Ok(next) => next,
                Err(error) => {
                    let at = error.marker();
                    let place = self.place(&Span::empty(*at), base);
                    self.problem(
                        place,
                        &format!("this is not YAML: {}", error.info()),
                        syntax_hint(error.info()),
                    );
                    // Some errors carry the place where a construct began; never go back behind what was read.
                    return Some(at.index().max(last));
                }
            };
            last = span.start.index();
            let place = self.place(&span, base);
            match event {
                Event::DocumentStart(_) => builder = Builder::default(),
                Event::DocumentEnd => self.finish(builder.root.take()),
                Event::StreamEnd => return None,
                Event::StreamStart | Event::Nothing => {}
                event => {
                    if let Err((message, hint)) = self.grow(&mut builder, event, place) {
                        self.problem(place, message, hint);
                        // The bound on values is one for the whole stream: no later document could pass.
                        return (self.nodes <= MAX_NODES).then_some(last);
                    }
                }
            }
        }
    }

    fn finish(&mut self, root: Option<Node>) {
        if let Some(root) = root.filter(|root| !root.is_null()) {
            self.documents.push(Document { index: self.next_index, root });
        }
        self.next_index += 1;
    }

    fn place(&self, span: &Span, base: Base) -> Place {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place {
            line: small(span.start.line() + base.lines).min(self.last_line),
            column: small(span.start.col() + 1),
            start: span.start.index() + base.chars,
            end: span.end.index() + base.chars,
        }
    }

    fn problem(&mut self, place: Place, message: &str, hint: &str) {
        self.problems.push(Problem {
            document: self.next_index,
            line: place.line,
            column: place.column,
            path: String::new(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        });
    }

    /// Adds one event to the document. An error is a bound that was crossed: the document is given up.
    fn grow(
        &mut self,
        builder: &mut Builder,
        event: Event<'_>,
        place: Place,
    ) -> Result<(), (&'static str, &'static str)> {
        const TOO_MUCH: (&str, &str) =
            ("the config holds too many values", "write less, or use fewer aliases");
        const TOO_DEEP: (&str, &str) = ("lists and maps are nested too deeply here", "nest less");
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(TOO_MUCH);
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.is_some(), place);
                let plain = style == ScalarStyle::Plain;
                let node = Node { place, value: Value::Scalar { text: text.into_owned(), plain } };
                self.add(builder, node, anchor);
            }
            Event::SequenceStart(..) | Event::MappingStart(..)
                if builder.open.len() >= MAX_DEPTH =>
            {
                return Err(TOO_DEEP);
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.is_some(), place);
                builder.open.push(Open::new(anchor, place, Value::List(Vec::new())));
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.is_some(), place);
                builder.open.push(Open::new(anchor, place, Value::Map(Vec::new())));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = builder.open.pop() {
                    let place = Place { end: place.start, ..open.place };
                    self.add(builder, Node { place, value: open.value }, open.anchor);
                }
            }
            Event::Alias(anchor) => {
                let Some(node) = builder.anchors.get(&anchor) else {
                    return Err((
                        "this alias stands inside what it stands for",
                        "write the value out",
                    ));
                };
                self.nodes += node.count();
                if self.nodes > MAX_NODES {
                    return Err(TOO_MUCH);
                }
                if builder.open.len() + node.depth() > MAX_DEPTH {
                    return Err(TOO_DEEP);
                }
                let node = node.clone();
                self.add(builder, node, 0);
            }
            _ => {}
        }
        Ok(())
    }

    fn check_tag(&mut self, tagged: bool, place: Place) {
        if tagged {
            self.problem(
                place,
                "tags (\"!\" before a value) are not used in a config",
                "remove the tag",
            );
        }
    }

    /// Puts a finished value into the list or map it belongs to.
    fn add(&mut self, builder: &mut Builder, node: Node, anchor: usize) {
        if anchor != 0 {
            builder.anchors.insert(anchor, node.clone());
            self.nodes += node.count();
        }
        let Some(open) = builder.open.last_mut() else {
            builder.root = Some(node);
            return;
        };
        match &mut open.value {
            Value::List(items) => items.push(node),
            Value::Map(fields) => match open.key.take() {
                Some(Some(key)) => fields.push((key, node)),
                Some(None) => {}
                None => open.key = Some(self.key(&mut open.seen, node)),
            },
            Value::Scalar { .. } => {}
        }
    }

    /// A value in the place of a key: `None`, with a problem, when it cannot be one.
    fn key(&mut self, seen: &mut HashSet<String>, node: Node) -> Option<Key> {
        let place = node.place;
        let Value::Scalar { text, .. } = node.value else {
            self.problem(place, "a field's name must be a text", "write \"name: value\"");
            return None;
        };
        if !seen.insert(text.clone()) {
            let name: String = text.chars().take(64).collect();
            self.problem(place, &format!("\"{name}\" is given twice"), "keep one of them");
            return None;
        }
        Some(Key { text, place })
    }
}

impl Open {
    fn new(anchor: usize, place: Place, value: Value) -> Self {
        Self { anchor, place, value, key: None, seen: HashSet::new() }
    }
}

/// Advice for the mistakes people make most.
fn syntax_hint(info: &str) -> &'static str {
    if info.contains("tab") {
        return "indent with spaces";
    }
    if info.contains("mapping values are not allowed") {
        return "check the indentation; a value that holds \": \" needs quotes";
    }
    if info.contains("recursion limit") {
        return "nest less";
    }
    if info.contains("unknown anchor") {
        return "define it earlier in the same document with \"&\"";
    }
    "check indentation, quotes and colons around here"
}
