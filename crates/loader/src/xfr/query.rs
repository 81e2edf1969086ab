//! Questions to a primary: SOA, AXFR, IXFR (RFC 1035 §4, RFC 1995 §3, RFC 5936 §2.1).

use std::sync::Arc;

use cascade_time::Timestamp;
use cascade_wire::composer::Full;
use cascade_wire::edns::option;
use cascade_wire::reader::CLASS_IN;
use cascade_wire::tsig::{ClientTsig, TsigKey};
use cascade_wire::{Composer, Section};
use cascade_zone::{Name, Rtype};

/// UDP payload we take (DNS Flag Day 2020): no fragments.
pub const UDP_SIZE: u16 = 1232;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// `edns`: with OPT, asking for EXPIRE (RFC 7314) and with this client cookie (RFC 7873).
    Soa {
        edns: Option<[u8; 8]>,
    },
    Axfr,
    /// Differences from the version with this SOA.
    Ixfr {
        soa_ttl: u32,
        soa: &'a [u8],
    },
}

impl Ask<'_> {
    pub fn qtype(&self) -> Rtype {
        match self {
            Ask::Soa { .. } => Rtype::SOA,
            Ask::Axfr => Rtype::AXFR,
            Ask::Ixfr { .. } => Rtype::IXFR,
        }
    }
}

/// A question ready to be sent, and what is needed to recognise its answers.
#[derive(Debug, Clone)]
pub struct Query {
    pub octets: Vec<u8>,
    pub id: u16,
    pub apex: Name,
    pub qtype: Rtype,
    pub cookie: Option<[u8; 8]>,
    /// Verifies the answers.
    pub tsig: Option<ClientTsig>,
}

impl Query {
    /// `id`: unpredictable. With `key`, the question is signed and the answers must be.
    pub fn new(
        apex: &Name,
        ask: &Ask<'_>,
        id: u16,
        key: Option<&Arc<TsigKey>>,
        now: Timestamp,
    ) -> Query {
        let mut octets = Vec::with_capacity(512);
        let mut composer = Composer::new(&mut octets, usize::from(u16::MAX), id, 0);
        composer.question(apex.as_wire(), ask.qtype(), CLASS_IN);
        // One SOA of at most 532 octets, or one small OPT, always fits.
        let _: Result<(), Full> = match ask {
            Ask::Ixfr { soa_ttl, soa } => composer.record(
                Section::Authority,
                apex.as_wire(),
                Rtype::SOA,
                *soa_ttl,
                soa,
            ),
            Ask::Soa { edns: Some(cookie) } => {
                composer.record_with(Section::Additional, &[0], Rtype::OPT, UDP_SIZE, 0, |out| {
                    push_option(out, option::EXPIRE, &[]);
                    push_option(out, option::COOKIE, cookie);
                })
            }
            Ask::Soa { edns: None } | Ask::Axfr => Ok(()),
        };
        composer.finish();
        let tsig = key.map(|k| ClientTsig::request(k.clone(), &mut octets, 0, now));
        Query {
            octets,
            id,
            apex: apex.clone(),
            qtype: ask.qtype(),
            cookie: match ask {
                Ask::Soa { edns } => *edns,
                _ => None,
            },
            tsig,
        }
    }
}

fn push_option(out: &mut Vec<u8>, code: u16, data: &[u8]) {
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}
