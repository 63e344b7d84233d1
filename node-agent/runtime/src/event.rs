//! What happened to pods, for the node's event log.

/// One thing that happened. Time is when it is received: events are sent at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// CamelCase and stable.
    pub reason: Reason,
    /// How bad it is.
    pub severity: Severity,
    /// "pod/NAMESPACE/NAME" or "container/NAMESPACE/POD/NAME".
    pub object: String,
    /// One line, with the numbers that matter.
    pub message: String,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As wished.
    Info,
    /// Somebody may want to look.
    Warning,
    /// Something wished for is not true.
    Error,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A container started.
    Started,
    /// A container ended.
    Died,
    /// The kernel killed a container at its memory limit.
    OomKilled,
    /// A container will be started again later.
    BackOff,
    /// A container was refused a process at its pids limit.
    PidsLimit,
    /// A container spent most of a minute throttled at its CPU limit.
    Throttled,
    /// Tasks of a container waited long for memory.
    MemoryPressure,
    /// An image is being fetched.
    Pulling,
    /// An image was fetched.
    Pulled,
    /// An image is not there, or could not be fetched.
    ImageFailed,
    /// A volume could not be set up.
    MountFailed,
    /// A probe gave an answer that counts against the container.
    Unhealthy,
    /// A container is told to end.
    Killing,
    /// The hook after the start failed.
    PostStartFailed,
    /// The hook before the end failed.
    PreStopFailed,
    /// A pod took more disk than it may.
    Evicted,
    /// A pod was active for longer than it may.
    DeadlineExceeded,
    /// A container could not be built.
    StartFailed,
    /// The sandbox of a pod could not be built.
    SandboxFailed,
    /// A pod's containers were told to stop.
    Stopping,
    /// A pod is gone.
    Removed,
    /// A running pod was taken over after a restart of the agent.
    Adopted,
    /// Log lines were given up because VAR is full, or old ones because all logs together took too much of it.
    LogsDropped,
}

impl Reason {
    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Died => "Died",
            Self::OomKilled => "OOMKilled",
            Self::BackOff => "BackOff",
            Self::PidsLimit => "PidsLimit",
            Self::Throttled => "Throttled",
            Self::MemoryPressure => "MemoryPressure",
            Self::Pulling => "Pulling",
            Self::Pulled => "Pulled",
            Self::ImageFailed => "ImageFailed",
            Self::MountFailed => "FailedMount",
            Self::Unhealthy => "Unhealthy",
            Self::Killing => "Killing",
            Self::PostStartFailed => "FailedPostStartHook",
            Self::PreStopFailed => "FailedPreStopHook",
            Self::Evicted => "Evicted",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::StartFailed => "StartFailed",
            Self::SandboxFailed => "SandboxFailed",
            Self::Stopping => "Stopping",
            Self::Removed => "Removed",
            Self::Adopted => "Adopted",
            Self::LogsDropped => "LogsDropped",
        }
    }
}
