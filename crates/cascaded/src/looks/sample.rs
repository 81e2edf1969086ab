//! Whether a secondary shows what we published: a few RRsets with their
//! signatures, against the version that has its serial. That version has passed the gate, so what
//! equals it verifies, and at one serial nothing else may be served.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use cascade_zone::{Name, Rtype, Serial, SoaFields, ZoneVersion, canon};

use super::message::{ANSWER, NOERROR, Reply};
use super::servers::Server;
use super::transport::{Asker, Fetch};

pub use super::servers::of_ns;

/// RRsets beside SOA and DNSKEY.
const DRAWN: u64 = 3;
/// Draws that may hit an owner without a signed RRset, such as a delegation.
const TRIES: u64 = 24;

/// What a sample came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sample {
    Good,
    /// It serves something else at this serial.
    Bogus(String),
    /// It serves another version by now, or gave no answer.
    Nothing,
}

/// Asks for SOA, DNSKEY, and RRsets drawn by `seed`.
pub async fn sample(asker: &Asker, server: &Server, version: &ZoneVersion, seed: u64) -> Sample {
    let mut wanted = vec![
        of_apex(version, Rtype::SOA),
        of_apex(version, Rtype::DNSKEY),
    ];
    wanted.extend(drawn(version, seed));
    for set in wanted.iter().flatten() {
        let reply = match asker.ask(server, &set.owner, set.rtype).await {
            Fetch::Reply(reply) => reply,
            Fetch::NoRoute | Fetch::Silent | Fetch::Unusable(_) => return Sample::Nothing,
        };
        let Some(wrong) = set.differs(&reply) else {
            continue;
        };
        // It may have got the next version between two questions.
        return match serial(asker, server, version.apex()).await {
            Some(now) if now == version.serial() => Sample::Bogus(wrong),
            _ => Sample::Nothing,
        };
    }
    Sample::Good
}

/// The serial that a server shows over TCP, where nobody can answer in its place from afar.
pub async fn serial(asker: &Asker, server: &Server, apex: &Name) -> Option<Serial> {
    let Fetch::Reply(reply) = asker.ask(server, apex, Rtype::SOA).await else {
        return None;
    };
    if !reply.aa || reply.rcode != NOERROR {
        return None;
    }
    let owner = apex.to_lowercase();
    let soa = reply.set(ANSWER, owner.as_wire(), Rtype::SOA);
    SoaFields::parse(&soa.first()?.rdata).map(|f| f.serial)
}

/// Asks an address with the key of the policy.
pub fn server(addr: SocketAddr, tsig: Option<String>) -> Server {
    Server {
        name: addr.ip().to_string(),
        addr,
        tsig,
    }
}

/// An RRset as it was published, in canonical form.
#[derive(Debug)]
struct Wanted {
    owner: Name,
    rtype: Rtype,
    rdata: BTreeSet<Vec<u8>>,
    rrsigs: BTreeSet<Vec<u8>>,
}

impl Wanted {
    /// What is wrong with the answer.
    fn differs(&self, reply: &Reply) -> Option<String> {
        let what = || format!("{} {}", self.owner.without_dot(), self.rtype);
        if reply.rcode != NOERROR || !reply.aa {
            let code = reply.rcode;
            return Some(format!(
                "{}: no authoritative answer (RCODE {code})",
                what()
            ));
        }
        let owner = self.owner.to_lowercase();
        let set = |rtype| -> BTreeSet<Vec<u8>> {
            let records = reply.set(ANSWER, owner.as_wire(), rtype).into_iter();
            records.map(|r| canonical(rtype, &r.rdata)).collect()
        };
        if set(self.rtype) != self.rdata {
            return Some(format!("{}: not the records that were published", what()));
        }
        let shown: BTreeSet<Vec<u8>> = set(Rtype::RRSIG)
            .into_iter()
            .filter(|s| covers(s) == Some(self.rtype))
            .collect();
        match shown.is_empty() && !self.rrsigs.is_empty() {
            true => Some(format!("{}: without its signature", what())),
            false if shown.is_subset(&self.rrsigs) => None,
            false => Some(format!("{}: a signature that we did not make", what())),
        }
    }
}

fn covers(rrsig: &[u8]) -> Option<Rtype> {
    let covered = rrsig.first_chunk::<2>()?;
    Some(Rtype(u16::from_be_bytes(*covered)))
}

fn canonical(rtype: Rtype, rdata: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rdata.len());
    canon::push_canonical(rtype, rdata, &mut out);
    out
}

fn of_apex(version: &ZoneVersion, rtype: Rtype) -> Option<Wanted> {
    wanted(version, 0, version.apex_lower(), rtype)
}

/// The RRset of this owner, which is in unit `unit`.
fn wanted(version: &ZoneVersion, unit: usize, owner: &[u8], rtype: Rtype) -> Option<Wanted> {
    let (mut rdata, mut rrsigs) = (BTreeSet::new(), BTreeSet::new());
    version.unit(unit).for_each_record(&mut |r| {
        if !r.owner.eq_ignore_ascii_case(owner) {
            return;
        }
        let octets = canonical(r.rtype, r.rdata);
        if r.rtype == rtype {
            rdata.insert(octets);
        } else if r.rtype == Rtype::RRSIG && covers(&octets) == Some(rtype) {
            rrsigs.insert(octets);
        }
    });
    Some(Wanted {
        owner: Name::from_wire(owner).ok().filter(|_| !rdata.is_empty())?,
        rtype,
        rdata,
        rrsigs,
    })
}

/// Signed RRsets anywhere in the zone; the same ones for the same seed.
fn drawn(version: &ZoneVersion, seed: u64) -> Vec<Option<Wanted>> {
    // SplitMix64: any seed gives a sequence without visible order.
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize
    };
    let mut out = Vec::new();
    for _ in 0..TRIES {
        if out.len() as u64 >= DRAWN {
            break;
        }
        let unit = next() % version.unit_count().max(1);
        let owners = version.unit(unit).owner_count().max(1);
        let Some(owner) = version.unit(unit).owners().nth(next() % owners) else {
            continue;
        };
        let signed: Vec<Rtype> = owner.types().filter(|t| owner.is_signed_set(*t)).collect();
        if signed.is_empty() {
            continue;
        }
        let rtype = signed[next() % signed.len()];
        out.push(wanted(version, unit, owner.name().as_wire(), rtype));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::message::Rec;
    use super::*;

    fn reply(owner: &str, records: &[(Rtype, &[u8])]) -> Reply {
        let owner = Name::parse(owner).unwrap().as_wire().to_vec();
        let records = records.iter().map(|(rtype, rdata)| Rec {
            section: ANSWER,
            owner: owner.clone(),
            rtype: *rtype,
            ttl: 5,
            rdata: rdata.to_vec(),
        });
        Reply {
            aa: true,
            tc: false,
            rcode: NOERROR,
            cookie: None,
            nsid: None,
            records: records.collect(),
        }
    }

    #[test]
    fn answers_are_compared_with_what_was_published() {
        let sig = [&[0, 1, 13][..], &[7; 60]].concat();
        let other = [&[0, 1, 13][..], &[8; 60]].concat();
        let foreign = [&[0, 16, 13][..], &[8; 60]].concat();
        let set = Wanted {
            owner: Name::parse("Www.example").unwrap(),
            rtype: Rtype::A,
            rdata: BTreeSet::from([vec![192, 0, 2, 1]]),
            rrsigs: BTreeSet::from([canonical(Rtype::RRSIG, &sig)]),
        };
        let (a, b) = (&[192, 0, 2, 1][..], &[192, 0, 2, 2][..]);
        let says = |records: &[(Rtype, &[u8])]| set.differs(&reply("www.example", records));
        let s = |octets| (Rtype::RRSIG, octets);
        assert_eq!(says(&[(Rtype::A, a), s(&sig[..])]), None);
        assert_eq!(says(&[(Rtype::A, a), s(&sig[..]), s(&foreign[..])]), None);
        let wrong = |records: &[(Rtype, &[u8])], word: &str| {
            let text = says(records).unwrap();
            assert!(
                text.contains(word) && text.starts_with("Www.example A: "),
                "{text}"
            );
        };
        wrong(&[(Rtype::A, b), s(&sig[..])], "not the records");
        wrong(
            &[(Rtype::A, a), (Rtype::A, b), s(&sig[..])],
            "not the records",
        );
        wrong(&[s(&sig[..])], "not the records");
        wrong(&[(Rtype::A, a)], "without its signature");
        wrong(&[(Rtype::A, a), s(&other[..])], "that we did not make");
        let mut refused = reply("www.example", &[(Rtype::A, a), s(&sig[..])]);
        refused.aa = false;
        assert!(set.differs(&refused).is_some());
    }
}
