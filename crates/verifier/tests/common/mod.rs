//! A reference signer over plain record vectors: slow, short, and written from the RFCs alone.
#![allow(dead_code)]
// Helpers of tests: a panic is a failed test.
#![allow(clippy::unwrap_used)]

pub mod random;
pub mod stored;

use std::collections::{BTreeMap, BTreeSet};

use cascade_time::Timestamp;
use cascade_verifier::{Outcome, Params, RecordList, Rr, verify_records};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use sha1::Digest;

pub const NOW: i64 = 1_790_000_000;
pub const DAY: u32 = 86_400;
pub const SOA: u16 = 6;
pub const NS: u16 = 2;
pub const A: u16 = 1;
pub const TXT: u16 = 16;
pub const DNAME: u16 = 39;
pub const DS: u16 = 43;
pub const RRSIG: u16 = 46;
pub const NSEC: u16 = 47;
pub const DNSKEY: u16 = 48;
pub const NSEC3: u16 = 50;
pub const NSEC3PARAM: u16 = 51;
pub const CDS: u16 = 59;
pub const CDNSKEY: u16 = 60;
pub const ZONEMD: u16 = 63;

pub fn now() -> Timestamp {
    Timestamp::from_secs(NOW)
}

#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct R {
    pub owner: Vec<u8>,
    pub rtype: u16,
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

pub fn n(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in text.split('.').filter(|l| !l.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

pub fn r(owner: &str, rtype: u16, ttl: u32, rdata: impl AsRef<[u8]>) -> R {
    R {
        owner: n(owner),
        rtype,
        ttl,
        rdata: rdata.as_ref().to_vec(),
    }
}

pub fn labels(name: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut i = 0;
    while name[i] != 0 {
        let len = name[i] as usize;
        out.push(name[i + 1..i + 1 + len].to_ascii_lowercase());
        i += 1 + len;
    }
    out
}

/// Labels from the root: plain comparison is canonical order.
pub fn order(name: &[u8]) -> Vec<Vec<u8>> {
    let mut l = labels(name);
    l.reverse();
    l
}

pub fn unorder(key: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for label in key.iter().rev() {
        out.push(label.len() as u8);
        out.extend_from_slice(label);
    }
    out.push(0);
    out
}

pub enum Pair {
    Ed(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

pub struct Key {
    pub pair: Pair,
    pub flags: u16,
}

impl Key {
    pub fn ed(seed: u64, flags: u16) -> Key {
        let mut s = [7u8; 32];
        s[..8].copy_from_slice(&seed.to_be_bytes());
        Key {
            pair: Pair::Ed(Ed25519KeyPair::from_seed_unchecked(&s).unwrap()),
            flags,
        }
    }

    pub fn p256(flags: u16) -> Key {
        let rng = SystemRandom::new();
        let doc = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        Key {
            pair: Pair::P256(
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, doc.as_ref(), &rng)
                    .unwrap(),
            ),
            flags,
        }
    }

    pub fn algorithm(&self) -> u8 {
        match self.pair {
            Pair::Ed(_) => 15,
            Pair::P256(_) => 13,
        }
    }

    pub fn dnskey(&self) -> Vec<u8> {
        let mut out = self.flags.to_be_bytes().to_vec();
        out.extend([3, self.algorithm()]);
        match &self.pair {
            Pair::Ed(k) => out.extend_from_slice(k.public_key().as_ref()),
            Pair::P256(k) => out.extend_from_slice(&k.public_key().as_ref()[1..]),
        }
        out
    }

    pub fn tag(&self) -> u16 {
        tag(&self.dnskey())
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Ed(k) => k.sign(message).as_ref().to_vec(),
            Pair::P256(k) => k
                .sign(&SystemRandom::new(), message)
                .unwrap()
                .as_ref()
                .to_vec(),
        }
    }

    pub fn ds(&self, apex: &[u8]) -> Vec<u8> {
        let mut out = self.tag().to_be_bytes().to_vec();
        out.extend([self.algorithm(), 2]);
        out.extend(
            sha2::Sha256::new()
                .chain_update(apex)
                .chain_update(self.dnskey())
                .finalize(),
        );
        out
    }
}

pub fn tag(dnskey: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for (i, b) in dnskey.iter().enumerate() {
        sum += if i % 2 == 0 {
            (*b as u32) * 256
        } else {
            *b as u32
        };
    }
    sum += sum >> 16 & 0xffff;
    (sum & 0xffff) as u16
}

#[derive(Clone, PartialEq, Debug)]
pub enum Chain {
    Nsec,
    Nsec3 {
        iterations: u16,
        salt: Vec<u8>,
        opt_out: bool,
    },
}

impl Chain {
    pub fn nsec3() -> Chain {
        Chain::Nsec3 {
            iterations: 0,
            salt: vec![],
            opt_out: false,
        }
    }
    pub fn opt_out() -> Chain {
        Chain::Nsec3 {
            iterations: 3,
            salt: vec![0xab, 0xcd],
            opt_out: true,
        }
    }
}

pub struct Signer {
    pub apex: Vec<u8>,
    /// KSK and ZSK of each algorithm.
    pub keys: Vec<Key>,
    pub chain: Chain,
    pub inception: u32,
    pub expiration: u32,
}

impl Signer {
    pub fn new(chain: Chain, two_algorithms: bool) -> Signer {
        let mut keys = vec![Key::ed(1, 257), Key::ed(2, 256)];
        if two_algorithms {
            keys.push(Key::p256(257));
            keys.push(Key::p256(256));
        }
        let now = NOW as u32;
        Signer {
            apex: n("example"),
            keys,
            chain,
            inception: now - DAY,
            expiration: now + 14 * DAY,
        }
    }

    /// RRSIG by `key` over an RRset.
    pub fn rrsig(&self, set: &[R], key: &Key) -> R {
        self.rrsig_with(set, key, |_| {})
    }

    /// The same with its fields altered before it is signed: type, algorithm, labels, ... as RDATA.
    pub fn rrsig_with(&self, set: &[R], key: &Key, alter: impl FnOnce(&mut Vec<u8>)) -> R {
        let first = &set[0];
        let own = labels(&first.owner);
        let wild = own.first().is_some_and(|l| l == b"*");
        let mut head = first.rtype.to_be_bytes().to_vec();
        head.push(key.algorithm());
        head.push((own.len() - wild as usize) as u8);
        head.extend(first.ttl.to_be_bytes());
        head.extend(self.expiration.to_be_bytes());
        head.extend(self.inception.to_be_bytes());
        head.extend(key.tag().to_be_bytes());
        head.extend(&self.apex);
        alter(&mut head);
        let mut message = head.clone();
        // Validators lower the signer's name.
        message[18..].make_ascii_lowercase();
        let mut datas: Vec<Vec<u8>> = set.iter().map(|r| canonical(r.rtype, &r.rdata)).collect();
        datas.sort();
        datas.dedup();
        for d in datas {
            message.extend(first.owner.to_ascii_lowercase());
            message.extend(first.rtype.to_be_bytes());
            message.extend([0, 1]);
            message.extend(&head[4..8]);
            message.extend((d.len() as u16).to_be_bytes());
            message.extend(d);
        }
        head.extend(key.sign(&message));
        R {
            owner: first.owner.clone(),
            rtype: RRSIG,
            ttl: first.ttl,
            rdata: head,
        }
    }

    fn signs(&self, key: &Key, rtype: u16) -> bool {
        let ksk = key.flags & 1 == 1;
        ksk == matches!(rtype, DNSKEY | CDS | CDNSKEY)
    }

    pub fn sign_set(&self, set: &[R]) -> Vec<R> {
        self.keys
            .iter()
            .filter(|k| self.signs(k, set[0].rtype))
            .map(|k| self.rrsig(set, k))
            .collect()
    }

    /// Drops the RRSIGs of an RRset and makes them anew.
    pub fn resign(&self, zone: &mut Vec<R>, owner: &[u8], rtype: u16) {
        zone.retain(|r| !(r.rtype == RRSIG && same(&r.owner, owner) && covered(r) == rtype));
        let set: Vec<R> = zone
            .iter()
            .filter(|r| same(&r.owner, owner) && r.rtype == rtype)
            .cloned()
            .collect();
        zone.extend(self.sign_set(&set));
    }

    pub fn resign_type(&self, zone: &mut Vec<R>, rtype: u16) {
        let owners: BTreeSet<Vec<u8>> = zone
            .iter()
            .filter(|r| r.rtype == rtype)
            .map(|r| r.owner.clone())
            .collect();
        for o in owners {
            self.resign(zone, &o, rtype);
        }
    }

    pub fn sign(&self, unsigned: &[R]) -> Vec<R> {
        let mut zone = unsigned.to_vec();
        for k in &self.keys {
            zone.push(R {
                owner: self.apex.clone(),
                rtype: DNSKEY,
                ttl: 3600,
                rdata: k.dnskey(),
            });
        }
        if let Chain::Nsec3 {
            iterations, salt, ..
        } = &self.chain
        {
            zone.push(R {
                owner: self.apex.clone(),
                rtype: NSEC3PARAM,
                ttl: 3600,
                rdata: param(0, *iterations, salt),
            });
        }
        self.deny_and_sign(zone)
    }

    /// Denial records and signatures for a zone with its apex sets.
    pub fn deny_and_sign(&self, mut zone: Vec<R>) -> Vec<R> {
        let map = Map::new(&zone, &self.apex);
        let denial = self.denial(&map, &zone);
        zone.extend(denial);
        let mut sets: BTreeMap<(Vec<Vec<u8>>, u16), Vec<R>> = BTreeMap::new();
        for r in &zone {
            sets.entry((order(&r.owner), r.rtype))
                .or_default()
                .push(r.clone());
        }
        for ((owner, rtype), set) in sets {
            let auth = match map.place(&owner) {
                _ if rtype == NSEC3 => true,
                'o' => false,
                'c' => matches!(rtype, DS | NSEC),
                _ => true,
            };
            if auth {
                zone.extend(self.sign_set(&set));
            }
        }
        zone
    }

    pub fn hash(&self, name: &[u8]) -> [u8; 20] {
        let Chain::Nsec3 {
            iterations, salt, ..
        } = &self.chain
        else {
            panic!()
        };
        let mut h = sha1::Sha1::digest([&name.to_ascii_lowercase()[..], salt].concat());
        for _ in 0..*iterations {
            h = sha1::Sha1::digest([&h[..], salt].concat());
        }
        h.into()
    }

    pub fn hashed_owner(&self, name: &[u8]) -> Vec<u8> {
        let mut out = vec![32];
        out.extend(base32(&self.hash(name)).bytes());
        out.extend(&self.apex);
        out
    }

    fn denial(&self, map: &Map, zone: &[R]) -> Vec<R> {
        let soa = zone.iter().find(|r| r.rtype == SOA).unwrap();
        let minimum = u32::from_be_bytes(soa.rdata[soa.rdata.len() - 4..].try_into().unwrap());
        let ttl = minimum.min(soa.ttl);
        let bearing: Vec<_> = map
            .owners
            .keys()
            .filter(|o| map.place(o) != 'o')
            .cloned()
            .collect();
        match &self.chain {
            Chain::Nsec => (0..bearing.len())
                .map(|i| {
                    let mut rdata = unorder(&bearing[(i + 1) % bearing.len()]);
                    let mut types = map.types(&bearing[i]);
                    types.extend([RRSIG, NSEC]);
                    rdata.extend(bitmap(&types));
                    R {
                        owner: unorder(&bearing[i]),
                        rtype: NSEC,
                        ttl,
                        rdata,
                    }
                })
                .collect(),
            Chain::Nsec3 {
                iterations,
                salt,
                opt_out,
            } => {
                let mut names: BTreeMap<[u8; 20], BTreeSet<u16>> = BTreeMap::new();
                let apex_len = labels(&self.apex).len();
                for o in &bearing {
                    let mut types = map.types(o);
                    let insecure = map.place(o) == 'c' && !types.contains(&DS);
                    if insecure && *opt_out {
                        continue;
                    }
                    if !insecure {
                        types.insert(RRSIG);
                    }
                    names.insert(self.hash(&unorder(o)), types);
                    for len in apex_len + 1..o.len() {
                        names.entry(self.hash(&unorder(&o[..len]))).or_default();
                    }
                }
                let hashes: Vec<_> = names.keys().copied().collect();
                (0..hashes.len())
                    .map(|i| {
                        let mut owner = vec![32];
                        owner.extend(base32(&hashes[i]).bytes());
                        owner.extend(&self.apex);
                        let mut rdata = param(*opt_out as u8, *iterations, salt);
                        rdata.push(20);
                        rdata.extend(hashes[(i + 1) % hashes.len()]);
                        rdata.extend(bitmap(&names[&hashes[i]]));
                        R {
                            owner,
                            rtype: NSEC3,
                            ttl,
                            rdata,
                        }
                    })
                    .collect()
            }
        }
    }

    /// Links the NSEC or NSEC3 records that are there into one cycle again and signs them.
    pub fn heal(&self, zone: &mut Vec<R>) {
        let rtype = if self.chain == Chain::Nsec {
            NSEC
        } else {
            NSEC3
        };
        let mut at: Vec<usize> = (0..zone.len())
            .filter(|&i| zone[i].rtype == rtype)
            .collect();
        at.sort_by_key(|&i| order(&zone[i].owner));
        for k in 0..at.len() {
            let next = zone[at[(k + 1) % at.len()]].owner.clone();
            let rdata = &mut zone[at[k]].rdata;
            if rtype == NSEC {
                let old = name_len(rdata);
                *rdata = [next.to_ascii_lowercase(), rdata[old..].to_vec()].concat();
            } else {
                let pos = 5 + rdata[4] as usize + 1;
                rdata[pos..pos + 20].copy_from_slice(&unbase32(&next[1..33]));
            }
        }
        self.resign_type(zone, rtype);
    }
}

pub fn name_len(wire: &[u8]) -> usize {
    let mut i = 0;
    while wire[i] != 0 {
        i += 1 + wire[i] as usize;
    }
    i + 1
}

pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

pub fn covered(r: &R) -> u16 {
    u16::from_be_bytes([r.rdata[0], r.rdata[1]])
}

pub fn param(flags: u8, iterations: u16, salt: &[u8]) -> Vec<u8> {
    let mut out = vec![1, flags];
    out.extend(iterations.to_be_bytes());
    out.push(salt.len() as u8);
    out.extend(salt);
    out
}

pub fn base32(h: &[u8; 20]) -> String {
    let mut bits = String::new();
    for b in h {
        bits.push_str(&format!("{b:08b}"));
    }
    (0..32)
        .map(|i| {
            char::from(
                b"0123456789abcdefghijklmnopqrstuv"
                    [usize::from_str_radix(&bits[5 * i..5 * i + 5], 2).unwrap()],
            )
        })
        .collect()
}

pub fn unbase32(label: &[u8]) -> [u8; 20] {
    let mut bits = String::new();
    for c in label.to_ascii_lowercase() {
        bits.push_str(&format!(
            "{:05b}",
            b"0123456789abcdefghijklmnopqrstuv"
                .iter()
                .position(|d| *d == c)
                .unwrap()
        ));
    }
    std::array::from_fn(|i| u8::from_str_radix(&bits[8 * i..8 * i + 8], 2).unwrap())
}

pub fn bitmap(types: &BTreeSet<u16>) -> Vec<u8> {
    let mut out = Vec::new();
    for w in 0..=255u8 {
        let low: Vec<u8> = types
            .iter()
            .filter(|t| (**t >> 8) as u8 == w)
            .map(|t| *t as u8)
            .collect();
        if let Some(max) = low.iter().max() {
            let mut map = vec![0u8; *max as usize / 8 + 1];
            for l in low {
                map[l as usize / 8] |= 128 >> (l % 8);
            }
            out.extend([w, map.len() as u8]);
            out.extend(map);
        }
    }
    out
}

/// Names are lowered in the few types that the test zones use.
pub fn canonical(rtype: u16, rdata: &[u8]) -> Vec<u8> {
    let mut out = rdata.to_vec();
    match rtype {
        NS | 5 | DNAME | 12 => out.make_ascii_lowercase(),
        SOA => {
            let len = out.len() - 20;
            out[..len].make_ascii_lowercase();
        }
        15 => out[2..].make_ascii_lowercase(),
        _ => {}
    }
    out
}

/// Places of owners: apex `a`, cut `c`, occluded `o`, data `d`.
pub struct Map {
    pub owners: BTreeMap<Vec<Vec<u8>>, BTreeSet<u16>>,
    apex: Vec<Vec<u8>>,
}

impl Map {
    pub fn new(zone: &[R], apex: &[u8]) -> Map {
        let mut owners: BTreeMap<Vec<Vec<u8>>, BTreeSet<u16>> = BTreeMap::new();
        for r in zone
            .iter()
            .filter(|r| !matches!(r.rtype, RRSIG | NSEC | NSEC3))
        {
            owners.entry(order(&r.owner)).or_default().insert(r.rtype);
        }
        Map {
            owners,
            apex: order(apex),
        }
    }

    pub fn place(&self, owner: &[Vec<u8>]) -> char {
        let has = |o: &[Vec<u8>], t| self.owners.get(o).is_some_and(|s| s.contains(&t));
        for len in self.apex.len()..owner.len() {
            let above = &owner[..len];
            if has(above, DNAME) || (len > self.apex.len() && has(above, NS)) {
                return 'o';
            }
        }
        match owner {
            o if o == self.apex => 'a',
            o if has(o, NS) => 'c',
            _ => 'd',
        }
    }

    pub fn types(&self, owner: &[Vec<u8>]) -> BTreeSet<u16> {
        let mut types = self.owners[owner].clone();
        if self.place(owner) == 'c' {
            types.retain(|t| matches!(*t, NS | DS));
        }
        types
    }
}

pub fn soa(serial: u32) -> R {
    let mut rdata = [n("ns1.example"), n("host.Example")].concat();
    for v in [serial, 7200, 900, 1_209_600, 900] {
        rdata.extend(v.to_be_bytes());
    }
    r("example", SOA, 3600, rdata)
}

pub fn unsigned() -> Vec<R> {
    let ds = [&[0x30u8, 0x39, 13, 2][..], &[0x5a; 32]].concat();
    let mx = [&[0u8, 10][..], &n("Mail.example")].concat();
    vec![
        soa(7),
        r("example", NS, 3600, n("ns1.example")),
        r("example", NS, 3600, n("NS2.example")),
        r("example", 15, 3600, mx),
        r("example", 257, 3600, b"\x00\x05issueca.test"),
        r("ns1.example", A, 3600, [192, 0, 2, 1]),
        r("ns2.example", A, 3600, [192, 0, 2, 2]),
        r("ns2.example", 28, 3600, [7; 16]),
        r("mail.example", A, 300, [192, 0, 2, 3]),
        r("mail.example", A, 300, [192, 0, 2, 4]),
        r("www.example", A, 3600, [192, 0, 2, 5]),
        r("WWW.example", TXT, 3600, b"\x05Hello"),
        r("*.wild.example", A, 3600, [192, 0, 2, 6]),
        r("a.b.c.ent.example", TXT, 3600, b"\x01x"),
        r("z.b.c.ent.example", TXT, 3600, b"\x01x"),
        r("alias.example", 5, 3600, n("www.example")),
        r("secure.example", NS, 3600, n("ns.secure.example")),
        r("secure.example", DS, 3600, ds),
        r("ns.secure.example", A, 3600, [192, 0, 2, 7]),
        r("insecure.example", NS, 3600, n("ns.insecure.example")),
        r("insecure.example", NS, 3600, n("ns.elsewhere.test")),
        r("ns.insecure.example", A, 3600, [192, 0, 2, 8]),
        r("only.cuts.example", NS, 3600, n("ns.elsewhere.test")),
        r("other.cuts2.example", NS, 3600, n("ns.elsewhere.test")),
        r("yet.cuts2.example", A, 3600, [192, 0, 2, 9]),
        r("dname.example", DNAME, 3600, n("elsewhere.test")),
        r("under.dname.example", TXT, 3600, b"\x01x"),
    ]
}

pub fn list(zone: &[R]) -> RecordList {
    RecordList::new(&n("example"), zone.iter().map(rr)).unwrap()
}

pub fn rr(r: &R) -> Rr<'_> {
    Rr {
        owner: &r.owner,
        rtype: r.rtype,
        ttl: r.ttl,
        rdata: &r.rdata,
    }
}

pub fn verify(zone: &[R], params: &Params<'_>) -> Outcome<RecordList> {
    verify_records(&n("example"), zone.iter().map(rr), params, now()).unwrap()
}

pub fn find<'z>(zone: &'z mut [R], owner: &str, rtype: u16) -> &'z mut R {
    let owner = n(owner);
    zone.iter_mut()
        .find(|r| same(&r.owner, &owner) && r.rtype == rtype)
        .unwrap()
}

pub fn find_sig<'z>(zone: &'z mut [R], owner: &str, rtype: u16) -> &'z mut R {
    let owner = n(owner);
    zone.iter_mut()
        .find(|r| r.rtype == RRSIG && same(&r.owner, &owner) && covered(r) == rtype)
        .unwrap()
}

/// The zone as a file that other verifiers read (RFC 3597 §5 form).
pub fn to_file(zone: &[R]) -> String {
    use std::fmt::Write;
    let mut sorted = zone.to_vec();
    sorted.sort_by_key(|r| (r.rtype != SOA, order(&r.owner), r.rtype));
    let mut text = String::new();
    for r in &sorted {
        let mut i = 0;
        while r.owner[i] != 0 {
            let len = r.owner[i] as usize;
            for b in &r.owner[i + 1..i + 1 + len] {
                if b.is_ascii_alphanumeric() || b"-_*".contains(b) {
                    text.push(*b as char);
                } else {
                    let _ = write!(text, "\\{b:03}");
                }
            }
            text.push('.');
            i += 1 + len;
        }
        let _ = write!(text, " {} IN TYPE{} \\# {} ", r.ttl, r.rtype, r.rdata.len());
        for b in &r.rdata {
            let _ = write!(text, "{b:02x}");
        }
        text.push('\n');
    }
    text
}
