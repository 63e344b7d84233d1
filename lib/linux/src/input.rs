//! Power buttons: input devices that have a power key, found by what they can do, never by their number.
#![expect(unsafe_code, reason = "EVIOCGBIT has no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// What could not be done with an input device.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It could not be opened.
    #[error("open input device {path}")]
    Open {
        /// Device node.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be read; it is gone.
    #[error("read an input device")]
    Read(#[source] io::Error),
}

/// `EV_KEY`, `KEY_POWER` of `linux/input-event-codes.h`.
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// `EVIOCGBIT(EV_KEY, 96)`: `_IOC(_IOC_READ, 'E', 0x20 + EV_KEY, 96)`; 96 bytes hold all of `KEY_MAX`.
const KEYS: usize = 96;
const GET_KEYS: libc::Ioctl = 0x8060_4521;

/// An input device with a power key.
#[derive(Debug)]
pub struct PowerButton(OwnedFd);

impl PowerButton {
    /// Opens `at_most` of those that are there now, in place of what is in `buttons`. A device that
    /// cannot be opened is none.
    pub fn open_all(buttons: &mut Vec<Self>, at_most: usize) {
        buttons.clear();
        for entry in std::fs::read_dir("/dev/input").into_iter().flatten().flatten() {
            if buttons.len() < at_most
                && entry.file_name().as_encoded_bytes().starts_with(b"event")
                && let Ok(Some(button)) = Self::open(&entry.path())
            {
                buttons.push(button);
            }
        }
    }

    /// Opens the device when it has a power key.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Option<Self>, InputError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|source| InputError::Open { path: path.into(), source: source.into() })?;
        let mut keys = [0_u8; KEYS];
        // SAFETY: the buffer is live, exclusively borrowed and of the size that the request number says.
        let length = unsafe { libc::ioctl(fd.as_raw_fd(), GET_KEYS, keys.as_mut_ptr()) };
        let byte = keys.get(usize::from(KEY_POWER / 8)).copied().unwrap_or(0);
        Ok((length > 0 && byte & (1 << (KEY_POWER % 8)) != 0).then_some(Self(fd)))
    }

    /// Takes all waiting events and says whether the power key was pressed.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn pressed(&self) -> Result<bool, InputError> {
        let mut pressed = false;
        // `struct input_event`: 16 bytes of time, u16 type, u16 code, i32 value. A bound, should a device never run dry.
        let mut events = [0; 24 * 32];
        for _ in 0..16 {
            match rustix::io::read(&self.0, &mut events) {
                Ok(0) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                Ok(length) => {
                    pressed |=
                        events.get(..length).unwrap_or_default().chunks_exact(24).any(is_press)
                }
                Err(source) => return Err(InputError::Read(source.into())),
            }
        }
        Ok(pressed)
    }
}

fn is_press(event: &[u8]) -> bool {
    let [kind_low, kind_high, code_low, code_high, value @ ..] =
        event.get(16..).unwrap_or_default()
    else {
        return false;
    };
    u16::from_ne_bytes([*kind_low, *kind_high]) == EV_KEY
        && u16::from_ne_bytes([*code_low, *code_high]) == KEY_POWER
        && value == 1_i32.to_ne_bytes()
}

impl AsFd for PowerButton {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pressing_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0; 16];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
            is_press(&bytes)
        };
        assert!(event(EV_KEY, KEY_POWER, 1));
        assert!(!event(EV_KEY, KEY_POWER, 0), "released");
        assert!(!event(EV_KEY, 30, 1), "another key");
        assert!(!event(0, 0, 0), "end of a group");
        assert!(!is_press(&[]));
    }
}
