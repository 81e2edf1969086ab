//! The digest of a signed version, made and signed last (RFC 8976 §3).
//!
//! The apex comes first and its SOA changes in every version, so nothing of a digest can be kept:
//! each one costs a pass over the zone. Records are written in parallel and hashed in one thread.

use std::collections::VecDeque;
use std::ops::Range;

use cascade_crypto::ZonemdHash;
use cascade_crypto::zonemd::{OwnerRecords, ZoneDigest};
use cascade_time::Timestamp;
use cascade_zone::denial::Denial;
use cascade_zone::sign::Draft;
use cascade_zone::version::{Owner, Record, ZoneVersion};
use cascade_zone::{Rtype, key};
use rayon::prelude::*;

use crate::job::{Job, Stage};
use crate::leaf_patch::{LeafPatch, LeafTask};
use crate::piece::{Keys, run, slots_of};
use crate::plan::SigningPlan;
use crate::refresh::Spread;
use crate::scope::{Masks, Mode};
use crate::sign::SignError;

/// Leaves, and blocks of the NSEC3 chain, that are written at a time: some MiB.
const WINDOW: usize = 128;

/// Puts the digest of `version` in the place that was held for it, and signs it. Gives the number
/// of signatures made too.
pub(crate) fn seal(
    version: ZoneVersion,
    plan: &SigningPlan,
    keys: &Keys,
    spread: &Spread,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<(ZoneVersion, u64), SignError> {
    let Some(hash) = plan.zonemd else {
        return Ok((version, 0));
    };
    job.progress.enter(Stage::Zonemd);
    let digest = job.pool.install(|| digest(&version, hash));
    let set = (
        Rtype::ZONEMD,
        version.soa_ttl(),
        vec![hash.rdata(version.serial(), &digest)],
    );
    let draft = Draft::of_apex(&version, set)?;
    // All signatures that are there stay: what had to go went when the rest was signed.
    let masks = Masks {
        zone: slots_of(&keys[0]),
        dnskey: slots_of(&keys[1]),
        cds: slots_of(&keys[2]),
        gone: 0,
    };
    let leaves = LeafPatch {
        prev: &version,
        beside: None,
        denial_alone: false,
        draft: &draft,
        keys,
        masks: &masks,
        spread,
        nsec_ttl: match version.denial() {
            Denial::Nsec { ttl } => Some(*ttl),
            _ => None,
        },
        apex_times: (plan.apex.inception, plan.apex.expiration),
        key_set_due: now.to_wire(),
        no_digest: false,
        alike: false,
    };
    let apex = LeafTask {
        unit: 0,
        same: false,
        mode: Mode::default(),
    };
    job.progress.add_total(1);
    let mut made = run(
        1,
        keys,
        job,
        now,
        &|_, piece| leaves.prepare(&apex, piece),
        &|_, piece| leaves.finish(&apex, piece),
    )?;
    let apex = made.pop().ok_or(SignError::Cancelled)?;
    Ok((draft.finish_apex(&version, apex.sidecar)?, apex.made.1))
}

/// Whether both apexes have a digest of the same kind, or none.
pub(crate) fn same_kind(a: &Owner<'_>, b: &Owner<'_>) -> bool {
    // Scheme and hash follow the serial (RFC 8976 §2.2).
    let kind = |o: &Owner<'_>| {
        let set = o.set(Rtype::ZONEMD)?;
        let first = set.rdatas().next()?;
        Some((set.ttl, first.get(4..6)?.to_vec()))
    };
    kind(a) == kind(b)
}

/// RFC 8976 §3.3: over all records in canonical order, without the ZONEMD RRset at the apex and its
/// signatures. On the current thread pool.
fn digest(version: &ZoneVersion, hash: ZonemdHash) -> Vec<u8> {
    let mut digest = ZoneDigest::new(hash);
    let mut names = Stream::new(version, version.unit_count(), |version, i, f| {
        version.unit(i).for_each_record(f);
    });
    let mut hashes = Stream::new(version, version.block_count(), |version, i, f| {
        version.for_each_record_in_block(i, f);
    });
    // Hashes are owner names like any other; among all they stand where their labels sort.
    loop {
        let order = match (names.peek(), hashes.peek()) {
            (None, None) => return digest.finish(),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.cmp(b),
        };
        match order {
            std::cmp::Ordering::Less => digest.update(names.next()),
            std::cmp::Ordering::Greater => digest.update(hashes.next()),
            // A name of the zone that is a hash too: its types sort before or after NSEC3, so the
            // two are one owner and must be written as one.
            std::cmp::Ordering::Equal => digest.update(&both(version, &mut names, &mut hashes)),
        }
    }
}

/// Walks the records of unit or block `i`.
type Walk = fn(&ZoneVersion, usize, &mut dyn FnMut(Record<'_>));

/// Owners in order with their records written, a window of units ahead.
struct Stream<'a> {
    version: &'a ZoneVersion,
    walk: Walk,
    count: usize,
    next: usize,
    ready: VecDeque<Written>,
}

/// The owners of one unit: where key and records of each stand in `keys` and `octets`.
#[derive(Default)]
struct Written {
    /// Unit or block number.
    index: usize,
    keys: Vec<u8>,
    octets: Vec<u8>,
    owners: VecDeque<(Range<usize>, Range<usize>)>,
}

impl<'a> Stream<'a> {
    fn new(version: &'a ZoneVersion, count: usize, walk: Walk) -> Stream<'a> {
        Stream {
            version,
            walk,
            count,
            next: 0,
            ready: VecDeque::new(),
        }
    }

    fn fill(&mut self) {
        loop {
            while self.ready.front().is_some_and(|w| w.owners.is_empty()) {
                self.ready.pop_front();
            }
            if !self.ready.is_empty() || self.next >= self.count {
                return;
            }
            let window = self.next..self.count.min(self.next + WINDOW);
            self.next = window.end;
            let (version, walk) = (self.version, self.walk);
            let written: Vec<Written> = window
                .into_par_iter()
                .map(|i| write(version, walk, i))
                .collect();
            self.ready = written.into();
        }
    }

    /// Key of the next owner.
    fn peek(&mut self) -> Option<&[u8]> {
        self.fill();
        let unit = self.ready.front()?;
        unit.keys.get(unit.owners.front()?.0.clone())
    }

    /// Records of the next owner.
    fn next(&mut self) -> &[u8] {
        let Some(unit) = self.ready.front_mut() else {
            return &[];
        };
        let records = unit.owners.pop_front().map_or(0..0, |o| o.1);
        unit.octets.get(records).unwrap_or_default()
    }
}

fn write(version: &ZoneVersion, walk: Walk, index: usize) -> Written {
    let mut out = Written {
        index,
        ..Written::default()
    };
    let (mut owner, mut lower) = (Vec::new(), Vec::new());
    let mut records = OwnerRecords::default();
    let mut close = |owner: &[u8], records: &mut OwnerRecords| {
        if records.is_empty() {
            return;
        }
        let (k, o) = (out.keys.len(), out.octets.len());
        // Owners of a version are in its zone.
        key::push_key(version.apex(), owner, &mut out.keys);
        lower.clear();
        lower.extend(owner.iter().map(u8::to_ascii_lowercase));
        records.write(&lower, k == out.keys.len(), &mut out.octets);
        out.owners
            .push_back((k..out.keys.len(), o..out.octets.len()));
    };
    walk(version, index, &mut |r| {
        if r.owner != owner {
            close(&owner, &mut records);
            owner.clear();
            owner.extend_from_slice(r.owner);
        }
        records.add(r.rtype, r.ttl, r.rdata);
    });
    close(&owner, &mut records);
    out
}

/// The next owner of both streams, which is the same.
fn both<'a>(version: &ZoneVersion, names: &mut Stream<'a>, hashes: &mut Stream<'a>) -> Vec<u8> {
    let key = names.peek().unwrap_or_default().to_vec();
    let mut records = OwnerRecords::default();
    let mut lower = Vec::new();
    key::push_wire(&key, None, version.apex_lower(), &mut lower);
    for stream in [names, hashes] {
        let Some(index) = stream.ready.front().map(|w| w.index) else {
            continue;
        };
        (stream.walk)(version, index, &mut |r| {
            if r.owner.eq_ignore_ascii_case(&lower) {
                records.add(r.rtype, r.ttl, r.rdata);
            }
        });
        stream.next();
    }
    let mut out = Vec::new();
    records.write(&lower, key.is_empty(), &mut out);
    out
}
