//! ConfigMaps and Secrets, and pods that want what is not in them.

use crate::check_pod;
use expect_test::expect;

const POD: &str = "spec: {containers: [{name: a, image: a}]}\n";

/// A pod, then documents; the first begins at line 10.
fn documents(text: &str) -> String {
    format!("{POD}---\n{text}")
}

#[test]
fn a_config_map_holds_texts_by_key() {
    check_pod(
        &documents(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {port: 80, \"a/b\": x, \"..\": y, both: z}\nbinaryData: {both: AA==, bad: \"A\"}\n",
        ),
        expect![[r#"
            13:14 data.port: is a number, but must be a text
                put it in quotes: "80"
            13:18 data["a/b"]: "a/b" is not a key of a ConfigMap or Secret
                use at most 253 letters, digits, dashes, underscores and dots, like "app.yaml"
            13:28 data[".."]: ".." is not a key of a ConfigMap or Secret
                use at most 253 letters, digits, dashes, underscores and dots, like "app.yaml"
            14:31 binaryData.bad: "A" is not base64
                encode the bytes in base64 with padding, or write a text to "data"
        "#]],
    );
    check_pod(
        &documents(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {both: z}\nbinaryData: {both: AA==}\n",
        ),
        expect![[r#"
            14:20 binaryData.both: "both" is in "data", too
                remove one of the two
        "#]],
    );
}

#[test]
fn what_is_wrong_with_a_secret_is_told_without_it() {
    check_pod(
        &documents(
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {key: \"correct horse!\"}\nstringData: {number: 123456789, none: <redacted>}\n",
        ),
        expect![[r#"
            13:13 data.key: is not base64
                encode the bytes in base64 with padding, or write a text to "stringData"
            14:22 stringData.number: is a number, but must be a text
            14:39 stringData.none: holds the placeholder "<redacted>"
                write the secret itself, from where you keep the config
        "#]],
    );
    check_pod(
        &documents(
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: \"{}\"}\n",
        ),
        expect![[r#"
            13:7 type: has no ".dockerconfigjson" with a JSON map "auths", as its type says
                write the config.json that a registry client made, or another type
        "#]],
    );
}

#[test]
fn two_of_one_name_are_refused() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    check_pod(
        &documents(&format!("{map}---\n{map}")),
        expect![[r#"
        16:18 metadata.name: a ConfigMap named "default/a" is already in the config
            give it another name or namespace
    "#]],
    );
}

#[test]
fn a_pod_that_wants_what_is_not_there_is_told_what_there_is() {
    let data = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: blue}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {password: x}\n";
    check_pod(
        &format!(
            "spec:
  imagePullSecrets: [{{name: keys}}]
  containers:
    - name: a
      image: a
      envFrom: [{{configMapRef: {{name: setings}}}}, {{secretRef: {{name: other}}}}, {{secretRef: {{name: other, optional: true}}}}]
      env:
        - {{name: A, valueFrom: {{configMapKeyRef: {{name: settings, key: color}}}}}}
        - {{name: B, valueFrom: {{secretKeyRef: {{name: keys, key: user}}}}}}
        - {{name: C, valueFrom: {{secretKeyRef: {{name: keys, key: user, optional: true}}}}}}
  volumes:
    - {{name: a, configMap: {{name: settings, items: [{{key: x, path: x}}]}}}}
    - {{name: b, secret: {{secretName: gone}}}}
    - {{name: c, projected: {{sources: [{{secret: {{name: gone}}}}]}}}}
{data}"
        ),
        expect![[r#"
            9:29 spec.imagePullSecrets[0].name: the Secret "default/keys" holds no credentials for registries
                give it "type: kubernetes.io/dockerconfigjson"
            13:39 spec.containers[0].envFrom[0].configMapRef.name: the config has no ConfigMap "default/setings"
                did you mean "default/settings"?
            13:69 spec.containers[0].envFrom[1].secretRef.name: the config has no Secret "default/other"
                add a "kind: Secret" document, or write "optional: true"
            15:72 spec.containers[0].env[0].valueFrom.configMapKeyRef.key: the ConfigMap "default/settings" has no key "color"
                did you mean "colour"?
            16:65 spec.containers[0].env[1].valueFrom.secretKeyRef.key: the Secret "default/keys" has no key "user"
                add it there, or write "optional: true"
            19:59 spec.volumes[0].configMap.items[0].key: the ConfigMap "default/settings" has no key "x"
                add it there, or write "optional: true"
            20:38 spec.volumes[1].secret.secretName: the config has no Secret "default/gone"
                did you mean "default/keys"?
            21:55 spec.volumes[2].projected.sources[0].secret.name: the config has no Secret "default/gone"
                did you mean "default/keys"?
        "#]],
    );
}
