//! Orchestra's wire protocol: the generated code, `convert`, the one place where what comes from
//! the wire is checked before it becomes our words, and how a client reaches the head.

pub mod batch;
pub mod client;
pub mod convert;
pub mod token;

/// The generated messages and services.
#[expect(clippy::all, clippy::allow_attributes, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("orchestra.v1");

    pub use crate::batch::{EventBatch, EventUpload};
}

/// The rows of the head's store, as they lie on its disk.
pub mod store {
    /// The first format.
    #[expect(clippy::all, reason = "generated")]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/orchestra.store.v1.rs"));
    }
}

pub use convert::Refused;

/// The kind of what the head does not know, in the details (`google.rpc.ResourceInfo`) of a refusal, where
/// that is a runner: the text beside it is for people.
pub const RUNNER: &str = "runner";
/// The same of a task.
pub const TASK: &str = "task";
