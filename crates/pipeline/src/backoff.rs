//! Delays before the next attempt: exponential, capped, spread by the zone's own seed.

use std::time::Duration;

use crate::event::Fault;
use crate::settings::{Backoff, Backoffs};

/// `min(base · 2^n, cap) · U(0.8, 1.2)`; `draw` decides the spread.
pub(crate) fn delay(class: Backoff, attempt: u32, draw: u64) -> Duration {
    let factor = 1u32.checked_shl(attempt.min(31)).unwrap_or(u32::MAX);
    let plain = class.base.saturating_mul(factor).min(class.cap);
    // 0.8 .. 1.2 in steps of a thousandth: fine enough to spread 100,000 zones over a minute.
    let permille = 800 + (mix(draw) % 401) as u32;
    // Divide first: a cap near Duration::MAX must not overflow. Never zero: no tight loops.
    (plain / 1000 * permille).max(Duration::from_secs(1))
}

pub(crate) fn of_fault(b: &Backoffs, fault: Fault) -> Backoff {
    match fault {
        Fault::Token => b.token,
        Fault::Keys => b.key,
        Fault::Storage | Fault::Clock => b.storage,
        Fault::Verifier | Fault::Bug => b.verifier,
        Fault::Content => b.refused,
    }
}

/// SplitMix64: every input bit reaches every output bit.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_within_the_spread() {
        let class = Backoff {
            base: Duration::from_secs(10),
            cap: Duration::from_secs(300),
        };
        for (n, want) in [
            (0, 10.0),
            (1, 20.0),
            (4, 160.0),
            (5, 300.0),
            (40, 300.0),
            (u32::MAX, 300.0),
        ] {
            for draw in 0..200 {
                let d = delay(class, n, draw).as_secs_f64();
                assert!(d >= want * 0.799 && d <= want * 1.201, "{n} {draw} {d}");
            }
        }
    }
}
