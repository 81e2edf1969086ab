//! Differences of an IXFR, condensed to the RRsets that they leave behind (RFC 1995 §4).

use std::collections::BTreeMap;

use cascade_zone::{Edit, Name, Rtype, Serial, ZoneVersion, canon, key};

use super::error::XfrError;
use super::reader::Tally;

/// The changes of all sequences in the order received, in one arena.
#[derive(Debug, Default)]
pub struct Delta {
    /// Serial that they lead to.
    pub serial: Option<Serial>,
    pub sequences: u64,
    pub tally: Tally,
    bytes: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    added: bool,
    rtype: Rtype,
    ttl: u32,
    /// Where key, case and RDATA stand, one after the other.
    at: usize,
    key: u16,
    case: u8,
    rdata: u16,
}

impl Delta {
    pub(super) fn push(
        &mut self,
        added: bool,
        key: &[u8],
        case: Option<&[u8]>,
        rtype: Rtype,
        ttl: u32,
        rdata: &[u8],
    ) {
        let case = case.unwrap_or(&[]);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(case);
        self.bytes.extend_from_slice(rdata);
        // A key has at most 510 octets, its case 32, RDATA 65,535: the types hold them.
        self.changes.push(Change {
            added,
            rtype,
            ttl,
            at,
            key: key.len() as u16,
            case: case.len() as u8,
            rdata: rdata.len() as u16,
        });
    }

    pub(super) fn close(&mut self, serial: Serial, tally: Tally) {
        self.serial = Some(serial);
        self.tally = tally;
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Changes of records, both kinds, the SOAs of the sequences included.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    fn parts(&self, c: &Change) -> (&[u8], Option<&[u8]>, &[u8]) {
        let key = c.at..c.at + c.key as usize;
        let case = key.end..key.end + c.case as usize;
        let rdata = case.end..case.end + c.rdata as usize;
        let get = |r: std::ops::Range<usize>| self.bytes.get(r).unwrap_or_default();
        let case = get(case);
        (get(key), (!case.is_empty()).then_some(case), get(rdata))
    }

    /// Every change in the order received: whether the record is added; key and case of its owner,
    /// type, TTL and RDATA.
    pub fn for_each(&self, f: &mut dyn FnMut(bool, &[u8], Option<&[u8]>, Rtype, u32, &[u8])) {
        for c in &self.changes {
            let (key, case, rdata) = self.parts(c);
            f(c.added, key, case, c.rtype, c.ttl, rdata);
        }
    }

    /// The RRsets as they are afterwards, of those that differ from the base's.
    ///
    /// Records match by owner, type and canonical RDATA, whatever TTL the base has: the base's are
    /// normalised.
    ///
    /// # Errors
    /// A change removes what is absent or adds what is present: the two copies differ, and only a
    /// whole transfer repairs that.
    pub fn edits(&self, base: &ZoneVersion) -> Result<Edits, XfrError> {
        let mut sets: BTreeMap<(&[u8], Rtype), Set> = BTreeMap::new();
        let mut edits = Edits::default();
        for change in &self.changes {
            let (key, case, rdata) = self.parts(change);
            let set = sets
                .entry((key, change.rtype))
                .or_insert_with(|| Set::of(base, key, change.rtype));
            let at = || key::to_name(key, case, base.apex());
            let mut id = Vec::with_capacity(rdata.len());
            canon::push_canonical(change.rtype, rdata, &mut id);
            if change.added {
                if case.is_some() {
                    set.case = case.map(<[u8]>::to_vec);
                }
                if set.records.contains_key(&id) {
                    return Err(present(at(), change.rtype));
                }
                set.records.insert(id, (rdata.to_vec(), change.ttl));
                edits.added += 1;
            } else {
                if set.records.remove(&id).is_none() {
                    return Err(absent(at(), change.rtype));
                }
                edits.removed += 1;
            }
        }
        for ((key, rtype), set) in sets {
            if set.records.is_empty() && set.before == 0 {
                continue;
            }
            let ttl = set.records.values().map(|(_, ttl)| *ttl).min();
            if set.records.values().any(|(_, t)| Some(*t) != ttl) {
                edits.mixed_ttl.push((key.to_vec(), rtype));
            }
            edits.list.push(Edit {
                key: key.to_vec(),
                case: set.case,
                rtype,
                set: ttl.map(|ttl| (ttl, set.records.into_values().map(|(r, _)| r).collect())),
            });
        }
        Ok(edits)
    }
}

fn present(owner: Name, rtype: Rtype) -> XfrError {
    XfrError::Present { owner, rtype }
}

fn absent(owner: Name, rtype: Rtype) -> XfrError {
    XfrError::Absent { owner, rtype }
}

/// What differences come to.
#[derive(Debug, Default)]
pub struct Edits {
    pub list: Vec<Edit>,
    pub added: u64,
    pub removed: u64,
    /// RRsets whose records have several TTLs; the smallest is used (RFC 2181 §5.2).
    pub mixed_ttl: Vec<(Vec<u8>, Rtype)>,
}

/// One RRset while changes are applied: by canonical RDATA, the spelling and the TTL.
struct Set {
    records: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    before: usize,
    case: Option<Vec<u8>>,
}

impl Set {
    fn of(base: &ZoneVersion, key: &[u8], rtype: Rtype) -> Set {
        let mut records = BTreeMap::new();
        if let Some(set) = base.owner(key).and_then(|o| o.set(rtype)) {
            for rdata in set.rdatas() {
                let mut id = Vec::with_capacity(rdata.len());
                canon::push_canonical(rtype, rdata, &mut id);
                records.insert(id, (rdata.to_vec(), set.ttl));
            }
        }
        Set {
            before: records.len(),
            records,
            case: None,
        }
    }
}
