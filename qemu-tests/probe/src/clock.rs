//! The time stamp counter. Under QEMU's `-icount shift=0,sleep=off` it counts virtual nanoseconds since reset: one for
//! each instruction, and the idle time that was skipped.
#![expect(unsafe_code, reason = "the instruction that reads the counter is an unsafe intrinsic")]

/// Virtual nanoseconds since the machine was reset; on a real machine, ticks of the counter.
pub(crate) fn tsc() -> u64 {
    // SAFETY: RDTSC touches no memory; every x86-64 processor has it, and it traps only with CR4.TSD set, which Linux
    // sets only for processes that asked for it with PR_SET_TSC.
    unsafe { core::arch::x86_64::_rdtsc() }
}
