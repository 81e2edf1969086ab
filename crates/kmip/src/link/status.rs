//! What is known of each instance.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::dial::{DialError, ServerInfo};
use super::settings::Endpoint;

/// Latencies kept for the median.
const KEPT: usize = 256;

/// Whether an instance can be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Not known yet, or lost a moment ago.
    Connecting,
    Up,
    /// Tried, and not reached; tried again by itself.
    Down(Arc<DialError>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstanceStatus {
    pub endpoint: Endpoint,
    pub reach: Reach,
    /// Connections that are open.
    pub connections: usize,
    /// Counts how often it became reachable.
    pub arrivals: u64,
    /// What it said of itself last.
    pub server: Option<Arc<ServerInfo>>,
    /// It gets no work but what is meant for it alone.
    pub quarantined: bool,
}

impl InstanceStatus {
    pub(super) fn new(endpoint: Endpoint) -> InstanceStatus {
        InstanceStatus {
            endpoint,
            reach: Reach::Connecting,
            connections: 0,
            arrivals: 0,
            server: None,
            quarantined: false,
        }
    }
}

/// Counts of one instance since the pool began.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    pub requests: u64,
    pub operations: u64,
    pub failures: u64,
    /// Sum over the requests.
    pub waited: Duration,
    pub in_flight: usize,
    latencies: VecDeque<Duration>,
}

impl Statistics {
    pub(super) fn note(&mut self, operations: usize, failures: usize, took: Duration) {
        self.requests += 1;
        self.operations += operations as u64;
        self.failures += failures as u64;
        self.waited += took;
        if self.latencies.len() >= KEPT {
            self.latencies.pop_front();
        }
        self.latencies.push_back(took);
    }

    /// Median of the latest requests.
    pub fn median(&self) -> Option<Duration> {
        let mut all: Vec<Duration> = self.latencies.iter().copied().collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    }
}
