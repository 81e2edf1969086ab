//! From what servers reply to the answers that the key manager judges.

use cascade_crypto::Dnskey;
use cascade_keys::{Answer, DsRecord, KeyNum, Member, Referral, SeenKey, What};
use cascade_publisher::Candidate;
use cascade_time::Timestamp;
use cascade_zone::{Name, Rtype};

use super::Look;
use super::message::{ANSWER, AUTHORITY, NOERROR, NXDOMAIN, Rec, Reply, Rrsig};
use super::servers::{MAX_NAMES, Server, apex_ns};
use super::transport::{Asker, Fetch};

/// DNSKEY records of a parent that are tried on its DS RRset.
const MAX_PARENT_KEYS: usize = 16;

/// What a server of the parent showed besides.
#[derive(Debug, Default)]
pub struct Shown {
    pub referral: Vec<Name>,
    pub parent_expire: Option<u32>,
}

/// Asks one server once; with the name of the node that answered.
pub async fn ask(look: &Look, server: &Server, asker: &Asker) -> (Option<String>, Answer, Shown) {
    let now = || asker.clock.now();
    let rtype = match look.what {
        What::Dnskey => Rtype::DNSKEY,
        What::Rrsig => Rtype::SOA,
        What::Ds => Rtype::DS,
    };
    let fetched = asker.ask(server, &look.zone, rtype).await;
    let nsid = match &fetched {
        Fetch::Reply(r) => r.nsid.clone(),
        _ => None,
    };
    let mut shown = Shown::default();
    let answer = match usable(fetched) {
        Err(a) => a,
        Ok(reply) => match look.what {
            What::Dnskey => dnskey(look, &reply, now()).unwrap_or_else(|a| a),
            What::Rrsig => match usable(asker.ask(server, &look.zone, Rtype::NS).await) {
                Err(a) => a,
                Ok(ns) => rrsig(look, &reply, &ns, now()).unwrap_or_else(|a| a),
            },
            What::Ds => ds(look, server, asker, &reply, &mut shown).await,
        },
    };
    (nsid, answer, shown)
}

/// Our own output, by the code that serves it.
pub fn own(look: &Look, now: Timestamp) -> (Member, Shown) {
    let output = Candidate::new(&look.version, now);
    let ask = |rtype: Rtype| -> Result<Reply, Answer> {
        let mut octets = Vec::new();
        let answered = output.as_ref().is_some_and(|o| {
            cascade_verifier::Answers::ask(o, look.zone.as_wire(), rtype.0, &mut octets)
        });
        if !answered {
            return Err(Answer::Silent);
        }
        // The question has this id.
        Reply::parse(&octets, &look.zone, rtype, 1).map_err(Answer::Unusable)
    };
    let answer = match look.what {
        What::Rrsig => ask(Rtype::SOA)
            .and_then(|soa| ask(Rtype::NS).and_then(|ns| rrsig(look, &soa, &ns, now))),
        _ => ask(Rtype::DNSKEY).and_then(|r| dnskey(look, &r, now)),
    };
    let member = Member {
        server: "own output".into(),
        address: "this daemon".into(),
        nsid: None,
        answer: answer.unwrap_or_else(|a| a),
    };
    (member, Shown::default())
}

fn reply(fetched: Fetch) -> Result<Reply, Answer> {
    match fetched {
        Fetch::Reply(r) if r.tc => Err(Answer::Unusable("truncated over TCP".into())),
        Fetch::Reply(r) => Ok(r),
        Fetch::NoRoute => Err(Answer::NoRoute),
        Fetch::Silent => Err(Answer::Silent),
        Fetch::Unusable(why) => Err(Answer::Unusable(why)),
    }
}

/// A reply that may be evidence: authoritative, without error.
fn usable(fetched: Fetch) -> Result<Reply, Answer> {
    let reply = reply(fetched)?;
    match (reply.rcode, reply.aa) {
        (NOERROR | NXDOMAIN, true) => Ok(reply),
        (NOERROR | NXDOMAIN, false) => Err(Answer::Unusable(
            "lame: not authoritative for the zone".into(),
        )),
        (rcode, _) => Err(Answer::Unusable(rcode_text(rcode))),
    }
}

fn rcode_text(rcode: u16) -> String {
    match rcode {
        2 => "SERVFAIL".into(),
        5 => "REFUSED".into(),
        9 => "NOTAUTH".into(),
        other => format!("RCODE {other}"),
    }
}

fn dnskey(look: &Look, reply: &Reply, now: Timestamp) -> Result<Answer, Answer> {
    let owner = look.zone.to_lowercase();
    let set = reply.set(ANSWER, owner.as_wire(), Rtype::DNSKEY);
    let keys: Vec<SeenKey> = set
        .iter()
        .filter(|r| r.rdata.len() > 4)
        .map(|r| SeenKey {
            flags: u16::from_be_bytes([r.rdata[0], r.rdata[1]]),
            algorithm: r.rdata[3],
            public_key: r.rdata[4..].to_vec(),
        })
        .collect();
    let sigs = reply.sigs(ANSWER, owner.as_wire(), Rtype::DNSKEY);
    let signs = |rdata: &[u8]| {
        Dnskey::from_rdata(rdata).is_ok_and(|key| {
            let tag = key.key_tag();
            sigs.iter()
                .any(|s| s.tag == tag && s.signer_is(&owner) && s.verifies(&key, &set, now))
        })
    };
    Ok(Answer::Dnskey {
        keys,
        ttl: set.iter().map(|r| r.ttl).max().unwrap_or(0),
        signed_by: look
            .keys
            .iter()
            .filter(|(_, rdata)| signs(rdata))
            .map(|(n, _)| *n)
            .collect(),
    })
}

/// SOA and apex NS RRset, each signed as the published version is.
fn rrsig(look: &Look, soa: &Reply, ns: &Reply, now: Timestamp) -> Result<Answer, Answer> {
    let owner = look.zone.to_lowercase();
    let record = soa.set(ANSWER, owner.as_wire(), Rtype::SOA);
    let fields = record
        .first()
        .and_then(|r| cascade_zone::SoaFields::parse(&r.rdata))
        .ok_or_else(|| Answer::Unusable("no SOA in the answer".into()))?;
    let mut faults = Vec::new();
    for (reply, rtype, name) in [(soa, Rtype::SOA, "SOA"), (ns, Rtype::NS, "NS")] {
        let set = reply.set(ANSWER, owner.as_wire(), rtype);
        let sigs = reply.sigs(ANSWER, owner.as_wire(), rtype);
        if let Some(fault) = fault(look, &set, &sigs, now) {
            faults.push(format!("{name}: {fault}"));
        }
    }
    Ok(Answer::Rrsig {
        serial: fields.serial.0,
        same_content: false,
        faults,
    })
}

/// What is wrong with the signatures over one RRset.
fn fault(look: &Look, set: &[&Rec], sigs: &[Rrsig<'_>], now: Timestamp) -> Option<String> {
    let owner = look.zone.to_lowercase();
    let key = |n: &KeyNum| {
        let (_, rdata) = look.keys.iter().find(|(k, _)| k == n)?;
        Dnskey::from_rdata(rdata).ok()
    };
    let by = |k: &Dnskey| {
        let (tag, algorithm) = (k.key_tag(), k.algorithm_number());
        sigs.iter().any(|s| {
            s.tag == tag
                && s.algorithm == algorithm
                && s.signer_is(&owner)
                && s.verifies(k, set, now)
        })
    };
    if set.is_empty() {
        return Some("it is missing".into());
    }
    for k in look.all.iter().filter_map(key) {
        if !by(&k) {
            return Some(format!("no valid RRSIG by key {}", k.key_tag()));
        }
    }
    let expected: Vec<Dnskey> = look.any.iter().filter_map(key).collect();
    for s in sigs {
        let fits = |k: &&Dnskey| k.key_tag() == s.tag && k.algorithm_number() == s.algorithm;
        if !expected.iter().any(|k| fits(&k)) {
            return Some(format!("RRSIG by key {}, which signs no more", s.tag));
        }
    }
    if look.any.is_empty() || expected.iter().any(by) {
        return None;
    }
    Some("no valid RRSIG".into())
}

async fn ds(
    look: &Look,
    server: &Server,
    asker: &Asker,
    reply: &Reply,
    shown: &mut Shown,
) -> Answer {
    let owner = look.zone.to_lowercase();
    let records = reply.set(ANSWER, owner.as_wire(), Rtype::DS);
    let soa = reply.soa().map(|(owner, expire)| (owner.to_vec(), expire));
    if records.is_empty() {
        match &soa {
            // RFC 4035 §3.1.4.1: the child's own side of the cut knows nothing of its DS.
            Some((o, _)) if o == owner.as_wire() => {
                let why = "answers for the zone itself, not for its parent";
                return Answer::Unusable(why.into());
            }
            None => return Answer::Unusable("a denial without SOA".into()),
            Some((_, expire)) => shown.parent_expire = Some(*expire),
        }
    }
    let set: Vec<DsRecord> = records
        .iter()
        .filter(|r| r.rdata.len() > 4)
        .map(|r| DsRecord {
            tag: u16::from_be_bytes([r.rdata[0], r.rdata[1]]),
            algorithm: r.rdata[2],
            digest_type: r.rdata[3],
            digest: r.rdata[4..].to_vec(),
        })
        .collect();
    let sigs = reply.sigs(ANSWER, owner.as_wire(), Rtype::DS);
    let ttls = records.iter().map(|r| r.ttl);
    let ttl = ttls.chain(sigs.iter().map(|s| s.original_ttl)).max();
    let bogus = !sigs.is_empty() && is_bogus(&sigs, &records, server, asker).await;
    let referral = referral(look, server, asker, shown).await;
    Answer::Ds {
        set,
        ttl: ttl.unwrap_or(0),
        bogus,
        referral,
    }
}

/// The parent's own keys, from the same address, do not fit its RRSIG over the DS RRset.
async fn is_bogus(sigs: &[Rrsig<'_>], set: &[&Rec], server: &Server, asker: &Asker) -> bool {
    let Some(parent) = sigs.first().and_then(|s| Name::from_wire(s.signer).ok()) else {
        return true;
    };
    let Ok(reply) = usable(asker.ask(server, &parent, Rtype::DNSKEY).await) else {
        // Not known to be wrong.
        return false;
    };
    let owner = parent.to_lowercase();
    let keys: Vec<Dnskey> = reply
        .set(ANSWER, owner.as_wire(), Rtype::DNSKEY)
        .into_iter()
        .filter_map(|r| Dnskey::from_rdata(&r.rdata).ok())
        .take(MAX_PARENT_KEYS)
        .collect();
    let now = asker.clock.now();
    let checkable = |k: &&Dnskey| k.algorithm().is_some();
    if !keys.iter().any(|k| checkable(&k)) {
        return false;
    }
    let good = |s: &Rrsig<'_>| {
        keys.iter()
            .filter(|k| k.key_tag() == s.tag)
            .any(|k| s.verifies(k, set, now))
    };
    !sigs.iter().any(good)
}

async fn referral(look: &Look, server: &Server, asker: &Asker, shown: &mut Shown) -> Referral {
    let Ok(reply) = reply(asker.ask(server, &look.zone, Rtype::NS).await) else {
        return Referral::Unclear;
    };
    let owner = look.zone.to_lowercase();
    let mut names: Vec<Name> = [ANSWER, AUTHORITY]
        .into_iter()
        .flat_map(|section| reply.set(section, owner.as_wire(), Rtype::NS))
        .filter_map(|r| Name::from_wire(&r.rdata).ok())
        .map(|n| n.to_lowercase())
        .take(MAX_NAMES)
        .collect();
    if !names.is_empty() {
        let ours = apex_ns(&look.version);
        let shared = names.iter().any(|n| ours.contains(n));
        shown.referral = std::mem::take(&mut names);
        return Referral::Names { shared };
    }
    let above = reply.soa().filter(|(o, _)| *o != owner.as_wire());
    match (reply.rcode, reply.aa, above) {
        (NOERROR | NXDOMAIN, true, Some((_, expire))) => {
            shown.parent_expire.get_or_insert(expire);
            Referral::Denied
        }
        _ => Referral::Unclear,
    }
}

impl Rrsig<'_> {
    fn signer_is(&self, zone: &Name) -> bool {
        self.signer.to_ascii_lowercase() == zone.as_wire()
    }
}
