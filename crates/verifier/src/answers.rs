//! V23: the publisher's own answers to sample questions, validated as a resolver would.

use crate::context::Context;
use crate::denial::hash_name;
use crate::finding::{Check, Finding, Sink};
use crate::message::{Message, Record, read};
use crate::proof::{Judged, Proofs, validated};
use crate::rdata::t;
use crate::source::Source;
use crate::wire;

/// The publisher's answer code over the candidate.
pub trait Answers: Sync {
    /// Appends the whole response, as over TCP and with the DO bit, to a question of class IN.
    /// False when there is none.
    fn ask(&self, qname: &[u8], qtype: u16, out: &mut Vec<u8>) -> bool;
}

/// Names asked for in a whole check.
pub(crate) const SAMPLES: u64 = 32;
/// The same after a change, beside what has changed. Each version asks for others, so that the cost
/// of a small change is not that of the samples: a signature costs more than all else of it.
pub(crate) const SAMPLES_OF_CHANGE: u64 = 4;
/// Changed owners that are asked for, each in every way.
const CHANGED: usize = 8;
/// A type that no zone holds (RFC 6895 §3.1: private use).
const ABSENT: u16 = 65281;

/// What the question must bring, by names and types alone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Referral {
        cut: Vec<u8>,
        secure: bool,
    },
    Dname {
        owner: Vec<u8>,
    },
    /// `encloser` is set when a wildcard gives the data.
    Data {
        rtype: u16,
        encloser: Option<Vec<u8>>,
    },
    NoData {
        encloser: Option<Vec<u8>>,
    },
    NxDomain {
        encloser: Vec<u8>,
    },
}

pub(crate) fn check(
    ctx: &Context<'_>,
    source: &dyn Source,
    changed: &[Vec<u8>],
    samples: u64,
    sink: &mut Sink,
) {
    let Some(answers) = ctx.params.answers else {
        return;
    };
    let serial = u64::from(ctx.apex.serial());
    let mut seed = ctx.params.sample_seed ^ serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut asker = Asker {
        ctx,
        source,
        answers,
        judged: Judged::new(source),
        asked: Vec::new(),
        octets: Vec::new(),
    };
    // Few samples begin with another way each time.
    for i in (0..samples).map(|i| serial.wrapping_add(i)) {
        let owner = pick(ctx, source, &mut seed);
        asker.ask(&owner, i, sink);
    }
    for owner in changed.iter().take(CHANGED) {
        (0..6).for_each(|way| asker.ask(owner, way, sink));
    }
}

/// One round of questions.
struct Asker<'a> {
    ctx: &'a Context<'a>,
    source: &'a dyn Source,
    answers: &'a dyn Answers,
    judged: Judged<'a>,
    /// Different ways lead to one question now and then.
    asked: Vec<(Vec<u8>, u16)>,
    octets: Vec<u8>,
}

/// SplitMix64: the sample follows from the seed.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn pick(ctx: &Context<'_>, source: &dyn Source, seed: &mut u64) -> Vec<u8> {
    let units = source.unit_count().max(1) as u64;
    let unit = (random(seed) % units) as usize;
    let owner = source.owner_in(unit, random(seed));
    owner.unwrap_or_else(|| ctx.apex_name.clone())
}

impl Asker<'_> {
    /// Asks about `owner` in one of six ways.
    fn ask(&mut self, owner: &[u8], way: u64, sink: &mut Sink) {
        let Some((qname, qtype)) = question(self.ctx, self.source, owner, way) else {
            return;
        };
        let before = self.asked.iter();
        if before.rev().any(|(name, t)| *t == qtype && *name == qname) {
            return;
        }
        let expected = classify(self.ctx, self.source, &qname, qtype);
        self.octets.clear();
        let answered = self.answers.ask(&qname, qtype, &mut self.octets);
        let wrong = match answered.then(|| read(&self.octets)).flatten() {
            None => Some("no answer, or one that does not decode".to_string()),
            Some(message) => {
                let asked = (qname.as_slice(), qtype);
                judge(
                    self.ctx,
                    self.source,
                    &mut self.judged,
                    &message,
                    asked,
                    &expected,
                )
                .err()
            }
        };
        if let Some(what) = wrong {
            sink.push(|| Finding::at(Check::V23, &qname, qtype, format!("sample answer: {what}")));
        }
        self.asked.push((qname, qtype));
    }
}

/// The question about `owner` in one of six ways.
fn question(
    ctx: &Context<'_>,
    source: &dyn Source,
    owner: &[u8],
    way: u64,
) -> Option<(Vec<u8>, u16)> {
    let mut qname = owner.to_vec();
    if wire::is_wildcard(owner) && way.is_multiple_of(2) {
        // The name a wildcard is made for.
        qname = [b"\x0fcascade-sample1".as_slice(), &owner[2..]].concat();
    }
    let below = |name: &[u8]| [b"\x0fcascade-sample2".as_slice(), name].concat();
    let qtype = match way % 6 {
        0 => first_type(source, owner).unwrap_or(t::SOA),
        1 => ABSENT,
        2 => {
            qname = below(&qname);
            1
        }
        3 => t::DS,
        4 => {
            let labels = wire::label_count(owner);
            qname = wire::suffix(owner, labels.saturating_sub(1).max(ctx.apex_labels)).to_vec();
            ABSENT
        }
        _ => {
            qname = below(&qname);
            t::DS
        }
    };
    let asked = qname.len() <= wire::MAX_NAME && !(qname == ctx.apex_name && qtype == t::DS);
    asked.then_some((qname, qtype))
}

fn types(source: &dyn Source, name: &[u8]) -> Vec<u16> {
    let mut types = Vec::new();
    source.types_at(name, &mut |rtype| types.push(rtype));
    types
}

fn first_type(source: &dyn Source, name: &[u8]) -> Option<u16> {
    types(source, name).first().copied()
}

/// What must be answered (RFC 1034 §4.3.2, RFC 6672 §3.2, RFC 4592 §2.2, RFC 4035 §3.1).
pub(crate) fn classify(
    ctx: &Context<'_>,
    source: &dyn Source,
    qname: &[u8],
    qtype: u16,
) -> Expected {
    let labels = wire::label_count(qname);
    let mut encloser = ctx.apex_name.clone();
    for n in ctx.apex_labels..=labels {
        let name = wire::suffix(qname, n);
        let here = types(source, name);
        let cut = n > ctx.apex_labels && here.contains(&t::NS);
        if cut && !(n == labels && qtype == t::DS) {
            return Expected::Referral {
                cut: name.to_vec(),
                secure: here.contains(&t::DS),
            };
        }
        if n < labels && here.contains(&t::DNAME) {
            return Expected::Dname {
                owner: name.to_vec(),
            };
        }
        if here.is_empty() && !exists_below(source, name) {
            let wild = [b"\x01*".as_slice(), &encloser].concat();
            let there = types(source, &wild);
            return match there.is_empty() {
                true => Expected::NxDomain { encloser },
                false if there.contains(&t::NS) => Expected::NoData {
                    encloser: Some(encloser),
                },
                false => data(&there, qtype, Some(encloser)),
            };
        }
        if n == labels {
            return data(&here, qtype, None);
        }
        encloser = name.to_vec();
    }
    Expected::NxDomain { encloser }
}

fn data(types: &[u16], qtype: u16, encloser: Option<Vec<u8>>) -> Expected {
    match types {
        x if x.contains(&qtype) => Expected::Data {
            rtype: qtype,
            encloser,
        },
        x if x.contains(&t::CNAME) => Expected::Data {
            rtype: t::CNAME,
            encloser,
        },
        _ => Expected::NoData { encloser },
    }
}

fn exists_below(source: &dyn Source, name: &[u8]) -> bool {
    let mut next = Vec::new();
    source.next_owner(name, &mut next) && wire::below(&next, name)
}

fn demand(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_string()) }
}

fn judge(
    ctx: &Context<'_>,
    source: &dyn Source,
    judged: &mut Judged<'_>,
    message: &Message,
    (qname, qtype): (&[u8], u16),
    expected: &Expected,
) -> Result<(), String> {
    demand(!message.tc, "truncated")?;
    let referral = matches!(expected, Expected::Referral { .. });
    demand(message.aa != referral, "authoritative bit is wrong")?;
    let rcode = if matches!(expected, Expected::NxDomain { .. }) {
        3
    } else {
        0
    };
    // A DNAME may lead to a name outside, or to one that does not exist.
    demand(
        message.rcode == rcode || matches!(expected, Expected::Dname { .. }),
        "response code is wrong",
    )?;
    let answer = validated(ctx, judged, &message.answer, None)?;
    let unsigned = if let Expected::Referral { cut, .. } = expected {
        Some(cut.as_slice())
    } else {
        None
    };
    let authority = validated(ctx, judged, &message.authority, unsigned)?;
    let proofs = Proofs::new(ctx, &authority);
    let has = |list: &[Record], owner: &[u8], rtype: u16| {
        list.iter()
            .any(|r| r.rtype == rtype && wire::same_name(&r.owner, owner))
    };
    let negative = || {
        demand(
            has(&authority, &ctx.apex_name, t::SOA),
            "no signed SOA in a negative answer",
        )?;
        demand(
            !answer.iter().any(|r| wire::same_name(&r.owner, qname)),
            "data in a negative answer",
        )
    };
    match expected {
        Expected::Referral { cut, secure } => {
            demand(
                has(&message.authority, cut, t::NS),
                "no NS RRset of the zone cut",
            )?;
            if *secure {
                demand(
                    has(&authority, cut, t::DS),
                    "no signed DS RRset of a secure delegation",
                )
            } else {
                demand(
                    proofs.no_data(ctx, cut, t::DS),
                    "no proof that the delegation is insecure",
                )
            }
        }
        Expected::Dname { owner } => demand(has(&answer, owner, t::DNAME), "no signed DNAME"),
        Expected::Data { rtype, encloser } => {
            demand(has(&answer, qname, *rtype), "no signed RRset")?;
            let from = match encloser {
                Some(e) => [b"\x01*".as_slice(), e].concat(),
                None => qname.to_vec(),
            };
            demand(
                same_data(source, &from, *rtype, &answer, qname),
                "RRset is not that of the zone",
            )?;
            match encloser {
                Some(e) => demand(
                    proofs.no_closer_to_answer(ctx, qname, e),
                    "no proof that the wildcard may answer",
                ),
                None => Ok(()),
            }
        }
        Expected::NoData { encloser: None } => {
            negative()?;
            demand(
                proofs.no_data(ctx, qname, qtype),
                "no proof that the type is absent",
            )
        }
        Expected::NoData { encloser: Some(e) } => {
            negative()?;
            let wild = [b"\x01*".as_slice(), e].concat();
            demand(
                proofs.no_closer(ctx, qname, e),
                "no proof that the wildcard may answer",
            )?;
            demand(
                proofs.no_data(ctx, &wild, qtype),
                "no proof that the wildcard lacks the type",
            )
        }
        Expected::NxDomain { encloser } => {
            negative()?;
            demand(
                proofs.no_closer(ctx, qname, encloser),
                "no proof that the name does not exist",
            )?;
            demand(
                proofs.no_wildcard(ctx, encloser),
                "no proof that no wildcard matches",
            )
        }
    }
}

fn same_data(
    source: &dyn Source,
    from: &[u8],
    rtype: u16,
    answer: &[Record],
    qname: &[u8],
) -> bool {
    let mut want: Vec<Vec<u8>> = Vec::new();
    source.at(from, &mut |rr| {
        if rr.rtype == rtype {
            want.push(rr.rdata.to_ascii_lowercase());
        }
    });
    let mut got: Vec<Vec<u8>> = answer
        .iter()
        .filter(|r| r.rtype == rtype && wire::same_name(&r.owner, qname))
        .map(|r| r.rdata.to_ascii_lowercase())
        .collect();
    want.sort_unstable();
    got.sort_unstable();
    want == got
}

/// Hash of a name under the zone's parameters, when it has an NSEC3 chain.
pub(crate) fn hashed(ctx: &Context<'_>, name: &[u8]) -> Option<crate::denial::Hash> {
    match &ctx.denial {
        crate::context::Denial::Nsec3(h) => Some(hash_name(name, h)),
        crate::context::Denial::Nsec => None,
    }
}
