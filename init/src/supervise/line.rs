//! What an operator reads in the kernel log, in one place.

use std::fmt;

use ingot_init_api::End;

use super::{Milliseconds, Phase};

/// A line for the kernel log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The agent runs.
    AgentStarted {
        /// Its process.
        pid: i32,
    },
    /// The agent ended.
    AgentEnded {
        /// Raw wait status.
        wait_status: i32,
        /// How long it ran.
        ran: Milliseconds,
        /// How long until it is started again, if it is.
        again_in: Option<Milliseconds>,
    },
    /// The agent could not be started.
    AgentNotStarted {
        /// How long until this is tried again.
        again_in: Milliseconds,
    },
    /// The agent says nothing any more, or never did.
    AgentSilent,
    /// The agent closed its socket.
    SocketLost,
    /// The agent sent something that is no message.
    Malformed,
    /// The machine ends, and what it waits for now.
    Ending {
        /// How.
        how: End,
        /// What is being waited for.
        phase: Phase,
        /// At most how long.
        at_most: Milliseconds,
    },
    /// A step was not done in time.
    StepTimedOut(Phase),
    /// The kernel refused to end in this way.
    EndRefused(End),
}

impl Line {
    /// Whether it tells of something wrong.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        !matches!(
            self,
            Self::AgentStarted { .. }
                | Self::Ending { .. }
                | Self::AgentEnded { again_in: None, .. }
        )
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentStarted { pid } => write!(f, "agent started pid={pid}"),
            Self::AgentEnded { wait_status, ran, again_in } => {
                let how = HowEnded(*wait_status);
                write!(f, "agent {how} after {ran} ms")?;
                match again_in {
                    Some(pause) => write!(f, ", starting it again in {pause} ms"),
                    None => Ok(()),
                }
            }
            Self::AgentNotStarted { again_in } => {
                write!(f, "agent could not be started, trying again in {again_in} ms")
            }
            Self::AgentSilent => f.write_str("agent has said nothing for too long, killing it"),
            Self::SocketLost => f.write_str("agent closed its socket and goes on, restarting it"),
            Self::Malformed => f.write_str("agent sent a malformed message, refusing it"),
            Self::Ending { how, phase, at_most } => {
                let (how, what) = (name(*how), phase.name());
                write!(f, "{how}: waiting for {what}, at most {at_most} ms")
            }
            Self::StepTimedOut(phase) => {
                write!(f, "waited in vain for {}, going on", phase.name())
            }
            Self::EndRefused(how) => write!(f, "the kernel refused: {}", name(*how)),
        }
    }
}

/// An end in words.
fn name(how: End) -> &'static str {
    match how {
        End::Reboot => "reboot",
        End::PowerOff => "power off",
        End::Halt => "halt",
        End::Kexec => "kexec",
    }
}

/// A raw wait status in words.
struct HowEnded(i32);

impl fmt::Display for HowEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 & 0x7f {
            0 => write!(f, "ended with status {}", (self.0 >> 8) & 0xff),
            signal => write!(f, "was ended by signal {signal}"),
        }
    }
}
