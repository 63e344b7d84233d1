//! Pods: upstream's fields and upstream's rules.

use crate::check_pod;
use expect_test::expect;

/// A `spec` of one container with these fields.
fn container(fields: &str) -> String {
    format!(
        "spec:\n  containers:\n    - name: main\n      image: a:b\n      {}\n",
        fields.replace('\n', "\n      ")
    )
}

#[test]
fn a_pod_needs_a_spec_and_a_container() {
    check_pod(
        "",
        expect![[r#"
        5:1 : has no "spec", which is required
            write "spec:" with its fields below
    "#]],
    );
    check_pod(
        "spec: {}",
        expect![[r#"
        8:7 spec: has no "containers", which is required
            write "containers:" with its fields below
    "#]],
    );
    check_pod(
        "spec: {containers: []}",
        expect![[r#"
        8:20 spec.containers: has 0 entries, but needs at least 1
    "#]],
    );
    check_pod(
        "spec: {containers: [{}]}",
        expect![[r#"
        8:21 spec.containers[0]: has no "name", which is required
            write "name: ..."
        8:21 spec.containers[0]: has no "image", which is required
            write "image: ..."
    "#]],
    );
}

#[test]
fn what_upstream_has_and_ingot_not_yet_is_told_apart_from_typing_errors() {
    check_pod(
        &(container(
            "volumeDevices: []\nresizePolicy: []\nenvs: []\nvolumeMount: []\nrestartPolicyRules: []",
        ) + "  nodeSelector: {}\n  restartpolicy: Always\n  frobnicate: 1\nstatus: {}\n"),
        expect![[r#"
            12:7 spec.containers[0].volumeDevices: "volumeDevices" is not supported by Ingot yet
                remove it
            13:7 spec.containers[0].resizePolicy: "resizePolicy" is not supported by Ingot yet
                remove it
            14:7 spec.containers[0].envs: unknown field "envs"
                did you mean "env"?
            15:7 spec.containers[0].volumeMount: unknown field "volumeMount"
                did you mean "volumeMounts"?
            16:7 spec.containers[0].restartPolicyRules: "restartPolicyRules" is not supported by Ingot yet
                remove it
            17:3 spec.nodeSelector: "nodeSelector" is not supported by Ingot yet
                remove it
            18:3 spec.restartpolicy: unknown field "restartpolicy"
                did you mean "restartPolicy"?
            19:3 spec.frobnicate: unknown field "frobnicate"
                fields here: initContainers, containers, volumes, restartPolicy, terminationGracePeriodSeconds, hostNetwork, hostname, activeDeadlineSeconds, hostPID, hostIPC, shareProcessNamespace, hostUsers, securityContext, priority, priorityClassName, dnsPolicy, dnsConfig, hostAliases, imagePullSecrets
            20:1 status: "status" is not supported by Ingot yet
                remove it
        "#]],
    );
}

#[test]
fn choices_are_listed() {
    check_pod(
        &(container("imagePullPolicy: always") + "  restartPolicy: Sometimes\n"),
        expect![[r#"
            12:24 spec.containers[0].imagePullPolicy: is "always", but must be "Always", "IfNotPresent" or "Never"
                did you mean "Always"?
            13:18 spec.restartPolicy: is "Sometimes", but must be "Always", "OnFailure" or "Never"
                write "Always", "OnFailure" or "Never"
        "#]],
    );
}

#[test]
fn quantities_are_exact() {
    check_pod(
        &container("resources: {limits: {cpu: 250mm, memory: 64MB}}"),
        expect![[r#"
        12:33 spec.containers[0].resources.limits.cpu: "250mm" is not a quantity
            write a number with an optional suffix, like "250m", "1.5", "128Mi" or "1G"
        12:48 spec.containers[0].resources.limits.memory: "64MB" is not a quantity
            write a number with an optional suffix, like "250m", "1.5", "128Mi" or "1G"
    "#]],
    );
    check_pod(
        &container("resources: {limits: {cpu: 0.0001, memory: 64m}}"),
        expect![[r#"
        12:33 spec.containers[0].resources.limits.cpu: "0.0001" is finer than a thousandth of a CPU
            write "1m"
        12:49 spec.containers[0].resources.limits.memory: "64m" is not a whole number of bytes
            did you mean "64Mi"?
    "#]],
    );
    check_pod(
        &container("resources: {limits: {cpu: 0, memory: 1.5}}"),
        expect![[r#"
        12:33 spec.containers[0].resources.limits.cpu: a limit of nothing lets nothing run
            leave it out for no limit
        12:44 spec.containers[0].resources.limits.memory: "1.5" is not a whole number of bytes
            write a whole number, or one with a suffix like "64Mi"
    "#]],
    );
    check_pod(
        &container("resources: {limits: {cpu: -1, memory: 9Ei}}"),
        expect![[r#"
        12:33 spec.containers[0].resources.limits.cpu: "-1" is not a quantity
            write a number with an optional suffix, like "250m", "1.5", "128Mi" or "1G"
        12:45 spec.containers[0].resources.limits.memory: "9Ei" is not a quantity
            write a number with an optional suffix, like "250m", "1.5", "128Mi" or "1G"
    "#]],
    );
    check_pod(
        &container(
            "resources: {limits: {cpu: 0.5, memory: 1e6}, requests: {cpu: 500m, memory: 1M}}",
        ),
        expect![[""]],
    );
}

#[test]
fn requests_stay_below_limits() {
    check_pod(
        &container(
            "resources: {limits: {cpu: 100m, memory: 64Mi}, requests: {cpu: 0.2, memory: 65Mi}}",
        ),
        expect![[r#"
            12:70 spec.containers[0].resources.requests.cpu: "0.2" is more than the limit "100m"
                write a request of at most the limit
            12:83 spec.containers[0].resources.requests.memory: "65Mi" is more than the limit "64Mi"
                write a request of at most the limit
        "#]],
    );
}

#[test]
fn a_limit_below_what_can_start_is_accepted_and_shows_in_the_status() {
    check_pod(&container("resources: {limits: {cpu: 1m, memory: 4Ki}}"), expect![[""]]);
}

#[test]
fn the_pids_limit_is_an_annotation_of_ours() {
    let pod = |annotations: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, annotations: {annotations}}}\nspec: {{containers: [{{name: a, image: b}}, {{name: b, image: b}}]}}\n"
        )
    };
    let rest = "spec: {containers: [{name: main, image: a}]}\n---\n".to_owned();
    check_pod(
        &(rest.clone() + &pod("{ingot.dev/pids-limit: many}")),
        expect![[r#"
        12:57 metadata.annotations["ingot.dev/pids-limit"]: "many" is no limit
            write a whole number from 1 to 4194304, in quotes
    "#]],
    );
    check_pod(
        &(rest.clone() + &pod("{ingot.dev/pid-limit: \"5\"}")),
        expect![[r#"
        12:56 metadata.annotations["ingot.dev/pid-limit"]: unknown annotation "ingot.dev/pid-limit"
            did you mean "ingot.dev/pids-limit"?
    "#]],
    );
    check_pod(
        &(rest.clone() + &pod("{ingot.dev/pids-limit: 5}")),
        expect![[r#"
        12:57 metadata.annotations["ingot.dev/pids-limit"]: is a number, but must be a text
            put it in quotes: "5"
    "#]],
    );
    check_pod(
        &(rest + &pod("{ingot.dev/pids-limit: \"1\"}")),
        expect![[r#"
        12:34 metadata.annotations: a limit of 1 is less than the pod's 2 containers need to start
            raise ingot.dev/pids-limit
    "#]],
    );
}

#[test]
fn names_are_those_kubernetes_takes() {
    check_pod(
        "spec: {containers: [{name: Main, image: a}, {name: -a, image: a}, {name: a.b, image: a}]}",
        expect![[r#"
            8:28 spec.containers[0].name: "Main" is not a name Kubernetes accepts here
                use at most 63 lower-case letters, digits and dashes, with a letter or digit at both ends, like "web-1"
            8:52 spec.containers[1].name: "-a" is not a name Kubernetes accepts here
                use at most 63 lower-case letters, digits and dashes, with a letter or digit at both ends, like "web-1"
            8:74 spec.containers[2].name: "a.b" is not a name Kubernetes accepts here
                use at most 63 lower-case letters, digits and dashes, with a letter or digit at both ends, like "web-1"
        "#]],
    );
    check_pod(
        "spec: {containers: [{name: a, image: a}, {name: a, image: a}]}",
        expect![[r#"
        8:49 spec.containers[1].name: "a" is already given at spec.containers[0].name
            remove one of them
    "#]],
    );
    check_pod(
        "spec: {containers: [{name: a, image: \"a b\"}, {name: b, image: \"a:\"}, {name: c, image: ../x}, {name: d, image: \"a@sha256:12\"}]}",
        expect![[r#"
            8:38 spec.containers[0].image: "a b" is not an image reference
                write repository and tag, like "ingot/workload:latest"
            8:63 spec.containers[1].image: "a:" is not an image reference
                write repository and tag, like "ingot/workload:latest"
            8:87 spec.containers[2].image: "../x" is not an image reference
                write repository and tag, like "ingot/workload:latest"
            8:111 spec.containers[3].image: "a@sha256:12" is not an image reference
                write repository and tag, like "ingot/workload:latest"
        "#]],
    );
}

#[test]
fn two_pods_with_one_name_or_one_uid_are_refused() {
    let pod = |metadata: &str| {
        format!(
            "spec: {{containers: [{{name: a, image: a}}]}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {metadata}\n"
        )
    };
    let end = "spec: {containers: [{name: a, image: a}]}\n";
    check_pod(
        &(pod("{name: web}") + end),
        expect![[r#"
            12:18 metadata.name: a pod named "default/web" is already in the config
                give it another name or namespace
        "#]],
    );
    check_pod(
        &(pod("{name: a, uid: same}") + &pod("{name: b, uid: same}") + end),
        expect![[r#"
            17:26 metadata.uid: the pod "default/a" has the same uid
                leave the uid out
        "#]],
    );
    check_pod(
        &(pod("{name: a, uid: ../../x}") + end),
        expect![[r#"
        12:26 metadata.uid: "../../x" is not a pod uid
            use at most 64 lower-case letters, digits and dashes, or leave it out
    "#]],
    );
}

#[test]
fn environment_variables_are_texts_with_names() {
    check_pod(
        &container(
            "env: [{name: A, value: 1}, {name: B, value: true}, {name: \"A=B\"}, {value: x}, {name: C, valueFrom: {fileKeyRef: {}}}]",
        ),
        expect![[r#"
            12:30 spec.containers[0].env[0].value: is a number, but must be a text
                put it in quotes: "1"
            12:51 spec.containers[0].env[1].value: is true or false, but must be a text
                put it in quotes: "true"
            12:65 spec.containers[0].env[2].name: "A=B" is not the name of an environment variable
                use printable characters without "=", like "LOG_LEVEL"
            12:73 spec.containers[0].env[3]: has no "name", which is required
                write "name: ..."
            12:107 spec.containers[0].env[4].valueFrom.fileKeyRef: "fileKeyRef" is not supported by Ingot yet
                remove it
        "#]],
    );
    check_pod(
        &container(
            "env: [{name: A, value: \"1\"}, {name: A, value: \"a\\0b\"}]\ncommand: [\"a\\0\"]",
        ),
        expect![[r#"
            12:43 spec.containers[0].env[1].name: "A" is already given at spec.containers[0].env[0].name
                remove one of them
            12:53 spec.containers[0].env[1].value: the value of "A" holds a zero byte
                remove it
            13:17 spec.containers[0].command[0]: holds a zero byte
                remove it
        "#]],
    );
}

#[test]
fn volumes_exist_and_do_not_cover_each_other() {
    check_pod(
        &(container(
            "volumeMounts: [{name: dta, mountPath: /a}, {name: data, mountPath: /b}, {name: data, mountPath: /b/}, {name: data, mountPath: /}, {name: data, mountPath: /proc/x}]",
        ) + "  volumes: [{name: data, emptyDir: {}}, {name: data, emptyDir: {sizeLimit: 0}}]\n"),
        expect![[r#"
            12:29 spec.containers[0].volumeMounts[0].name: the pod has no volume "dta"
                did you mean "data"?
            12:103 spec.containers[0].volumeMounts[2].mountPath: "/b" is already given at spec.containers[0].volumeMounts[1].mountPath
                remove one of them
            12:133 spec.containers[0].volumeMounts[3].mountPath: a volume cannot be mounted on "/"
                use a directory like "/data"
            12:161 spec.containers[0].volumeMounts[4].mountPath: a volume cannot be mounted on "/proc/x"
                use a directory like "/data"
            13:48 spec.volumes[1].name: "data" is already given at spec.volumes[0].name
                remove one of them
            13:76 spec.volumes[1].emptyDir.sizeLimit: is nothing, so that no byte would fit
                leave it out for no limit
        "#]],
    );
    check_pod(
        &(container(
            "volumeMounts: [{name: data, mountPath: a}, {name: data, mountPath: /../etc}, {name: data}]",
        ) + "  volumes: [{name: data}, {name: host, nfs: {path: /}}, {name: b, emptyDir: }, {name: c, emptyDir: {medium: memory}}]\n"),
        expect![[r#"
            12:46 spec.containers[0].volumeMounts[0].mountPath: "a" is not an absolute path
                start with "/" and leave out "..", like "/data"
            12:74 spec.containers[0].volumeMounts[1].mountPath: "/../etc" is not an absolute path
                start with "/" and leave out "..", like "/data"
            12:84 spec.containers[0].volumeMounts[2]: has no "mountPath", which is required
                write "mountPath: ..."
            13:40 spec.volumes[1].nfs: "nfs" is not supported by Ingot yet
                remove it
            13:109 spec.volumes[3].emptyDir.medium: is "memory", but must be "" or "Memory"
                did you mean "Memory"?
        "#]],
    );
}

#[test]
fn rights_that_contradict_each_other_are_refused() {
    check_pod(
        &container("securityContext: {privileged: true, allowPrivilegeEscalation: false}"),
        expect![[r#"
            12:69 spec.containers[0].securityContext.allowPrivilegeEscalation: "privileged" gives every right already
                remove it, or remove allowPrivilegeEscalation
        "#]],
    );
    check_pod(
        &container(
            "securityContext: {allowPrivilegeEscalation: false, capabilities: {add: [SYS_ADMIN, SYS_ADMIN]}}",
        ),
        expect![[r#"
            12:51 spec.containers[0].securityContext.allowPrivilegeEscalation: the capability SYS_ADMIN gives every right already
                remove it, or remove allowPrivilegeEscalation
            12:90 spec.containers[0].securityContext.capabilities.add[1]: "SYS_ADMIN" is already given at spec.containers[0].securityContext.capabilities.add[0]
                remove one of them
        "#]],
    );
    check_pod(
        &container(
            "securityContext: {runAsUser: -1, seLinuxOptions: {}, capabilities: {add: [CAP_NET_ADMIN, net_raw]}}",
        ),
        expect![[r#"
            12:36 spec.containers[0].securityContext.runAsUser: is -1, outside of the range 0 to 2147483647
            12:40 spec.containers[0].securityContext.seLinuxOptions: "seLinuxOptions" is not supported by Ingot yet
                remove it
            12:81 spec.containers[0].securityContext.capabilities.add[0]: "CAP_NET_ADMIN" is not a Linux capability
                write it in capitals without "CAP_", like "NET_ADMIN"
            12:96 spec.containers[0].securityContext.capabilities.add[1]: "net_raw" is not a Linux capability
                write it in capitals without "CAP_", like "NET_ADMIN"
        "#]],
    );
}

#[test]
fn a_pod_on_the_network_of_the_host_has_the_name_of_the_host() {
    check_pod(
        &(container("args: [a]") + "  hostNetwork: true\n  hostname: other\n"),
        expect![[r#"
            14:13 spec.hostname: a pod with hostNetwork has the node's host name
                remove it, or remove hostNetwork
        "#]],
    );
}

#[test]
fn labels_are_those_kubernetes_takes() {
    check_pod(
        &(container("args: [a]")
            + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: b, labels: {a/b/c: x, ok: \"no good\", v: 1.2}}\nspec: {containers: [{name: a, image: a}]}\n"),
        expect![[r#"
            16:30 metadata.labels["a/b/c"]: "a/b/c" is not a label or annotation name
                write like "app" or "example.org/app", at most 63 characters after the slash
            16:44 metadata.labels.ok: "no good" is not a label value
                use at most 63 letters, digits, dashes, underscores and dots, with a letter or digit at both ends
            16:58 metadata.labels.v: is a number, but must be a text
                put it in quotes: "1.2"
        "#]],
    );
}

#[test]
fn more_pods_than_addresses_are_refused() {
    let pod = |n: usize| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}}}\nspec: {{containers: [{{name: a, image: a}}]}}\n"
        )
    };
    let machine = "apiVersion: ingot/v1\nkind: Machine\nnetwork: {pods: {ipv4Subnet: 10.9.0.0/29}}\nkernel: {sysctls: {net.ipv4.ip_forward: 0}}\n";
    let text =
        format!("{machine}api: {{ca: {}}}\n{}", crate::CA, (0..6).map(pod).collect::<String>());
    crate::check(
        &text,
        expect![[r#"
        3:30 network.pods.ipv4Subnet: has room for 5 pods, but the config holds 6 with an address of their own
            use a shorter prefix length, or hostNetwork for some pods
        4:41 kernel.sysctls["net.ipv4.ip_forward"]: pods with an address of their own need forwarding, and there are some
            remove the line, or use hostNetwork for all pods
    "#]],
    );
}
