//! The CRI's numbers of signals, which are not the kernel's.

use crate::v1::Signal;

/// Number of the first real-time signal that is free for programs (glibc keeps two for itself).
const RT_MIN: i32 = 34;

/// Number of the last.
const RT_MAX: i32 = 64;

/// The CRI's name and Linux's number on x86-64 and arm64 (signal(7)), for the signals below the real-time ones. The first
/// of several names for a number is the one that is shown.
const SIGNALS: &[(Signal, i32)] = &[
    (Signal::Sighup, 1),
    (Signal::Sigint, 2),
    (Signal::Sigquit, 3),
    (Signal::Sigill, 4),
    (Signal::Sigtrap, 5),
    (Signal::Sigabrt, 6),
    (Signal::Sigiot, 6),
    (Signal::Sigbus, 7),
    (Signal::Sigfpe, 8),
    (Signal::Sigkill, 9),
    (Signal::Sigusr1, 10),
    (Signal::Sigsegv, 11),
    (Signal::Sigusr2, 12),
    (Signal::Sigpipe, 13),
    (Signal::Sigalrm, 14),
    (Signal::Sigterm, 15),
    (Signal::Sigstkflt, 16),
    (Signal::Sigchld, 17),
    (Signal::Sigcld, 17),
    (Signal::Sigcont, 18),
    (Signal::Sigstop, 19),
    (Signal::Sigtstp, 20),
    (Signal::Sigttin, 21),
    (Signal::Sigttou, 22),
    (Signal::Sigurg, 23),
    (Signal::Sigxcpu, 24),
    (Signal::Sigxfsz, 25),
    (Signal::Sigvtalrm, 26),
    (Signal::Sigprof, 27),
    (Signal::Sigwinch, 28),
    (Signal::Sigio, 29),
    (Signal::Sigpoll, 29),
    (Signal::Sigpwr, 30),
    (Signal::Sigsys, 31),
];

/// Linux's number; `None` for the runtime's default.
pub(crate) fn to_number(signal: Signal) -> Option<i32> {
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == signal) {
        return Some(*number);
    }
    let value = signal as i32;
    let (min, max) = (Signal::Sigrtmin as i32, Signal::Sigrtmax as i32);
    // In the protobuf they follow each other from the first to the last, as in the kernel.
    (min..=max).contains(&value).then(|| RT_MIN + value - min)
}

/// The CRI's value of a number; the default when it has none.
pub(crate) fn from_number(number: i32) -> Signal {
    if let Some((signal, _)) = SIGNALS.iter().find(|(_, known)| *known == number) {
        return *signal;
    }
    if !(RT_MIN..=RT_MAX).contains(&number) {
        return Signal::RuntimeDefault;
    }
    Signal::try_from(Signal::Sigrtmin as i32 + number - RT_MIN).unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_but_the_default_has_a_number_that_leads_back() {
        assert_eq!(to_number(Signal::RuntimeDefault), None);
        for value in 1..=65 {
            let signal = Signal::try_from(value).expect("the protobuf has no gaps");
            let number = to_number(signal).expect("every signal has a number");
            assert_eq!(to_number(from_number(number)), Some(number), "{signal:?}");
        }
        assert_eq!(to_number(Signal::Sigrtmax), Some(64));
        assert_eq!(from_number(15), Signal::Sigterm);
    }
}
