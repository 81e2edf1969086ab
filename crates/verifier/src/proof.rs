//! Proofs of non-existence in an answer, from signatures up (RFC 4035 §5.4, RFC 5155 §8).

use std::cmp::Ordering;

use xxhash_rust::xxh3::xxh3_64;

use crate::answers::hashed;
use crate::context::Context;
use crate::denial::{Hash, hash_of_owner};
use crate::finding::Sink;
use crate::group::{Group, Rec};
use crate::message::Record;
use crate::rdata::{decode_bitmap, t};
use crate::rrsig::{Rrsig, push_message};
use crate::source::{Rr, Source};
use crate::wire::{self, cmp_names};

/// RRsets of the candidate that answers have shown, with their signatures: those have been judged
/// (V03), in this run or with the predecessor, octet for octet. What an answer shows must be valid; it
/// need not be verified twice.
pub(crate) struct Judged<'a> {
    source: &'a dyn Source,
    /// Of main records, or of NSEC3.
    owners: Vec<(bool, Group)>,
}

/// Of so many signatures that have been judged one is verified again, by ring.
const AGAIN: u64 = 100;

impl<'a> Judged<'a> {
    pub(crate) fn new(source: &'a dyn Source) -> Judged<'a> {
        Judged {
            source,
            owners: Vec::new(),
        }
    }

    /// The candidate has this RRset and this signature over it. TTLs are not in what is signed.
    fn knows(&mut self, ctx: &Context<'_>, group: &Group, set: &[Rec], sig: &Rec) -> bool {
        if xxh3_64(group.rdata(sig)).is_multiple_of(AGAIN) {
            return false;
        }
        let (rtype, hashed) = (set[0].rtype, set[0].rtype == t::NSEC3);
        let known = |(h, g): &(bool, Group)| *h == hashed && g.name == group.name;
        let at = self.owners.iter().position(known).unwrap_or_else(|| {
            self.owners
                .push((hashed, self.read(ctx, &group.name, hashed)));
            self.owners.len() - 1
        });
        let there = &self.owners[at].1;
        let was = there.set(rtype);
        let same = was.len() == set.len()
            && was
                .iter()
                .zip(set)
                .all(|(a, b)| there.rdata(a) == group.rdata(b));
        let sigs = there.sigs(rtype);
        same && sigs.iter().any(|s| there.rdata(s) == group.rdata(sig))
    }

    fn read(&self, ctx: &Context<'_>, owner: &[u8], hashed: bool) -> Group {
        let mut group = Group::default();
        let mut told = Sink::default();
        group.start(owner);
        let mut push = |rr: Rr<'_>| group.push(&rr, &ctx.apex_name, &mut told);
        match hashed {
            true => self.source.hashed_at(owner, &mut push),
            false => self.source.at(owner, &mut push),
        }
        group.sort();
        group
    }
}

/// The records of a section whose RRset has a valid signature; an error names an RRset that has
/// none. The NS RRset of `unsigned`, a zone cut, needs none and is left out.
pub(crate) fn validated(
    ctx: &Context<'_>,
    judged: &mut Judged<'_>,
    section: &[Record],
    unsigned: Option<&[u8]>,
) -> Result<Vec<Record>, String> {
    let mut owners: Vec<&[u8]> = section.iter().map(|r| r.owner.as_slice()).collect();
    owners.sort_by(|a, b| cmp_names(a, b));
    owners.dedup_by(|a, b| wire::same_name(a, b));
    let dname = section.iter().any(|r| r.rtype == t::DNAME);
    let mut good = Vec::new();
    for owner in owners {
        let mut group = Group::default();
        let mut told = Sink::default();
        group.start(owner);
        for r in section.iter().filter(|r| wire::same_name(&r.owner, owner)) {
            group.push(
                &Rr {
                    owner: &r.owner,
                    rtype: r.rtype,
                    ttl: r.ttl,
                    rdata: &r.rdata,
                },
                &ctx.apex_name,
                &mut told,
            );
        }
        group.sort();
        for set in group.sets().filter(|s| s[0].rtype != t::RRSIG) {
            let rtype = set[0].rtype;
            let exempt = (rtype == t::NS && unsigned.is_some_and(|u| wire::same_name(u, owner)))
                // RFC 6672 §3.1: the CNAME made from a DNAME is not signed.
                || (rtype == t::CNAME && dname && group.sigs(t::CNAME).is_empty());
            if exempt {
                continue;
            }
            let valid = group.sigs(rtype).iter().any(|rec| {
                let Some(sig) = Rrsig::parse(group.rdata(rec)) else {
                    return false;
                };
                let keys = ctx.keys.candidates(sig.tag, sig.algorithm);
                if sig.signer != ctx.apex_name || keys == 0 {
                    return false;
                }
                if judged.knows(ctx, &group, set, rec) {
                    return true;
                }
                let mut message = Vec::new();
                push_message(&mut message, &sig, &group, set);
                // Many answers carry the same SOA and the same denial.
                ctx.keys.find_again(keys, &message, sig.signature).is_some()
            });
            if !valid {
                let rtype = cascade_zone::Rtype(rtype);
                return Err(format!(
                    "{} {rtype} in it has no valid signature",
                    wire::show(owner)
                ));
            }
            good.extend(set.iter().map(|rec| Record {
                owner: group.name.clone(),
                rtype,
                ttl: rec.ttl,
                rdata: group.rdata(rec).to_vec(),
            }));
        }
    }
    Ok(good)
}

struct Nsec {
    owner: Vec<u8>,
    next: Vec<u8>,
    types: Vec<u16>,
}

struct Nsec3 {
    hash: Hash,
    next: Hash,
    types: Vec<u16>,
    opt_out: bool,
}

impl Nsec3 {
    fn covers(&self, hash: &Hash) -> bool {
        match self.hash < self.next {
            true => self.hash < *hash && *hash < self.next,
            false => self.hash < *hash || *hash < self.next,
        }
    }
}

/// The denial records of an answer.
pub(crate) struct Proofs {
    nsec: Vec<Nsec>,
    nsec3: Vec<Nsec3>,
}

impl Proofs {
    /// From records that have been validated.
    pub(crate) fn new(ctx: &Context<'_>, records: &[Record]) -> Proofs {
        let mut proofs = Proofs {
            nsec: Vec::new(),
            nsec3: Vec::new(),
        };
        for r in records {
            let mut types = Vec::new();
            if r.rtype == t::NSEC
                && let Some(n) = wire::name_len(&r.rdata)
                && decode_bitmap(&r.rdata[n..], &mut types).is_ok()
            {
                proofs.nsec.push(Nsec {
                    owner: r.owner.clone(),
                    next: r.rdata[..n].to_ascii_lowercase(),
                    types,
                });
            } else if r.rtype == t::NSEC3
                && let Some(n3) = read_nsec3(ctx, r)
            {
                proofs.nsec3.push(n3);
            }
        }
        proofs
    }

    /// `qname` exists, or may, without this type, and without CNAME.
    pub(crate) fn no_data(&self, ctx: &Context<'_>, qname: &[u8], qtype: u16) -> bool {
        let lacks = |types: &[u16]| !types.contains(&qtype) && !types.contains(&t::CNAME);
        // RFC 4035 §5.4: at the name itself, or an empty non-terminal between owner and next name.
        let at_name = |n: &Nsec| wire::same_name(&n.owner, qname) && lacks(&n.types);
        let over_ent =
            |n: &Nsec| cmp_names(&n.owner, qname) == Ordering::Less && wire::below(&n.next, qname);
        if self.nsec.iter().any(|n| at_name(n) || over_ent(n)) {
            return true;
        }
        let Some(hash) = hashed(ctx, qname) else {
            return false;
        };
        if let Some(n) = self.nsec3.iter().find(|n| n.hash == hash) {
            return lacks(&n.types);
        }
        // RFC 5155 §8.6, and §8.5 for names that opt-out left without a record.
        self.encloser(ctx, qname)
            .is_some_and(|e| self.covered(ctx, qname, e, true))
    }

    /// The next closer name below `encloser` towards `qname` does not exist.
    pub(crate) fn no_closer(&self, ctx: &Context<'_>, qname: &[u8], encloser: &[u8]) -> bool {
        let closer = wire::suffix(qname, wire::label_count(encloser) + 1);
        // An NSEC that ends below the name would prove that it exists, as an empty non-terminal.
        let covers = |n: &Nsec| covers(ctx, n, closer) && !wire::below(&n.next, closer);
        if self.nsec.iter().any(covers) {
            return true;
        }
        self.encloser(ctx, qname) == Some(wire::label_count(encloser))
            && self.covered(ctx, qname, wire::label_count(encloser), false)
    }

    /// As [`Self::no_closer`], where the signatures of the answer tell which name is the encloser:
    /// no record has to match it (RFC 5155 §7.2.6, §8.8).
    pub(crate) fn no_closer_to_answer(
        &self,
        ctx: &Context<'_>,
        qname: &[u8],
        encloser: &[u8],
    ) -> bool {
        self.no_closer(ctx, qname, encloser)
            || self.covered(ctx, qname, wire::label_count(encloser), false)
    }

    /// No wildcard below `encloser`.
    pub(crate) fn no_wildcard(&self, ctx: &Context<'_>, encloser: &[u8]) -> bool {
        let wild = [b"\x01*".as_slice(), encloser].concat();
        if self.nsec.iter().any(|n| covers(ctx, n, &wild)) {
            return true;
        }
        hashed(ctx, &wild).is_some_and(|h| self.nsec3.iter().any(|n| n.covers(&h)))
    }

    /// Labels of the closest provable encloser (RFC 5155 §8.3).
    fn encloser(&self, ctx: &Context<'_>, qname: &[u8]) -> Option<usize> {
        (ctx.apex_labels..wire::label_count(qname))
            .rev()
            .find(|&n| {
                hashed(ctx, wire::suffix(qname, n))
                    .is_some_and(|h| self.nsec3.iter().any(|r| r.hash == h))
            })
    }

    /// The name one label longer than the encloser is covered.
    fn covered(&self, ctx: &Context<'_>, qname: &[u8], encloser: usize, opt_out: bool) -> bool {
        hashed(ctx, wire::suffix(qname, encloser + 1)).is_some_and(|h| {
            self.nsec3
                .iter()
                .any(|n| n.covers(&h) && (n.opt_out || !opt_out))
        })
    }
}

fn covers(ctx: &Context<'_>, n: &Nsec, name: &[u8]) -> bool {
    let after = cmp_names(&n.owner, name) == Ordering::Less;
    after
        && (wire::same_name(&n.next, &ctx.apex_name) || cmp_names(name, &n.next) == Ordering::Less)
}

fn read_nsec3(ctx: &Context<'_>, r: &Record) -> Option<Nsec3> {
    let hash = hash_of_owner(&r.owner, &ctx.apex_name)?;
    let at = 6 + *r.rdata.get(4)? as usize;
    let next = Hash::try_from(r.rdata.get(at..at + 20)?).ok()?;
    let mut types = Vec::new();
    decode_bitmap(r.rdata.get(at + 20..)?, &mut types).ok()?;
    Some(Nsec3 {
        hash,
        next,
        types,
        opt_out: r.rdata[1] & 1 == 1,
    })
}
