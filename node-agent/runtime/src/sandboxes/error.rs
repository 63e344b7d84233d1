//! Why a call could not be done. Cheap to clone: several callers may wait for one operation.

/// Why a call could not be done. The text is for a person; the variant says what a caller may do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No such sandbox.
    #[error("there is no sandbox {id}")]
    NoSandbox {
        /// As the caller wrote it.
        id: String,
    },
    /// No such container.
    #[error("there is no container {id}")]
    NoContainer {
        /// As the caller wrote it.
        id: String,
    },
    /// No such image.
    #[error("image {image:?} is not on this node; pull it first")]
    NoImage {
        /// As the caller wrote it.
        image: String,
    },
    /// It makes no sense as it is written.
    #[error("{0}")]
    Invalid(String),
    /// Another one has the name.
    #[error("{0}")]
    Exists(String),
    /// It is not in the state for that.
    #[error("{0}")]
    WrongState(String),
    /// It failed; the text is the whole chain of causes.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("{0}")]
    TooLong(String),
    /// The agent ends.
    #[error("the agent is ending; ask again in a moment")]
    Ending,
}

impl CallError {
    /// `what` failed because of `error` and its causes.
    pub(crate) fn failed(what: &str, error: &dyn std::error::Error) -> Self {
        Self::Failed(format!("{what}: {}", crate::report::chain(error)))
    }
}
