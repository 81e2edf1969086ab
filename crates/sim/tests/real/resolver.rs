//! A resolver: it asks any server, keeps what it got for its TTL, and validates what it has.

use std::collections::BTreeMap;

use cascade_crypto::{DigestType, Dnskey, ds_digest};
use cascade_keys::{DsRecord, key_tag};
use cascade_sim::{Content, Ds, Rng, Shown, World};

use cascade_zone::Name;

use crate::zone::{PARTS, RrSet, Signed, ds_rdata};

pub struct Resolver {
    draw: Rng,
    /// Seconds that its clock is ahead of the true one.
    skew: i64,
    ds: Option<(u64, Vec<(Ds, DsRecord)>)>,
    keys: Option<(u64, Shown)>,
    data: BTreeMap<usize, (u64, Shown)>,
    good: BTreeMap<String, ()>,
}

impl Resolver {
    pub fn new(n: u64, w: &World) -> Resolver {
        let mut draw = Rng::stream(n, "resolver");
        let skew = draw.below(600) as i64 - 300;
        assert!(!w.config.lags.is_empty());
        Resolver {
            draw,
            skew,
            ds: None,
            keys: None,
            data: BTreeMap::new(),
            good: BTreeMap::new(),
        }
    }

    /// Fetches what has run out, sometimes, and validates all that it holds; how much that was.
    pub fn look(&mut self, w: &World, signed: &mut Signed) -> usize {
        let now = w.age();
        self.forget(now);
        self.fetch(w, now);
        self.is_within(w);
        let Some((_, ds)) = &self.ds else { return 0 };
        let Some((_, keys)) = &self.keys else {
            return 0;
        };
        let records: Vec<DsRecord> = ds.iter().map(|d| d.1.clone()).collect();
        let mut n = 0;
        for (part, (_, v)) in &self.data {
            n += 1;
            let id = format!("{records:?} {:?} {:?} {part}", keys.apex, v.data[*part]);
            if self.good.contains_key(&id) {
                continue;
            }
            let set = signed.dnskey(w, keys);
            let data = signed.data(w, v, *part);
            if let Err(e) = validate(&records, &set, &data) {
                panic!("bogus after {now} s: {e}; DS {ds:?}, {keys:?}, part {part} of {v:?}");
            }
            let at = w.now.secs() + self.skew;
            for sig in set.rrsigs.iter().chain(&data.rrsigs) {
                let time = |i: usize| i64::from(u32::from_be_bytes(field(sig, i)));
                assert!(time(12) <= at && at <= time(8), "not valid at its own time");
            }
            self.good.insert(id, ());
        }
        n
    }

    fn forget(&mut self, now: u64) {
        self.ds.take_if(|d| d.0 < now);
        self.keys.take_if(|k| k.0 < now);
        self.data.retain(|_, d| d.0 >= now);
    }

    fn fetch(&mut self, w: &World, now: u64) {
        let ttl =
            |draw: &mut Rng, ttl: u32| now + u64::from(ttl) - draw.below(u64::from(ttl / 4) + 1);
        if self.ds.is_none() && self.draw.one_in(2) {
            let server = self.draw.below(w.config.parent.len() as u64) as usize;
            let set = w.ds_shown_at(server);
            self.ds = Some((ttl(&mut self.draw, w.config.ds_ttl), set));
        }
        let any = |draw: &mut Rng| w.served_by(draw.below(w.config.lags.len() as u64) as usize);
        if self.keys.is_none()
            && self.draw.one_in(2)
            && let Some(v) = any(&mut self.draw)
        {
            self.keys = Some((ttl(&mut self.draw, v.apex.ttl), v));
        }
        for part in 0..PARTS {
            if !self.data.contains_key(&part)
                && self.draw.one_in(3)
                && let Some(v) = any(&mut self.draw)
            {
                let until = ttl(&mut self.draw, w.config.data_ttl);
                self.data.insert(part, (until, v));
            }
        }
    }

    /// What one resolver holds is among what any of them may.
    fn is_within(&self, w: &World) {
        let all = w.classes();
        let has = |c: &Content| all.contains(&c);
        if let Some((_, ds)) = &self.ds {
            let c = Content::Ds(ds.iter().map(|d| d.0).collect());
            assert!(has(&c), "{c:?} is not in {all:?}");
        }
        if let Some((_, v)) = &self.keys {
            let c = Content::Dnskey(v.apex.dnskey.clone(), v.apex.dnskey_signers.clone());
            assert!(has(&c), "{c:?} is not in {all:?}");
        }
        for (part, (_, v)) in &self.data {
            let c = Content::Data(v.data[*part].clone());
            assert!(has(&c), "{c:?} is not in {all:?}");
        }
    }
}

/// RFC 4035 §5 for one DS, one DNSKEY and one other RRset, by a validator that wants every algorithm
/// of the DS and of the DNSKEY RRset; without a DS all is insecure and good.
pub fn validate(ds: &[DsRecord], keys: &RrSet, data: &RrSet) -> Result<(), String> {
    if ds.is_empty() {
        return Ok(());
    }
    let mut algorithms: Vec<u8> = ds.iter().map(|d| d.algorithm).collect();
    algorithms.dedup();
    for a in &algorithms {
        let led = keys.rrs.iter().any(|k| {
            let fits = ds.iter().any(|d| d.algorithm == *a && leads(d, keys, k));
            fits && signed_by(keys, k)
        });
        if !led {
            return Err(format!("no chain of algorithm {a}"));
        }
    }
    let mut of_keys: Vec<u8> = keys.rrs.iter().map(|k| k[3]).collect();
    of_keys.sort_unstable();
    of_keys.dedup();
    for a in of_keys {
        let good = |k: &&Vec<u8>| k[3] == a && signed_by(data, k);
        if !keys.rrs.iter().any(|k| good(&k)) {
            return Err(format!("no signature of algorithm {a} over the data"));
        }
    }
    Ok(())
}

fn leads(d: &DsRecord, keys: &RrSet, rdata: &[u8]) -> bool {
    let mut made = key_tag(rdata).to_be_bytes().to_vec();
    let digest = DigestType::from_number(d.digest_type);
    let (Some(digest), Ok(zone), Ok(key)) = (
        digest,
        Name::from_wire(&keys.owner),
        Dnskey::from_rdata(rdata),
    ) else {
        return false;
    };
    made.extend([rdata[3], d.digest_type]);
    made.extend(ds_digest(&zone, &key, digest));
    made == ds_rdata(d)
}

/// RFC 4034 §3.1.8.1.
fn signed_by(set: &RrSet, rdata: &[u8]) -> bool {
    let Ok(key) = Dnskey::from_rdata(rdata) else {
        return false;
    };
    set.rrsigs.iter().any(|sig| {
        let tag = u16::from_be_bytes([sig[16], sig[17]]);
        if tag != key.key_tag() || sig[2] != key.algorithm_number() {
            return false;
        }
        let name = &sig[18..];
        let mut len = 0;
        while name[len] != 0 {
            len += usize::from(name[len]) + 1;
        }
        let head = 18 + len + 1;
        let mut message = sig[..head].to_vec();
        for rr in &set.rrs {
            message.extend(&set.owner);
            message.extend(set.rtype.0.to_be_bytes());
            message.extend([0, 1]);
            message.extend(&sig[4..8]);
            message.extend((rr.len() as u16).to_be_bytes());
            message.extend(rr);
        }
        cascade_crypto::verify(&key, &message, &sig[head..])
    })
}

fn field(sig: &[u8], at: usize) -> [u8; 4] {
    sig[at..at + 4].try_into().expect("four octets")
}
