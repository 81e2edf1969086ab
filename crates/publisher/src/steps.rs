//! What changed from one published version to the next, kept ready for clients that are behind.
//!
//! A step holds the records of one difference in sending order. Steps form a chain that ends at the
//! version that is served; when there are too many, two old ones that follow each other become one. A client
//! whose serial lies within one of these is sent the whole zone.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use cascade_zone::version::{Record, ZoneVersion};
use cascade_zone::{Rtype, Serial, VersionId, diff_until};
use foldhash::fast::RandomState;

/// Type, TTL and RDATA length of a stored record; the owner before them ends itself.
const FIXED: usize = 8;

/// Records of two steps that become one as long as there are others: about a millisecond of a publication.
const JOIN_MAX: u64 = 16_384;

/// How much of the past is kept (`server.outbound.max-diffs`, `max-diffs-size`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLimits {
    pub steps: usize,
    /// Records in all steps together, in percent of those of the published version; 0: no steps.
    pub percent: u32,
}

impl Default for StepLimits {
    fn default() -> Self {
        StepLimits {
            steps: 1000,
            percent: 20,
        }
    }
}

impl StepLimits {
    fn records(&self, version: &ZoneVersion) -> u64 {
        version.sums().records.saturating_mul(self.percent.into()) / 100
    }
}

/// Records one after the other: owner, type, TTL, RDATA length, RDATA.
#[derive(Default)]
pub(crate) struct Records {
    octets: Vec<u8>,
    count: u64,
}

impl Records {
    fn push(&mut self, r: &Record<'_>) {
        self.octets.extend_from_slice(r.owner);
        self.octets.extend_from_slice(&r.rtype.0.to_be_bytes());
        self.octets.extend_from_slice(&r.ttl.to_be_bytes());
        self.octets
            .extend_from_slice(&(r.rdata.len() as u16).to_be_bytes());
        self.octets.extend_from_slice(r.rdata);
        self.count += 1;
    }

    /// The record at an offset, and the offset of the next one; `None` at the end.
    pub(crate) fn at(&self, at: usize) -> Option<(Record<'_>, usize)> {
        let rest = self.octets.get(at..)?;
        let mut end = 0;
        while *rest.get(end)? != 0 {
            end += 1 + rest[end] as usize;
        }
        let owner = rest.get(..end + 1)?;
        let f = rest.get(end + 1..)?.first_chunk::<FIXED>()?;
        let rdata_at = end + 1 + FIXED;
        let rdata = rest.get(rdata_at..rdata_at + u16::from_be_bytes([f[6], f[7]]) as usize)?;
        let record = Record {
            owner,
            rtype: Rtype(u16::from_be_bytes([f[0], f[1]])),
            ttl: u32::from_be_bytes([f[2], f[3], f[4], f[5]]),
            rdata,
        };
        Some((record, at + rdata_at + rdata.len()))
    }

    fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (record, next) = self.at(at)?;
            at = next;
            Some(record)
        })
    }
}

/// A SOA with its TTL.
#[derive(Clone)]
pub(crate) struct Soa {
    pub ttl: u32,
    pub rdata: Box<[u8]>,
}

impl Soa {
    fn of(version: &ZoneVersion) -> Self {
        Soa {
            ttl: version.soa_ttl(),
            rdata: version.soa().into(),
        }
    }
}

/// The difference of two versions that were published one after the other.
pub struct Step {
    pub from: (VersionId, Serial),
    pub to: (VersionId, Serial),
    pub(crate) old_soa: Soa,
    pub(crate) new_soa: Soa,
    pub(crate) removed: Records,
    pub(crate) added: Records,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = (self.from.1, self.to.1);
        let (less, more) = (self.removed.count, self.added.count);
        write!(f, "Step {from} to {to}: -{less} +{more}")
    }
}

impl Step {
    /// What `new` has changed against `old`, at the cost of what differs. `None` when that is more
    /// than is kept, or when a client could not tell the serials apart (RFC 1982 §3.2): clients get
    /// the whole zone then.
    pub fn between(old: &ZoneVersion, new: &ZoneVersion, limits: StepLimits) -> Option<Step> {
        if !new.serial().newer_than(old.serial()) || limits.steps == 0 {
            return None;
        }
        let mut left = limits.records(new).checked_sub(1)?;
        let mut step = Step {
            from: (old.id(), old.serial()),
            to: (new.id(), new.serial()),
            old_soa: Soa::of(old),
            new_soa: Soa::of(new),
            removed: Records::default(),
            added: Records::default(),
        };
        diff_until(old, new, &mut |item| {
            if item.rtype == Rtype::SOA {
                return ControlFlow::Continue(());
            }
            let Some(less) = left.checked_sub(1) else {
                return ControlFlow::Break(());
            };
            left = less;
            let side = if item.removed {
                &mut step.removed
            } else {
                &mut step.added
            };
            side.push(&Record {
                owner: item.owner,
                rtype: item.rtype,
                ttl: item.ttl,
                rdata: item.rdata,
            });
            ControlFlow::Continue(())
        })?;
        step.removed.octets.shrink_to_fit();
        step.added.octets.shrink_to_fit();
        Some(step)
    }

    /// Records removed and added, the two SOA left out.
    pub fn records(&self) -> u64 {
        self.removed.count + self.added.count
    }

    /// Octets of these records without compression, as [`cascade_zone::LeafSums::wire`] counts them.
    pub fn octets(&self) -> u64 {
        let stored = self.removed.octets.len() + self.added.octets.len();
        // A record has its class too.
        stored as u64 + 2 * self.records()
    }

    /// One step from where `self` begins to where `next` ends. What one of them takes away and the
    /// other brings back cancels out.
    fn join(&self, next: &Step) -> Step {
        let mut out = Step {
            from: self.from,
            to: next.to,
            old_soa: self.old_soa.clone(),
            new_soa: next.new_soa.clone(),
            removed: Records::default(),
            added: Records::default(),
        };
        let mut gone = set(&next.removed);
        let mut back = set(&next.added);
        // The older step is the larger one most of the time: nothing is kept of it but what goes on.
        keep_others(&self.removed, &mut back, &mut out.removed);
        keep_others(&self.added, &mut gone, &mut out.added);
        keep_left(&next.removed, &gone, &mut out.removed);
        keep_left(&next.added, &back, &mut out.added);
        out
    }
}

/// Identities of records, and whether the step before has undone them.
type Set = HashMap<Vec<u8>, bool, RandomState>;

fn set(records: &Records) -> Set {
    let mut all = HashMap::default();
    all.extend(records.iter().map(|r| {
        let mut id = Vec::new();
        identity(&r, &mut id);
        (id, false)
    }));
    all
}

/// Appends the records that are not among `others`, and marks those that are.
fn keep_others(from: &Records, others: &mut Set, out: &mut Records) {
    let mut id = Vec::new();
    for r in from.iter() {
        identity(&r, &mut id);
        match others.get_mut(&id) {
            Some(undone) => *undone = true,
            None => out.push(&r),
        }
    }
}

/// Appends the records that are not marked.
fn keep_left(from: &Records, marks: &Set, out: &mut Records) {
    let mut id = Vec::new();
    for r in from.iter() {
        identity(&r, &mut id);
        if marks.get(&id) != Some(&true) {
            out.push(&r);
        }
    }
}

/// Equal for equal records: owners in lower case (RFC 4343), data as stored.
fn identity(r: &Record<'_>, id: &mut Vec<u8>) {
    id.clear();
    id.extend(r.owner.iter().map(u8::to_ascii_lowercase));
    id.extend_from_slice(&r.rtype.0.to_be_bytes());
    id.extend_from_slice(&r.ttl.to_be_bytes());
    id.extend_from_slice(r.rdata);
}

/// The two neighbours that are to become one: the oldest ones of which the older is not much larger than the
/// other, so that sizes fall from the oldest to the newest and each record is copied a few times only, however
/// many versions come after it. The newest stays as it is: most clients lack just that one.
fn pair(sizes: &[u64]) -> Option<usize> {
    let pairs = 0..sizes.len().saturating_sub(2);
    // Where few are kept they have to be large.
    let share = 4 * sizes.iter().sum::<u64>() / sizes.len().max(1) as u64;
    let most = share.max(JOIN_MAX);
    let even = |i: &usize| {
        let (older, newer) = (sizes[*i], sizes[*i + 1]);
        older <= 2 * newer && older + newer <= most
    };
    let both = |i: &usize| sizes[*i] + sizes[*i + 1];
    pairs.clone().find(even).or_else(|| pairs.min_by_key(both))
}

/// Steps of one zone, each beginning where the one before ends.
#[derive(Debug, Clone, Default)]
pub struct Steps(Vec<Arc<Step>>);

impl Steps {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The steps with that from `old` to `new` behind them, within the limits. A step that does not
    /// go on where they end, or that is too large to be kept, begins the chain anew: no client ever
    /// gets an increment with a gap.
    pub fn then(&self, old: &ZoneVersion, new: &ZoneVersion, limits: StepLimits) -> Steps {
        let Some(step) = Step::between(old, new, limits) else {
            return Steps::default();
        };
        let follows = self.0.last().is_none_or(|last| last.to == step.from);
        let mut list = if follows { self.0.clone() } else { Vec::new() };
        list.push(Arc::new(step));
        while list.len() > limits.steps {
            let sizes: Vec<u64> = list.iter().map(|s| s.records()).collect();
            match pair(&sizes) {
                Some(i) => {
                    let joined = Arc::new(list[i].join(&list[i + 1]));
                    list.splice(i..i + 2, [joined]);
                }
                None => drop(list.remove(0)),
            }
        }
        let max = limits.records(new);
        let mut total: u64 = list.iter().map(|s| s.records()).sum();
        let mut surplus = 0;
        while total > max && surplus < list.len() {
            total -= list[surplus].records();
            surplus += 1;
        }
        list.drain(..surplus);
        Steps(list)
    }

    /// The steps that lead a client from its serial to a version. `None`: there is no such chain,
    /// or it is longer than half of the zone.
    pub(crate) fn from(&self, client: Serial, version: &ZoneVersion) -> Option<Vec<Arc<Step>>> {
        let end = self.0.iter().rposition(|s| s.to.0 == version.id())?;
        // The newest one counts should a serial ever have been used twice.
        let start = self.0[..=end].iter().rposition(|s| s.from.1 == client)?;
        let chain = self.0[start..=end].to_vec();
        let octets: u64 = chain.iter().map(|s| s.octets()).sum();
        (octets <= version.sums().wire / 2).then_some(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of `size` records each come one after the other, `keep` at most are kept. Gives the sizes that are
    /// left, and how many records were copied.
    fn stream(count: u64, size: u64, keep: usize) -> (Vec<u64>, u64) {
        let (mut sizes, mut copied) = (Vec::new(), 0);
        for _ in 0..count {
            sizes.push(size);
            while sizes.len() > keep {
                let i = pair(&sizes).expect("there are old ones");
                let newer = sizes.remove(i + 1);
                sizes[i] += newer;
                copied += sizes[i];
            }
        }
        (sizes, copied)
    }

    #[test]
    fn joining_costs_little_however_much_is_kept() {
        let (count, size) = (50_000, 8);
        let (sizes, copied) = stream(count, size, 1000);
        assert_eq!(sizes.iter().sum::<u64>(), count * size);
        assert!(copied <= 16 * count * size, "{copied}");
        // Nearly all of them are as they came: whoever is not far behind finds his serial.
        let whole = sizes.iter().filter(|s| **s == size).count();
        assert!(whole >= 900, "{whole}: {sizes:?}");
        assert!(sizes.iter().all(|s| *s <= JOIN_MAX));
        // Where few may be kept, most that come do not copy the large ones.
        let (sizes, copied) = stream(count, size, 8);
        assert_eq!((sizes.len(), sizes[7]), (8, size));
        assert!(copied <= 40 * count * size, "{copied}");
    }
}
