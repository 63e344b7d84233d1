//! Streams of Kubernetes manifests: where one ends and the next begins, and which object each describes. What is in them is
//! for the API server to judge.

use crate::tree;

/// One object of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Group and version, like `apps/v1`.
    pub api_version: String,
    /// Kind, like `Deployment`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace, when one is given.
    pub namespace: Option<String>,
    /// The document as written.
    pub text: String,
}

/// The objects of a stream, in order. Documents that hold nothing are left out.
///
/// # Errors
/// What is wrong, with the document it is in.
pub fn manifests(text: &str) -> Result<Vec<Manifest>, String> {
    let mut found = Vec::new();
    for (number, document) in (1..).zip(documents(text)) {
        let (parsed, problems) = tree::parse(&document);
        if let Some(problem) = problems.finish().first() {
            return Err(format!("document {number}: {problem}"));
        }
        let Some(parsed) = parsed.into_iter().next() else { continue };
        let field = |node: Option<&tree::Node>| node.and_then(tree::Node::text).map(str::to_owned);
        let metadata = parsed.root.get("metadata");
        let need = |name: &str, value: Option<String>| {
            value.filter(|text| !text.is_empty()).ok_or_else(|| {
                format!("document {number} has no \"{name}\", so it is no Kubernetes object")
            })
        };
        found.push(Manifest {
            api_version: need("apiVersion", field(parsed.root.get("apiVersion")))?,
            kind: need("kind", field(parsed.root.get("kind")))?,
            name: need("metadata.name", field(metadata.and_then(|m| m.get("name"))))?,
            namespace: field(metadata.and_then(|m| m.get("namespace"))),
            text: document,
        });
    }
    Ok(found)
}

/// The stream cut at its lines of `---`. A block of text is indented, so such a line is never inside of one.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line == "---" || line.starts_with("--- ") {
            documents.push(String::new());
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_objects_with_their_texts() {
        let text = "# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n\
                    apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: b\n  namespace: a\n\
                    data: |\n  ---\n  x\n";
        let found = manifests(text).unwrap();
        let heads: Vec<_> = found
            .iter()
            .map(|m| (m.kind.as_str(), m.name.as_str(), m.namespace.as_deref()))
            .collect();
        assert_eq!(heads, [("Namespace", "a", None), ("Deployment", "b", Some("a"))]);
        assert!(found[1].text.ends_with("data: |\n  ---\n  x\n"), "{}", found[1].text);
        assert_eq!(found[1].api_version, "apps/v1");
    }

    #[test]
    fn what_is_no_object_is_named() {
        let missing = manifests("kind: Pod\nmetadata: {name: a}\n").unwrap_err();
        assert!(missing.contains("document 1") && missing.contains("apiVersion"), "{missing}");
        let broken = manifests("apiVersion: v1\n---\na: [\n").unwrap_err();
        assert!(broken.starts_with("document 1"), "{broken}");
        assert!(manifests("a: [\n").unwrap_err().starts_with("document 1: "));
    }
}
