//! From answers to evidence: what each server showed, whether that is enough, and for which step.

use cascade_time::Timestamp;

use crate::ds::{DsRecord, absent, at_or_past, present};
use crate::key::{Key, KeyNum, key_tag};
use crate::mutants::{Mutant, is};
use crate::observe::{
    Answer, Delegation, DsShown, MAX_NODES, Member, MemberReport, Referral, STEADY, Sweep,
    SweepReport, Verdict, What,
};
use crate::policy::KeyPolicy;
use crate::roll::{Roll, Seen};
use crate::state::ZoneKeys;

/// Judges a sweep against what is published and wanted.
pub fn judge(zone: &ZoneKeys, policy: &KeyPolicy, sweep: &Sweep) -> SweepReport {
    let most = if is(Mutant::OneServer) { 1 } else { MAX_NODES };
    let members = &sweep.members[..sweep.members.len().min(most)];
    let q = Quorum::new(zone, policy, sweep, members);
    let expected = |m: &Member| expected(zone, &m.answer);
    let current = q.is_current();
    let passed = q.pass(expected).filter(|_| current);
    let covered = q.pass(|_| true);
    let mut seen = Vec::new();
    for roll in &zone.rolls {
        let Some(row) = roll.row() else { continue };
        for s in row.seen.iter().filter(|s| What::of(**s) == sweep.what) {
            let ok = (sweep.started >= roll.since || is(Mutant::OldSweepsCount))
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
                nsid: m.nsid.clone(),
                verdict: q.verdict(m, expected(m)),
                found: match (&m.answer, &m.nsid) {
                    (Answer::Silent, Some(_)) => "this node was not reached".to_string(),
                    _ => found(zone, &m.answer),
                },
                ttl: ttl_of(&m.answer),
                first_asked: q.first_asked(m),
                last_answer: if m.answer.is_answer() {
                    Some(sweep.ended)
                } else {
                    q.last_answer(m)
                },
                flipped_at: q.flipped_at(m),
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
                Verdict::Mismatch | Verdict::NoAnswer | Verdict::Unsteady => return None,
                // Nobody knows what a server shows that was never reached.
                Verdict::Excused => excused_silent |= !self.is_seen_elsewhere(m),
            }
        }
        if matches == 0 {
            return None;
        }
        if !excused_silent {
            return Some(0);
        }
        // A secondary that is cut off stops answering after SOA EXPIRE (RFC 1034 §4.3.5).
        (matches * 2 >= self.members.len()).then(|| if is(Mutant::NoX) { 0 } else { self.expire() })
    }

    fn verdict(&self, m: &Member, agrees: bool) -> Verdict {
        let matched = |r: &MemberReport| r.verdict == Verdict::Match;
        if is(Mutant::TwoSweepsAsOne) && self.memory(m).is_some_and(matched) {
            return Verdict::Match;
        }
        if m.answer.is_answer() {
            let recent = |at: Timestamp| self.sweep.ended.since(at) < STEADY;
            return match agrees {
                true if self.flipped_at(m).is_some_and(recent) => Verdict::Unsteady,
                true => Verdict::Match,
                false => Verdict::Mismatch,
            };
        }
        match &m.answer {
            Answer::NoRoute if self.is_seen_elsewhere(m) => return Verdict::Excused,
            Answer::NoRoute | Answer::Silent => {}
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

    /// No route for this address family, and the same server answers over the other.
    fn is_seen_elsewhere(&self, m: &Member) -> bool {
        let same = |o: &Member| o.server == m.server && o.answer.is_answer();
        m.answer == Answer::NoRoute && self.members.iter().any(same)
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
            .find(|r| r.address == m.address && r.server == m.server && r.nsid == m.nsid)
    }

    /// When the server last went back from what is expected, as far as this wait goes.
    fn flipped_at(&self, m: &Member) -> Option<Timestamp> {
        let look = self.zone.look(self.sweep.what)?;
        if look.started < self.since || is(Mutant::FlipsForgotten) {
            return None;
        }
        let before = self.memory(m)?;
        let had = matches!(before.verdict, Verdict::Match | Verdict::Unsteady)
            || before.flipped_at.is_some();
        if had && m.answer.is_answer() && !expected(self.zone, &m.answer) {
            return Some(self.sweep.ended);
        }
        before.flipped_at
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
                            let same = k.is_same_key(s.algorithm, &s.public_key);
                            let tag = || {
                                let mut rdata = s.flags.to_be_bytes().to_vec();
                                rdata.extend([3, s.algorithm]);
                                rdata.extend(&s.public_key);
                                key_tag(&rdata)
                            };
                            s.flags == k.flags()
                                && (same || is(Mutant::CompareByTag) && tag() == k.tag())
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
    let all = |list: &[KeyNum], test: fn(&[u8], &Key, &[DsRecord]) -> bool| {
        ksks(list)
            .iter()
            .all(|n| zone.key(*n).is_some_and(|k| test(&zone.owner, k, set)))
    };
    match seen {
        Seen::DsSwapped if is(Mutant::OldDsMayStay) => all(&roll.new, present),
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
    let ours: Vec<&Key> = zone
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
                    key_tag(&rdata).to_string()
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
