//! Looks at name servers: what was asked, what counts as agreement, and who may be left out.
//!
//! The daemon asks and reports a [`Sweep`]; [`judge`] turns it into the event that is stored.
//! Only members of one and the same sweep count together: a server that showed the new data an
//! hour ago and the old now breaks it.

use std::time::Duration;

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ds::{DsRecord, absent, at_or_past, present};
use crate::key::KeyNum;
use crate::policy::KeyPolicy;
use crate::roll::{Class, Roll, Seen};
use crate::state::ZoneKeys;

/// Members of a sweep that are judged; more are not asked.
pub const MAX_MEMBERS: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Dnskey,
    /// SOA and RRSIGs.
    Rrsig,
    /// DS and referral at the parent.
    Ds,
}

impl What {
    pub const ALL: [What; 3] = [What::Dnskey, What::Rrsig, What::Ds];

    pub fn of(seen: Seen) -> What {
        match seen {
            Seen::Dnskey => What::Dnskey,
            Seen::RrsigNew | Seen::RrsigOldGone | Seen::Unsigned => What::Rrsig,
            Seen::DsSwapped | Seen::DsBoth | Seen::DsOldGone | Seen::DsNone => What::Ds,
        }
    }
}

/// Which servers a zone sweep must ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Our own publication output: no chain leads here.
    Own,
    Servers,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenKey {
    pub flags: u16,
    pub algorithm: u8,
    pub public_key: Vec<u8>,
}

/// What the parent says about the delegation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Referral {
    /// The name or the delegation is denied with AA.
    Denied,
    /// A server name in common with our apex NS RRset, or none.
    Names {
        shared: bool,
    },
    Unclear,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Dnskey {
        keys: Vec<SeenKey>,
        ttl: u32,
        /// Keys of ours whose RRSIG over the RRset verified.
        signed_by: Vec<KeyNum>,
    },
    Rrsig {
        serial: u32,
        /// The server rewrites serials; its content was compared and is ours.
        same_content: bool,
        /// RRsets whose RRSIG did not verify with the expected key's octets.
        faults: Vec<String>,
    },
    Ds {
        set: Vec<DsRecord>,
        /// The larger of the RRset's TTL and the original TTL of its RRSIG.
        ttl: u32,
        /// The answer did not validate: no evidence of anything.
        bogus: bool,
        referral: Referral,
    },
    /// No route for the address family here, told by the kernel.
    NoRoute,
    /// No answer at all.
    Silent,
    /// An answer that is no evidence: SERVFAIL, REFUSED, lame, not authoritative.
    Unusable(String),
}

impl Answer {
    fn is_answer(&self) -> bool {
        match self {
            Answer::Dnskey { .. } | Answer::Rrsig { .. } => true,
            Answer::Ds { bogus, .. } => !bogus,
            Answer::NoRoute | Answer::Silent | Answer::Unusable(_) => false,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub server: String,
    pub address: String,
    pub answer: Answer,
}

/// Answers of all required servers within ten minutes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sweep {
    pub what: What,
    pub started: Timestamp,
    pub ended: Timestamp,
    pub members: Vec<Member>,
    /// SOA EXPIRE of the parent zone, if known.
    pub parent_expire: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Match,
    Mismatch,
    NoAnswer,
    /// No answer, and left out.
    Excused,
}

/// Evidence of one member, as `why` and `check` show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberReport {
    pub server: String,
    pub address: String,
    pub verdict: Verdict,
    pub found: String,
    pub ttl: Option<u32>,
    pub first_asked: Timestamp,
    pub last_answer: Option<Timestamp>,
}

/// One content of the DS RRset that some server showed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DsShown {
    pub ours: Vec<KeyNum>,
    pub usable: Vec<KeyNum>,
    pub foreign: bool,
    pub ttl: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delegation {
    #[default]
    Unknown,
    /// The parent denies the delegation.
    None,
    /// Delegated to servers that are not ours.
    Elsewhere,
    Ours,
    /// A DS at the parent has matched a key of ours.
    Linked,
    Root,
}

/// A judged sweep, as stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SweepReport {
    pub what: What,
    pub started: Timestamp,
    pub ended: Timestamp,
    pub members: Vec<MemberReport>,
    /// The expected content is everywhere; the number is x, in seconds.
    pub passed: Option<u64>,
    /// Every server answered or is excused, whatever it said.
    pub covered: Option<u64>,
    pub seen: Vec<(Class, Seen, bool)>,
    pub ds: Vec<DsShown>,
    pub delegation: Option<Delegation>,
}

/// Judges a sweep against what is published and wanted.
pub fn judge(zone: &ZoneKeys, policy: &KeyPolicy, sweep: &Sweep) -> SweepReport {
    let members = &sweep.members[..sweep.members.len().min(MAX_MEMBERS)];
    let q = Quorum::new(zone, policy, sweep, members);
    let expected = |m: &Member| expected(zone, &m.answer);
    let current = q.is_current();
    let passed = q.pass(expected).filter(|_| current);
    let covered = q.pass(|_| true);
    let mut seen = Vec::new();
    for roll in &zone.rolls {
        let Some(row) = roll.row() else { continue };
        for s in row.seen.iter().filter(|s| What::of(**s) == sweep.what) {
            let ok = sweep.started >= roll.since
                && match sweep.what {
                    What::Ds => {
                        q.pass(|m| ds_seen(zone, roll, *s, &m.answer)).is_some()
                            || no_chain(zone, roll, *s, &q)
                    }
                    _ => passed.is_some() && zone.is_signed_for(roll, *s),
                };
            seen.push((roll.class(), *s, ok));
        }
    }
    let mut ds: Vec<DsShown> = Vec::new();
    for m in members {
        if let Some(shown) = ds_shown(zone, &m.answer)
            && !ds.contains(&shown)
        {
            ds.push(shown);
        }
    }
    SweepReport {
        what: sweep.what,
        started: sweep.started,
        ended: sweep.ended,
        members: members
            .iter()
            .map(|m| MemberReport {
                server: m.server.clone(),
                address: m.address.clone(),
                verdict: q.verdict(m, expected(m)),
                found: found(zone, &m.answer),
                ttl: ttl_of(&m.answer),
                first_asked: q.first_asked(m),
                last_answer: if m.answer.is_answer() {
                    Some(sweep.ended)
                } else {
                    q.last_answer(m)
                },
            })
            .collect(),
        passed,
        covered,
        seen,
        ds,
        delegation: (sweep.what == What::Ds).then(|| delegation(zone, members)),
    }
}

/// Without any DS of ours at the parent the DS step of a KSK roll passes: nobody can hold one.
/// DS of others do not count where no chain leads here. Where the parent delegates to us it may
/// still be working on the DS that it was asked for, so an empty answer is believed later.
fn no_chain(zone: &ZoneKeys, roll: &Roll, seen: Seen, q: &Quorum<'_>) -> bool {
    if zone.parent.linked_at.is_some() || seen == Seen::DsBoth {
        return false;
    }
    match delegation(zone, q.members) {
        Delegation::Root | Delegation::None => true,
        Delegation::Elsewhere => q
            .pass(|m| ds_shown(zone, &m.answer).is_some_and(|d| d.ours.is_empty()))
            .is_some(),
        Delegation::Ours => {
            zone.ds_on_its_way(&roll.old, q.policy)
                .is_none_or(|until| until <= q.sweep.started)
                && q.pass(|m| matches!(&m.answer, Answer::Ds { set, .. } if set.is_empty()))
                    .is_some()
        }
        Delegation::Unknown | Delegation::Linked => false,
    }
}

/// Agreement among the members of one sweep.
struct Quorum<'a> {
    zone: &'a ZoneKeys,
    policy: &'a KeyPolicy,
    sweep: &'a Sweep,
    members: &'a [Member],
    since: Timestamp,
}

impl<'a> Quorum<'a> {
    fn new(
        zone: &'a ZoneKeys,
        policy: &'a KeyPolicy,
        sweep: &'a Sweep,
        members: &'a [Member],
    ) -> Self {
        Quorum {
            zone,
            policy,
            sweep,
            members,
            since: zone.look_since(sweep.what),
        }
    }

    /// The sweep began after what it looks for was published.
    fn is_current(&self) -> bool {
        let Some(p) = &self.zone.published else {
            return false;
        };
        match self.sweep.what {
            What::Dnskey => self.sweep.started >= p.apex_at,
            What::Rrsig => self.sweep.started >= p.data_at,
            What::Ds => true,
        }
    }

    /// Seconds of x if `agrees` holds at every member that must be asked.
    fn pass(&self, agrees: impl Fn(&Member) -> bool) -> Option<u64> {
        let mut matches = 0;
        let mut excused_silent = false;
        for m in self.members {
            match self.verdict(m, m.answer.is_answer() && agrees(m)) {
                Verdict::Match => matches += 1,
                Verdict::Mismatch | Verdict::NoAnswer => return None,
                Verdict::Excused => excused_silent |= m.answer != Answer::NoRoute,
            }
        }
        if matches == 0 {
            return None;
        }
        if !excused_silent {
            return Some(0);
        }
        // A secondary that is cut off stops answering after SOA EXPIRE (RFC 1034 §4.3.5).
        (matches * 2 >= self.members.len()).then(|| self.expire())
    }

    fn verdict(&self, m: &Member, agrees: bool) -> Verdict {
        if m.answer.is_answer() {
            return if agrees {
                Verdict::Match
            } else {
                Verdict::Mismatch
            };
        }
        match &m.answer {
            Answer::NoRoute => {
                let other = self
                    .members
                    .iter()
                    .any(|o| o.server == m.server && o.answer.is_answer());
                if other {
                    return Verdict::Excused;
                }
            }
            Answer::Silent => {}
            // A server that speaks is not cut off, and may answer others.
            _ => return Verdict::NoAnswer,
        }
        let Some(after) = self.policy.ignore_unreachable_after else {
            return Verdict::NoAnswer;
        };
        // Cut off since its last answer: a server that dies in the middle of a step must not stop
        // it for ever, and x covers what it may go on serving.
        let since = self
            .last_answer(m)
            .unwrap_or(Timestamp::EPOCH)
            .max(self.since)
            .max(self.first_asked(m));
        if self.sweep.ended.since(since) >= after {
            Verdict::Excused
        } else {
            Verdict::NoAnswer
        }
    }

    fn expire(&self) -> u64 {
        let own = self.zone.published.as_ref().map_or(0, |p| p.soa_expire);
        match self.sweep.what {
            // Not known: a week, what most registries use.
            What::Ds => u64::from(self.sweep.parent_expire.unwrap_or(604_800)),
            _ => u64::from(own),
        }
    }

    fn memory(&self, m: &Member) -> Option<&MemberReport> {
        let look = self.zone.look(self.sweep.what)?;
        look.members
            .iter()
            .find(|r| r.address == m.address && r.server == m.server)
    }

    fn first_asked(&self, m: &Member) -> Timestamp {
        self.memory(m).map_or(self.sweep.started, |r| r.first_asked)
    }

    fn last_answer(&self, m: &Member) -> Option<Timestamp> {
        self.memory(m).and_then(|r| r.last_answer)
    }
}

/// Whether the answer shows what should be there now.
fn expected(zone: &ZoneKeys, answer: &Answer) -> bool {
    match answer {
        Answer::Dnskey {
            keys,
            ttl,
            signed_by,
        } => {
            let Some(p) = &zone.published else {
                return false;
            };
            keys.len() == p.apex.dnskey.len()
                && *ttl <= p.apex.ttl
                && p.apex.dnskey_signers.iter().all(|k| signed_by.contains(k))
                && p.apex.dnskey.iter().all(|n| {
                    zone.key(*n).is_some_and(|k| {
                        keys.iter().any(|s| {
                            s.flags == k.role.flags() && k.is_same_key(s.algorithm, &s.public_key)
                        })
                    })
                })
        }
        Answer::Rrsig {
            serial,
            same_content,
            faults,
        } => {
            let Some(p) = &zone.published else {
                return false;
            };
            faults.is_empty() && (*same_content || at_or_past(*serial, p.data_serial))
        }
        Answer::Ds { set, .. } => zone.follows(set),
        _ => false,
    }
}

fn ds_seen(zone: &ZoneKeys, roll: &Roll, seen: Seen, answer: &Answer) -> bool {
    let Answer::Ds { set, .. } = answer else {
        return false;
    };
    let ksks = |list: &[KeyNum]| -> Vec<KeyNum> {
        list.iter()
            .copied()
            .filter(|n| zone.key(*n).is_some_and(|k| k.role.signs_keys()))
            .collect()
    };
    let all = |list: &[KeyNum], test: fn(&[u8], &crate::key::Key, &[DsRecord]) -> bool| {
        ksks(list)
            .iter()
            .all(|n| zone.key(*n).is_some_and(|k| test(&zone.owner, k, set)))
    };
    match seen {
        Seen::DsSwapped => all(&roll.new, present) && all(&roll.old, absent),
        Seen::DsBoth => all(&roll.new, present) && all(&roll.old, present),
        Seen::DsOldGone => all(&roll.old, absent),
        Seen::DsNone => set.is_empty(),
        _ => false,
    }
}

fn ds_shown(zone: &ZoneKeys, answer: &Answer) -> Option<DsShown> {
    let Answer::Ds {
        set, ttl, bogus, ..
    } = answer
    else {
        return None;
    };
    if *bogus {
        return None;
    }
    let ours: Vec<&crate::key::Key> = zone
        .keys
        .iter()
        .filter(|k| k.role.signs_keys() && !absent(&zone.owner, k, set))
        .collect();
    let foreign = set.iter().any(|ds| {
        ours.iter()
            .all(|k| absent(&zone.owner, k, std::slice::from_ref(ds)))
    });
    Some(DsShown {
        usable: ours
            .iter()
            .filter(|k| present(&zone.owner, k, set))
            .map(|k| k.num)
            .collect(),
        ours: ours.iter().map(|k| k.num).collect(),
        foreign,
        ttl: *ttl,
    })
}

fn delegation(zone: &ZoneKeys, members: &[Member]) -> Delegation {
    if zone.parent.delegation == Delegation::Root {
        return Delegation::Root;
    }
    let linked = members
        .iter()
        .any(|m| ds_shown(zone, &m.answer).is_some_and(|d| !d.usable.is_empty()));
    if linked || zone.parent.linked_at.is_some() {
        return Delegation::Linked;
    }
    let referrals: Vec<Referral> = members
        .iter()
        .filter_map(|m| match &m.answer {
            Answer::Ds {
                referral,
                bogus: false,
                ..
            } => Some(*referral),
            _ => None,
        })
        .collect();
    let all = |want: Referral| {
        !referrals.is_empty()
            && referrals.len() * 2 >= members.len()
            && referrals.iter().all(|r| *r == want)
    };
    if referrals.contains(&Referral::Names { shared: true }) {
        Delegation::Ours
    } else if all(Referral::Denied) {
        Delegation::None
    } else if all(Referral::Names { shared: false }) {
        Delegation::Elsewhere
    } else {
        Delegation::Unknown
    }
}

fn ttl_of(answer: &Answer) -> Option<u32> {
    match answer {
        Answer::Dnskey { ttl, .. } | Answer::Ds { ttl, .. } => Some(*ttl),
        _ => None,
    }
}

/// The answer in a few words, for people.
fn found(zone: &ZoneKeys, answer: &Answer) -> String {
    let join = |tags: Vec<String>| {
        if tags.is_empty() {
            "-".to_string()
        } else {
            tags.join(" ")
        }
    };
    match answer {
        Answer::Dnskey { keys, .. } => join(
            keys.iter()
                .take(16)
                .map(|s| {
                    let mut rdata = s.flags.to_be_bytes().to_vec();
                    rdata.extend([3, s.algorithm]);
                    rdata.extend(&s.public_key);
                    crate::key::key_tag(&rdata).to_string()
                })
                .collect(),
        ),
        Answer::Rrsig { serial, faults, .. } if faults.is_empty() => format!("serial {serial}"),
        Answer::Rrsig { serial, faults, .. } => format!(
            "serial {serial}, wrong RRSIG over {}",
            faults.first().map_or("?", |f| f.as_str())
        ),
        Answer::Ds { bogus: true, .. } => "bogus answer".to_string(),
        Answer::Ds { set, .. } => join(set.iter().take(16).map(|d| d.tag.to_string()).collect()),
        Answer::NoRoute => "no route for this address family here".to_string(),
        Answer::Silent => match zone.published {
            Some(_) => "no answer".to_string(),
            None => "no answer yet".to_string(),
        },
        Answer::Unusable(why) => why.clone(),
    }
}

/// When the next look of a wait that began at `since` is due, the last one having been at `last`:
/// 5 s, 30 s, 2 min, 10 min after the change, then every 10 min for an hour, every 30 min for a
/// week, then every 2 h.
pub fn next_look(since: Timestamp, last: Option<Timestamp>) -> Timestamp {
    const FIRST: [u64; 4] = [5, 30, 120, 600];
    let after = |s: u64| since.saturating_add(Duration::from_secs(s));
    let Some(last) = last.filter(|l| *l >= since) else {
        return after(FIRST[0]);
    };
    let age = last.since(since).as_secs();
    if let Some(s) = FIRST.into_iter().find(|s| *s > age) {
        return after(s);
    }
    let every = match age {
        0..3600 => 600,
        3600..604_800 => 1800,
        _ => 7200,
    };
    last.saturating_add(Duration::from_secs(every))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rarer() {
        let t = Timestamp::from_secs;
        let since = t(1_000_000);
        let mut last = None;
        let mut n = 0;
        while let Some(next) =
            Some(next_look(since, last)).filter(|n| n.since(since).as_secs() < 86_400 * 8)
        {
            assert!(last.is_none_or(|l| next > l));
            last = Some(next);
            n += 1;
        }
        assert!((350..370).contains(&n), "{n}");
        // Looks of an earlier step do not count.
        assert_eq!(next_look(since, Some(t(5))), t(1_000_005));
    }
}
