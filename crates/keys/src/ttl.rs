//! The TTL log: what was served with which TTL, until when; and when no cache holds it any more.
//!
//! ```text
//! exp(S)  = max over entries e in S of  last(e) + ttl(e) + 1 s
//! free(S) = exp(S) + margin + x
//! ```
//!
//! RFC 7583 computes the same intervals from planned times: I_pub = D_prp + TTL_key (§3.2.1 and
//! §3.3.1), I_ret = D_sgn + D_prp + TTL_sig (§3.2.1) and D_prpP + TTL_ds (§3.3.1). Here D_sgn and
//! D_prp are not planned but observed: `last` is the end of the sweep that showed newer data at
//! every server, so only the TTL and the margin are left to wait for.

use std::time::Duration;

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::key::KeyNum;
use crate::mutants::{Mutant, is};
use crate::stored::{is_default, maybe_time, time};

/// Assumed TTL of a DS RRset that was never seen: parents use up to two days.
pub const ASSUMED_DS_TTL: u32 = 172_800;

/// Entries per class above which those of equal content that end first become one, with the
/// later end and the larger TTL.
const MAX_PER_CLASS: usize = 64;

/// What was served.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Served {
    /// A DNSKEY RRset of these keys.
    #[serde(rename = "k", alias = "dnskey")]
    Dnskey(Vec<KeyNum>),
    /// A DS RRset: keys of ours it may belong to, keys it certainly is an entry point of, and
    /// whether it has a DS of somebody else.
    #[serde(rename = "s", alias = "ds")]
    Ds {
        #[serde(
            rename = "o",
            alias = "ours",
            default,
            skip_serializing_if = "is_default"
        )]
        ours: Vec<KeyNum>,
        #[serde(
            rename = "u",
            alias = "usable",
            default,
            skip_serializing_if = "is_default"
        )]
        usable: Vec<KeyNum>,
        #[serde(
            rename = "f",
            alias = "foreign",
            default,
            skip_serializing_if = "is_default"
        )]
        foreign: bool,
    },
    /// Zone data: keys with an RRSIG over some RRset, and keys with one over every RRset.
    #[serde(rename = "d", alias = "data")]
    Data {
        #[serde(
            rename = "y",
            alias = "any",
            default,
            skip_serializing_if = "is_default"
        )]
        any: Vec<KeyNum>,
        #[serde(
            rename = "l",
            alias = "all",
            default,
            skip_serializing_if = "is_default"
        )]
        all: Vec<KeyNum>,
    },
    /// Zone data without RRSIGs.
    #[serde(rename = "u", alias = "unsigned")]
    Unsigned,
    /// CDS and CDNSKEY RRsets signed by these keys; by none: there are no such RRsets.
    #[serde(rename = "c", alias = "cds")]
    Cds(Vec<KeyNum>),
}

impl Served {
    fn class(&self) -> u8 {
        match self {
            Served::Dnskey(_) => 0,
            Served::Ds { .. } => 1,
            Served::Data { .. } | Served::Unsigned => 2,
            Served::Cds(_) => 3,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    #[serde(rename = "w", alias = "what")]
    pub what: Served,
    /// Seconds; the largest that any of it was served with.
    #[serde(rename = "t", alias = "ttl")]
    pub ttl: u32,
    #[serde(rename = "b", alias = "first", with = "time")]
    pub first: Timestamp,
    /// Something newer is published, but old copies may still be served.
    #[serde(
        rename = "s",
        alias = "superseded",
        default,
        skip_serializing_if = "is_default"
    )]
    pub superseded: bool,
    /// No server shows it since then.
    #[serde(
        rename = "e",
        alias = "last",
        default,
        skip_serializing_if = "is_default",
        with = "maybe_time"
    )]
    pub last: Option<Timestamp>,
    /// Seconds added because a server could not be asked, or the clock was stepped.
    #[serde(
        rename = "x",
        alias = "extra",
        default,
        skip_serializing_if = "is_default"
    )]
    pub extra: u64,
    /// Servers may show the same from before something else was published, which may come to them yet:
    /// only their serials tell that they are past it.
    #[serde(rename = "r", default, skip_serializing_if = "is_default")]
    pub returned: bool,
}

impl Entry {
    /// Its end in caches without the margin; `None` while it may still be served.
    fn gone(&self) -> Option<Timestamp> {
        let span = u64::from(self.ttl)
            .saturating_add(1)
            .saturating_add(self.extra);
        Some(self.last?.saturating_add(Duration::from_secs(span)))
    }
}

/// When a set of entries has left all caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Free {
    /// Nothing of it was ever served, or its record has been dropped long after its end.
    Always,
    At {
        at: Timestamp,
        /// The TTL of the entry that decides.
        ttl: u32,
    },
    /// A server may still show it.
    Served,
}

impl Free {
    pub fn holds(self, now: Timestamp) -> bool {
        match self {
            Free::Always => true,
            Free::At { at, .. } => at <= now,
            Free::Served => false,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TtlLog {
    pub entries: Vec<Entry>,
}

impl TtlLog {
    /// A version with this content was published at `at`. True: what it replaces is told from it by
    /// serials only.
    pub fn publish(&mut self, what: Served, ttl: u32, at: Timestamp) -> bool {
        let class = what.class();
        let same = |e: &Entry| e.what == what && e.ttl == ttl && !e.superseded;
        if self.entries.iter().any(same) {
            return false;
        }
        let returned = self.may_be_older(&what, ttl);
        for e in &mut self.entries {
            e.superseded |= e.what.class() == class;
        }
        self.push(what, ttl, at, returned);
        returned
    }

    /// A server that shows this may show what was published before something else.
    fn may_be_older(&self, what: &Served, ttl: u32) -> bool {
        let class = what.class();
        let mut open = self.entries.iter().filter(|e| e.last.is_none());
        open.any(|e| e.what == *what && e.ttl <= ttl)
            && open.any(|e| e.what.class() == class && e.what != *what)
    }

    /// That the present content is shown says nothing about what came before it.
    pub fn awaits_serials(&self, like: &Served) -> bool {
        let present = |e: &&Entry| e.what.class() == like.class() && !e.superseded;
        self.entries.iter().filter(present).any(|e| e.returned)
    }

    /// A sweep that began at `started` showed every server at the present version or past it.
    pub fn serials_seen(&mut self, like: &Served, started: Timestamp) {
        let class = like.class();
        for e in &mut self.entries {
            if e.what.class() == class && e.first <= started {
                e.returned = false;
            }
        }
    }

    /// A parent server showed this at `at`. Several contents may be open at once.
    pub fn observe(&mut self, what: Served, ttl: u32, at: Timestamp) {
        let open = |e: &Entry| {
            let ended = e.last.is_some() && !is(Mutant::ReturnedDsIsOld);
            e.what == what && e.ttl == ttl && !ended
        };
        if !self.entries.iter().any(open) {
            self.push(what, ttl, at, false);
        }
    }

    /// Adds an entry that already ended.
    pub fn assume(&mut self, what: Served, ttl: u32, last: Timestamp, extra: Duration) {
        self.push(what, ttl, last, false);
        if let Some(e) = self.entries.last_mut() {
            e.superseded = true;
            e.last = Some(last);
            e.extra = extra.as_secs();
        }
    }

    /// A sweep that ended at `end` showed the present content at every server.
    pub fn close_superseded(&mut self, like: &Served, end: Timestamp, extra: Duration) {
        let class = like.class();
        self.close(end, extra, |e| e.what.class() == class && e.superseded);
    }

    /// A server has gone back to something older: nobody knows which of the former contents, so
    /// the end of none of them is sure any more.
    pub fn reopen(&mut self, like: &Served) {
        let class = like.class();
        for e in &mut self.entries {
            if e.what.class() == class && e.superseded {
                e.last = None;
                // What was added to the end that does not hold any more, for servers that were out of
                // reach and for steps of the clock. The next end has its own.
                e.extra = 0;
            }
        }
    }

    /// A sweep of the parent's servers that ended at `end` showed only these contents.
    pub fn close_ds_except(&mut self, shown: &[(Served, u32)], end: Timestamp, extra: Duration) {
        self.close(end, extra, |e| {
            e.what.class() == 1 && !shown.iter().any(|(w, ttl)| *w == e.what && *ttl == e.ttl)
        });
    }

    /// When the entries picked by `dying` have left all caches.
    pub fn free(&self, dying: impl Fn(&Served) -> bool, margin: Duration) -> Free {
        let mut result = Free::Always;
        for e in self.entries.iter().filter(|e| dying(&e.what)) {
            let Some(gone) = e.gone() else {
                return Free::Served;
            };
            let mut at = gone.saturating_add(margin);
            if is(Mutant::NewTtl) {
                let class = e.what.class();
                let newest = self.entries.iter().rfind(|o| o.what.class() == class);
                let ttl = newest.map_or(e.ttl, |o| o.ttl).min(e.ttl);
                at = at.saturating_sub(Duration::from_secs(u64::from(e.ttl - ttl)));
            }
            match result {
                Free::At { at: best, .. } if best >= at => {}
                _ => result = Free::At { at, ttl: e.ttl },
            }
        }
        result
    }

    /// The highest TTL among the picked entries that a cache may still hold at `now`.
    pub fn highest_alive(&self, dying: impl Fn(&Served) -> bool, now: Timestamp) -> Option<u32> {
        self.entries
            .iter()
            .filter(|e| dying(&e.what) && e.gone().is_none_or(|g| g > now))
            .map(|e| e.ttl)
            .max()
    }

    /// Entries that a cache may hold at `now`.
    pub fn alive(&self, now: Timestamp) -> impl Iterator<Item = &Entry> {
        let held = move |e: &&Entry| e.gone().is_none_or(|g| g > now);
        self.entries.iter().filter(held)
    }

    /// The clock was stepped forward: waits become longer by the step, never shorter than the
    /// time that really passed.
    pub fn lengthen(&mut self, by: Duration) {
        if is(Mutant::ForwardStepEndsWaits) {
            return;
        }
        for e in self.entries.iter_mut().filter(|e| e.last.is_some()) {
            e.extra = e.extra.saturating_add(by.as_secs());
        }
    }

    /// Drops what ended more than a day (and `keep`) ago.
    pub fn prune(&mut self, now: Timestamp, keep: Duration) {
        let slack = Duration::from_secs(86_400).saturating_add(keep);
        self.entries
            .retain(|e| e.gone().is_none_or(|g| g.saturating_add(slack) > now));
    }

    fn close(&mut self, end: Timestamp, extra: Duration, pick: impl Fn(&Entry) -> bool) {
        for e in &mut self.entries {
            if e.last.is_none() && pick(e) {
                e.last = Some(end);
                e.superseded = true;
                e.extra = e.extra.saturating_add(extra.as_secs());
            }
        }
    }

    fn push(&mut self, what: Served, ttl: u32, at: Timestamp, returned: bool) {
        let class = what.class();
        self.entries.push(Entry {
            what,
            ttl,
            first: at,
            superseded: false,
            last: None,
            extra: 0,
            returned,
        });
        let ended = |e: &Entry| e.what.class() == class && e.last.is_some();
        let of_class = self
            .entries
            .iter()
            .filter(|e| e.what.class() == class)
            .count();
        if of_class <= MAX_PER_CLASS {
            return;
        }
        // The entry that ends first is merged into the next one of its content.
        let Some(first) = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, e)| ended(e))
            .min_by_key(|(_, e)| e.gone())
            .map(|(i, _)| i)
        else {
            return;
        };
        let dropped = self.entries.remove(first);
        if let Some(e) = self
            .entries
            .iter_mut()
            .filter(|e| e.last.is_some() && e.what == dropped.what)
            .min_by_key(|e| e.gone())
        {
            e.first = e.first.min(dropped.first);
            e.ttl = e.ttl.max(dropped.ttl);
        } else {
            // Different contents are few; none is forgotten here, whatever the clock says.
            self.entries.push(dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(s: i64) -> Timestamp {
        Timestamp::from_secs(s)
    }
    fn keys(of: &[u32]) -> Served {
        Served::Dnskey(of.iter().map(|n| KeyNum(*n)).collect())
    }
    fn without_2(s: &Served) -> bool {
        matches!(s, Served::Dnskey(k) if !k.contains(&KeyNum(2)))
    }

    #[test]
    fn ends_by_the_highest_ttl_served() {
        let mut log = TtlLog::default();
        log.publish(keys(&[1]), 86_400, t(0));
        // A TTL lowered an hour ago does not shorten the wait: caches hold the old one.
        log.publish(keys(&[1]), 300, t(1000));
        log.close_superseded(&keys(&[]), t(1010), Duration::ZERO);
        log.publish(keys(&[1, 2]), 300, t(4600));
        assert_eq!(log.free(without_2, Duration::ZERO), Free::Served);
        log.close_superseded(&keys(&[]), t(4700), Duration::ZERO);
        let free = log.free(without_2, Duration::from_secs(60));
        assert_eq!(
            free,
            Free::At {
                at: t(1010 + 86_400 + 1 + 60),
                ttl: 86_400
            }
        );
        assert!(!free.holds(t(87_470)) && free.holds(t(87_471)));
        assert_eq!(log.highest_alive(without_2, t(87_411)), None);
        assert_eq!(log.highest_alive(without_2, t(87_410)), Some(86_400));
    }

    #[test]
    fn what_returns_is_told_from_what_was_by_serials() {
        let like = keys(&[]);
        let mut log = TtlLog::default();
        log.publish(keys(&[1]), 100, t(0));
        log.publish(keys(&[1, 2]), 100, t(10));
        assert!(!log.awaits_serials(&like));
        // The first may still be shown somewhere, and the second come there later.
        log.publish(keys(&[1]), 100, t(20));
        assert!(log.awaits_serials(&like));
        log.serials_seen(&like, t(19));
        assert!(log.awaits_serials(&like), "that look began before");
        log.serials_seen(&like, t(20));
        assert!(!log.awaits_serials(&like));
        // Whatever is new is told by itself.
        log.publish(keys(&[1, 2]), 100, t(30));
        log.publish(keys(&[3]), 100, t(40));
        assert!(!log.awaits_serials(&like));
        // The second was seen everywhere: nobody shows the first any more.
        let mut log = TtlLog::default();
        log.publish(keys(&[1]), 100, t(0));
        log.publish(keys(&[1, 2]), 100, t(10));
        log.close_superseded(&like, t(15), Duration::ZERO);
        log.publish(keys(&[1]), 100, t(20));
        assert!(!log.awaits_serials(&like));
    }

    #[test]
    fn a_forward_step_lengthens() {
        let mut log = TtlLog::default();
        log.publish(keys(&[1]), 100, t(0));
        log.publish(keys(&[1, 2]), 100, t(10));
        log.close_superseded(&keys(&[]), t(20), Duration::ZERO);
        log.lengthen(Duration::from_secs(500));
        assert_eq!(
            log.free(without_2, Duration::ZERO),
            Free::At {
                at: t(621),
                ttl: 100
            }
        );
    }

    #[test]
    fn an_end_that_is_found_again_has_its_own_addition() {
        let day = Duration::from_secs(86_400);
        let mut log = TtlLog::default();
        log.publish(keys(&[1]), 100, t(0));
        log.publish(keys(&[1, 2]), 100, t(10));
        for i in 1..4 {
            log.close_superseded(&keys(&[]), t(i * 1000), day);
            let free = log.free(without_2, Duration::ZERO);
            let at = t(i * 1000 + 86_400 + 101);
            assert_eq!(free, Free::At { at, ttl: 100 });
            log.reopen(&keys(&[]));
            assert_eq!(log.free(without_2, Duration::ZERO), Free::Served);
        }
    }

    #[test]
    fn bounded_and_never_shorter() {
        let mut log = TtlLog::default();
        for i in 0..500i64 {
            log.publish(keys(&[1]), 1000 + i as u32, t(i * 2000));
            log.close_superseded(&keys(&[]), t(i * 2000 + 1), Duration::ZERO);
        }
        assert!(log.entries.len() <= MAX_PER_CLASS + 1);
    }
}
