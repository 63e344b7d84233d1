//! Generates a client of the CRI from the node's own copy of its protobuf: the tests speak to the node as a kubelet would.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = "../node-agent/cri/proto";
    let descriptors = protox::compile(["runtime/v1/api.proto"], [folder])?;
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed={folder}");
    Ok(())
}
