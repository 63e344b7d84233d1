//! Makes of a filter one that says the same in fewer instructions: libseccomp compares a call with each number by itself, and most
//! numbers lie beside others of the same verdict. Only comparisons that the kernel can follow beforehand are written, so that
//! calls that are always allowed stay as cheap as they are.
//!
//! It must never give a filter that says anything else: what is not understood, or differs in the end, is not made smaller.

use super::verdict::{
    self, ARCHITECTURE_AT, Call, Instruction, JUMP, JUMP_EQUAL, JUMP_GREATER,
    JUMP_GREATER_OR_EQUAL, LOAD, NUMBER_AT, RETURN, X86_64,
};

/// `AUDIT_ARCH_I386`, for programs of 32 bits.
pub(super) const I386: u32 = 0x4000_0003;

/// Calls of 32 bits that stand for several others, whose rules a filter mixes: socketcall(2) and ipc(2).
const MIXED: [u32; 2] = [102, 117];

/// What is said to all numbers from this one on; `None`: that depends on the arguments.
type Piece = (u32, Option<u32>);

/// A filter that says the same as `whole`. `rest` says the same as it of every call whose verdict depends on arguments, and may say
/// anything of others. `None`: there is none that is smaller, or nobody can be sure.
pub(super) fn smaller(whole: &[Instruction], rest: &[Instruction]) -> Option<Vec<Instruction>> {
    let known = Known::of(whole, rest)?;
    let other = known.of_others(whole)?;
    let mixed = |number| verdict::of(whole, &call(I386, number)).is_none();
    if MIXED.into_iter().any(mixed) {
        return None;
    }
    let (of_64, of_32) = (known.pieces(whole, X86_64), known.pieces(whole, I386));
    let (first, second) = (tree(&of_64)?, tree(&of_32)?);
    let made = put_together(other, &first, &second, rest)?;
    // What was made compares with numbers of the two others only.
    let same = known.pieces(&made, X86_64) == of_64
        && known.pieces(&made, I386) == of_32
        && known.of_others(&made) == Some(other);
    (same && made.len() < whole.len()).then_some(made)
}

fn put_together(
    other: u32,
    first: &[Instruction],
    second: &[Instruction],
    rest: &[Instruction],
) -> Option<Vec<Instruction>> {
    let mut made = vec![
        jump(LOAD, 0, 0, ARCHITECTURE_AT),
        jump(JUMP_EQUAL, 0, 1, X86_64),
        jump(JUMP, 0, 0, 3),
        jump(JUMP_EQUAL, 0, 1, I386),
        jump(JUMP, 0, 0, u32::try_from(first.len()).ok()?.checked_add(1)?),
        jump(RETURN, 0, 0, other),
    ];
    for (part, behind) in [(first, second.len()), (second, 0)] {
        for (at, it) in part.iter().enumerate() {
            let to_rest = u32::try_from(part.len() - at - 1 + behind).ok()?;
            made.push(if it.code == JUMP { jump(JUMP, 0, 0, to_rest) } else { *it });
        }
    }
    made.extend(rest);
    Some(made)
}

fn call(architecture: u32, number: u32) -> Call {
    Call { architecture, number, arguments: None }
}

fn jump(code: u16, if_true: u8, if_false: u8, operand: u32) -> Instruction {
    Instruction { code, if_true, if_false, operand }
}

/// Where verdicts may begin to be others: numbers and architectures that programs compare something with, and the next ones.
struct Known {
    numbers: Vec<u32>,
    architectures: Vec<u32>,
}

impl Known {
    fn of(whole: &[Instruction], rest: &[Instruction]) -> Option<Self> {
        let mut known = Self { numbers: vec![0], architectures: vec![0] };
        known.read(whole)?;
        known.read(rest)?;
        for list in [&mut known.numbers, &mut known.architectures] {
            let next: Vec<u32> = list.iter().filter_map(|it| it.checked_add(1)).collect();
            list.extend(next);
            list.sort_unstable();
            list.dedup();
        }
        Some(known)
    }

    /// Follows what the accumulator may hold. Jumps lead forward only, so one way through is enough.
    fn read(&mut self, program: &[Instruction]) -> Option<()> {
        // Whether it may be the number, and the architecture.
        let mut held = vec![(false, false); program.len()];
        for (at, instruction) in program.iter().enumerate() {
            let Instruction { code, if_true, if_false, operand } = *instruction;
            let (number, architecture) = *held.get(at)?;
            let next = match code {
                RETURN => continue,
                LOAD => (operand == NUMBER_AT, operand == ARCHITECTURE_AT),
                _ => (number, architecture),
            };
            let ways = match code {
                JUMP => [usize::try_from(operand).ok()?; 2],
                JUMP_EQUAL | JUMP_GREATER | JUMP_GREATER_OR_EQUAL => {
                    self.numbers.extend(number.then_some(operand));
                    self.architectures.extend(architecture.then_some(operand));
                    [usize::from(if_true), usize::from(if_false)]
                }
                _ => [0; 2],
            };
            for way in ways {
                let to = held.get_mut(at.checked_add(1)?.checked_add(way)?)?;
                *to = (to.0 | next.0, to.1 | next.1);
            }
        }
        Some(())
    }

    /// The verdicts of all numbers, each beginning where it is another than before.
    fn pieces(&self, program: &[Instruction], architecture: u32) -> Vec<Piece> {
        let all = self.numbers.iter().map(|n| (*n, verdict::of(program, &call(architecture, *n))));
        let mut pieces: Vec<Piece> = all.collect();
        pieces.dedup_by_key(|(_, verdict)| *verdict);
        pieces
    }

    /// The one verdict on all calls of any other architecture.
    fn of_others(&self, program: &[Instruction]) -> Option<u32> {
        let others = self.architectures.iter().filter(|it| ![X86_64, I386].contains(*it));
        let mut all = others.map(|architecture| match *self.pieces(program, *architecture) {
            [(0, verdict)] => verdict,
            _ => None,
        });
        let first = all.next()??;
        all.all(|it| it == Some(first)).then_some(first)
    }
}

/// Where a comparison leads.
#[derive(Clone, Copy)]
enum Target {
    /// To another one.
    At(usize),
    /// To the end.
    Verdict(Option<u32>),
}

/// Loads the number, finds its piece, and ends with its verdict; a bare jump stands for that to the rest. `None` when that does not
/// fit the jumps of a comparison, which lead 255 instructions far.
fn tree(pieces: &[Piece]) -> Option<Vec<Instruction>> {
    let mut nodes = Vec::new();
    grow(pieces, &mut nodes)?;
    let mut verdicts: Vec<Option<u32>> = pieces.iter().map(|(_, verdict)| *verdict).collect();
    verdicts.sort_unstable();
    verdicts.dedup();
    let count = nodes.len();
    let place = |target| match target {
        Target::At(at) => Some(at),
        Target::Verdict(verdict) => {
            verdicts.iter().position(|it| *it == verdict).map(|at| at + count)
        }
    };
    let mut made = vec![jump(LOAD, 0, 0, NUMBER_AT)];
    for (at, (start, above, below)) in nodes.iter().enumerate() {
        let distance = |target| u8::try_from(place(target)?.checked_sub(at + 1)?).ok();
        let (if_true, if_false) = (distance(*above)?, distance(*below)?);
        made.push(jump(JUMP_GREATER_OR_EQUAL, if_true, if_false, *start));
    }
    made.extend(verdicts.iter().map(|verdict| match verdict {
        Some(verdict) => jump(RETURN, 0, 0, *verdict),
        None => jump(JUMP, 0, 0, 0),
    }));
    Some(made)
}

/// Adds the comparisons for these pieces: where the upper ones begin, and where above and below lead.
fn grow(pieces: &[Piece], nodes: &mut Vec<(u32, Target, Target)>) -> Option<Target> {
    let (below, above) = pieces.split_at(pieces.len() / 2);
    let (start, verdict) = above.first()?;
    if below.is_empty() {
        return Some(Target::Verdict(*verdict));
    }
    let at = nodes.len();
    let unknown = Target::Verdict(None);
    nodes.push((*start, unknown, unknown));
    let below = grow(below, nodes)?;
    let above = grow(above, nodes)?;
    *nodes.get_mut(at)? = (*start, above, below);
    Some(Target::At(at))
}
