//! What is taken for an image, and what is not.

use serde_json::{Value, json};

use super::*;

fn part(letter: char) -> Value {
    let digest = format!("sha256:{}", letter.to_string().repeat(64));
    json!({"digest": digest, "size": 5, "mediaType": ""})
}

fn parse(document: &Value, media_type: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(document.to_string().as_bytes(), media_type, &Limits::default())
}

fn entry(letter: char, platform: Value) -> Value {
    let mut entry = part(letter);
    entry["platform"] = platform;
    entry
}

#[test]
fn docker_and_oci_manifests_are_images() {
    let document =
        json!({"schemaVersion": 2, "config": part('a'), "layers": [part('b'), part('c')]});
    for media_type in [DOCKER_MANIFEST, OCI_MANIFEST, "", "text/plain"] {
        let Ok(Manifest::Image { layers, .. }) = parse(&document, media_type) else { panic!() };
        assert_eq!(layers.len(), 2, "{media_type}");
    }
}

#[test]
fn the_image_for_this_platform_is_chosen() {
    let arm = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    let v4 = json!({"os": "linux", "architecture": "amd64", "variant": "v9"});
    let ours = json!({"os": "linux", "architecture": "amd64"});
    let unknown = json!({"os": "unknown", "architecture": "unknown"});
    let all = [entry('a', arm.clone()), entry('b', v4), entry('c', unknown), entry('d', ours)];
    let document = json!({"schemaVersion": 2, "manifests": all});
    let Ok(Manifest::Index(chosen)) = parse(&document, DOCKER_LIST) else { panic!() };
    assert_eq!(chosen.digest.to_string(), part('d')["digest"]);
    let document = json!({"schemaVersion": 2, "manifests": [entry('a', arm)]});
    let refused = parse(&document, OCI_INDEX).unwrap_err().to_string();
    assert!(refused.contains("linux/amd64"), "{refused}");
}

#[test]
fn a_document_that_is_both_image_and_index_is_refused_ghsa_5j5w_g665_5m35() {
    let both = json!({
        "schemaVersion": 2, "config": part('a'), "layers": [part('b')], "manifests": [part('c')],
    });
    assert!(parse(&both, OCI_MANIFEST).is_err());
    let image = json!({"schemaVersion": 2, "config": part('a'), "layers": []});
    assert!(parse(&image, OCI_INDEX).is_err());
    let named = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "config": part('a'), "layers": [],
    });
    assert!(parse(&named, OCI_MANIFEST).is_err());
    assert!(parse(&named, "").is_err());
}

#[test]
fn what_is_no_container_image_is_refused_with_a_reason() {
    let mut chart = json!({"schemaVersion": 2, "config": part('a'), "layers": []});
    chart["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
    assert!(parse(&chart, "").unwrap_err().to_string().contains("helm"));
    for document in [json!({"schemaVersion": 1, "fsLayers": []}), json!([]), json!({}), json!(null)]
    {
        assert!(parse(&document, "").is_err(), "{document}");
    }
    let config = json!({"os": "linux", "architecture": "arm64", "rootfs": {"diff_ids": []}});
    let refused = Config::parse(config.to_string().as_bytes()).unwrap_err();
    assert!(refused.to_string().contains("linux/arm64"));
}

#[test]
fn too_many_or_too_large_layers_are_refused() {
    let many = json!({"schemaVersion": 2, "config": part('a'), "layers": vec![part('b'); 300]});
    assert!(parse(&many, "").is_err());
    let mut large = json!({"schemaVersion": 2, "config": part('a'), "layers": [part('b')]});
    large["layers"][0]["size"] = (64_u64 << 30).into();
    assert!(parse(&large, "").is_err());
    large["layers"][0]["size"] = (-1).into();
    assert!(parse(&large, "").is_err());
}
