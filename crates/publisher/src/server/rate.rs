//! UDP answers per second and network (/24, /56).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use cascade_time::Timestamp;
use parking_lot::Mutex;

/// Networks counted in one second; those beyond are not limited.
const MAX_NETWORKS: usize = 1 << 16;

#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    per_second: AtomicU32,
    counts: Mutex<(i64, HashMap<u64, u32>)>,
}

impl RateLimit {
    pub fn set(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Counts a query; `Some(n)`: it is number n over the limit in this second.
    pub fn over(&self, peer: IpAddr, now: Timestamp) -> Option<u32> {
        let limit = self.per_second.load(Ordering::Relaxed);
        if limit == 0 {
            return None;
        }
        let network = network(peer);
        let mut counts = self.counts.lock();
        if counts.0 != now.secs() {
            *counts = (now.secs(), HashMap::new());
        }
        if counts.1.len() >= MAX_NETWORKS && !counts.1.contains_key(&network) {
            return None;
        }
        let n = counts.1.entry(network).or_default();
        *n = n.saturating_add(1);
        n.checked_sub(limit).filter(|over| *over > 0)
    }
}

/// IPv4 networks keep 24 bits, IPv6 networks 56.
fn network(peer: IpAddr) -> u64 {
    match peer.to_canonical() {
        IpAddr::V4(a) => 1 << 63 | (u32::from(a) >> 8) as u64,
        IpAddr::V6(a) => (u128::from(a) >> 72) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_share_a_limit_and_seconds_do_not() {
        let r = RateLimit::default();
        let ip = |t: &str| t.parse::<IpAddr>().unwrap();
        let at = Timestamp::from_secs;
        assert_eq!(r.over(ip("192.0.2.1"), at(1)), None);
        r.set(2);
        assert_eq!(r.over(ip("192.0.2.1"), at(1)), None);
        assert_eq!(r.over(ip("192.0.2.2"), at(1)), None);
        assert_eq!(r.over(ip("192.0.2.3"), at(1)), Some(1));
        assert_eq!(r.over(ip("192.0.3.3"), at(1)), None);
        assert_eq!(r.over(ip("2001:db8:0:1::1"), at(1)), None);
        assert_eq!(r.over(ip("2001:db8:0:2::1"), at(1)), None);
        assert_eq!(r.over(ip("2001:db8:0:3::1"), at(1)), Some(1));
        assert_eq!(r.over(ip("192.0.2.1"), at(2)), None);
    }
}
