//! PID 1's policy and loop against a fake kernel: what must hold whatever happens, and the bad days by name.

mod fake;
mod invariants;
mod scenarios;
