//! The bill of materials: an SPDX 2.3 document in JSON that lists every package and every file with its digest.

use serde_json::{Value, json};

use crate::digest;
use crate::kubernetes::Module;
use crate::tools::Locked;
use crate::tree::Listed;

/// A Rust library that is compiled into our programs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Licence expression its authors declare, if they do.
    pub license: Option<String>,
}

/// Libraries that are compiled into programs of the image.
#[derive(Clone, Copy, Debug, Default)]
pub struct Libraries<'a> {
    /// Into our own.
    pub rust: &'a [Crate],
    /// Into that of Kubernetes.
    pub go: &'a [Module],
}

/// Makes the document's text. `seed` names the document; nothing in it depends on time or machine.
#[must_use]
pub fn document(
    name: &str,
    version: &str,
    seed: &str,
    packages: &[Locked],
    libraries: &Libraries<'_>,
    files: &[Listed],
) -> String {
    let mut all = vec![json!({
        "SPDXID": "SPDXRef-Package-ingot",
        "name": "ingot",
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseDeclared": "Apache-2.0",
        "licenseConcluded": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    })];
    all.extend(packages.iter().map(debian));
    all.extend(libraries.rust.iter().map(rust));
    all.extend(libraries.go.iter().map(go));
    let mut relations = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": "SPDXRef-Package-ingot",
    })];
    relations.extend(files.iter().map(|file| contains(file, packages)));
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("ingot-{name}-{version}"),
        "documentNamespace": format!("urn:uuid:{}", digest::guid_text(&digest::guid(seed, "sbom"))),
        "creationInfo": { "created": "1970-01-01T00:00:00Z", "creators": ["Tool: ingot-image"] },
        "packages": all,
        "files": files.iter().map(file).collect::<Vec<Value>>(),
        "relationships": relations,
    });
    format!("{document}\n")
}

fn debian(package: &Locked) -> Value {
    json!({
        "SPDXID": package_id(&package.name),
        "name": package.name,
        "versionInfo": package.version,
        "supplier": "Organization: Debian",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "checksums": [{ "algorithm": "SHA256", "checksumValue": package.sha256 }],
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": format!("pkg:deb/debian/{}@{}?arch=amd64", package.name, package.version),
        }],
        "licenseDeclared": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    })
}

fn rust(one: &Crate) -> Value {
    json!({
        "SPDXID": format!("SPDXRef-Crate-{}", identifier(&format!("{}-{}", one.name, one.version))),
        "name": one.name,
        "versionInfo": one.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": format!("pkg:cargo/{}@{}", one.name, one.version),
        }],
        "licenseDeclared": one.license.as_deref().unwrap_or("NOASSERTION"),
        "licenseConcluded": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    })
}

fn go(one: &Module) -> Value {
    let name = identifier(&format!("{}-{}", one.path, one.version));
    json!({
        "SPDXID": format!("SPDXRef-Go-{name}"),
        "name": one.path,
        "versionInfo": one.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        // Go's own digest of the source: no algorithm that SPDX has a name for.
        "comment": format!("go.sum {}", one.sum),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": format!("pkg:golang/{}@{}", one.path, one.version),
        }],
        "licenseDeclared": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    })
}

fn file(file: &Listed) -> Value {
    json!({
        "SPDXID": file_id(file),
        "fileName": format!("./{}", file.path),
        "checksums": [{ "algorithm": "SHA256", "checksumValue": file.sha256 }],
        "licenseConcluded": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    })
}

fn contains(file: &Listed, packages: &[Locked]) -> Value {
    let package = packages.iter().find(|package| package.name == file.origin);
    json!({
        "spdxElementId": package.map_or_else(|| "SPDXRef-Package-ingot".to_owned(), |package| package_id(&package.name)),
        "relationshipType": "CONTAINS",
        "relatedSpdxElement": file_id(file),
    })
}

fn package_id(name: &str) -> String {
    format!("SPDXRef-Package-deb-{}", identifier(name))
}

fn file_id(file: &Listed) -> String {
    let name = digest::of_bytes(file.path.as_bytes());
    format!("SPDXRef-File-{}", name.get(..24).unwrap_or(&name))
}

/// SPDX allows letters, digits, dots and dashes.
fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_and_file_is_listed_with_its_digest() {
        let package = Locked {
            name: "libc6".to_owned(),
            version: "2.41-12".to_owned(),
            sha256: "aa".to_owned(),
            stands_for: None,
        };
        let listed = Listed {
            path: "usr/lib64/x".to_owned(),
            sha256: "bb".to_owned(),
            size: 1,
            origin: "libc6".to_owned(),
        };
        let library =
            Crate { name: "serde".to_owned(), version: "1.0.0".to_owned(), license: None };
        let module = Module {
            path: "k8s.io/api".to_owned(),
            version: "v0.36.3".to_owned(),
            sum: "h1:x".to_owned(),
        };
        let libraries = Libraries { rust: &[library], go: &[module] };
        let text = document("vm", "0.1.0", "seed", &[package], &libraries, &[listed]);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["spdxVersion"], "SPDX-2.3");
        assert_eq!(value["packages"].as_array().expect("packages").len(), 4);
        let locator = &value["packages"][3]["externalRefs"][0]["referenceLocator"];
        assert_eq!(locator, "pkg:golang/k8s.io/api@v0.36.3");
        assert_eq!(value["files"][0]["fileName"], "./usr/lib64/x");
        assert_eq!(value["files"][0]["checksums"][0]["checksumValue"], "bb");
        assert_eq!(value["relationships"][1]["spdxElementId"], "SPDXRef-Package-deb-libc6");
    }
}
