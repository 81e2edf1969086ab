//! Counters of one role, read by the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

use cascade_zone::Rtype;

/// A number that only grows, or a gauge that goes both ways.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    pub fn one(&self) {
        self.add(1);
    }
    pub fn less(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Query types that are counted apart; the last place is for all others.
pub const QTYPES: [(Rtype, &str); 12] = [
    (Rtype::A, "A"),
    (Rtype::AAAA, "AAAA"),
    (Rtype::NS, "NS"),
    (Rtype::SOA, "SOA"),
    (Rtype::DS, "DS"),
    (Rtype::DNSKEY, "DNSKEY"),
    (Rtype::MX, "MX"),
    (Rtype::TXT, "TXT"),
    (Rtype::CNAME, "CNAME"),
    (Rtype::ANY, "ANY"),
    (Rtype::AXFR, "AXFR"),
    (Rtype::IXFR, "IXFR"),
];

/// Counters of one role. All are octets or events since the start, gauges say so.
#[derive(Debug, Default)]
pub struct Stats {
    pub udp_queries: Counter,
    pub tcp_queries: Counter,
    pub tls_queries: Counter,
    /// Handshakes that did not end in a connection.
    pub tls_failed: Counter,
    /// Places as in [`QTYPES`], then all others.
    pub qtypes: [Counter; QTYPES.len() + 1],
    /// By response code 0 to 23; the last place is for all others.
    pub rcodes: [Counter; 25],
    pub truncated: Counter,
    /// Short messages and responses.
    pub ignored: Counter,
    /// Answers that the kernel did not take at once.
    pub send_failed: Counter,
    pub rate_limited: Counter,
    pub cookies_valid: Counter,
    pub cookies_invalid: Counter,
    pub acl_refused: Counter,
    pub tsig_failed: Counter,
    pub notify_accepted: Counter,
    pub notify_refused: Counter,
    /// Accepted but not handed on because the queue was full.
    pub notify_dropped: Counter,
    /// Of DNS UPDATE: answered NOERROR, and all others.
    pub updates_taken: Counter,
    pub updates_refused: Counter,
    pub tcp_accepted: Counter,
    /// Gauge.
    pub tcp_open: Counter,
    pub tcp_refused: Counter,
    pub tcp_idle_closed: Counter,
    pub transfers_started: Counter,
    /// Of these, increments.
    pub transfers_incremental: Counter,
    pub transfers_done: Counter,
    pub transfers_failed: Counter,
    pub transfers_busy: Counter,
    /// Gauge.
    pub transfers_running: Counter,
    /// Gauge: those that wait in line for their turn.
    pub transfers_waiting: Counter,
    /// Of all that began, until they ended.
    pub transfer_millis: Counter,
    pub transfer_octets: Counter,
    pub transfer_records: Counter,
}

impl Stats {
    pub fn qtype(&self, qtype: Rtype) -> &Counter {
        let i = QTYPES
            .iter()
            .position(|(t, _)| *t == qtype)
            .unwrap_or(QTYPES.len());
        &self.qtypes[i]
    }

    pub fn rcode(&self, rcode: u16) -> &Counter {
        &self.rcodes[(rcode as usize).min(24)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let s = Stats::default();
        s.qtype(Rtype::A).one();
        s.qtype(Rtype(65280)).add(2);
        s.rcode(5).one();
        s.rcode(4095).one();
        assert_eq!((s.qtypes[0].get(), s.qtypes[12].get()), (1, 2));
        assert_eq!((s.rcodes[5].get(), s.rcodes[24].get()), (1, 1));
    }
}
