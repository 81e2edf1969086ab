//! The states of telling one target about one zone, without I/O.

use std::time::Duration;

use cascade_time::Timestamp;
use cascade_wire::rcode;
use cascade_zone::Serial;

/// Sendings without an answer before a pause.
const MAX_SENDINGS: u32 = 6;
/// From this sending on TCP is used.
const TCP_FROM: u32 = 3;
const FIRST_TIMEOUT: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// An acknowledged serial should be seen at the secondary within this.
const SEEN_WITHIN: Duration = Duration::from_secs(60);
const MAX_ROUNDS: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyState {
    Idle,
    Sending { n: u32, until: Timestamp },
    Waiting { until: Timestamp },
    Acked { until: Timestamp },
}

/// A NOTIFY to be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    pub serial: Serial,
    pub tcp: bool,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyAnswer {
    Code(u16),
    Truncated,
    BadTsig,
    /// The network said no, for example "connection refused".
    Unreachable,
}

/// What people should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    Acknowledged {
        serial: Serial,
    },
    /// The first failure after success; `None`: no answer at all.
    Failing {
        serial: Serial,
        answer: Option<NotifyAnswer>,
    },
    /// Failing for longer than `notify-give-up`; retries go on.
    GivenUp {
        serial: Serial,
    },
}

/// One (zone, target).
#[derive(Debug, Clone)]
pub struct Machine {
    state: NotifyState,
    serial: Serial,
    pauses: u32,
    rounds: u32,
    tcp: bool,
    failing_since: Option<Timestamp>,
    gave_up: bool,
    give_up: Duration,
    /// Somebody tells us by [`Machine::seen`] which serial the target serves.
    watched: bool,
}

impl Machine {
    pub fn new(serial: Serial, give_up: Duration, watched: bool) -> Self {
        Machine {
            state: NotifyState::Idle,
            serial,
            pauses: 0,
            rounds: 0,
            tcp: false,
            failing_since: None,
            gave_up: false,
            give_up,
            watched,
        }
    }

    pub fn state(&self) -> NotifyState {
        self.state
    }

    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// When [`Machine::on_time`] is to be called.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.state {
            NotifyState::Idle => None,
            NotifyState::Sending { until, .. }
            | NotifyState::Waiting { until }
            | NotifyState::Acked { until } => Some(until),
        }
    }

    /// A newer version is served: starts over with its serial, whatever was under way.
    pub fn published(&mut self, serial: Serial, now: Timestamp, random: u32) -> Send {
        self.serial = serial;
        (self.pauses, self.rounds, self.tcp) = (0, 0, false);
        self.send(0, now, random)
    }

    /// The target was seen to serve `serial`.
    pub fn seen(&mut self, serial: Serial) {
        if !self.serial.newer_than(serial) {
            self.state = NotifyState::Idle;
            (self.pauses, self.rounds, self.failing_since, self.gave_up) = (0, 0, None, false);
        }
    }

    /// An answer to the sending under way; outside of one it says nothing new.
    pub fn answered(
        &mut self,
        answer: NotifyAnswer,
        now: Timestamp,
        random: u32,
    ) -> (Option<Send>, Option<Notice>) {
        let NotifyState::Sending { n, .. } = self.state else {
            return (None, None);
        };
        match answer {
            // RFC 1996 §3.8: NOTIMP is the answer of servers that do not know NOTIFY.
            NotifyAnswer::Code(rcode::NOERROR | rcode::NOTIMP) => {
                (self.failing_since, self.gave_up, self.pauses) = (None, false, 0);
                self.state = match self.watched && self.rounds < MAX_ROUNDS {
                    true => NotifyState::Acked {
                        until: now + SEEN_WITHIN,
                    },
                    false => NotifyState::Idle,
                };
                (
                    None,
                    Some(Notice::Acknowledged {
                        serial: self.serial,
                    }),
                )
            }
            NotifyAnswer::Truncated if !self.tcp => {
                self.tcp = true;
                (Some(self.send(n, now, random)), None)
            }
            other => (None, self.pause(Some(other), now)),
        }
    }

    /// The deadline has passed.
    pub fn on_time(&mut self, now: Timestamp, random: u32) -> (Option<Send>, Option<Notice>) {
        if self.deadline().is_none_or(|at| at > now) {
            return (None, None);
        }
        match self.state {
            NotifyState::Idle => (None, None),
            NotifyState::Sending { n, .. } if n + 1 < MAX_SENDINGS => {
                (Some(self.send(n + 1, now, random)), None)
            }
            NotifyState::Sending { .. } => (None, self.pause(None, now)),
            NotifyState::Waiting { .. } => {
                let notice = self.given_up(now);
                (Some(self.send(0, now, random)), notice)
            }
            NotifyState::Acked { .. } => {
                self.rounds += 1;
                (Some(self.send(0, now, random)), None)
            }
        }
    }

    /// The sending just asked for really goes out now, after waiting for a rate limit: its timeout
    /// runs from here.
    pub fn sent(&mut self, now: Timestamp, random: u32) {
        if let NotifyState::Sending { n, .. } = self.state {
            self.send(n, now, random);
        }
    }

    fn send(&mut self, n: u32, now: Timestamp, random: u32) -> Send {
        let span = FIRST_TIMEOUT * 2u32.pow(n.min(5));
        // Plus or minus 20 %, so that targets of many zones spread out.
        let percent = 80 + random % 41;
        self.state = NotifyState::Sending {
            n,
            until: now + span * percent / 100,
        };
        Send {
            serial: self.serial,
            tcp: self.tcp || n >= TCP_FROM,
        }
    }

    fn pause(&mut self, answer: Option<NotifyAnswer>, now: Timestamp) -> Option<Notice> {
        let span = FIRST_PAUSE * 2u32.pow(self.pauses.min(8));
        self.pauses += 1;
        self.state = NotifyState::Waiting {
            until: now + span.min(LONGEST_PAUSE),
        };
        if self.failing_since.is_none() {
            self.failing_since = Some(now);
            return Some(Notice::Failing {
                serial: self.serial,
                answer,
            });
        }
        self.given_up(now)
    }

    fn given_up(&mut self, now: Timestamp) -> Option<Notice> {
        let since = self.failing_since?;
        if self.gave_up || now.since(since) < self.give_up {
            return None;
        }
        self.gave_up = true;
        Some(Notice::GivenUp {
            serial: self.serial,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }
    /// `random` 20 means a factor of exactly 1.
    fn started() -> Machine {
        let mut m = Machine::new(Serial(1), HOUR, false);
        assert_eq!(
            m.published(Serial(2), at(0), 20),
            Send {
                serial: Serial(2),
                tcp: false
            }
        );
        m
    }

    #[test]
    fn acknowledged() {
        for code in [rcode::NOERROR, rcode::NOTIMP] {
            let mut m = started();
            let (send, notice) = m.answered(NotifyAnswer::Code(code), at(1), 0);
            assert_eq!(
                (send, notice),
                (None, Some(Notice::Acknowledged { serial: Serial(2) }))
            );
            assert_eq!(m.state(), NotifyState::Idle);
            // A second answer says nothing new.
            assert_eq!(m.answered(NotifyAnswer::Code(5), at(1), 0), (None, None));
        }
    }

    #[test]
    fn silence_is_met_with_longer_timeouts_tcp_and_pauses() {
        let mut m = started();
        let mut now = 0;
        let mut tcp = vec![];
        for n in 0..5 {
            now += 2 << n;
            assert_eq!(m.on_time(at(now - 1), 20), (None, None));
            let (send, notice) = m.on_time(at(now), 20);
            tcp.push(send.unwrap().tcp);
            assert_eq!(notice, None);
        }
        assert_eq!(tcp, [false, false, true, true, true]);
        now += 64;
        let (send, notice) = m.on_time(at(now), 20);
        assert_eq!(
            (send, notice),
            (
                None,
                Some(Notice::Failing {
                    serial: Serial(2),
                    answer: None
                })
            )
        );
        assert_eq!(m.deadline(), Some(at(now + 60)));
    }

    #[test]
    fn refusals_pause_longer_and_longer_up_to_a_cap() {
        let mut m = started();
        let mut now = 0;
        let mut spans = vec![];
        let mut notices = vec![];
        for _ in 0..8 {
            let (_, notice) = m.answered(NotifyAnswer::Code(rcode::REFUSED), at(now), 20);
            notices.extend(notice);
            let until = m.deadline().unwrap().secs();
            spans.push(until - now);
            now = until;
            let (send, notice) = m.on_time(at(now), 20);
            notices.extend(notice);
            assert!(send.is_some());
        }
        assert_eq!(spans, [60, 120, 240, 480, 900, 900, 900, 900]);
        let first = Notice::Failing {
            serial: Serial(2),
            answer: Some(NotifyAnswer::Code(5)),
        };
        assert_eq!(notices, [first, Notice::GivenUp { serial: Serial(2) }]);
        // Success ends it, and the next failure is reported again.
        m.answered(NotifyAnswer::Code(0), at(now), 20);
        m.published(Serial(3), at(now), 20);
        assert!(matches!(
            m.answered(NotifyAnswer::BadTsig, at(now), 20).1,
            Some(Notice::Failing { .. })
        ));
    }

    #[test]
    fn truncated_goes_on_over_tcp_and_a_new_version_starts_over() {
        let mut m = started();
        assert!(
            m.answered(NotifyAnswer::Truncated, at(1), 20)
                .0
                .unwrap()
                .tcp
        );
        m.answered(NotifyAnswer::Code(2), at(1), 20);
        assert_eq!(
            m.published(Serial(9), at(2), 20),
            Send {
                serial: Serial(9),
                tcp: false
            }
        );
        assert_eq!(m.deadline(), Some(at(4)));
    }

    #[test]
    fn a_watched_target_is_told_again_until_it_is_seen() {
        let mut m = Machine::new(Serial(1), HOUR, true);
        m.published(Serial(2), at(0), 20);
        for round in 0..5 {
            m.answered(NotifyAnswer::Code(0), at(round * 60), 20);
            assert_eq!(
                m.state(),
                NotifyState::Acked {
                    until: at(round * 60 + 60)
                }
            );
            assert!(m.on_time(at(round * 60 + 60), 20).0.is_some());
        }
        m.answered(NotifyAnswer::Code(0), at(400), 20);
        assert_eq!(
            m.state(),
            NotifyState::Idle,
            "after five rounds it is left alone"
        );
        m.published(Serial(3), at(500), 20);
        m.seen(Serial(2));
        assert_ne!(m.state(), NotifyState::Idle);
        m.seen(Serial(3));
        assert_eq!(m.state(), NotifyState::Idle);
    }

    proptest! {
        /// Whatever happens in whatever order: time goes on, one sending at a time, bounded waits.
        #[test]
        fn never_stuck(steps in prop::collection::vec((0u8..6, any::<u32>()), 1..200), watched: bool) {
            let mut m = Machine::new(Serial(0), HOUR, watched);
            let mut now = at(0);
            for (what, random) in steps {
                match what {
                    0 => { m.published(m.serial().next(), now, random); }
                    1 => { m.answered(NotifyAnswer::Code(random as u16 % 24), now, random); }
                    2 => { m.answered(NotifyAnswer::Truncated, now, random); }
                    3 => m.seen(Serial(random % 8)),
                    _ => {
                        if let Some(d) = m.deadline() {
                            prop_assert!(d >= now && d.since(now) <= LONGEST_PAUSE);
                            now = d;
                        }
                        let before = m.state();
                        m.on_time(now, random);
                        prop_assert!(before == NotifyState::Idle || m.state() != before);
                    }
                }
            }
        }
    }
}
