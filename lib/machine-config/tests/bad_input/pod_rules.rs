//! Pods: fields that contradict each other, and fields that need another one.

use crate::check_pod;
use expect_test::expect;

/// A `spec` of one container with these fields; they begin at line 12.
fn container(fields: &str) -> String {
    format!(
        "spec:\n  containers:\n    - name: main\n      image: a:b\n      {}\n",
        fields.replace('\n', "\n      ")
    )
}

#[test]
fn a_probe_asks_exactly_one_question() {
    check_pod(
        &container(
            "livenessProbe: {}\nreadinessProbe: {tcpSocket: {port: 80}, exec: {command: [a]}, terminationGracePeriodSeconds: 1}\nstartupProbe: {exec: {command: []}, successThreshold: 2, periodSeconds: 0}",
        ),
        expect![[r#"
            14:38 spec.containers[0].startupProbe.exec.command: has 0 entries, but needs at least 1
            14:79 spec.containers[0].startupProbe.periodSeconds: is 0, outside of the range 1 to 86400
        "#]],
    );
    check_pod(
        &container(
            "livenessProbe: {grpc: {port: 1}, successThreshold: 2}\nlifecycle: {preStop: {}, postStart: {sleep: {seconds: 1}, exec: {command: [\"a\\0\"]}}}",
        ),
        expect![[r#"
            12:58 spec.containers[0].livenessProbe.successThreshold: is 2, but must be 1 here
                remove it
            13:28 spec.containers[0].lifecycle.preStop: has no action
                write one of exec, httpGet, tcpSocket, sleep
            13:43 spec.containers[0].lifecycle.postStart: has more than one action: exec, sleep
                remove all but one
            13:82 spec.containers[0].lifecycle.postStart.exec.command[0]: holds a zero byte
                remove it
        "#]],
    );
}

#[test]
fn a_port_by_name_is_one_of_the_containers() {
    check_pod(
        &container(
            "ports: [{name: http, containerPort: 80}, {name: http, containerPort: 81, hostPort: 80}, {containerPort: 82, hostPort: 80}]\nlivenessProbe: {httpGet: {port: htpp}}\nreadinessProbe: {tcpSocket: {port: admin}}\nstartupProbe: {httpGet: {port: 70000, path: /a b}}",
        ),
        expect![[r#"
            15:38 spec.containers[0].startupProbe.httpGet.port: "70000" is not a port
                write a number from 1 to 65535, or the name of one of the container's ports
        "#]],
    );
    check_pod(
        &container(
            "ports: [{name: http, containerPort: 80}, {name: http, containerPort: 81, hostPort: 80}, {containerPort: 82, hostPort: 80}]\nlivenessProbe: {httpGet: {port: htpp, path: /a b}}\nreadinessProbe: {tcpSocket: {port: admin}}",
        ),
        expect![[r#"
            12:55 spec.containers[0].ports[1].name: "http" is already given at spec.containers[0].ports[0].name
                remove one of them
            12:125 spec.containers[0].ports[2].hostPort: port 80 of the node is already given at spec.containers[0].ports[1]
                use another one
            13:39 spec.containers[0].livenessProbe.httpGet.port: the container has no port "htpp"
                did you mean "http"?
            13:51 spec.containers[0].livenessProbe.httpGet.path: is not the path of a URL
                write other characters as %XX
            14:42 spec.containers[0].readinessProbe.tcpSocket.port: the container has no port "admin"
                write the number, or give the name to one of the container's ports
        "#]],
    );
}

#[test]
fn a_port_of_the_node_leads_to_one_pod() {
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{hostNetwork: true, containers: [{{name: a, image: a, ports: [{{containerPort: 80, hostPort: 80}}]}}]}}\n"
        )
    };
    check_pod(
        &format!(
            "{}---\n{}---\n{}",
            container("ports: [{containerPort: 80, hostPort: 8080}]"),
            pod("b"),
            pod("c")
        ),
        expect![[r#"
            22:98 spec.containers[0].ports[0].hostPort: port 80 of the node already leads to the pod "default/b"
                use another one
        "#]],
    );
    check_pod(
        "spec: {hostNetwork: true, containers: [{name: a, image: a, ports: [{containerPort: 80, hostPort: 81}]}]}",
        expect![[r#"
            8:98 spec.containers[0].ports[0].hostPort: 81 differs from containerPort, but the pod uses the node's network
                remove it
        "#]],
    );
}

#[test]
fn only_sidecars_are_probed_before_the_containers_start() {
    check_pod(
        &(container("restartPolicy: Always")
            + "  initContainers:\n    - {name: main, image: a, readinessProbe: {tcpSocket: {port: 1}}, lifecycle: {preStop: {sleep: {seconds: 1}}}}\n    - {name: b, image: a, restartPolicy: OnFailure}\n    - {name: c, image: a, restartPolicy: Always, readinessProbe: {tcpSocket: {port: 1}}}\n"),
        expect![[r#"
            15:42 spec.initContainers[1].restartPolicy: is "OnFailure", but must be "Always"
                write "Always"
        "#]],
    );
    check_pod(
        &(container("restartPolicy: Always")
            + "  initContainers:\n    - {name: main, image: a, readinessProbe: {tcpSocket: {port: 1}}, lifecycle: {preStop: {sleep: {seconds: 1}}}}\n"),
        expect![[r#"
            10:13 spec.containers[0].name: "main" is already given at spec.initContainers[0].name
                remove one of them
            12:22 spec.containers[0].restartPolicy: only an init container can be a sidecar
                remove it, or move the container to initContainers
            14:46 spec.initContainers[0].readinessProbe: an init container runs to its end
                remove it, or make the container a sidecar with "restartPolicy: Always"
            14:91 spec.initContainers[0].lifecycle.preStop: an init container runs to its end
                remove it, or make the container a sidecar with "restartPolicy: Always"
        "#]],
    );
}

#[test]
fn a_volume_has_one_source_and_never_the_nodes_secrets() {
    check_pod(
        &(container("volumeMounts: [{name: run, mountPath: /run}]")
            + "  volumes:\n    - {name: none}\n    - {name: two, emptyDir: {}, hostPath: {path: /srv}}\n    - {name: root, hostPath: {path: /}}\n    - {name: run, hostPath: {path: /run}}\n    - {name: pki, hostPath: {path: /state//ingot/./pki}}\n    - {name: fine, hostPath: {path: /run/other}}\n    - {name: kind, projected: {sources: [{}]}}\n    - {name: twice, configMap: {name: x, optional: true, items: [{key: a, path: p}, {key: b, path: p}, {key: c, path: ..p}]}}\n"),
        expect![[r#"
            14:7 spec.volumes[0]: has no source
                write one of emptyDir, hostPath, configMap, secret, downwardAPI, projected, image
            15:7 spec.volumes[1]: has more than one source: emptyDir, hostPath
                remove all but one
            16:37 spec.volumes[2].hostPath.path: "/" would show the pod what the node keeps in /state
                use another directory, like "/var/data"
            17:36 spec.volumes[3].hostPath.path: "/run" would make the pod as good as the node through /run/ingot
                use another directory, or make every container that mounts it privileged
            18:36 spec.volumes[4].hostPath.path: "/state/ingot/pki" would show the pod what the node keeps in /state
                use another directory, like "/var/data"
            20:42 spec.volumes[6].projected.sources[0]: has no source
                write one of configMap, secret, downwardAPI
            21:100 spec.volumes[7].configMap.items[1].path: "p" is already given at spec.volumes[7].configMap.items[0].path
                remove one of them
            21:119 spec.volumes[7].configMap.items[2].path: "..p" begins with "..", as the volume's own names do
                use another name
        "#]],
    );
    check_pod(
        &(container("args: [a]")
            + "  volumes:\n    - {name: type, hostPath: {path: /srv, type: Dir}}\n    - {name: up, configMap: {name: x, items: [{key: a, path: ../p}, {key: a, path: /p}]}}\n    - {name: mode, configMap: {name: x, defaultMode: 0888}}\n    - {name: mode2, configMap: {name: x, defaultMode: 644}}\n    - {name: mode3, configMap: {name: x, defaultMode: rw}}\n"),
        expect![[r#"
            14:49 spec.volumes[0].hostPath.type: is "Dir", but must be "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice" or "BlockDevice"
                write "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice" or "BlockDevice"
            15:62 spec.volumes[1].configMap.items[0].path: "../p" is not a path below something else
                leave out the leading "/" and "..", like "app/config.yaml"
            15:84 spec.volumes[1].configMap.items[1].path: "/p" is not a path below something else
                leave out the leading "/" and "..", like "app/config.yaml"
            16:54 spec.volumes[2].configMap.defaultMode: "0888" is not a file mode
                write it in octal with a leading zero, like "0644"; the most is "0777"
            17:55 spec.volumes[3].configMap.defaultMode: "644" is not a file mode
                write it in octal with a leading zero, like "0644"; the most is "0777"
            18:55 spec.volumes[4].configMap.defaultMode: "rw" is not a file mode
                write it in octal with a leading zero, like "0644"; the most is "0777"
        "#]],
    );
}

#[test]
fn mounts_that_cannot_be_are_refused() {
    check_pod(
        &(container(
            "volumeMounts:\n  - {name: v, mountPath: /a, subPath: a, subPathExpr: b}\n  - {name: v, mountPath: /b, subPathExpr: ../b}\n  - {name: v, mountPath: /c, mountPropagation: Bidirectional}\n  - {name: v, mountPath: /d, recursiveReadOnly: Enabled}\n  - {name: v, mountPath: /e, readOnly: true, recursiveReadOnly: Enabled, mountPropagation: HostToContainer}",
        ) + "  volumes: [{name: v, emptyDir: {}}]\n"),
        expect![[r#"
            13:61 spec.containers[0].volumeMounts[0].subPathExpr: the mount has a subPath already
                remove one of the two
            14:49 spec.containers[0].volumeMounts[1].subPathExpr: leads out of the volume
                leave out the leading "/" and "..", like "$(POD_NAME)/data"
            15:54 spec.containers[0].volumeMounts[2].mountPropagation: mounts of a container without "privileged" never reach the node
                remove it, or make the container privileged
            16:55 spec.containers[0].volumeMounts[3].recursiveReadOnly: the mount is not read-only
                add "readOnly: true"
            17:71 spec.containers[0].volumeMounts[4].recursiveReadOnly: mounts that appear later would not be read-only
                remove it, or remove mountPropagation
        "#]],
    );
}

#[test]
fn facts_about_the_pod_have_known_paths() {
    check_pod(
        &(container(
            "env:\n  - {name: A, valueFrom: {fieldRef: {fieldPath: metadata.nam}}}\n  - {name: B, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}\n  - {name: C, value: x, valueFrom: {}}\n  - {name: D, valueFrom: {resourceFieldRef: {resource: limits.cpu, containerName: mian}}}",
        ) + "  volumes:\n    - name: v\n      downwardAPI:\n        items: [{path: a, fieldRef: {fieldPath: status.podIP}}, {path: b, resourceFieldRef: {resource: limits.memory}}, {path: c}]\n"),
        expect![[r#"
            13:55 spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: a pod has no field "metadata.nam"
                did you mean "metadata.name"?
            14:55 spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: "metadata.labels" does not fit into a variable
                write a single one, like "metadata.labels['KEY']"
            15:42 spec.containers[0].env[2].valueFrom: the variable has a value already
                remove one of the two
            15:42 spec.containers[0].env[2].valueFrom: has no source
                write one of fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef
            16:89 spec.containers[0].env[3].valueFrom.resourceFieldRef.containerName: the pod has no container "mian"
                did you mean "main"?
            20:49 spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath: "status.podIP" is not for files
                use it in an environment variable
            20:93 spec.volumes[0].downwardAPI.items[1].resourceFieldRef: has no "containerName", which a volume needs
                write containerName: with the name of one of the pod's
            20:121 spec.volumes[0].downwardAPI.items[2]: has no source
                write one of fieldRef, resourceFieldRef
        "#]],
    );
}

#[test]
fn rights_that_cannot_be_are_refused() {
    check_pod(
        &(container(
            "securityContext: {runAsUser: 0, runAsNonRoot: true, procMount: Unmasked, seccompProfile: {type: Localhost}, appArmorProfile: {type: Unconfined, localhostProfile: x}}",
        ) + "  hostUsers: false\n  hostPID: true\n  shareProcessNamespace: true\n  securityContext: {runAsGroup: 5, sysctls: [{name: kernel.panic, value: 1}, {name: net.core.somaxconn, value: 1}, {name: net.core.somaxconn, value: 2}]}\n"),
        expect![[r#"
            12:53 spec.containers[0].securityContext.runAsNonRoot: the user is 0, which is root
                write another runAsUser
            12:96 spec.containers[0].securityContext.seccompProfile.localhostProfile: is missing: which profile?
                write its name
            12:169 spec.containers[0].securityContext.appArmorProfile.localhostProfile: is only for "type: Localhost"
                remove it
            13:14 spec.hostUsers: a pod with user ids of its own cannot have hostPID
                remove it, or remove hostPID
            15:26 spec.shareProcessNamespace: a pod with hostPID shares the node's process tree already
                remove one of the two
            16:53 spec.securityContext.sysctls[0].name: "kernel.panic" is a parameter of the node, not of a pod
                write it to kernel.sysctls of the machine
            16:123 spec.securityContext.sysctls[2].name: "net.core.somaxconn" is already given at spec.securityContext.sysctls[1].name
                remove one of them
        "#]],
    );
    check_pod(
        &(container("securityContext: {procMount: Unmasked}")
            + "  hostNetwork: true\n  hostIPC: true\n  securityContext: {sysctls: [{name: kernel.shmmax, value: 1}, {name: net.core.somaxconn, value: 1}]}\n"),
        expect![[r#"
            12:36 spec.containers[0].securityContext.procMount: shows the node's /proc to a root who is the node's
                add "hostUsers: false" to the pod
            15:38 spec.securityContext.sysctls[0].name: "kernel.shmmax" would be changed for the whole node
                write it to kernel.sysctls of the machine
            15:71 spec.securityContext.sysctls[1].name: "net.core.somaxconn" would be changed for the whole node
                write it to kernel.sysctls of the machine
        "#]],
    );
}

#[test]
fn the_rest_of_a_pods_rules() {
    check_pod(
        &(container(
            "stdinOnce: true\nresources: {limits: {hugepages-2Mi: 3Mi, ephemeral-storage: 10m}}\nlifecycle: {stopSignal: SIGTERM}\nenvFrom: [{prefix: \"a=\"}]",
        ) + "  priority: 5\n  priorityClassName: system-node-critical\n  dnsPolicy: None\n"),
        expect![[r#"
            12:18 spec.containers[0].stdinOnce: there is no standard input to close
                add "stdin: true", or remove it
            13:43 spec.containers[0].resources.limits.hugepages-2Mi: "3Mi" is no whole number of huge pages
                write a multiple of 2Mi
            13:67 spec.containers[0].resources.limits.ephemeral-storage: "10m" is not a whole number of bytes
                did you mean "10Mi"?
            15:17 spec.containers[0].envFrom[0]: has no source
                write one of configMapRef, secretRef
            15:26 spec.containers[0].envFrom[0].prefix: cannot begin the name of a variable
                use letters, digits and underscores
            16:13 spec.priority: the class stands for 2000001000
                remove one of the two
            18:14 spec.dnsPolicy: with "None" the pod has no name server at all
                write some to dnsConfig.nameservers, or remove the policy
        "#]],
    );
    check_pod(
        &(container("lifecycle: {stopSignal: TERM}")
            + "  priorityClassName: high\n  dnsConfig: {nameservers: [a], options: [{name: \"a b\"}]}\n  hostAliases: [{ip: x}]\n"),
        expect![[r#"
            12:31 spec.containers[0].lifecycle.stopSignal: "TERM" is not the name of a signal
                write like "SIGTERM" or "SIGRTMIN+3"
            13:22 spec.priorityClassName: is "high", but must be "system-cluster-critical" or "system-node-critical"
                write "system-cluster-critical" or "system-node-critical"
            14:29 spec.dnsConfig.nameservers[0]: "a" is not an IP address
                write an address with no prefix length, like "192.0.2.1" or "2001:db8::1"
            14:50 spec.dnsConfig.options[0].name: "a b" is not a word
                write letters, digits and signs without spaces
            15:22 spec.hostAliases[0].ip: "x" is not an IP address
                write an address with no prefix length, like "192.0.2.1" or "2001:db8::1"
        "#]],
    );
}
