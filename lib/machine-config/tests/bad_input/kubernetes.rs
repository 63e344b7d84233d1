//! What people get for a wrong section `kubernetes`.

use crate::check_machine;
use expect_test::expect;

#[test]
fn networks_fit_each_other() {
    check_machine(
        "kubernetes:\n  role: control-plane\n  network:\n    podCidrs: [10.244.0.0/25, 10.0.0.0/16]\n    serviceCidrs: [10.244.0.0/8]\n",
        expect![[r#"
            7:16 kubernetes.network.podCidrs[0]: 10.244.0.0/25 is smaller than the part of one node, a /24
                use a prefix of /24 or shorter
            7:31 kubernetes.network.podCidrs[1]: is of the same IP version as the first
                write one IPv4 and one IPv6 network, or only one network
            8:19 kubernetes.network.serviceCidrs: is not of the same IP versions, in the same order, as podCidrs
                write a service network for each pod network
            8:20 kubernetes.network.serviceCidrs[0]: 10.244.0.0/8 is an address in a network, not a network
                write 10.0.0.0/8
            8:20 kubernetes.network.serviceCidrs[0]: 10.244.0.0/8 has more than 2^20 addresses, which kube-apiserver refuses
                use a prefix of /12 or longer
            8:20 kubernetes.network.serviceCidrs[0]: 10.244.0.0/8 and the pod network 10.244.0.0/25 overlap
                use networks that share no address
            8:20 kubernetes.network.serviceCidrs[0]: 10.244.0.0/8 and the pod network 10.0.0.0/16 overlap
                use networks that share no address
        "#]],
    );
}

#[test]
fn add_ons_exist_or_bring_their_manifest() {
    check_machine(
        "kubernetes:\n  role: control-plane\n  joinToken: x\n  addons:\n    core-dns: {enabled: false}\n    storage: {enabled: false, manifest: \"a: [\"}\n    mine: {manifest: \"kind: Pod\"}\n",
        expect![[r#"
            6:14 kubernetes.joinToken: is for workers, and this node is a control plane
                remove the line, or write role: worker
            8:5 kubernetes.addons["core-dns"]: there is no add-on "core-dns", and no manifest is given for one
                write one of coredns, kube-proxy, metrics-server, network-policy, storage, or a manifest
            8:5 kubernetes.addons["mine"].manifest: document 1 has no "apiVersion", so it is no Kubernetes object
                write Kubernetes objects, parted by lines of "---"
            8:5 kubernetes.addons["storage"]: has a manifest and is switched off
                remove one of the two
            8:5 kubernetes.addons["storage"].manifest: document 1: line 2: this is not YAML: while parsing a node, did not find expected node content (check indentation, quotes and colons around here)
                write Kubernetes objects, parted by lines of "---"
        "#]],
    );
}

#[test]
fn what_holds_the_cluster_together_cannot_be_changed_by_an_argument() {
    check_machine(
        "kubernetes:\n  role: king\n  apiServer: {extraArgs: {authorization-mode: AlwaysAllow, v: \"2\"}}\n  kubelet: {extraArgs: {--v: \"2\"}}\n",
        expect![[r#"
            5:9 kubernetes.role: is "king", but must be "control-plane" or "worker"
                write "control-plane" or "worker"
            7:25 kubernetes.kubelet.extraArgs.--v: "--v" is not a name Kubernetes accepts here
                use at most 63 lower-case letters, digits and dashes, with a letter or digit at both ends, like "web-1"
        "#]],
    );
    check_machine(
        "kubernetes:\n  role: worker\n  apiServer: {extraArgs: {authorization-mode: AlwaysAllow, v: \"2\"}}\n  etcd: {extraArgs: {data-dir: /tmp}}\n",
        expect![[r#"
            6:26 kubernetes.apiServer.extraArgs["authorization-mode"]: is set by Ingot, and kube-apiserver cannot work in this cluster without it
                remove the line
            7:21 kubernetes.etcd.extraArgs["data-dir"]: is set by Ingot, and etcd cannot work in this cluster without it
                remove the line
        "#]],
    );
}

#[test]
fn a_token_to_join_with_is_one_and_whole_and_never_shown() {
    check_machine(
        "kubernetes:\n  role: worker\n  joinToken: hunter2\n",
        expect![[r#"
        6:14 kubernetes.joinToken: is no join token: one begins with "ingot-join-1."
            make one on a control plane: ingotctl join-token
    "#]],
    );
    check_machine(
        "kubernetes:\n  role: worker\n  joinToken: ingot-join-1.eyJjbHVzdGVySWQiOiIwMTIz\n",
        expect![[r#"
            6:14 kubernetes.joinToken: is a join token that was cut or changed on its way
                make one on a control plane: ingotctl join-token
        "#]],
    );
}
