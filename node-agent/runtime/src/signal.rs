//! Names of signals, as images write them. Pure.

/// SIGTERM.
pub(crate) const TERM: i32 = 15;

/// Highest number of a signal.
const MAX: i32 = 64;

/// The first of those that programs are free to use.
const REALTIME_MIN: i32 = 34;

/// Names without `SIG`, in the order of their numbers from 1 on (x86 and ARM).
const NAMES: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The number of a signal by number or name, with or without `SIG`; `None` for anything else.
pub(crate) fn number(text: &str) -> Option<i32> {
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return (1..=MAX).contains(&number).then_some(number);
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset: i32 =
            if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
        return REALTIME_MIN.checked_add(offset).filter(|n| (REALTIME_MIN..=MAX).contains(n));
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        let offset: i32 =
            if offset.is_empty() { 0 } else { offset.strip_prefix('-')?.parse().ok()? };
        return MAX.checked_sub(offset).filter(|n| (REALTIME_MIN..=MAX).contains(n));
    }
    let place = NAMES.iter().position(|known| *known == name)?;
    i32::try_from(place + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, expected) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGSYS", 31),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-14", 50),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for wrong in
            ["", "0", "65", "-1", "SIG", "SIGNOTHING", "SIGRTMIN+31", "SIGRTMAX-40", "RTMIN3"]
        {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
