//! Memory of this process as the kernel counts it.

use std::fs;

/// Octets resident now, and at the highest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub now: u64,
    pub peak: u64,
}

/// Reads `/proc/self/status`; zeros where there is none.
pub fn read() -> Memory {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .trim()
                    .strip_suffix("kB")?
                    .trim()
                    .parse()
                    .ok()
            })
            .map_or(0, |kib: u64| kib * 1024)
    };
    Memory {
        now: field("VmRSS:"),
        peak: field("VmHWM:"),
    }
}

/// Starts the peak anew from what is resident now. Needs no privilege for one's own process.
pub fn reset_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}
