//! How a message looks as bytes: fixed length, little endian, one way only to write each message.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | [`VERSION`] |
//! | 1 | kind: 1 request, 2 reply, 3 notice |
//! | 2 | which request, reply or notice |
//! | 3 | zero |
//! | 4..8 | id of the request; zero in a notice |
//! | 8.. | its fields in order; zero to the end |
//!
//! Decoding trusts nothing: any input gives a message or an error, never a panic, and bytes that a message does not
//! use must be zero. A packet that decodes encodes to itself.

use core::fmt;

use crate::{
    End, Exit, MESSAGE_LENGTH_MAX, Name, Notice, Refusal, Reply, Request, Service, ServiceState,
    VERSION,
};

/// One message as it travels.
pub type Packet = [u8; MESSAGE_LENGTH_MAX];

const KIND_REQUEST: u8 = 1;
const KIND_REPLY: u8 = 2;
const KIND_NOTICE: u8 = 3;

/// Bytes before the fields.
const HEADER_LENGTH: usize = 8;

/// What travels from the agent to PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromAgent {
    /// Chosen by the agent, repeated in the reply.
    pub id: u32,
    /// What is asked.
    pub request: Request,
}

/// What travels from PID 1 to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromInit {
    /// The answer to the request with this id.
    Reply {
        /// The id of the request.
        id: u32,
        /// The answer.
        reply: Reply,
    },
    /// Said unasked.
    Notice(Notice),
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Not [`MESSAGE_LENGTH_MAX`] bytes.
    Length,
    /// The peer speaks another version, given here.
    Version(u8),
    /// A kind, number or field that this version does not know, or unused bytes that are not zero.
    Malformed,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "message is not {MESSAGE_LENGTH_MAX} bytes long"),
            Self::Version(theirs) => {
                write!(f, "message has version {theirs}, this program speaks {VERSION}")
            }
            Self::Malformed => f.write_str("message is malformed"),
        }
    }
}

impl core::error::Error for DecodeError {}

impl FromAgent {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Packet {
        let mut out = Writer::new(KIND_REQUEST, self.id);
        match self.request {
            Request::Hello => out.number(1),
            Request::StoreFd { name } => out.number(2).name(name),
            Request::GetFd { name } => out.number(3).name(name),
            Request::DropFd { name } => out.number(4).name(name),
            Request::NameAt { index } => out.number(5).u32(index),
            Request::Watch { pid, start_time } => out.number(6).i32(pid).u64(start_time),
            Request::AcknowledgeExit { pid, start_time } => out.number(7).i32(pid).u64(start_time),
            Request::ReplayExits => out.number(8),
            Request::ServiceAt { index } => out.number(9).u32(index),
            Request::StartService { name } => out.number(10).name(name),
            Request::StopService { name } => out.number(11).name(name),
            Request::RestartService { name, kill } => out.number(12).name(name).u8(kill.into()),
            Request::EndMachine { how, grace_ms } => {
                out.number(13).u8(end_number(how)).u32(grace_ms)
            }
            Request::ReadyToEnd => out.number(14),
        };
        out.packet
    }

    /// The message in these bytes.
    ///
    /// # Errors
    /// [`DecodeError`]; no input panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes)?;
        if input.kind != KIND_REQUEST {
            return Err(DecodeError::Malformed);
        }
        let request = match input.number {
            1 => Request::Hello,
            2 => Request::StoreFd { name: input.name()? },
            3 => Request::GetFd { name: input.name()? },
            4 => Request::DropFd { name: input.name()? },
            5 => Request::NameAt { index: input.u32()? },
            6 => Request::Watch { pid: input.i32()?, start_time: input.u64()? },
            7 => Request::AcknowledgeExit { pid: input.i32()?, start_time: input.u64()? },
            8 => Request::ReplayExits,
            9 => Request::ServiceAt { index: input.u32()? },
            10 => Request::StartService { name: input.name()? },
            11 => Request::StopService { name: input.name()? },
            12 => Request::RestartService { name: input.name()?, kill: input.bool()? },
            13 => Request::EndMachine { how: input.end()?, grace_ms: input.u32()? },
            14 => Request::ReadyToEnd,
            _ => return Err(DecodeError::Malformed),
        };
        input.finish()?;
        Ok(Self { id: input.id, request })
    }
}

impl FromInit {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Packet {
        match self {
            Self::Reply { id, reply } => encode_reply(*id, reply),
            Self::Notice(notice) => encode_notice(notice),
        }
    }

    /// The message in these bytes.
    ///
    /// # Errors
    /// [`DecodeError`]; no input panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes)?;
        let message = match input.kind {
            KIND_REPLY => Self::Reply { id: input.id, reply: decode_reply(&mut input)? },
            KIND_NOTICE if input.id == 0 => Self::Notice(decode_notice(&mut input)?),
            _ => return Err(DecodeError::Malformed),
        };
        input.finish()?;
        Ok(message)
    }
}

fn encode_reply(id: u32, reply: &Reply) -> Packet {
    let mut out = Writer::new(KIND_REPLY, id);
    match *reply {
        Reply::Hello { restarts, started_at_ns } => out.number(1).u32(restarts).u64(started_at_ns),
        Reply::Done => out.number(2),
        Reply::Fd => out.number(3),
        Reply::StoredName { name } => out.number(4).name(name),
        Reply::Service(Service { name, state, pid, restarts, since_ns, last_wait_status }) => out
            .number(5)
            .name(name)
            .u8(match state {
                ServiceState::Running => 1,
                ServiceState::Backoff => 2,
                ServiceState::Stopping => 3,
                ServiceState::Stopped => 4,
            })
            .i32(pid)
            .u32(restarts)
            .u64(since_ns)
            .u8(last_wait_status.is_some().into())
            .i32(last_wait_status.unwrap_or(0)),
        Reply::Refused(refusal) => out.number(6).u8(match refusal {
            Refusal::NotFound => 1,
            Refusal::Full => 2,
            Refusal::WrongFd => 3,
            Refusal::Malformed => 4,
            Refusal::NotAllowed => 5,
        }),
    };
    out.packet
}

fn decode_reply(input: &mut Reader<'_>) -> Result<Reply, DecodeError> {
    Ok(match input.number {
        1 => Reply::Hello { restarts: input.u32()?, started_at_ns: input.u64()? },
        2 => Reply::Done,
        3 => Reply::Fd,
        4 => Reply::StoredName { name: input.name()? },
        5 => Reply::Service(Service {
            name: input.name()?,
            state: match input.u8()? {
                1 => ServiceState::Running,
                2 => ServiceState::Backoff,
                3 => ServiceState::Stopping,
                4 => ServiceState::Stopped,
                _ => return Err(DecodeError::Malformed),
            },
            pid: input.i32()?,
            restarts: input.u32()?,
            since_ns: input.u64()?,
            last_wait_status: match (input.bool()?, input.i32()?) {
                (true, status) => Some(status),
                (false, 0) => None,
                (false, _) => return Err(DecodeError::Malformed),
            },
        }),
        6 => Reply::Refused(match input.u8()? {
            1 => Refusal::NotFound,
            2 => Refusal::Full,
            3 => Refusal::WrongFd,
            4 => Refusal::Malformed,
            5 => Refusal::NotAllowed,
            _ => return Err(DecodeError::Malformed),
        }),
        _ => return Err(DecodeError::Malformed),
    })
}

fn encode_notice(notice: &Notice) -> Packet {
    let mut out = Writer::new(KIND_NOTICE, 0);
    match *notice {
        Notice::Exit(Exit { pid, start_time, wait_status, ended_at_ns }) => {
            out.number(1).i32(pid).u64(start_time).i32(wait_status).u64(ended_at_ns)
        }
        Notice::Stopping { how, grace_ms } => out.number(2).u8(end_number(how)).u32(grace_ms),
    };
    out.packet
}

fn decode_notice(input: &mut Reader<'_>) -> Result<Notice, DecodeError> {
    Ok(match input.number {
        1 => Notice::Exit(Exit {
            pid: input.i32()?,
            start_time: input.u64()?,
            wait_status: input.i32()?,
            ended_at_ns: input.u64()?,
        }),
        2 => Notice::Stopping { how: input.end()?, grace_ms: input.u32()? },
        _ => return Err(DecodeError::Malformed),
    })
}

fn end_number(how: End) -> u8 {
    match how {
        End::Reboot => 1,
        End::PowerOff => 2,
        End::Halt => 3,
        End::Kexec => 4,
    }
}

/// Fills a packet from the front. The longest message is a [`Service`] of 167 bytes, so nothing is ever cut; the tests
/// encode one.
struct Writer {
    packet: Packet,
    at: usize,
}

impl Writer {
    fn new(kind: u8, id: u32) -> Self {
        let mut out = Self { packet: [0; MESSAGE_LENGTH_MAX], at: 0 };
        out.u8(VERSION).u8(kind).u8(0).u8(0).u32(id);
        out
    }

    fn number(&mut self, number: u8) -> &mut Self {
        self.packet[2] = number;
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.at.saturating_add(bytes.len());
        if let Some(room) = self.packet.get_mut(self.at..end) {
            room.copy_from_slice(bytes);
        }
        self.at = end;
        self
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// One byte of length, then the text.
    fn name(&mut self, name: Name) -> &mut Self {
        let text = name.as_str().as_bytes();
        self.u8(u8::try_from(text.len()).unwrap_or(0)).bytes(text)
    }
}

/// Takes a packet apart from the front.
struct Reader<'a> {
    kind: u8,
    number: u8,
    id: u32,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let packet: &Packet = bytes.try_into().map_err(|_| DecodeError::Length)?;
        let [version, kind, number, zero, i, d, e, f] =
            packet.first_chunk::<HEADER_LENGTH>().ok_or(DecodeError::Length)?;
        if *version != VERSION {
            return Err(DecodeError::Version(*version));
        }
        if *zero != 0 {
            return Err(DecodeError::Malformed);
        }
        let rest = packet.get(HEADER_LENGTH..).unwrap_or_default();
        Ok(Self { kind: *kind, number: *number, id: u32::from_le_bytes([*i, *d, *e, *f]), rest })
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (chunk, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(*chunk)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.chunk()?))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.chunk()?))
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_le_bytes(self.chunk()?))
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.chunk()?))
    }

    fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Malformed),
        }
    }

    fn name(&mut self) -> Result<Name, DecodeError> {
        let length = usize::from(self.u8()?);
        let (text, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Name::from_bytes(text).map_err(|_| DecodeError::Malformed)
    }

    fn end(&mut self) -> Result<End, DecodeError> {
        match self.u8()? {
            1 => Ok(End::Reboot),
            2 => Ok(End::PowerOff),
            3 => Ok(End::Halt),
            4 => Ok(End::Kexec),
            _ => Err(DecodeError::Malformed),
        }
    }

    /// Unused bytes are zero, or a field was sent that this version would silently drop.
    fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(DecodeError::Malformed) }
    }
}
