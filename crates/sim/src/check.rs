//! What must hold at every moment. Names of the rules are those of `integration/sim/README.md`.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use cascade_keys::{
    ApexSet, Cds, CdsPolicy, Delegation, KeyNum, KskRoll, RollType, Served, Strategy, What, alerts,
    is_automatic, is_published, key_tag,
};
use cascade_time::{Timestamp, format_span};
use serde::{Deserialize, Serialize};

use crate::config::{By, Led};
use crate::reach::{Content, Id, list};
use crate::servers::Part;
use crate::world::World;
use crate::{DAY, HOUR};

/// Rules by number, so that a failure found again is the same failure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Rule {
    /// A lenient validator (RFC 6840 §5.11) accepts whatever it may hold.
    W1,
    /// A validator that wants every algorithm of the DS RRset accepts.
    W2,
    /// A validator that wants every algorithm of the DNSKEY RRset accepts (RFC 4035 §2.2).
    W3,
    /// Signatures in service outlive the TTL of whoever takes them.
    W4,
    /// Serials only increase.
    W5,
    /// A zone once published is answered.
    W6,
    /// No version with wrong signatures is published.
    W7,
    /// A step after something was seen: the servers truly showed it.
    W8,
    /// A step after something expired: no cache holds it.
    W9,
    /// The TTL log ends nothing before its last moment in a cache.
    W10,
    /// A key with a DS stays published.
    W11,
    /// A destroyed key is nowhere.
    W12,
    /// A key is published only right after its proof.
    W13,
    /// No two keys of one DNSKEY RRset share a tag.
    W14,
    /// A parent that takes the CDS breaks nobody, and may trust it.
    W15,
    /// CDS is there as long as a roll waits for the parent.
    W16,
    /// At most one roll per class, in allowed pairs, with one incoming key per role.
    W18,
    /// Signatures at the apex are renewed in time while the token signs.
    W19,
    /// Rolls end.
    W20,
    /// Decisions come to rest, and have a next time.
    W21,
    /// The state survives a crash, and events give the state.
    W22,
    /// Alarms are raised when others break the chain, and only then.
    W23,
    /// Steps begin where the roll is.
    W24,
    /// No step while held or paused.
    W26,
    /// An emergency takes as long as its plan says.
    W27,
    /// The forecast is what happens.
    W28,
    /// An expectation of the scenario.
    Expect,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The first thing that went wrong in a world; it stands still there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Broken {
    pub rule: Rule,
    /// Seconds since the beginning.
    pub age: u64,
    pub text: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = format_span(Duration::from_secs(self.age));
        write!(f, "{} after {at}: {}", self.rule, self.text)
    }
}

const LENIENT: u8 = 1;
const DS_STRICT: u8 = 2;
const DNSKEY_STRICT: u8 = 4;
const ALL: u8 = LENIENT | DS_STRICT | DNSKEY_STRICT;

impl World {
    /// Every combination a resolver may hold now must validate, and the state must be sound.
    pub(crate) fn check(&mut self) {
        self.checks += 1;
        self.note_calm();
        let all = self.reachable();
        let met = self.note_looks(&all);
        if all != self.reach.last {
            self.reach.unwanted.retain(|i| all.contains(i));
            self.reach.last.clone_from(&all);
            self.check_caches(&all);
            self.check_log(&all);
            self.check_ds_keys(&all);
        } else if met {
            self.check_log(&all);
        }
        self.check_announced();
        self.check_cds();
        self.check_dates();
        self.check_state();
        self.check_lively();
    }

    fn check_caches(&mut self, all: &[Id]) {
        let (mut ds, mut keys, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for i in all {
            match self.reach.content(*i) {
                Content::Ds(_) => ds.push(*i),
                Content::Dnskey(..) => keys.push(*i),
                Content::Data(_) | Content::Cds(_) => data.push(*i),
            }
        }
        self.calm.blamed = false;
        for d in ds {
            for k in &keys {
                for r in &data {
                    let bits = self.validators(d, *k, *r);
                    if bits != ALL {
                        self.judge_violation(d, *k, *r, bits);
                    }
                }
            }
        }
    }

    fn judge_violation(&mut self, d: Id, k: Id, r: Id, bits: u8) {
        if self.is_fast() || self.operator_lied {
            return;
        }
        if self.reach.unwanted.contains(&d) {
            self.calm.blamed = true;
            return;
        }
        let rule = if bits & LENIENT == 0 {
            Rule::W1
        } else if bits & DS_STRICT == 0 {
            Rule::W2
        } else {
            Rule::W3
        };
        let text = format!(
            "{:?}, {:?}, {:?} do not fit together; rolls {:?}",
            self.reach.content(d),
            self.reach.content(k),
            self.reach.content(r),
            self.zone
                .rolls
                .iter()
                .map(|r| (r.kind, r.stage))
                .collect::<Vec<_>>(),
        );
        self.fail(rule, text);
    }

    /// Which of the three validators accept; an answer is kept, because classes recur.
    fn validators(&mut self, d: Id, k: Id, r: Id) -> u8 {
        if let Some(bits) = self.reach.triples.get(&(d, k, r)) {
            return *bits;
        }
        let bits = match (
            self.reach.content(d),
            self.reach.content(k),
            self.reach.content(r),
        ) {
            (Content::Ds(ds), Content::Dnskey(keys, by), Content::Data(r) | Content::Cds(r)) => {
                let alg = |n: &KeyNum| self.keys.get(n).map_or(0, |k| k.algorithm);
                let usable: Vec<_> = ds.iter().filter(|d| d.is_usable()).collect();
                let ds_algs: BTreeSet<u8> = usable.iter().map(|d| d.algorithm).collect();
                let key_algs: BTreeSet<u8> = keys.iter().map(alg).collect();
                let chain = |a: &u8| {
                    usable.iter().any(|d| {
                        let leads = |n: KeyNum| keys.contains(&n) && by.contains(&n);
                        d.algorithm == *a && d.fits && d.key.is_some_and(leads)
                    })
                };
                let sig = |a: &u8| keys.iter().any(|n| alg(n) == *a && r.contains(n));
                let mut bits = 0;
                if ds_algs.is_empty() {
                    // Insecure: nothing is required.
                    ALL
                } else {
                    if ds_algs.iter().any(chain) && key_algs.iter().any(sig) {
                        bits |= LENIENT;
                    }
                    if ds_algs.iter().all(|a| chain(a) && sig(a)) {
                        bits |= DS_STRICT;
                    }
                    if ds_algs.iter().all(chain) && key_algs.iter().all(sig) {
                        bits |= DNSKEY_STRICT;
                    }
                    bits
                }
            }
            _ => ALL,
        };
        self.reach.triples.insert((d, k, r), bits);
        bits
    }

    /// The smallest margin of the rolls that run; without any, the policy's.
    pub(crate) fn margin_now(&self) -> Duration {
        let margin = self.policy.margin;
        let each = self.zone.rolls.iter().map(|r| match r.strategy {
            Strategy::Normal => margin.max(r.margin),
            _ => margin.min(Duration::from_secs(300)),
        });
        each.min().unwrap_or(margin)
    }

    /// W10: what a cache may hold is not free in the log.
    fn check_log(&mut self, all: &[Id]) {
        // A version that was published when the power went is told after the restart.
        let untold = !self.up || !self.unreported.is_empty() || self.is_restoring();
        if untold || self.operator_lied || self.facts.clock_held || self.config.led != Led::Here {
            return;
        }
        let margin = self.margin_now();
        let wall = self.wall();
        let ends = |dying: &dyn Fn(&Served) -> bool| self.zone.log.free(dying, margin).holds(wall);
        // Sets that a running roll waits for.
        let rolls = self.zone.rolls.iter();
        let used: BTreeSet<KeyNum> = rolls
            .flat_map(|r| r.old.iter().chain(&r.new))
            .copied()
            .collect();
        let mut wrong = None;
        for i in all {
            let content = self.reach.content(*i);
            let before = |k: &KeyNum| self.zone.key(*k).is_none();
            if matches!(content, Content::Dnskey(k, _) | Content::Data(k) if k.iter().any(before)) {
                // Of the signer before us we know nothing.
                continue;
            }
            for n in &used {
                let early = match content {
                    Content::Dnskey(k, _) if !k.is_empty() => {
                        let has = k.contains(n);
                        ends(&|s| matches!(s, Served::Dnskey(k) if k.contains(n) == has))
                    }
                    Content::Data(r) if !r.is_empty() => {
                        let signs = self.keys.get(n).is_some_and(|k| k.role.signs_data());
                        let has = r.contains(n);
                        signs
                            && ends(&|s| match s {
                                Served::Data { any, .. } if has => any.contains(n),
                                Served::Data { all, .. } => !all.contains(n),
                                Served::Unsigned => !has,
                                _ => false,
                            })
                    }
                    Content::Ds(d) if !self.reach.unwanted.contains(i) => {
                        let has = d.iter().any(|d| d.key == Some(*n));
                        let of =
                            |s: &Served| matches!(s, Served::Ds { ours, .. } if ours.contains(n));
                        let known = self.zone.log.entries.iter().any(|e| of(&e.what));
                        // What is wanted may be there before it was seen; nothing ends it.
                        let wanted = self.zone.parent.wanted.contains(n);
                        has && known && !wanted && !self.is_before_the_look(n, *i) && ends(&of)
                    }
                    _ => false,
                };
                if early {
                    wrong = Some(format!("{content:?} is in caches; the log ends it for {n}"));
                }
            }
        }
        if let Some(text) = wrong {
            self.fail(Rule::W10, text);
        }
    }

    /// A DS set that was there while a look asked all of the parent's servers is known from then on.
    /// True if there is one.
    fn note_looks(&mut self, all: &[Id]) -> bool {
        self.reach.unmet.retain(|i, _| all.contains(i));
        let Some(look) = self.zone.look(What::Ds) else {
            return false;
        };
        let answered = look
            .members
            .iter()
            .all(|m| m.last_answer == Some(look.ended));
        let times = (look.started, look.ended);
        if !answered || self.reach.looked.replace(times) == Some(times) {
            return false;
        }
        // It has just ended; its own times are those of a clock that is stepped.
        let began = self.now.saturating_sub(times.1.since(times.0));
        let shown = self.ds_shown();
        let before = self.reach.unmet.len();
        let met = |i: &Id, came: Timestamp| shown.contains(i) && came < began;
        self.reach.unmet.retain(|i, came| !met(i, *came));
        self.reach.unmet.len() < before
    }

    /// A DS set that no look has met yet, while whatever uses the end of this key's DS waits for a look
    /// first. A DS that is wanted comes to the parent at any moment, also at the last before it is not
    /// wanted any more (the roll to insecure begins, or a KSK roll asks for the other one) and between
    /// two looks: nothing could have told of it. The log's end is not used before that look: the row
    /// that waits for caches comes after the row that waits for the parent, and its look finds the DS,
    /// which is logged then, or finds that it is not there any more, and then what may have been there
    /// since the last one is assumed. From that look on the log is held to what caches hold, and so it
    /// is in every row that has nothing to see at the parent.
    fn is_before_the_look(&self, n: &KeyNum, ds: Id) -> bool {
        let mut using = self.zone.rolls.iter();
        let waits = |r: &cascade_keys::Roll| {
            let mut seen = r.row().into_iter().flat_map(|row| row.seen);
            seen.any(|s| What::of(*s) == What::Ds && !r.is_met(*s))
        };
        self.reach.unmet.contains_key(&ds)
            && using.all(|r| waits(r) || !r.old.contains(n) && !r.new.contains(n))
    }

    /// W11: outside double-DS a key whose DS may be cached is in the DNSKEY RRset.
    fn check_ds_keys(&mut self, all: &[Id]) {
        if self.has_double_ds() || self.is_fast() || self.operator_lied {
            return;
        }
        let Some(v) = self.versions.last() else {
            return;
        };
        // Before its keys are imported the zone is somebody else's.
        let theirs = |n: &KeyNum| self.config.signed_before && self.zone.key(*n).is_none();
        let mut wrong = None;
        for i in all {
            if let Content::Ds(d) = self.reach.content(*i)
                && !self.reach.unwanted.contains(i)
            {
                let out = d.iter().filter_map(|d| d.key);
                wrong = out
                    .into_iter()
                    .find(|n| !v.apex.dnskey.contains(n) && !theirs(n))
                    .or(wrong);
            }
        }
        if let Some(n) = wrong {
            self.fail(Rule::W11, format!("{n} has a DS and is not published"));
        }
    }

    fn has_double_ds(&self) -> bool {
        let is = |k: RollType| k == RollType::KskDoubleDs;
        self.policy.ksk_roll == KskRoll::DoubleDs
            || self.finished.keys().any(|k| is(*k))
            || self.zone.rolls.iter().any(|r| is(r.kind))
    }

    /// A violation by others is announced before long.
    fn check_announced(&mut self) {
        if !self.calm.blamed {
            self.calm.announce_by = None;
            return;
        }
        let restored = self.zone.keys.iter().any(|k| k.restored);
        if restored || !alerts(&self.zone, &self.policy, self.wall()).is_empty() {
            if self.calm.announce_by.take().is_some() || self.announced == 0 {
                self.announced += 1;
            }
            return;
        }
        // Once a day all servers are looked at, by whoever can.
        let c = &self.config;
        if !self.up || self.within(c.network_down) || self.within(c.disk_full) {
            self.calm.announce_by = None;
            return;
        }
        let now = self.now;
        // By a clock that is put back the next look comes later by that.
        let soon = now + Duration::from_secs(DAY + HOUR + self.calm.stepped);
        let by = *self.calm.announce_by.get_or_insert(soon);
        if now > by {
            let text = "nobody was told of a DS that breaks the chain".to_string();
            self.fail(Rule::W23, text);
        }
    }

    /// W15: a parent that takes the CDS now keeps every cached DNSKEY RRset valid (RFC 7344 §4.1).
    fn check_cds(&mut self) {
        if self.config.led != Led::Here || self.is_fast() || self.operator_lied {
            return;
        }
        let Some(v) = self.versions.last() else {
            return;
        };
        let apex = v.apex.clone();
        if let Cds::Keys(set) = &apex.cds {
            let leads =
                |k: &[KeyNum], by: &[KeyNum]| set.iter().any(|n| k.contains(n) && by.contains(n));
            let breaks = self
                .reach
                .last
                .iter()
                .find_map(|i| match self.reach.content(*i) {
                    Content::Dnskey(k, by) if !leads(k, by) => Some(list(k)),
                    _ => None,
                });
            if let Some(k) = breaks {
                self.fail(Rule::W15, format!("CDS {} breaks DNSKEY {k}", list(set)));
            }
        }
        let mut untrusted = false;
        for s in 0..self.parents.len() {
            let id = self.parents[s].set.clone();
            let id = self.reach.id(Content::Ds(id));
            let set = &self.parents[s].set;
            let may = |d: &crate::Ds| {
                let signs = |n: &KeyNum| apex.cds_signers.contains(n) && apex.dnskey.contains(n);
                d.key.is_some_and(|n| signs(&n))
            };
            untrusted |= apex.cds != Cds::None
                && !set.is_empty()
                && !self.reach.unwanted.contains(&id)
                && !set.iter().any(may);
        }
        if untrusted {
            let text = format!("CDS signed by {} only", list(&apex.cds_signers));
            self.fail(Rule::W15, text);
        }
        self.check_cds_there();
    }

    /// W16.
    fn check_cds_there(&mut self) {
        let led = matches!(
            self.zone.parent.delegation,
            Delegation::Ours | Delegation::Linked
        );
        if self.policy.cds != CdsPolicy::WhenNeeded || !led || self.zone.settled_at.is_none() {
            return;
        }
        let waits = self.zone.rolls.iter().any(|r| {
            let row = r.row();
            row.is_some_and(|w| w.seen.iter().any(|s| What::of(*s) == What::Ds))
        });
        if !waits || !is_published(&self.zone, &self.policy, self.wall()) {
            return;
        }
        let cds = self.zone.published.as_ref().map(|p| p.apex.cds.clone());
        let wants = Cds::Keys(self.zone.parent.wanted.clone());
        if cds != Some(Cds::Delete) && cds != Some(wants) {
            let text = format!("a roll waits for the parent with CDS {cds:?}");
            self.fail(Rule::W16, text);
        }
    }

    fn check_state(&mut self) {
        let Some(p) = self.zone.published.clone() else {
            return;
        };
        if self.up && self.servers[0].has.is_none() {
            self.fail(Rule::W6, "a published zone that is not served".into());
        }
        if p.apex.unsigned || !self.up {
            return;
        }
        // RFC 4035 §2.2: no algorithm in DNSKEY without a key that signs data.
        let alg = |n: &KeyNum| self.keys.get(n).map(|k| k.algorithm);
        let signed: BTreeSet<_> = p.apex.zone_signers.iter().map(alg).collect();
        let alone = p.apex.dnskey.iter().find(|n| !signed.contains(&alg(n)));
        if let Some(n) = alone.copied() {
            let text = format!("the algorithm of {n} has no key that signs data");
            self.fail(Rule::W3, text);
        }
        // W19: apex signatures are renewed within two hours of being due. The spread of at most
        // an eighth of remain-time only makes them due earlier.
        let due = p.apex_expires - self.policy.apex_signatures.remain;
        let since = due.max(self.calm.signing);
        if self.skew == 0
            && self.wall() > due
            && self.now.since(since) > Duration::from_secs(2 * HOUR)
        {
            self.fail(Rule::W19, "apex signatures are not renewed".into());
        }
    }

    /// W20: without faults no step takes longer than its waits can explain.
    fn check_lively(&mut self) {
        let stuck = self.facts.paused
            || self.facts.clock_held
            || self.operator_lied
            || self.config.by == By::Nobody
            || self.config.keep_old
            || !self.config.digests.iter().any(|d| matches!(d, 2 | 4))
            || !self.reach.unwanted.is_empty()
            || self.zone.parent.vanished;
        if stuck {
            self.calm.all = self.now;
            return;
        }
        if self.zone.rolls.is_empty() {
            return;
        }
        let c = &self.config;
        let ttls = self.zone.log.entries.iter().map(|e| e.ttl);
        let ttl = ttls
            .chain([172_800, c.data_ttl, c.ds_ttl])
            .max()
            .unwrap_or(0);
        let parent = c.register + c.every + c.remove_first + c.parent.iter().max().unwrap_or(&0);
        let limit = u64::from(ttl)
            + u64::from(c.soa_expire.max(c.parent_expire))
            + self.policy.margin.as_secs()
            + self.policy.remind_after.as_secs()
            + 2 * c.resign
            + parent
            + 2 * c.lags.iter().max().unwrap_or(&0)
            + self.calm.stepped
            + DAY
            + 5 * HOUR;
        let late = self.zone.rolls.iter().find(|r| {
            let backup = self.policy.require_backup && r.stage == cascade_keys::Stage::Keys;
            let since = r.since.max(self.calm.all);
            is_automatic(&self.policy, r)
                && !backup
                && self.now.since(since) > Duration::from_secs(limit)
        });
        if let Some(r) = late {
            let text = format!("{} stands at {:?}", r.class(), r.stage);
            self.fail(Rule::W20, text);
        }
    }

    /// Remembers when something was wrong last.
    fn note_calm(&mut self) {
        let now = self.now;
        let age = self.age();
        let c = &self.config;
        let signing = self.within(c.token_down)
            || self.within(c.token_lies.map(|l| (l.0, l.1)))
            || self.within(c.instance_lost.map(|l| (l.0, l.1 + HOUR)))
            || self.within(c.disk_full)
            || !self.up
            || !self.lost.is_empty()
            || self.facts.clock_held;
        if signing {
            self.calm.signing = now;
        }
        let down = |d: &(usize, u64, u64)| d.1 <= age && age < d.2;
        let net = c.down.iter().chain(&c.parent_down).any(down)
            || self.within(c.network_down)
            || self.unsynchronised && c.instances > 1
            || self.servers.iter().any(|s| {
                s.flips.is_some()
                    || s.expired
                    || s.stuck_until.is_some_and(|t| t > now)
                    || s.refuses_until.is_some_and(|t| t > now)
            });
        if signing || net {
            self.calm.all = now;
        }
        if self.zone.rolls.iter().any(|r| r.strategy == Strategy::Fast) {
            let ttl = self
                .config
                .ds_ttl
                .max(self.config.data_ttl)
                .max(self.policy.ttl);
            // What is announced: the longest of the TTLs.
            let until = now + Duration::from_secs(u64::from(ttl) + HOUR);
            self.calm.fast_until = Some(until);
        }
    }

    pub(crate) fn is_fast(&self) -> bool {
        self.calm.fast_until.is_some_and(|t| t >= self.now)
    }

    /// What a version must have before it is shown.
    pub(crate) fn check_new(&mut self, apex: &ApexSet, data: &[Part]) {
        let known = |n: &KeyNum| {
            self.versions.last().is_some_and(|v| {
                v.apex.dnskey.contains(n) || v.data.iter().any(|p| p.signers.contains(n))
            })
        };
        let used = data.iter().flat_map(|p| &p.signers);
        let fresh: BTreeSet<KeyNum> = used.chain(&apex.dnskey).copied().collect();
        // What was live when the power went is shown again, whenever that is.
        let at = self.live_since().unwrap_or_else(|| self.wall());
        let limit = Duration::from_secs(600 + self.config.costs.build);
        let recent = |proof: Option<Timestamp>| proof.is_some_and(|p| at.since(p) <= limit);
        let unproved = fresh
            .into_iter()
            .find(|n| !known(n) && !self.zone.key(*n).is_some_and(|k| recent(k.proved_at)));
        if let Some(n) = unproved {
            self.fail(Rule::W13, format!("{n} is published without a fresh proof"));
        }
        let mut tags = BTreeSet::new();
        for n in &apex.dnskey {
            let Some(k) = self.zone.key(*n) else { continue };
            let pair = (k.algorithm, key_tag(&k.dnskey_rdata()));
            if !tags.insert(pair) {
                return self.fail(Rule::W14, format!("{n} shares its tag"));
            }
        }
    }
}
