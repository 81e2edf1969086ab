//! At most one line a minute per address and kind.

use std::collections::HashMap;
use std::net::IpAddr;

use cascade_time::Timestamp;
use parking_lot::Mutex;

/// Addresses remembered in one minute; events beyond are not logged.
const MAX_LINES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    TransferRefused,
    NotifyRefused,
    UpdateRefused,
    TransferFailed,
    TlsFailed,
    Broken,
}

#[derive(Debug, Default)]
pub(crate) struct LogGate(Mutex<(i64, HashMap<(IpAddr, Kind), ()>)>);

impl LogGate {
    /// True if this event may be logged.
    pub fn open(&self, peer: IpAddr, kind: Kind, now: Timestamp) -> bool {
        let minute = now.secs().div_euclid(60);
        let mut seen = self.0.lock();
        if seen.0 != minute {
            *seen = (minute, HashMap::new());
        }
        seen.1.len() < MAX_LINES && seen.1.insert((peer, kind), ()).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_minute() {
        let g = LogGate::default();
        let ip = IpAddr::from([192, 0, 2, 1]);
        let at = Timestamp::from_secs;
        assert!(g.open(ip, Kind::TransferRefused, at(0)));
        assert!(!g.open(ip, Kind::TransferRefused, at(59)));
        assert!(g.open(ip, Kind::NotifyRefused, at(59)));
        assert!(g.open(ip, Kind::TransferRefused, at(60)));
    }
}
