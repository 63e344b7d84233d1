//! Runs the generated program in a small interpreter and compares it with what the rules say.

use super::*;

fn allows(code: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> bool {
    let context = [kind | (access << 16), major, minor];
    let mut registers = [0_i32; 11];
    let mut at = 0_usize;
    loop {
        let Instruction { code: operation, registers: both, offset, immediate } = code[at];
        let (dst, src) = (usize::from(both & 15), usize::from(both >> 4));
        at += 1;
        let jump = match operation {
            LOAD_U32 => {
                registers[dst] = context[usize::try_from(offset).unwrap() / 4];
                false
            }
            MOVE => {
                registers[dst] = immediate;
                false
            }
            MOVE_REGISTER => {
                registers[dst] = registers[src];
                false
            }
            AND => {
                registers[dst] &= immediate;
                false
            }
            SHIFT_RIGHT => {
                registers[dst] = registers[dst].cast_unsigned().wrapping_shr(16).cast_signed();
                false
            }
            JUMP_NOT_EQUAL => registers[dst] != immediate,
            JUMP_NOT_EQUAL_REGISTER => registers[dst] != registers[src],
            EXIT => return registers[0] == 1,
            other => panic!("unknown instruction {other:#x}"),
        };
        if jump {
            at += usize::try_from(offset).unwrap();
        }
    }
}

const ALL: i32 = MKNOD | READ | WRITE;

fn rule(block: bool, major: Option<u32>, minor: Option<u32>, access: i32) -> DeviceRule {
    let [read, write, make] = [READ, WRITE, MKNOD].map(|bit| access & bit != 0);
    DeviceRule { block, major, minor, read, write, make }
}

#[test]
fn a_rule_without_a_minor_number_holds_for_all() {
    let code = program(&[rule(false, Some(136), None, ALL), rule(false, Some(1), Some(3), READ)]);
    assert!(allows(&code, CHAR, READ | WRITE, 136, 0));
    assert!(allows(&code, CHAR, ALL, 136, 77));
    assert!(allows(&code, CHAR, READ, 1, 3));
    assert!(!allows(&code, CHAR, READ | WRITE, 1, 3));
    assert!(!allows(&code, CHAR, READ, 137, 0));
}

#[test]
fn any_node_may_be_made_but_not_opened() {
    let code = program(&[rule(false, None, None, MKNOD), rule(true, None, None, MKNOD)]);
    assert!(allows(&code, CHAR, MKNOD, 4, 64));
    assert!(allows(&code, BLOCK, MKNOD, 8, 0));
    assert!(!allows(&code, CHAR, MKNOD | READ, 4, 64));
}

#[test]
fn go_2022_0396_what_no_rule_names_is_refused() {
    assert!(!allows(&program(&[]), CHAR, READ, 1, 3));
    let code = program(&[rule(false, Some(1), Some(3), ALL), rule(true, Some(8), Some(16), READ)]);
    assert!(allows(&code, BLOCK, READ, 8, 16));
    assert!(!allows(&code, BLOCK, WRITE, 8, 16));
    assert!(!allows(&code, BLOCK, READ | WRITE, 8, 16));
    assert!(!allows(&code, BLOCK, READ, 8, 0));
    assert!(!allows(&code, CHAR, READ, 8, 16));
    assert!(allows(&code, CHAR, READ | WRITE, 1, 3));
}

#[test]
fn many_devices_still_make_a_program_with_jumps_inside_their_rules() {
    let devices: Vec<DeviceRule> =
        (0..300).map(|minor| rule(false, Some(10), Some(minor), ALL)).collect();
    let code = program(&devices);
    assert!(allows(&code, CHAR, ALL, 10, 299));
    assert!(!allows(&code, CHAR, ALL, 10, 300));
}
