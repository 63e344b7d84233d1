//! The machine API as Rust types: re-exports what is generated from `proto/`. The contract, no logic.
#![forbid(unsafe_code)]

/// Serialized `FileDescriptorSet` of the API, for reflection and for tests that walk every RPC.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Metadata of an error status: what the operator should do about it, UTF-8. Binary, since a hint may hold any character.
pub const HINT_METADATA: &str = "ingot-hint-bin";

/// `ingot.machine.v1`.
pub mod machine {
    /// Version 1.
    #[expect(
        missing_docs,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated code; the comments of the .proto file are its documentation"
    )]
    pub mod v1 {
        tonic::include_proto!("ingot.machine.v1");
    }
}
