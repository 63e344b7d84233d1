//! The generated pages in `docs/reference/` are those of the types. `UPDATE=1` writes them.

use ingot_machine_config::reference;

fn assert_fresh(name: &str, wanted: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/").to_owned() + name;
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, wanted).expect("docs/reference can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let advice = "is stale: run `UPDATE=1 cargo test -p ingot-machine-config --test reference`";
    assert!(found == wanted, "docs/reference/{name} {advice}");
}

#[test]
fn the_manual_is_that_of_the_types() {
    assert_fresh("config.md", &reference::manual());
}

#[test]
fn the_schema_is_that_of_the_types() {
    assert_fresh("config.schema.json", &reference::json_schema());
}
