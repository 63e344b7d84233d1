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

#[test]
fn harmless_devices_are_allowed() {
    let code = program(RULES);
    for (major, minor) in
        [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 0), (136, 77)]
    {
        assert!(allows(&code, CHAR, READ | WRITE, major, minor), "{major}:{minor}");
    }
}

#[test]
fn disks_memory_and_consoles_are_refused() {
    let code = program(RULES);
    for access in [READ, WRITE, READ | WRITE, ALL] {
        assert!(!allows(&code, BLOCK, access, 8, 0));
        assert!(!allows(&code, CHAR, access, 1, 1)); // mem
        assert!(!allows(&code, CHAR, access, 4, 64)); // serial
        assert!(!allows(&code, CHAR, access, 5, 1)); // console
    }
}

#[test]
fn any_node_may_be_made_but_not_opened() {
    let code = program(RULES);
    assert!(allows(&code, CHAR, MKNOD, 4, 64));
    assert!(allows(&code, BLOCK, MKNOD, 8, 0));
    assert!(!allows(&code, CHAR, MKNOD | READ, 4, 64));
}

#[test]
fn go_2022_0396_what_no_rule_names_is_refused() {
    let disk = DeviceRule {
        block: true,
        major: Some(8),
        minor: Some(16),
        read: true,
        write: false,
        make: false,
    };
    let code = program(&rules(&[disk]).unwrap());
    assert!(allows(&code, BLOCK, READ, 8, 16));
    assert!(!allows(&code, BLOCK, WRITE, 8, 16));
    assert!(!allows(&code, BLOCK, READ | WRITE, 8, 16));
    assert!(!allows(&code, BLOCK, READ, 8, 0));
    assert!(!allows(&code, CHAR, READ, 8, 16));
    // Those that every container has stay.
    assert!(allows(&code, CHAR, READ | WRITE, 1, 3));
}

#[test]
fn many_devices_still_make_a_program_with_jumps_inside_their_rules() {
    let device = |minor| DeviceRule {
        block: false,
        major: Some(10),
        minor: Some(minor),
        read: true,
        write: true,
        make: true,
    };
    let devices: Vec<DeviceRule> = (0..300).map(device).collect();
    let code = program(&rules(&devices).unwrap());
    assert!(allows(&code, CHAR, ALL, 10, 299));
    assert!(!allows(&code, CHAR, ALL, 10, 300));
}
