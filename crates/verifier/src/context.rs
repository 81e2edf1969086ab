//! What one run knows before it looks at the first owner: the apex.

use std::sync::Arc;

use cascade_time::Timestamp;

use crate::engine::TableEngine;
use crate::finding::{Check, Finding, Sink};
use crate::group::Group;
use crate::keys::Keys;
use crate::ledger::DenialState;
use crate::params::Params;
use crate::rdata::t;
use crate::source::{Rr, Source};
use crate::wire::{self, hex};

/// Parameters of an NSEC3 chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hashing {
    pub(crate) iterations: u16,
    pub(crate) salt: Vec<u8>,
}

/// Iterations beyond which hashing a zone is a burden and no resolver validates (RFC 9276 §3.2 and
/// its appendix; 500 is far above every published limit). Such a chain is refused unhashed.
pub(crate) const MAX_ITERATIONS: u16 = 500;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Denial {
    Nsec,
    Nsec3(Hashing),
}

/// The apex RRsets that steer the run.
#[derive(Debug, Default)]
pub(crate) struct Apex {
    pub(crate) soa: Vec<Vec<u8>>,
    pub(crate) soa_ttl: u32,
    pub(crate) dnskey: Vec<Vec<u8>>,
    pub(crate) cds: Vec<Vec<u8>>,
    pub(crate) cdnskey: Vec<Vec<u8>>,
    pub(crate) nsec3param: Vec<Vec<u8>>,
    pub(crate) zonemd: Vec<Vec<u8>>,
    pub(crate) has_nsec: bool,
    /// Parameters and flags of some NSEC3 record, if there are any.
    pub(crate) chain: Option<(Hashing, u8)>,
}

impl Apex {
    pub(crate) fn read(source: &dyn Source) -> Apex {
        let mut apex = Apex::default();
        source.at(source.apex(), &mut |rr| {
            let list = match rr.rtype {
                t::SOA => {
                    apex.soa_ttl = rr.ttl;
                    &mut apex.soa
                }
                t::DNSKEY => &mut apex.dnskey,
                t::CDS => &mut apex.cds,
                t::CDNSKEY => &mut apex.cdnskey,
                t::NSEC3PARAM => &mut apex.nsec3param,
                t::ZONEMD => &mut apex.zonemd,
                t::NSEC => {
                    apex.has_nsec = true;
                    return;
                }
                _ => return,
            };
            list.push(rr.rdata.to_vec());
        });
        let mut first = Vec::new();
        if source.next_hashed(source.apex(), &mut first) {
            source.hashed_at(&first, &mut |rr| {
                if rr.rtype == t::NSEC3 && apex.chain.is_none() {
                    apex.chain = hashing(rr.rdata).map(|h| (h, rr.rdata[1]));
                }
            });
        }
        apex
    }

    pub(crate) fn serial(&self) -> u32 {
        self.soa
            .first()
            .map_or(0, |soa| wire::u32_at(soa, soa.len().saturating_sub(20)))
    }

    /// min(SOA TTL, MINIMUM) (RFC 9077 §3).
    pub(crate) fn denial_ttl(&self) -> u32 {
        let minimum = self
            .soa
            .first()
            .map_or(0, |soa| wire::u32_at(soa, soa.len().saturating_sub(4)));
        minimum.min(self.soa_ttl)
    }
}

/// Parameters in front of NSEC3 and NSEC3PARAM RDATA (RFC 5155 §3.2, §4.2).
pub(crate) fn hashing(rdata: &[u8]) -> Option<Hashing> {
    let salt = rdata.get(5..5 + *rdata.get(4)? as usize)?;
    Some(Hashing {
        iterations: wire::u16_at(rdata, 2),
        salt: salt.to_vec(),
    })
}

pub(crate) struct Context<'a> {
    pub(crate) params: &'a Params<'a>,
    /// Lower case.
    pub(crate) apex_name: Vec<u8>,
    pub(crate) apex_labels: usize,
    pub(crate) apex: Apex,
    pub(crate) keys: Keys,
    pub(crate) denial: Denial,
    pub(crate) denial_ttl: u32,
    /// Flags of the chain's first record carry the opt-out bit.
    pub(crate) opt_out: bool,
    pub(crate) now: Timestamp,
    /// `now` as RRSIG fields carry it.
    pub(crate) now_wire: u32,
    /// Least seconds to expiration of a signature met in this run.
    pub(crate) min_remaining: u32,
}

impl<'a> Context<'a> {
    /// `gone`: DNSKEY RDATA of a predecessor, whose signatures must be recognised.
    pub(crate) fn new(
        source: &dyn Source,
        params: &'a Params<'a>,
        gone: &[Vec<u8>],
        engine: Option<Arc<TableEngine>>,
        now: Timestamp,
    ) -> Context<'a> {
        let apex = Apex::read(source);
        let unpublished = params
            .own_keys
            .iter()
            .flatten()
            .filter(|k| k.may_sign_unpublished);
        let keys = Keys::new(
            &apex.dnskey,
            unpublished.map(|k| k.dnskey.as_slice()),
            gone.iter().map(Vec::as_slice),
            engine,
        );
        let from_param = apex.nsec3param.first().and_then(|p| hashing(p));
        let denial = match (&from_param, &apex.chain) {
            (Some(h), _) => Denial::Nsec3(h.clone()),
            (None, Some((h, _))) => Denial::Nsec3(h.clone()),
            (None, None) => Denial::Nsec,
        };
        let apex_name = source.apex().to_ascii_lowercase();
        Context {
            apex_labels: wire::label_count(&apex_name),
            apex_name,
            keys,
            denial,
            denial_ttl: apex.denial_ttl(),
            opt_out: apex.chain.as_ref().is_some_and(|(_, flags)| flags & 1 == 1),
            apex,
            now,
            now_wire: now.to_wire(),
            min_remaining: params.min_remaining,
            params,
        }
    }

    pub(crate) fn denial_state(&self) -> DenialState {
        match &self.denial {
            Denial::Nsec => DenialState::Nsec {
                ttl: self.denial_ttl,
            },
            Denial::Nsec3(h) => DenialState::Nsec3 {
                ttl: self.denial_ttl,
                iterations: h.iterations,
                salt: hex(&h.salt),
                opt_out: self.opt_out,
            },
        }
    }

    /// Some name above `name`, up to the apex, hides it: the topmost cut or DNAME.
    pub(crate) fn covered_by(&self, source: &dyn Source, name: &[u8]) -> Option<Vec<u8>> {
        let labels = wire::label_count(name);
        for n in self.apex_labels..labels {
            let above = wire::suffix(name, n);
            let (mut ns, mut dname) = (false, false);
            source.types_at(above, &mut |rtype| {
                ns |= rtype == t::NS;
                dname |= rtype == t::DNAME;
            });
            if dname || (ns && n > self.apex_labels) {
                return Some(above.to_ascii_lowercase());
            }
        }
        None
    }
}

/// What hides names in one version, asked for many that stand beside each other.
pub(crate) struct Cover<'a> {
    ctx: &'a Context<'a>,
    version: &'a dyn Source,
    /// The name above the one asked for last: what hides a name stands there or further up.
    above: Option<Vec<u8>>,
    by: Option<Vec<u8>>,
}

impl<'a> Cover<'a> {
    pub(crate) fn new(ctx: &'a Context<'a>, version: &'a dyn Source) -> Cover<'a> {
        Cover {
            ctx,
            version,
            above: None,
            by: None,
        }
    }

    pub(crate) fn version(&self) -> &'a dyn Source {
        self.version
    }

    /// As [`Context::covered_by`].
    pub(crate) fn of(&mut self, name: &[u8]) -> Option<&[u8]> {
        let above = name.get(1 + usize::from(*name.first()?)..)?;
        if !self
            .above
            .as_ref()
            .is_some_and(|a| wire::same_name(a, above))
        {
            self.by = self.ctx.covered_by(self.version, name);
            self.above = Some(above.to_vec());
        }
        self.by.as_deref()
    }
}

/// Calls `f` with the records of each owner of a stream, sorted. Groups with a name outside the zone
/// are reported and left out. `owned` runs for each record, before its group is complete.
pub(crate) fn for_each_group(
    ctx: &Context<'_>,
    group: &mut Group,
    sink: &mut Sink,
    stream: impl FnOnce(&mut dyn FnMut(Rr<'_>)),
    mut record: impl FnMut(&Rr<'_>),
    mut f: impl FnMut(&mut Group, &mut Sink),
) {
    let mut open = false;
    let mut last: Vec<u8> = Vec::new();
    stream(&mut |rr| {
        if !open || last != rr.owner {
            // Spelling may change from record to record; the owner does not.
            if !open || !wire::same_name(&last, rr.owner) {
                if open {
                    group.sort();
                    f(group, sink);
                }
                open = wire::is_name(rr.owner) && wire::at_or_below(rr.owner, &ctx.apex_name);
                if open {
                    group.start(rr.owner);
                }
            }
            last.clear();
            last.extend_from_slice(rr.owner);
        }
        record(&rr);
        if open {
            group.push(&rr, &ctx.apex_name, sink);
        } else {
            sink.push(|| Finding::at(Check::V01, rr.owner, rr.rtype, "owner is not in the zone"));
        }
    });
    if open {
        group.sort();
        f(group, sink);
    }
}
