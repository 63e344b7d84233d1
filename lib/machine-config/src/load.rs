//! Text into a config, or into every problem at once.
//!
//! Each document is compared with its schema, turned into types and checked, whatever the others are like. Rules that
//! join documents run when all of them are sound.

use crate::check::{self, Finding};
use crate::problem::{Problem, Problems};
use crate::schema::Kind;
use crate::tree::{self, Document, Node, Place};
use crate::v1::data::{ConfigMap, SecretData};
use crate::v1::machine::Machine;
use crate::v1::pod::Pod;
use crate::validate::{self, Validated};
use crate::{Config, Loaded};
use std::collections::HashMap;

/// Reads a config. Never fails and never stops at the first mistake: either there is a config, or there are problems.
#[must_use]
pub fn load(text: &str) -> Loaded {
    load_with(text, Placeholders::Refused)
}

/// Whether `<redacted>` may stand where a secret belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Placeholders {
    /// It is a problem: the node would lose the secret.
    #[default]
    Refused,
    /// For a config that is only shown.
    Accepted,
}

/// As [`load`], with a word on placeholders.
pub(crate) fn load_with(text: &str, placeholders: Placeholders) -> Loaded {
    let (documents, problems) = tree::parse(text);
    let mut loader = Loader { problems, placeholders, ..Loader::default() };
    for document in &documents {
        loader.document(document);
    }
    loader.finish()
}

/// Where the secrets of a text are, in characters; `None` when the text is no sound config.
pub(crate) fn secrets(text: &str) -> Option<Vec<Place>> {
    let (documents, problems) = tree::parse(text);
    let mut places = Vec::new();
    let mut sound = problems.is_empty();
    for document in &documents {
        let kind = kind(&document.root).ok()?;
        let validated =
            validate::validate(kind, document.index, &document.root, Placeholders::Refused);
        sound &= validated.problems.is_empty();
        places.extend(validated.secrets);
    }
    sound.then_some(places)
}

/// What has been read so far.
#[derive(Default)]
struct Loader {
    placeholders: Placeholders,
    problems: Problems,
    machines: Vec<(u32, Machine)>,
    /// Some document other than the machine's could not be read: what seems missing may be in it.
    broken: bool,
    /// A machine document was seen, sound or not.
    machine_at: Option<(u32, Place)>,
    pods: Vec<(u32, Pod)>,
    config_maps: Vec<(u32, ConfigMap)>,
    secrets: Vec<(u32, SecretData)>,
    places: HashMap<u32, HashMap<String, Place>>,
}

impl Loader {
    fn document(&mut self, document: &Document) {
        let kind = match kind(&document.root) {
            Ok(kind) => kind,
            Err(problem) => {
                self.problems.push(Problem { document: document.index, ..problem });
                return;
            }
        };
        let Validated { value, problems, places, .. } =
            validate::validate(kind, document.index, &document.root, self.placeholders);
        self.places.insert(document.index, places);
        match kind {
            Kind::Machine => self.machine(document, value, problems),
            Kind::Pod => {
                if let Some(pod) = self.typed::<Pod>(document, value, problems) {
                    for finding in check::pod(&pod) {
                        self.finding(document.index, finding);
                    }
                    self.pods.push((document.index, pod));
                }
            }
            Kind::ConfigMap => {
                if let Some(map) = self.typed::<ConfigMap>(document, value, problems) {
                    for finding in check::config_map(&map) {
                        self.finding(document.index, finding);
                    }
                    self.config_maps.push((document.index, map));
                }
            }
            Kind::Secret => {
                if let Some(secret) = self.typed::<SecretData>(document, value, problems) {
                    for finding in check::secret(&secret) {
                        self.finding(document.index, finding);
                    }
                    self.secrets.push((document.index, secret));
                }
            }
        }
    }

    /// Sections are checked one by one: a problem in one does not hide those in another.
    fn machine(&mut self, document: &Document, mut value: serde_json::Value, problems: Problems) {
        if let Some((_, first)) = self.machine_at {
            let message = "this is the second \"kind: Machine\" document".to_owned();
            let hint = format!("merge it into the one at line {}", first.line);
            self.at(document, "", message, hint);
        }
        self.machine_at.get_or_insert((document.index, document.root.place));
        let mut broken = Vec::new();
        if let Some(fields) = value.as_object_mut() {
            broken = fields
                .keys()
                .filter(|name| problems.iter().any(|problem| section(&problem.path) == *name))
                .cloned()
                .collect();
            fields.retain(|name, _| !broken.contains(name));
            for (name, kind) in
                [("apiVersion", Kind::Machine.api_version()), ("kind", Kind::Machine.name())]
            {
                fields.insert(name.to_owned(), kind.into());
            }
        }
        let sound = problems.is_empty();
        self.problems.append(problems);
        match serde_json::from_value::<Machine>(value) {
            Ok(machine) => {
                for finding in check::machine(&machine)
                    .into_iter()
                    .filter(|finding| !broken.iter().any(|name| name == section(&finding.path)))
                {
                    self.finding(document.index, finding);
                }
                if sound {
                    self.machines.push((document.index, machine));
                }
            }
            Err(error) => self.refused_by_types(document, &error),
        }
    }

    /// A sound document as its type; what is wrong with it is noted.
    fn typed<T: serde::de::DeserializeOwned>(
        &mut self,
        document: &Document,
        value: serde_json::Value,
        problems: Problems,
    ) -> Option<T> {
        let sound = problems.is_empty();
        self.problems.append(problems);
        if !sound {
            self.broken = true;
            return None;
        }
        match serde_json::from_value::<T>(value) {
            Ok(typed) => Some(typed),
            Err(error) => {
                self.refused_by_types(document, &error);
                None
            }
        }
    }

    /// The schema let something pass that the types refuse. A mistake of ours, but the config must not pass.
    fn refused_by_types(&mut self, document: &Document, error: &serde_json::Error) {
        self.at(document, "", format!("cannot be read: {error}"), String::new());
    }

    fn finish(mut self) -> Loaded {
        if self.machine_at.is_none() && self.problems.is_empty() {
            self.problems.push(Problem {
                message: "the config holds no \"kind: Machine\" document".to_owned(),
                hint: "`ingotctl gen` writes one".to_owned(),
                ..Problem::default()
            });
        }
        let mut findings = check::pods(&self.pods);
        findings.extend(check::data(&self.config_maps, &self.secrets));
        if !self.broken {
            findings.extend(check::references(&self.pods, &self.config_maps, &self.secrets));
        }
        for (document, finding) in findings {
            self.finding(document, finding);
        }
        if let [(document, machine)] = self.machines.as_slice() {
            let document = *document;
            for (other, finding) in check::together(machine, &self.pods) {
                self.finding(other.unwrap_or(document), finding);
            }
        }
        let problems = self.problems.finish();
        let machine = self.machines.into_iter().next();
        let config = machine.filter(|_| problems.is_empty()).map(|(_, machine)| Config {
            machine,
            pods: self.pods.into_iter().map(|(_, pod)| pod).collect(),
            config_maps: self.config_maps.into_iter().map(|(_, map)| map).collect(),
            secrets: self.secrets.into_iter().map(|(_, secret)| secret).collect(),
        });
        Loaded { config, problems }
    }

    fn at(&mut self, document: &Document, path: &str, message: String, hint: String) {
        let Place { line, column, .. } = document.root.place;
        self.problems.push(Problem {
            document: document.index,
            line,
            column,
            path: path.to_owned(),
            message,
            hint,
        });
    }

    /// A finding becomes a problem at the place of its path, or of the nearest thing around it that was written.
    fn finding(&mut self, document: u32, finding: Finding) {
        let places = self.places.get(&document);
        let mut around = finding.path.as_str();
        let place = loop {
            match places.and_then(|places| places.get(around)) {
                Some(place) => break *place,
                None if around.is_empty() => break Place::default(),
                None => around = around.rfind(['.', '[']).map_or("", |at| &around[..at]),
            }
        };
        let Finding { path, message, hint } = finding;
        self.problems.push(Problem {
            document,
            line: place.line,
            column: place.column,
            path,
            message,
            hint,
        });
    }
}

/// The first name of a path: the section it is in.
fn section(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or(path)
}

/// Which kind of document this is.
fn kind(root: &Node) -> Result<Kind, Problem> {
    let problem = |place: Place, path: &str, message: String, hint: String| Problem {
        document: 0,
        line: place.line,
        column: place.column,
        path: path.to_owned(),
        message,
        hint,
    };
    let Some(node) = root.get("kind") else {
        let message = "the document has no \"kind\"".to_owned();
        let hint = "start it with \"apiVersion: ingot/v1\" and \"kind: Machine\", or with \"apiVersion: v1\" and \"kind: Pod\"";
        return Err(problem(root.place, "", message, hint.to_owned()));
    };
    let text = node.text().unwrap_or_default();
    Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        let hint = match validate::similar(text, Kind::ALL.iter().map(|kind| kind.name())) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => "a config holds \"Machine\", \"Pod\", \"ConfigMap\" and \"Secret\" documents"
                .to_owned(),
        };
        let shown: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
        problem(node.place, "kind", format!("\"{shown}\" is no kind of document"), hint)
    })
}
