//! NSEC3: the hashes a zone needs, and the chain merged against them (V14, V15, V16, V17).

use sha1::{Digest, Sha1};
use xxhash_rust::xxh3::xxh3_64;

use crate::context::{Context, Denial, Hashing, MAX_ITERATIONS, hashing};
use crate::finding::{Check, Finding, Sink};
use crate::group::{Group, Place};
use crate::owner::{TrustOf, Work, check_owner, type_list};
use crate::rdata::{self, t};
use crate::wire;

pub(crate) type Hash = [u8; 20];

/// RFC 5155 §5, SHA-1. `name` in lower case.
pub(crate) fn hash_name(name: &[u8], h: &Hashing) -> Hash {
    let once = |octets: &[u8]| -> Hash {
        Sha1::new()
            .chain_update(octets)
            .chain_update(&h.salt)
            .finalize()
            .into()
    };
    let mut hash = once(name);
    for _ in 0..h.iterations.min(MAX_ITERATIONS) {
        hash = once(&hash);
    }
    hash
}

/// Why a hash is in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A record must be there.
    Required = 0,
    /// The same, for an insecure delegation.
    RequiredCut = 1,
    /// Opt-out allows to leave it out (RFC 5155 §6).
    Optional = 2,
}

/// One name that the chain must or may hold: 28 octets.
#[derive(Clone, Copy)]
pub(crate) struct Need {
    pub(crate) hash: Hash,
    /// Digest of the types its bitmap must list, 62 bits, and the kind.
    tagged: [u32; 2],
}

impl Need {
    pub(crate) fn new(hash: Hash, types: &[u16], kind: Kind) -> Need {
        let v = types_digest(types) << 2 | kind as u64;
        Need {
            hash,
            tagged: [(v >> 32) as u32, v as u32],
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.tagged[1] & 3 {
            0 => Kind::Required,
            1 => Kind::RequiredCut,
            _ => Kind::Optional,
        }
    }

    fn fits(&self, types: &[u16]) -> bool {
        let v = types_digest(types) << 2 | self.kind() as u64;
        self.tagged == [(v >> 32) as u32, v as u32]
    }
}

fn types_digest(types: &[u16]) -> u64 {
    let mut digest = types.len() as u64;
    let mut octets = [0u8; 256];
    for chunk in types.chunks(124) {
        octets[..8].copy_from_slice(&digest.to_be_bytes());
        for (pair, x) in octets[8..].chunks_exact_mut(2).zip(chunk) {
            pair.copy_from_slice(&x.to_be_bytes());
        }
        digest = xxh3_64(&octets[..8 + 2 * chunk.len()]);
    }
    digest
}

/// Sorts, and drops what an optional entry repeats. Different names with one hash are told (V14).
pub(crate) fn settle(needs: &mut Vec<Need>, sink: &mut Sink) {
    use rayon::slice::ParallelSliceMut;
    needs.par_sort_unstable_by(|a, b| (a.hash, a.kind()).cmp(&(b.hash, b.kind())));
    for pair in needs.windows(2) {
        if pair[0].hash == pair[1].hash && pair[1].kind() != Kind::Optional {
            let hash = pair[0].hash;
            sink.push(|| {
                Finding::zone(
                    Check::V14,
                    format!("two names have the NSEC3 hash {}", show(&hash)),
                )
            });
        }
    }
    needs.dedup_by(|b, a| a.hash == b.hash);
}

pub(crate) fn show(hash: &Hash) -> String {
    String::from_utf8_lossy(&wire::base32hex(hash)).into_owned()
}

/// Owner name of the NSEC3 record of a hash.
pub(crate) fn push_hashed_owner(hash: &Hash, apex: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(32);
    out.extend_from_slice(&wire::base32hex(hash));
    out.extend_from_slice(apex);
}

/// Hash in the owner name of an NSEC3 record: one label below the apex (RFC 5155 §3).
pub(crate) fn hash_of_owner(name: &[u8], apex: &[u8]) -> Option<Hash> {
    let label = name.get(1..33)?;
    (name[0] == 32 && wire::same_name(&name[33..], apex))
        .then(|| wire::base32hex_decode(label))
        .flatten()
}

/// A chain record that passed its own checks.
pub(crate) struct Link {
    pub(crate) hash: Hash,
    pub(crate) next: Hash,
    pub(crate) opt_out: bool,
}

/// Checks the NSEC3 RRset of one hashed owner. Its types are left in `work.found_types`.
pub(crate) fn check_hashed(
    ctx: &Context<'_>,
    group: &Group,
    trust: &mut TrustOf<'_>,
    work: &mut Work,
) -> Option<Link> {
    check_owner(ctx, group, Place::Hashed, trust, work);
    let owner = group.name.as_slice();
    let set = group.set(t::NSEC3);
    let rec = set.first()?;
    work.tally.counts.denial_records += 1;
    let mut wrong =
        |check: Check, what: &str| work.sink.push(|| Finding::at(check, owner, t::NSEC3, what));
    let Denial::Nsec3(expected) = &ctx.denial else {
        wrong(Check::V18, "NSEC3 in a zone with NSEC");
        return None;
    };
    if set.len() > 1 {
        wrong(Check::V14, "more than one NSEC3 record at one name");
    }
    let data = group.rdata(rec);
    let found = hashing(data)?;
    if data[0] != 1 || found != *expected {
        wrong(
            Check::V14,
            "algorithm, iterations or salt differ from NSEC3PARAM",
        );
    }
    // RFC 5155 §3.1.2: only the opt-out bit is defined, and it is the same in the whole chain.
    if data[1] > 1 || (data[1] & 1 == 1) != ctx.opt_out {
        wrong(Check::V14, "flags differ from the rest of the chain");
    }
    if rec.ttl != ctx.denial_ttl {
        wrong(Check::V17, "TTL is not min(SOA TTL, SOA MINIMUM)");
    }
    let at = 5 + data[4] as usize;
    let next_len = *data.get(at)? as usize;
    let next = data.get(at + 1..at + 1 + next_len)?;
    let (Some(hash), Ok(next)) = (hash_of_owner(owner, &ctx.apex_name), Hash::try_from(next))
    else {
        wrong(
            Check::V14,
            "owner or next hashed name is not a SHA-1 hash one label below the apex",
        );
        return None;
    };
    if let Err(e) = rdata::decode_bitmap(&data[at + 1 + next_len..], &mut work.found_types) {
        wrong(Check::V15, e.text());
        work.found_types.clear();
    }
    Some(Link {
        hash,
        next,
        opt_out: data[1] & 1 == 1,
    })
}

/// What a run of the chain leaves for the joiner.
pub(crate) struct Run {
    pub(crate) first: Hash,
    pub(crate) last: Link,
}

/// Hashes that are missing, so that a second walk can name their owners.
pub(crate) type Missing = Vec<(Check, Hash, String)>;

/// Takes the links of one block in order against the needs.
pub(crate) struct Merger<'n> {
    needs: &'n [Need],
    at: usize,
    first: Option<Hash>,
    last: Option<Link>,
    pub(crate) missing: Missing,
}

impl<'n> Merger<'n> {
    pub(crate) fn new(needs: &'n [Need]) -> Self {
        Merger {
            needs,
            at: 0,
            first: None,
            last: None,
            missing: Vec::new(),
        }
    }

    pub(crate) fn link(&mut self, link: Link, types: &[u16], owner: &[u8], sink: &mut Sink) {
        match &self.last {
            None => {
                self.first = Some(link.hash);
                self.at = self.needs.partition_point(|n| n.hash < link.hash);
            }
            Some(last) => {
                check_step(last, &link.hash, sink);
                let from = self.at;
                self.at += self.needs[from..]
                    .iter()
                    .take_while(|n| n.hash < link.hash)
                    .count();
                absent(&self.needs[from..self.at], last.opt_out, &mut self.missing);
            }
        }
        match self.needs.get(self.at) {
            Some(need) if need.hash == link.hash => {
                self.at += 1;
                if !need.fits(types) {
                    self.missing.push((Check::V15, link.hash, type_list(types)));
                }
            }
            _ => sink.push(|| {
                Finding::at(
                    Check::V14,
                    owner,
                    t::NSEC3,
                    "no name of the zone needs this NSEC3 record",
                )
            }),
        }
        self.last = Some(link);
    }

    pub(crate) fn run(self) -> (Option<Run>, Missing) {
        let run = self
            .first
            .zip(self.last)
            .map(|(first, last)| Run { first, last });
        (run, self.missing)
    }
}

/// V14: the chain goes on in hash order and each record names the next.
fn check_step(last: &Link, hash: &Hash, sink: &mut Sink) {
    if last.hash >= *hash {
        sink.push(|| {
            Finding::zone(
                Check::V14,
                format!(
                    "NSEC3 {} does not come after {}",
                    show(hash),
                    show(&last.hash)
                ),
            )
        });
    }
    if last.next != *hash {
        sink.push(|| {
            Finding::zone(
                Check::V14,
                format!("next hashed name of NSEC3 {} is wrong", show(&last.hash)),
            )
            .expected(show(hash), show(&last.next))
        });
    }
}

/// V14 and V16 for needs between two records of the chain, the first of which covers them.
fn absent(needs: &[Need], opt_out: bool, missing: &mut Missing) {
    for need in needs {
        match need.kind() {
            Kind::Optional if opt_out => {}
            Kind::Optional | Kind::RequiredCut => {
                missing.push((Check::V16, need.hash, String::new()))
            }
            Kind::Required => missing.push((Check::V14, need.hash, String::new())),
        }
    }
}

/// Borders between blocks, the wrap, and needs outside all blocks.
pub(crate) fn join(runs: &[Run], needs: &[Need], missing: &mut Missing, sink: &mut Sink) {
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
        absent(needs, false, missing);
        return;
    };
    let between = |after: &Hash, before: &Hash| {
        let from = needs.partition_point(|n| n.hash <= *after);
        let to = needs.partition_point(|n| n.hash < *before);
        needs.get(from..to).unwrap_or(&[])
    };
    for pair in runs.windows(2) {
        check_step(&pair[0].last, &pair[1].first, sink);
        absent(
            between(&pair[0].last.hash, &pair[1].first),
            pair[0].last.opt_out,
            missing,
        );
    }
    // The wrap: the last record names the first and covers both ends.
    if last.last.next != first.first {
        sink.push(|| {
            Finding::zone(
                Check::V14,
                format!(
                    "the last NSEC3 {} does not lead to the first",
                    show(&last.last.hash)
                ),
            )
            .expected(show(&first.first), show(&last.last.next))
        });
    }
    let head = needs.partition_point(|n| n.hash < first.first);
    let tail = needs.partition_point(|n| n.hash <= last.last.hash);
    absent(&needs[..head], last.last.opt_out, missing);
    absent(&needs[tail..], last.last.opt_out, missing);
}
