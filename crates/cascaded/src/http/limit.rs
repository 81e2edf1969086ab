//! Failed authentications: at most ten per minute and address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);
const FAILURES_PER_WINDOW: u32 = 10;
/// Addresses remembered; when full, the oldest window is forgotten.
const ADDRESSES: usize = 1024;

#[derive(Debug, Default)]
pub struct AuthLimit(HashMap<IpAddr, (Instant, u32)>);

impl AuthLimit {
    /// Seconds to wait if the address has used up its failures.
    pub fn blocked(&self, from: IpAddr, now: Instant) -> Option<u64> {
        let (start, failures) = self.0.get(&from)?;
        let left = WINDOW.checked_sub(now.duration_since(*start))?;
        (*failures >= FAILURES_PER_WINDOW).then_some(left.as_secs() + 1)
    }

    pub fn failed(&mut self, from: IpAddr, now: Instant) {
        if self.0.len() >= ADDRESSES && !self.0.contains_key(&from) {
            let oldest = self
                .0
                .iter()
                .min_by_key(|(_, (start, _))| *start)
                .map(|(ip, _)| *ip);
            if let Some(ip) = oldest {
                self.0.remove(&ip);
            }
        }
        let entry = self.0.entry(from).or_insert((now, 0));
        if now.duration_since(entry.0) >= WINDOW {
            *entry = (now, 0);
        }
        entry.1 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_per_minute_and_bounded_memory() {
        let start = Instant::now();
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let mut limit = AuthLimit::default();
        for _ in 0..FAILURES_PER_WINDOW {
            assert_eq!(limit.blocked(ip, start), None);
            limit.failed(ip, start);
        }
        assert_eq!(limit.blocked(ip, start), Some(61));
        assert_eq!(
            limit.blocked(ip, start + WINDOW + Duration::from_secs(1)),
            None
        );
        for n in 0..5000u32 {
            limit.failed(
                IpAddr::from(n.to_be_bytes()),
                start + Duration::from_millis(n.into()),
            );
        }
        assert!(limit.0.len() <= ADDRESSES);
    }
}
