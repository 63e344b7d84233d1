//! What a filter says to a call, found out without loading it. It knows the instructions that libseccomp writes, and must never
//! guess: of an instruction that it does not know, or an argument that nobody knows beforehand, it says nothing.

/// An instruction of a classic BPF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) operand: u32,
}

impl Instruction {
    /// From its bytes, as the kernel takes them.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [a, b, if_true, if_false, k0, k1, k2, k3] = *bytes.first_chunk()?;
        let code = u16::from_ne_bytes([a, b]);
        Some(Self { code, if_true, if_false, operand: u32::from_ne_bytes([k0, k1, k2, k3]) })
    }

    pub(super) fn encode(self) -> [u8; 8] {
        let [a, b] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.operand.to_ne_bytes();
        [a, b, self.if_true, self.if_false, k0, k1, k2, k3]
    }
}

// `linux/bpf_common.h`, put together: a 32-bit word of the call, constants, comparisons, the end.
pub(super) const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

// Where the words of `struct seccomp_data` are.
pub(super) const NUMBER_AT: u32 = 0;
pub(super) const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

/// `AUDIT_ARCH_X86_64`, for programs of 64 bits, as this one is.
pub(super) const X86_64: u32 = 0xc000_003e;

/// The whole of the verdict that lets a call be made as if there were no filter.
pub(super) const ALLOW: u32 = 0x7fff_0000;

/// A call, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) architecture: u32,
    pub(super) number: u32,
    /// `None`: may be anything.
    pub(super) arguments: Option<[u64; 6]>,
}

impl Call {
    /// The word at this place, and whether it is part of an argument.
    fn word(&self, offset: u32) -> Option<(u32, bool)> {
        match offset {
            NUMBER_AT => return Some((self.number, false)),
            ARCHITECTURE_AT => return Some((self.architecture, false)),
            _ => {}
        }
        let at = offset.checked_sub(ARGUMENTS_AT).filter(|at| at.is_multiple_of(4))?;
        let argument = self.arguments?.get(usize::try_from(at / 8).ok()?).copied()?;
        let word = if at.is_multiple_of(8) { argument } else { argument >> 32 };
        u32::try_from(word & u64::from(u32::MAX)).ok().map(|word| (word, true))
    }
}

/// What the program says to a call. `None`: it depends on what is not known. Number and architecture are only compared, so that the
/// answer is the same for all numbers between two that the program names. Jumps lead forward only, so this comes to an end.
pub(super) fn of(program: &[Instruction], call: &Call) -> Option<u32> {
    let mut at: usize = 0;
    let (mut accumulator, mut is_argument) = (0, false);
    loop {
        let Instruction { code, if_true, if_false, operand } = *program.get(at)?;
        let mut skipped = 0;
        let mut branch = |taken: bool| skipped = u32::from(if taken { if_true } else { if_false });
        match code {
            LOAD => (accumulator, is_argument) = call.word(operand)?,
            AND if is_argument => accumulator &= operand,
            JUMP => skipped = operand,
            JUMP_EQUAL => branch(accumulator == operand),
            JUMP_GREATER => branch(accumulator > operand),
            JUMP_GREATER_OR_EQUAL => branch(accumulator >= operand),
            RETURN => return Some(operand),
            _ => return None,
        }
        at = at.checked_add(1)?.checked_add(usize::try_from(skipped).ok()?)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u16, if_true: u8, if_false: u8, operand: u32) -> Instruction {
        Instruction { code, if_true, if_false, operand }
    }

    /// As libseccomp begins every program: the architecture, then the number.
    fn head() -> Vec<Instruction> {
        vec![
            instruction(LOAD, 0, 0, ARCHITECTURE_AT),
            instruction(JUMP_EQUAL, 1, 0, X86_64),
            instruction(RETURN, 0, 0, 0),
            instruction(LOAD, 0, 0, NUMBER_AT),
        ]
    }

    fn program(rest: &[Instruction]) -> Vec<Instruction> {
        [&head()[..], rest].concat()
    }

    fn of_number(program: &[Instruction], number: u32) -> Option<u32> {
        of(program, &Call { architecture: X86_64, number, arguments: None })
    }

    #[test]
    fn numbers_are_compared_as_the_kernel_does() {
        let program = program(&[
            instruction(JUMP_EQUAL, 4, 0, 10),
            instruction(JUMP_GREATER, 3, 0, 100),
            instruction(JUMP_GREATER_OR_EQUAL, 1, 0, 50),
            instruction(RETURN, 0, 0, 1),
            instruction(RETURN, 0, 0, 2),
            instruction(RETURN, 0, 0, ALLOW),
        ]);
        let seen = [10, 11, 49, 50, 100, 101].map(|number| of_number(&program, number));
        assert_eq!(seen, [Some(ALLOW), Some(1), Some(1), Some(2), Some(2), Some(ALLOW)]);
        let other = Call { architecture: 7, number: 10, arguments: None };
        assert_eq!(of(&program, &other), Some(0));
    }

    #[test]
    fn arguments_are_masked_and_compared_as_the_kernel_does() {
        let program = program(&[
            instruction(LOAD, 0, 0, ARGUMENTS_AT + 12),
            instruction(AND, 0, 0, 6),
            instruction(JUMP_EQUAL, 1, 0, 4),
            instruction(RETURN, 0, 0, 1),
            instruction(JUMP, 0, 0, 1),
            instruction(RETURN, 0, 0, 2),
            instruction(RETURN, 0, 0, 3),
        ]);
        let with = |second: u64| {
            let arguments = Some([u64::MAX, second, 0, 0, 0, 0]);
            of(&program, &Call { architecture: X86_64, number: 1, arguments })
        };
        let seen = [4, 4 << 32, 12 << 32, 6 << 32, u64::MAX].map(with);
        assert_eq!(seen, [Some(1), Some(3), Some(3), Some(1), Some(1)]);
    }

    #[test]
    fn what_depends_on_an_argument_is_not_known() {
        for offset in [8, 12, 16, 20, 60, 64, 1, 2, u32::MAX] {
            let program =
                program(&[instruction(LOAD, 0, 0, offset), instruction(RETURN, 0, 0, ALLOW)]);
            assert_eq!(of_number(&program, 1), None, "{offset}");
        }
    }

    #[test]
    fn a_program_that_no_kernel_takes_says_nothing() {
        assert_eq!(of_number(&[], 1), None);
        assert_eq!(of_number(&head(), 1), None);
        for wrong in [
            instruction(JUMP, 0, 0, u32::MAX),
            instruction(JUMP_EQUAL, 255, 255, 1),
            instruction(0xffff, 0, 0, 0),
            // Masks the number, returns what is in the accumulator, adds, divides: no filter of libseccomp does.
            instruction(AND, 0, 0, 1),
            instruction(0x16, 0, 0, 0),
            instruction(0x04, 0, 0, 1),
            instruction(0x34, 0, 0, 0),
        ] {
            let program = program(&[wrong, instruction(RETURN, 0, 0, ALLOW)]);
            assert_eq!(of_number(&program, 1), None, "{wrong:?}");
        }
    }

    /// Whatever the instructions are: an answer, no panic, and an end.
    #[test]
    fn any_program_comes_to_an_end() {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let codes = [LOAD, AND, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL];
        let mut decided = 0;
        for _ in 0..2000 {
            let program: Vec<_> = (0..next() % 40)
                .map(|_| {
                    let code = codes.get(next() as usize % 8).copied().unwrap_or(RETURN);
                    let [if_true, if_false, ..] = (next() & 0x0303).to_ne_bytes();
                    instruction(code, if_true, if_false, next() % 5)
                })
                .collect();
            decided += usize::from(of_number(&program, next() % 5).is_some());
        }
        assert!(decided > 100, "{decided}");
    }
}
