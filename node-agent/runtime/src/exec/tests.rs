//! What can be told without a container.

use super::*;

#[test]
fn exit_codes_are_those_of_a_shell() {
    assert_eq!(exit_code(0), 0);
    assert_eq!(exit_code(3 << 8), 3);
    assert_eq!(exit_code(9), 137);
    assert_eq!(exit_code(0x80 | 11), 139);
}

#[test]
fn a_program_gets_as_many_descriptors_as_it_asked_for() {
    let count = |tty, stdin| {
        let spec = ExecSpec { tty, stdin, ..ExecSpec::default() };
        let ends = ends(&spec).unwrap();
        (ends.theirs.len(), ends.stdin.is_some())
    };
    assert_eq!(count(false, false), (2, false));
    assert_eq!(count(false, true), (3, true));
    assert_eq!(count(true, true), (0, false));
}
