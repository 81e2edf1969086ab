//! What the kernel knows of the clock that it keeps.
#![allow(unsafe_code)] // One call that no safe crate of the tree has; it fills in a struct of ours.

use nix::libc;

/// Whether a time service steers the clock; `None`: the call is not allowed here.
///
/// adjtimex(2) with no modes changes nothing. Its result is `TIME_ERROR` for other faults as well, so
/// the flag is asked.
pub fn synchronised() -> Option<bool> {
    // SAFETY: the struct holds integers only, for which zeroes are values.
    let mut shown: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel reads and writes that struct, of this very type, while we have it alone.
    let state = unsafe { libc::adjtimex(&raw mut shown) };
    (state != -1).then_some(shown.status & libc::STA_UNSYNC == 0)
}
