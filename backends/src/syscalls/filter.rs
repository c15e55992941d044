//! Programs for the kernel's filter of system calls, by which it finds what becomes of a call in a
//! few comparisons.
//!
//! Others write one comparison after the other for each call. The kernel goes through a filter once
//! for every number there is when it installs one, and translates it: with hundreds of calls that
//! takes half a millisecond of a container's start, and ten where an engine assembles it first.

use std::collections::BTreeMap;

use nix::libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS,
};

/// A `struct sock_filter`, as it lies in memory.
pub(crate) type Instruction = u64;

/// Where the kernel puts a call's number, its architecture and the lower halves of its arguments, on
/// a machine whose numbers begin with those.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What the kernel does with a call: its own number for that.
pub(super) const ALLOWED: u32 = SECCOMP_RET_ALLOW;

/// The same for a call that fails with an error.
pub(super) const fn failing(error: i32) -> u32 {
    SECCOMP_RET_ERRNO | error.unsigned_abs()
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Always(u32),
    By(Argument),
}

/// The lower half of an argument, which is all the kernel looks at in these calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) index: u32,
    /// The bits that matter.
    pub(super) mask: u32,
    pub(super) values: &'static [u32],
    /// What becomes of a call with one of the values, and of others.
    pub(super) then: u32,
    pub(super) otherwise: u32,
}

/// A program that holds `verdicts`, by the numbers of calls; of what is not among them it says
/// `otherwise`. Calls of another architecture end the process.
pub(super) fn program(
    architecture: u32,
    verdicts: &BTreeMap<u32, Verdict>,
    otherwise: Verdict,
) -> Vec<Instruction> {
    let mut program = vec![
        load(ARCHITECTURE),
        jump(BPF_JEQ, architecture, 1, 0),
        end(SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    program.extend(decide(&runs(verdicts, otherwise)));
    program
}

/// Where each verdict begins, up to the next one's beginning; the first begins with 0.
fn runs(verdicts: &BTreeMap<u32, Verdict>, otherwise: Verdict) -> Vec<(u32, Verdict)> {
    let mut runs = vec![(0, otherwise)];
    for (&number, &verdict) in verdicts {
        runs.pop_if(|(first, _)| *first == number);
        runs.extend([(number, verdict), (number + 1, otherwise)]);
    }
    runs.dedup_by_key(|(_, verdict)| *verdict);
    runs
}

/// Finds the run of the number that was loaded, halving them.
fn decide(runs: &[(u32, Verdict)]) -> Vec<Instruction> {
    if let [(_, verdict)] = runs {
        return verdict.code();
    }
    let (low, high) = runs.split_at(runs.len() / 2);
    let (first, low, high) = (high[0].0, decide(low), decide(high));
    let over = u8::try_from(low.len()).expect("half of the runs take less than 256 instructions");
    [vec![jump(BPF_JGE, first, over, 0)], low, high].concat()
}

impl Verdict {
    fn code(self) -> Vec<Instruction> {
        let Argument { index, mask, values, then, otherwise } = match self {
            Verdict::Always(told) => return vec![end(told)],
            Verdict::By(argument) => argument,
        };
        let mut code =
            vec![load(ARGUMENTS + 8 * index), statement(BPF_ALU | BPF_AND | BPF_K, mask)];
        for value in values {
            code.extend([jump(BPF_JEQ, *value, 0, 1), end(then)]);
        }
        code.push(end(otherwise));
        code
    }
}

fn end(told: u32) -> Instruction {
    statement(BPF_RET | BPF_K, told)
}

fn load(offset: u32) -> Instruction {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn jump(comparison: u32, with: u32, over_if: u8, over_if_not: u8) -> Instruction {
    instruction(BPF_JMP | comparison | BPF_K, [over_if, over_if_not], with)
}

fn statement(code: u32, k: u32) -> Instruction {
    instruction(code, [0, 0], k)
}

fn instruction(code: u32, jumps: [u8; 2], k: u32) -> Instruction {
    let mut bytes = [0; 8];
    bytes[..2].copy_from_slice(&(code as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&jumps);
    bytes[4..].copy_from_slice(&k.to_ne_bytes());
    Instruction::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: u32 = 7;
    const BY: Verdict = Verdict::By(Argument {
        index: 1,
        mask: 0xff,
        values: &[3, 5],
        then: ALLOWED,
        otherwise: failing(13),
    });

    /// What the kernel would answer: instructions as its manual has them.
    fn answer(program: &[Instruction], architecture: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut held) = (0, 0);
        loop {
            let [c, d, jt, jf, k @ ..] = program[at].to_ne_bytes();
            at += 1;
            let (code, k) = (u32::from(u16::from_ne_bytes([c, d])), u32::from_ne_bytes(k));
            let goes_on = |holds: bool| usize::from(if holds { jt } else { jf });
            if code == BPF_RET | BPF_K {
                return k;
            } else if code == BPF_LD | BPF_W | BPF_ABS {
                held = match k {
                    NUMBER => number,
                    ARCHITECTURE => architecture,
                    24 => argument,
                    _ => panic!("nothing else was to be loaded: {k}"),
                };
            } else if code == BPF_ALU | BPF_AND | BPF_K {
                held &= k;
            } else if code == BPF_JMP | BPF_JEQ | BPF_K {
                at += goes_on(held == k);
            } else if code == BPF_JMP | BPF_JGE | BPF_K {
                at += goes_on(held >= k);
            } else {
                panic!("no other instruction was to be used: {code:#x}");
            }
        }
    }

    #[test]
    fn every_call_gets_its_verdict() {
        let verdicts = BTreeMap::from([
            (0, Verdict::Always(ALLOWED)),
            (1, Verdict::Always(ALLOWED)),
            (4, Verdict::Always(failing(1))),
            (5, BY),
            (6, BY),
            (400, Verdict::Always(ALLOWED)),
        ]);
        let program = program(HERE, &verdicts, Verdict::Always(failing(38)));
        let told = |number, argument| answer(&program, HERE, number, argument);
        for argument in [0, 3, 4, 5, 0xf03] {
            let by = if [3, 5].contains(&(argument & 0xff)) { ALLOWED } else { failing(13) };
            for number in 0..1000 {
                let expected = match number {
                    0 | 1 | 400 => ALLOWED,
                    4 => failing(1),
                    5 | 6 => by,
                    _ => failing(38),
                };
                assert_eq!(told(number, argument), expected, "call {number} with {argument}");
            }
        }
        assert_eq!(told(0x4000_0000, 0), failing(38));
        assert_eq!(answer(&program, HERE + 1, 0, 0), SECCOMP_RET_KILL_PROCESS);
    }
}
