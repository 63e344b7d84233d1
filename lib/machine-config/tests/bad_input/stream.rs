//! The stream as a whole: syntax, documents, kinds.

use crate::check;
use expect_test::expect;

#[test]
fn an_empty_text_is_told_what_to_hold() {
    check(
        "",
        expect![[r#"
        0:0 : the config holds no "kind: Machine" document
            `ingotctl gen` writes one
    "#]],
    );
    check(
        "# only a comment\n---\n",
        expect![[r#"
        0:0 : the config holds no "kind: Machine" document
            `ingotctl gen` writes one
    "#]],
    );
}

#[test]
fn a_syntax_error_does_not_hide_what_is_wrong_in_other_documents() {
    check(
        "apiVersion: ingot/v1\nkind: Machine\nnetwrk: {}\n---\nkind: Pod\n  name: x\n---\nkind: Pdo\n",
        expect![[r#"
            1:1 api: has no "ca", so nobody could ever call this node
                write the certificate authority that `ingotctl gen` makes to api.ca
            3:1 netwrk: unknown field "netwrk"
                did you mean "network"?
            6:7 : this is not YAML: mapping values are not allowed in this context
                check the indentation; a value that holds ": " needs quotes
            8:7 kind: "Pdo" is no kind of document
                did you mean "Pod"?
        "#]],
    );
}

#[test]
fn tabs_are_named() {
    check(
        "kind: Machine\nnetwork:\n\thostname: a\n",
        expect![[r#"
        3:2 : this is not YAML: tabs disallowed within this context (block indentation)
            indent with spaces
    "#]],
    );
}

#[test]
fn an_open_quote_is_a_problem_not_a_hang() {
    check(
        "kind: \"Machine\nnetwork: {}\n",
        expect![[r#"
        1:7 : this is not YAML: invalid indentation in quoted scalar
            check indentation, quotes and colons around here
    "#]],
    );
}

#[test]
fn a_document_without_a_kind_or_with_a_wrong_one() {
    check(
        "network: {}\n",
        expect![[r#"
        1:1 : the document has no "kind"
            start it with "apiVersion: ingot/v1" and "kind: Machine", or with "apiVersion: v1" and "kind: Pod"
    "#]],
    );
    check(
        "- a\n- b\n",
        expect![[r#"
        1:1 : the document has no "kind"
            start it with "apiVersion: ingot/v1" and "kind: Machine", or with "apiVersion: v1" and "kind: Pod"
    "#]],
    );
    check(
        "apiVersion: apps/v1\nkind: Deployment\n",
        expect![[r#"
            2:7 kind: "Deployment" is no kind of document
                a config holds "Machine", "Pod", "ConfigMap" and "Secret" documents
        "#]],
    );
    check(
        "apiVersion: v1\nkind: machine\n",
        expect![[r#"
        2:7 kind: "machine" is no kind of document
            did you mean "Machine"?
    "#]],
    );
}

#[test]
fn a_wrong_version_is_named() {
    check(
        "apiVersion: ingot/v2\nkind: Machine\n",
        expect![[r#"
            1:1 api: has no "ca", so nobody could ever call this node
                write the certificate authority that `ingotctl gen` makes to api.ca
            1:13 apiVersion: is "ingot/v2", but must be "ingot/v1"
                write "ingot/v1"
        "#]],
    );
}

#[test]
fn two_machine_documents_are_one_too_many() {
    check(
        "apiVersion: ingot/v1\nkind: Machine\n---\napiVersion: ingot/v1\nkind: Machine\n",
        expect![[r#"
            1:1 api: has no "ca", so nobody could ever call this node
                write the certificate authority that `ingotctl gen` makes to api.ca
            4:1 : this is the second "kind: Machine" document
                merge it into the one at line 1
            4:1 api: has no "ca", so nobody could ever call this node
                write the certificate authority that `ingotctl gen` makes to api.ca
        "#]],
    );
}

#[test]
fn duplicate_keys_are_refused() {
    check(
        "apiVersion: ingot/v1\nkind: Machine\nnetwork: {hostname: a, hostname: b}\n",
        expect![[r#"
            1:1 api: has no "ca", so nobody could ever call this node
                write the certificate authority that `ingotctl gen` makes to api.ca
            3:24 : "hostname" is given twice
                keep one of them
        "#]],
    );
}

#[test]
fn keys_that_are_no_text_and_tags_are_refused() {
    check(
        "apiVersion: ingot/v1\nkind: Machine\n? [a, b]\n: c\nnetwork: !!map {}\n",
        expect![[r#"
        1:1 api: has no "ca", so nobody could ever call this node
            write the certificate authority that `ingotctl gen` makes to api.ca
        3:3 : a field's name must be a text
            write "name: value"
        5:10 : tags ("!" before a value) are not used in a config
            remove the tag
    "#]],
    );
}

#[test]
fn merge_keys_are_refused_and_explained() {
    check(
        "apiVersion: ingot/v1\nkind: Machine\nnetwork: {<<: {hostname: a}}\n",
        expect![[r#"
        1:1 api: has no "ca", so nobody could ever call this node
            write the certificate authority that `ingotctl gen` makes to api.ca
        3:11 network.<<: unknown field "<<"
            YAML's merge key is not used in a config; write the fields out
    "#]],
    );
}

#[test]
fn an_alias_that_contains_itself_is_refused() {
    check(
        "kind: &a [*a]\n",
        expect![[r#"
        1:11 : this alias stands inside what it stands for
            write the value out
    "#]],
    );
}

#[test]
fn an_alias_bomb_is_refused_before_it_grows() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", ")));
    }
    check(
        &text,
        expect![[r#"
            5:40 : the config holds too many values
                write less, or use fewer aliases
        "#]],
    );
}

#[test]
fn deep_nesting_is_refused() {
    check(
        &format!("kind: {}{}\n", "[".repeat(5000), "]".repeat(5000)),
        expect![[r#"
            1:262 : this is not YAML: recursion limit exceeded
                nest less
        "#]],
    );
    check(
        &format!("kind: {}\n", "{a: ".repeat(100)),
        expect![[r#"
        1:131 : lists and maps are nested too deeply here
            nest less
    "#]],
    );
}

#[test]
fn a_huge_text_is_refused_unread() {
    check(
        &"#".repeat((4 << 20) + 1),
        expect![[r#"
        0:0 : the config is larger than 4 MiB
            split it, or leave out what is not needed
    "#]],
    );
}

#[test]
fn thousands_of_problems_are_counted_not_listed() {
    let fields: String = (0..600).map(|n| format!("zz{n}: 1\n")).collect();
    let loaded =
        ingot_machine_config::load(&format!("apiVersion: ingot/v1\nkind: Machine\n{fields}"));
    assert_eq!(loaded.problems.len(), 501);
    assert_eq!(loaded.problems[500].message, "and 101 more problems");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_fine() {
    check(
        "\u{feff}apiVersion: ingot/v1\r\nkind: Machine\r\nnetwork:\r\n  hostname: a_b\r\n",
        expect![[r#"
            1:1 api: has no "ca", so nobody could ever call this node
                write the certificate authority that `ingotctl gen` makes to api.ca
            4:13 network.hostname: "a_b" is not a host name
                use letters, digits and dashes, parts joined by dots, like "node-1" or "node-1.example.org"
        "#]],
    );
}
