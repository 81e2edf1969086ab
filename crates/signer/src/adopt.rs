//! A zone that comes signed: its signatures and its denial of existence are taken as they are.
//!
//! A version holds what can be derived (NSEC and NSEC3 records, labels, original TTLs) only once.
//! What a source has must therefore be what would be derived; where it is not, the source is
//! refused by name. Whether a signature is good is the gate's to say.

use std::collections::HashMap;

use cascade_crypto::Dnskey;
use cascade_time::Timestamp;
use cascade_zone::block::{BlockBuilder, ChainContext, Hash, Nsec3Params, push_base32hex};
use cascade_zone::build::BuildError;
use cascade_zone::denial::{Chain, Denial, bitmap_types, is_signed_set, push_bitmap};
use cascade_zone::sidecar::NSEC_SET;
use cascade_zone::sign::{Draft, SetSpec, Sidecar};
use cascade_zone::slots::{KeySlot, KeyTable};
use cascade_zone::version::ZoneVersion;
use cascade_zone::{KeyId, Name, Rtype, VersionId, key};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::job::{Job, Stage};
use crate::nsec3::{self, ChainPlan, Rows};
use crate::report::SignReport;
use crate::scope::Left;
use crate::sign::Signed;

/// A record of the source that belongs to DNSSEC: RRSIG, NSEC, NSEC3, and at the apex DNSKEY, CDS,
/// CDNSKEY, NSEC3PARAM and ZONEMD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRecord {
    /// Order key of the owner, below the apex.
    pub key: Vec<u8>,
    pub rtype: Rtype,
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

/// Why the source cannot be passed on as it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AdoptError {
    #[error("the source is not signed: it has no {0}")]
    NotSigned(&'static str),
    #[error("the source has a {rtype} at {name} that cannot be read")]
    Malformed { name: Name, rtype: Rtype },
    #[error(
        "the RRSIG over {covered} at {name} is by key {tag}, which is not in the source's DNSKEY RRset"
    )]
    UnknownKey {
        name: Name,
        covered: Rtype,
        tag: u16,
    },
    #[error("two DNSKEYs of the source have the tag {tag}; which one signs cannot be told apart")]
    SameTag { tag: u16 },
    #[error("{name} has two RRSIGs over {covered} by key {tag}; one is allowed")]
    Twice {
        name: Name,
        covered: Rtype,
        tag: u16,
    },
    #[error("{name} {covered} has the TTL {ttl}, and its RRSIG was made for {original}")]
    Ttl {
        name: Name,
        covered: Rtype,
        ttl: u32,
        original: u32,
    },
    #[error("{name} has an RRSIG over {covered}, and nothing of that type that is to be signed")]
    OverNothing { name: Name, covered: Rtype },
    #[error("the {kind} records of the source do not fit its names and types: see {name}")]
    Denial { kind: &'static str, name: Name },
    #[error("the {kind} records of the source differ in {what}; one value is allowed")]
    Mixed {
        kind: &'static str,
        what: &'static str,
    },
    #[error("the source has both NSEC and NSEC3 records")]
    TwoDenials,
    #[error("the source is signed with more than 16 keys")]
    TooManyKeys,
    #[error("the version could not be put together: {0}")]
    Build(#[from] BuildError),
    #[error("cancelled")]
    Cancelled,
}

struct SourceSig {
    slot: u8,
    original_ttl: u32,
    inception: u32,
    expiration: u32,
    signature: Vec<u8>,
}

/// Everything of the source, to be taken out piece by piece: what is left over fits nothing.
struct Source<'a> {
    apex: &'a Name,
    sigs: HashMap<(Vec<u8>, Rtype), Vec<SourceSig>>,
    nsec: HashMap<Vec<u8>, Vec<u8>>,
    nsec3: HashMap<Vec<u8>, Vec<u8>>,
    sets: Vec<SetSpec>,
    table: KeyTable,
    denial: Denial,
}

/// Makes the signed version of `base`, which is the source without its DNSSEC records, with
/// exactly the records that the source had.
///
/// # Errors
/// Names what of the source cannot be passed on; nothing was changed.
pub fn adopt(
    base: &ZoneVersion,
    records: &[SourceRecord],
    version: VersionId,
    requested_at: Timestamp,
    job: &Job<'_>,
    now: Timestamp,
) -> Result<Signed, AdoptError> {
    let started = job.clock.monotonic();
    job.progress.enter(Stage::Collecting);
    let mut source = Source::read(base.apex(), records)?;
    let draft = Draft::new(
        base,
        version,
        now,
        std::mem::take(&mut source.sets),
        source.table.clone(),
        source.denial.clone(),
    )?;
    let mut signatures = 0;
    let chain = match source.denial.clone() {
        Denial::Nsec3 { params, ttl } => Some(chain(
            &draft,
            &mut source,
            &params,
            ttl,
            job,
            &mut signatures,
        )?),
        _ => None,
    };
    job.progress.enter(Stage::Inserting);
    let units = draft.version().unit_count();
    let mut sidecars = Vec::with_capacity(units);
    for i in 0..units {
        if job.progress.is_cancelled() {
            return Err(AdoptError::Cancelled);
        }
        sidecars.push(sidecar(&draft, i, &mut source, &mut signatures)?);
    }
    source.is_used_up()?;
    let version = job.pool.install(|| draft.finish(sidecars, chain))?;
    job.progress.enter(Stage::Finished);
    let total = job.clock.monotonic().saturating_sub(started);
    let records = base.sums().records;
    let report = SignReport {
        kept: signatures,
        min_exp: version.earliest_expiration(),
        ..SignReport::without_signing(requested_at, now, total, records, "passed on")
    };
    Ok(Signed {
        version,
        report,
        left: Left::default(),
    })
}

impl<'a> Source<'a> {
    fn read(apex: &'a Name, records: &[SourceRecord]) -> Result<Source<'a>, AdoptError> {
        let mut sets: Vec<SetSpec> = Vec::new();
        for r in records.iter().filter(|r| r.rtype.is_signer_apex()) {
            match sets.iter_mut().find(|s| s.0 == r.rtype) {
                Some(s) => s.2.push(r.rdata.clone()),
                None => sets.push((r.rtype, r.ttl, vec![r.rdata.clone()])),
            }
        }
        for s in &mut sets {
            s.2.sort();
            s.2.dedup();
        }
        let set = |t: Rtype| sets.iter().find(|s| s.0 == t).map(|s| s.2.as_slice());
        let dnskeys = set(Rtype::DNSKEY).ok_or(AdoptError::NotSigned("DNSKEY RRset"))?;
        let slots = Slots::new(apex, dnskeys)?;
        let mut out = Source {
            apex,
            sigs: HashMap::new(),
            nsec: HashMap::new(),
            nsec3: HashMap::new(),
            table: slots.table.clone(),
            denial: Denial::None,
            sets: Vec::new(),
        };
        let mut ttls = (None, None);
        let mut opt_out = None;
        for r in records {
            match r.rtype {
                Rtype::RRSIG => out.rrsig(r, &slots)?,
                Rtype::NSEC => {
                    one(&mut ttls.0, r.ttl, "NSEC", "TTL")?;
                    out.nsec.insert(r.key.clone(), r.rdata.clone());
                }
                Rtype::NSEC3 => {
                    one(&mut ttls.1, r.ttl, "NSEC3", "TTL")?;
                    let flags = r.rdata.get(1).copied().unwrap_or(0);
                    one(&mut opt_out, flags & 1, "NSEC3", "opt-out")?;
                    out.nsec3.insert(r.key.clone(), r.rdata.clone());
                }
                _ => {}
            }
        }
        out.denial = match ttls {
            (Some(_), Some(_)) => return Err(AdoptError::TwoDenials),
            (Some(ttl), None) => Denial::Nsec { ttl },
            (None, Some(ttl)) => {
                let params = match set(Rtype::NSEC3PARAM) {
                    Some([one]) => params(one, opt_out == Some(1)),
                    Some(_) => {
                        let what = "their parameters (several NSEC3PARAM)";
                        return Err(AdoptError::Mixed {
                            kind: "NSEC3",
                            what,
                        });
                    }
                    None => return Err(AdoptError::NotSigned("NSEC3PARAM record")),
                };
                let params = params.ok_or_else(|| AdoptError::Malformed {
                    name: apex.clone(),
                    rtype: Rtype::NSEC3PARAM,
                })?;
                Denial::Nsec3 { params, ttl }
            }
            (None, None) => return Err(AdoptError::NotSigned("NSEC or NSEC3 record")),
        };
        out.sets = sets;
        Ok(out)
    }

    fn name(&self, k: &[u8]) -> Name {
        key::to_name(k, None, self.apex)
    }

    fn rrsig(&mut self, r: &SourceRecord, slots: &Slots) -> Result<(), AdoptError> {
        let bad = || AdoptError::Malformed {
            name: key::to_name(&r.key, None, self.apex),
            rtype: Rtype::RRSIG,
        };
        let (head, rest) = r.rdata.split_at_checked(18).ok_or_else(bad)?;
        let (signer, len) = Name::from_prefix(rest).map_err(|_| bad())?;
        let signature = rest.get(len..).unwrap_or_default().to_vec();
        let long = |i: usize| u32::from_be_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let covered = Rtype(u16::from_be_bytes([head[0], head[1]]));
        let tag = u16::from_be_bytes([head[16], head[17]]);
        let slot = slots.of.get(&(head[2], tag));
        let slot = slot.filter(|_| signer.to_lowercase() == self.apex.to_lowercase());
        let Some((slot, len)) = slot else {
            let name = self.name(&r.key);
            return Err(AdoptError::UnknownKey { name, covered, tag });
        };
        if signature.len() != usize::from(*len) {
            return Err(bad());
        }
        let sig = SourceSig {
            slot: *slot,
            original_ttl: long(4),
            expiration: long(8),
            inception: long(12),
            signature,
        };
        let of = self.sigs.entry((r.key.clone(), covered)).or_default();
        if of.iter().any(|s| s.slot == sig.slot) {
            let name = key::to_name(&r.key, None, self.apex);
            return Err(AdoptError::Twice { name, covered, tag });
        }
        of.push(sig);
        of.sort_by_key(|s| s.slot);
        Ok(())
    }

    /// Takes the signatures over one RRset out.
    fn take(&mut self, k: &[u8], covered: Rtype, ttl: u32) -> Result<Vec<SourceSig>, AdoptError> {
        let sigs = self.sigs.remove(&(k.to_vec(), covered)).unwrap_or_default();
        match sigs.iter().find(|s| s.original_ttl != ttl) {
            Some(s) => Err(AdoptError::Ttl {
                name: self.name(k),
                covered,
                ttl,
                original: s.original_ttl,
            }),
            None => Ok(sigs),
        }
    }

    fn is_used_up(&self) -> Result<(), AdoptError> {
        // The smallest, so that the same source gives the same text.
        if let Some((k, covered)) = self.sigs.keys().min() {
            let (name, covered) = (self.name(k), *covered);
            return Err(AdoptError::OverNothing { name, covered });
        }
        for (kind, left) in [("NSEC", &self.nsec), ("NSEC3", &self.nsec3)] {
            if let Some(k) = left.keys().min() {
                let name = self.name(k);
                return Err(AdoptError::Denial { kind, name });
            }
        }
        Ok(())
    }
}

/// The keys of the source, by algorithm and tag.
struct Slots {
    table: KeyTable,
    /// Slot and length of a signature.
    of: HashMap<(u8, u16), (u8, u16)>,
}

impl Slots {
    fn new(apex: &Name, dnskeys: &[Vec<u8>]) -> Result<Slots, AdoptError> {
        let mut table = KeyTable::new();
        let mut of = HashMap::new();
        for rdata in dnskeys {
            let bad = || AdoptError::Malformed {
                name: apex.clone(),
                rtype: Rtype::DNSKEY,
            };
            let dnskey = Dnskey::from_rdata(rdata).map_err(|_| bad())?;
            // One of an algorithm that is not known here signs nothing that could be checked.
            let Some(len) = dnskey.signature_len() else {
                continue;
            };
            let digest: [u8; 32] = Sha256::digest(rdata).into();
            let mut id = [0; 16];
            id.copy_from_slice(&digest[..16]);
            let (tag, algorithm) = (dnskey.key_tag(), dnskey.algorithm_number());
            let sig_len = len as u16;
            let key = KeySlot {
                id: KeyId(id),
                algorithm,
                tag,
                sig_len,
                dnskey_sha256: digest,
            };
            let slot = table.assign(key).map_err(|_| AdoptError::TooManyKeys)?;
            if of.insert((algorithm, tag), (slot, sig_len)).is_some() {
                return Err(AdoptError::SameTag { tag });
            }
        }
        Ok(Slots { table, of })
    }
}

fn one<T: PartialEq + Copy>(
    all: &mut Option<T>,
    this: T,
    kind: &'static str,
    what: &'static str,
) -> Result<(), AdoptError> {
    match all.replace(this) {
        Some(other) if other != this => Err(AdoptError::Mixed { kind, what }),
        _ => Ok(()),
    }
}

/// RFC 5155 §4.2.
fn params(rdata: &[u8], opt_out: bool) -> Option<Nsec3Params> {
    let (head, salt) = rdata.split_at_checked(5)?;
    (head[0] == 1 && usize::from(head[4]) == salt.len()).then(|| Nsec3Params {
        algorithm: 1,
        iterations: u16::from_be_bytes([head[2], head[3]]),
        salt: salt.to_vec(),
        opt_out,
    })
}

/// Signatures of unit `i`, and its NSEC records, which must be those that are derived.
fn sidecar(
    draft: &Draft,
    i: usize,
    source: &mut Source<'_>,
    made: &mut u64,
) -> Result<Option<Sidecar>, AdoptError> {
    let version = draft.version();
    let nsec_ttl = match &source.denial {
        Denial::Nsec { ttl } => Some(*ttl),
        _ => None,
    };
    let mut found: Vec<(u16, u16, SourceSig)> = Vec::new();
    let mut last_next: Option<Vec<u8>> = None;
    let (mut types, mut rdata) = (Vec::new(), Vec::new());
    for owner in version.unit(i).owners() {
        if owner.flags().is_occluded() {
            continue;
        }
        for set in owner.sets() {
            if !is_signed_set(owner.flags(), set.rtype) {
                continue;
            }
            let sigs = source.take(owner.key(), set.rtype, set.ttl)?;
            let at = (owner.ordinal(), set.index as u16);
            found.extend(sigs.into_iter().map(|s| (at.0, at.1, s)));
        }
        let Some(ttl) = nsec_ttl else { continue };
        let next = version.succ_bearing(owner.key());
        // After the last owner comes the apex, whose key is empty (RFC 4034 §4.1.1).
        let next = next.as_ref().map_or(&[][..], |o| o.key()).to_vec();
        rdata.clear();
        key::push_wire(&next, None, version.apex_lower(), &mut rdata);
        bitmap_types(owner.flags(), owner.types(), true, &mut types);
        push_bitmap(&types, &mut rdata);
        if source.nsec.remove(owner.key()).as_ref() != Some(&rdata) {
            let name = source.name(owner.key());
            return Err(AdoptError::Denial { kind: "NSEC", name });
        }
        let sigs = source.take(owner.key(), Rtype::NSEC, ttl)?;
        found.extend(sigs.into_iter().map(|s| (owner.ordinal(), NSEC_SET, s)));
        last_next = Some(next);
    }
    *made += found.len() as u64;
    let mut builder = draft.sidecar(i);
    let bears = last_next.is_some();
    if let (Some(ttl), Some(next)) = (nsec_ttl, last_next) {
        builder.nsec(ttl, &next);
    }
    for (ordinal, set, s) in &found {
        let times = (s.inception, s.expiration);
        builder.push(*ordinal, *set, s.slot, times.0, times.1, &s.signature);
    }
    Ok((bears || !found.is_empty()).then(|| builder.build()))
}

/// The NSEC3 chain with the source's signatures; its rows must be those that are derived.
fn chain(
    draft: &Draft,
    source: &mut Source<'_>,
    params: &Nsec3Params,
    ttl: u32,
    job: &Job<'_>,
    made: &mut u64,
) -> Result<Chain, AdoptError> {
    job.progress.enter(Stage::Denial);
    let version = draft.version();
    let mut rows = job.pool.install(|| nsec3::collect(version, params));
    if job.pool.install(|| rows.sort(version, params)).is_err() {
        let what = "hash, and two names share one";
        return Err(AdoptError::Mixed {
            kind: "NSEC3",
            what,
        });
    }
    let Rows { rows, bitmaps } = rows;
    let (blocks, per_block) = ChainPlan::block_count(rows.len());
    let mut done = Vec::with_capacity(blocks);
    let (mut owner, mut rdata) = (Vec::new(), Vec::new());
    let first = rows.first().map_or([0; 20], |r| r.0);
    for (b, block) in rows.chunks(per_block).enumerate() {
        if job.progress.is_cancelled() {
            return Err(AdoptError::Cancelled);
        }
        let after: Hash = rows.get((b + 1) * per_block).map_or(first, |r| r.0);
        let mut builder = BlockBuilder::new();
        let mut sigs = Vec::new();
        for (n, (hash, bitmap)) in block.iter().enumerate() {
            let next = block.get(n + 1).map_or(after, |r| r.0);
            owner.clear();
            push_base32hex(hash, &mut owner);
            owner.make_ascii_lowercase();
            owner.push(0);
            rdata.clear();
            rdata.extend([params.algorithm, u8::from(params.opt_out)]);
            rdata.extend(params.iterations.to_be_bytes());
            rdata.push(params.salt.len() as u8);
            rdata.extend(&params.salt);
            rdata.push(20);
            rdata.extend(next);
            rdata.extend(bitmaps.get(*bitmap));
            if source.nsec3.remove(&owner).as_ref() != Some(&rdata) {
                let name = source.name(&owner);
                return Err(AdoptError::Denial {
                    kind: "NSEC3",
                    name,
                });
            }
            builder.row(*hash, *bitmap);
            let of_row = source.take(&owner, Rtype::NSEC3, ttl)?;
            sigs.extend(of_row.into_iter().map(|s| (n as u16, s)));
        }
        *made += sigs.len() as u64;
        for (row, s) in &sigs {
            builder.sig(*row, s.slot, s.inception, s.expiration, &s.signature);
        }
        let context = ChainContext {
            zone: version.zone(),
            apex: version.apex(),
            params,
            bitmaps: &bitmaps,
            keys: version.key_table(),
        };
        done.push(builder.build(&after, ttl, &context, version.made_at().to_wire()));
    }
    Ok(Chain::new(params.clone(), ttl, bitmaps, done))
}
