//! Zones for tests: from text, signed with Ed25519 by a few lines of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use cascade_time::Timestamp;
use cascade_zone::denial::{bitmap_types, push_bitmap};
use cascade_zone::version::{Owner, ZoneVersion};
use cascade_zone::{
    Bitmaps, BlockBuilder, Builder, Chain, ChainContext, Denial, Draft, KeyId, KeySlot, KeyTable,
    NSEC_SET, Name, Nsec3Params, RecordBatch, Rtype, VersionId, ZoneId, canon, key,
};
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha1::{Digest, Sha1};

pub const NOW: i64 = 1_700_000_000;

pub fn now() -> Timestamp {
    Timestamp::from_secs(NOW)
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn wire(text: &str) -> Vec<u8> {
    name(text).as_wire().to_vec()
}

/// RDATA of the types that the test zones use; names are absolute.
pub fn rdata(rtype: Rtype, text: &str) -> Vec<u8> {
    let w: Vec<&str> = text.split_whitespace().collect();
    let num = |i: usize| w[i].parse::<u32>().unwrap();
    match rtype {
        Rtype::A => w[0]
            .parse::<std::net::Ipv4Addr>()
            .unwrap()
            .octets()
            .to_vec(),
        Rtype::AAAA => w[0]
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets()
            .to_vec(),
        Rtype::NS | Rtype::CNAME | Rtype::DNAME | Rtype::PTR => wire(w[0]),
        Rtype::MX | Rtype::HTTPS => [&(num(0) as u16).to_be_bytes()[..], &wire(w[1])].concat(),
        Rtype::SRV => {
            let n = |i| (num(i) as u16).to_be_bytes();
            [&n(0)[..], &n(1), &n(2), &wire(w[3])].concat()
        }
        Rtype::TXT => [&[text.len() as u8][..], text.as_bytes()].concat(),
        Rtype::DS => [&[0, 1, 15, 2][..], &[num(0) as u8; 32]].concat(),
        Rtype::SOA => {
            let mut out = [wire(w[0]), wire(w[1])].concat();
            (2..7).for_each(|i| out.extend_from_slice(&num(i).to_be_bytes()));
            out
        }
        other => panic!("no RDATA of {other} in tests"),
    }
}

/// One record a line: `owner TTL type rdata`.
pub fn unsigned(apex: &str, text: &str) -> Arc<ZoneVersion> {
    let apex = name(apex);
    let mut batch = RecordBatch::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let mut f = line.splitn(4, ' ');
        let owner = name(f.next().unwrap());
        let ttl = f.next().unwrap().parse().unwrap();
        let rtype: Rtype = f.next().unwrap().parse().unwrap();
        let key = key::key_of(&apex, owner.as_wire()).unwrap();
        batch.owner(&key, key::case_of(&apex, owner.as_wire()).as_deref());
        batch
            .push(rtype, ttl, &rdata(rtype, f.next().unwrap()), 0)
            .unwrap();
    }
    let builder = Builder::new(zone_id(&apex), VersionId(1), &apex, now()).batches(vec![batch]);
    Arc::new(builder.build().unwrap())
}

pub fn zone_id(apex: &Name) -> ZoneId {
    ZoneId(
        Sha1::digest(apex.as_wire().to_ascii_lowercase())[..16]
            .try_into()
            .unwrap(),
    )
}

pub fn test_key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

/// DNSKEY RDATA of the test key: flags 257, algorithm 15.
pub fn dnskey() -> Vec<u8> {
    [&[1, 1, 3, 15][..], test_key().public_key().as_ref()].concat()
}

pub fn key_tag(rdata: &[u8]) -> u16 {
    let sum: u32 = rdata
        .iter()
        .enumerate()
        .map(|(i, &b)| {
            if i % 2 == 0 {
                (b as u32) << 8
            } else {
                b as u32
            }
        })
        .sum();
    (sum + (sum >> 16)) as u16
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    Nsec,
    Nsec3,
    OptOut,
}

pub fn nsec3_hash(name: &[u8]) -> [u8; 20] {
    // Salt aabb, two more iterations.
    let mut h: [u8; 20] =
        Sha1::digest([&name.to_ascii_lowercase()[..], &[0xaa, 0xbb]].concat()).into();
    for _ in 0..2 {
        h = Sha1::digest([&h[..], &[0xaa, 0xbb]].concat()).into();
    }
    h
}

struct Signer<'a> {
    apex: &'a Name,
    key: Ed25519KeyPair,
    times: (u32, u32),
}

impl Signer<'_> {
    fn sign(&self, owner: &[u8], rtype: Rtype, ttl: u32, rdatas: &[Vec<u8>]) -> Vec<u8> {
        let data = signed_data(
            self.apex,
            owner,
            key::rrsig_labels(owner),
            rtype,
            ttl,
            self.times,
            rdatas,
        );
        self.key.sign(&data).as_ref().to_vec()
    }
}

/// RFC 4034 §3.1.8.1.
pub fn signed_data(
    apex: &Name,
    owner: &[u8],
    labels: u8,
    rtype: Rtype,
    ttl: u32,
    times: (u32, u32),
    rdatas: &[Vec<u8>],
) -> Vec<u8> {
    let mut d = rtype.0.to_be_bytes().to_vec();
    d.extend_from_slice(&[15, labels]);
    d.extend_from_slice(&ttl.to_be_bytes());
    d.extend_from_slice(&times.1.to_be_bytes());
    d.extend_from_slice(&times.0.to_be_bytes());
    d.extend_from_slice(&key_tag(&dnskey()).to_be_bytes());
    d.extend_from_slice(&apex.as_wire().to_ascii_lowercase());
    let mut list: Vec<Vec<u8>> = rdatas
        .iter()
        .map(|r| {
            let mut c = Vec::new();
            canon::push_canonical(rtype, r, &mut c);
            c
        })
        .collect();
    list.sort();
    for r in list {
        d.extend_from_slice(&owner.to_ascii_lowercase());
        d.extend_from_slice(&rtype.0.to_be_bytes());
        d.extend_from_slice(&[0, 1]);
        d.extend_from_slice(&ttl.to_be_bytes());
        d.extend_from_slice(&(r.len() as u16).to_be_bytes());
        d.extend_from_slice(&r);
    }
    d
}

pub fn signed(base: &Arc<ZoneVersion>, scheme: Scheme) -> Arc<ZoneVersion> {
    signed_at(base, scheme, now())
}

pub fn signed_at(base: &Arc<ZoneVersion>, scheme: Scheme, at: Timestamp) -> Arc<ZoneVersion> {
    signed_as(base, scheme, at, VersionId(2))
}

pub fn signed_as(
    base: &Arc<ZoneVersion>,
    scheme: Scheme,
    at: Timestamp,
    id: VersionId,
) -> Arc<ZoneVersion> {
    let apex = base.apex().clone();
    let times = (at.to_wire() - 3600, at.to_wire() + 86400);
    let signer = Signer {
        apex: &apex,
        key: test_key(),
        times,
    };
    let mut keys = KeyTable::new();
    let slot = keys
        .assign(KeySlot {
            id: KeyId([1; 16]),
            algorithm: 15,
            tag: key_tag(&dnskey()),
            sig_len: 64,
            dnskey_sha256: [0; 32],
        })
        .unwrap();
    let ttl = base.soa_ttl().min(base.soa_fields().unwrap().minimum);
    let params = Nsec3Params {
        algorithm: 1,
        iterations: 2,
        salt: vec![0xaa, 0xbb],
        opt_out: scheme == Scheme::OptOut,
    };
    let mut sets = vec![(Rtype::DNSKEY, 3600, vec![dnskey()])];
    let denial = if scheme == Scheme::Nsec {
        Denial::Nsec { ttl }
    } else {
        sets.push((Rtype::NSEC3PARAM, 0, vec![params.nsec3param_rdata()]));
        Denial::Nsec3 {
            params: params.clone(),
            ttl,
        }
    };
    let draft = Draft::new(base, id, at, sets, keys, denial).unwrap();
    let v = draft.version();
    let mut sidecars = Vec::new();
    for (i, unit) in v.units().enumerate() {
        let mut b = draft.sidecar(i);
        let mut last = Vec::new();
        for owner in unit.owners() {
            let mut w = Vec::new();
            owner.push_wire(&mut w);
            for set in owner.sets().filter(|s| owner.is_signed_set(s.rtype)) {
                let rdatas: Vec<Vec<u8>> = set.rdatas().map(<[u8]>::to_vec).collect();
                let sig = signer.sign(&w, set.rtype, set.ttl, &rdatas);
                b.push(
                    owner.ordinal(),
                    set.index as u16,
                    slot,
                    times.0,
                    times.1,
                    &sig,
                );
            }
            if scheme == Scheme::Nsec && !owner.flags().is_occluded() {
                let mut rd = Vec::new();
                let next = v
                    .succ_bearing(owner.key())
                    .map_or(vec![], |o| o.key().to_vec());
                key::push_wire(&next, None, v.apex_lower(), &mut rd);
                push_types(&owner, true, &mut rd);
                let sig = signer.sign(&w, Rtype::NSEC, ttl, &[rd]);
                b.push(owner.ordinal(), NSEC_SET, slot, times.0, times.1, &sig);
            }
            last = owner.key().to_vec();
        }
        if scheme == Scheme::Nsec {
            b.nsec(
                ttl,
                &v.succ_bearing(&last).map_or(vec![], |o| o.key().to_vec()),
            );
        }
        sidecars.push(Some(b.build()));
    }
    let chain = (scheme != Scheme::Nsec).then(|| chain(v, &signer, &params, ttl, slot));
    Arc::new(draft.finish(sidecars, chain).unwrap())
}

fn push_types(owner: &Owner<'_>, nsec: bool, out: &mut Vec<u8>) {
    let mut types = Vec::new();
    bitmap_types(owner.flags(), owner.types(), nsec, &mut types);
    push_bitmap(&types, out);
}

fn chain(v: &ZoneVersion, signer: &Signer<'_>, params: &Nsec3Params, ttl: u32, slot: u8) -> Chain {
    let mut names: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for owner in v.units().flat_map(|u| u.owners().collect::<Vec<_>>()) {
        let insecure_cut = owner.flags().is_cut() && owner.set(Rtype::DS).is_none();
        if owner.flags().is_occluded() || (params.opt_out && insecure_cut) {
            continue;
        }
        let mut types = Vec::new();
        push_types(&owner, false, &mut types);
        for k in key::ancestors_from_apex(owner.key()) {
            names.entry(k.to_vec()).or_default();
        }
        names.insert(owner.key().to_vec(), types);
    }
    let mut bitmaps = Bitmaps::default();
    let mut rows: Vec<([u8; 20], u32)> = names
        .iter()
        .map(|(k, types)| {
            let mut w = Vec::new();
            key::push_wire(k, None, v.apex_lower(), &mut w);
            (nsec3_hash(&w), bitmaps.intern(types))
        })
        .collect();
    rows.sort();
    let (keys, n) = (v.key_table(), rows.len());
    let ctx = ChainContext {
        zone: v.zone(),
        apex: v.apex(),
        params,
        bitmaps: &bitmaps,
        keys,
    };
    let mut blocks = Vec::new();
    for start in (0..n).step_by(3) {
        let mut b = BlockBuilder::new();
        for i in start..(start + 3).min(n) {
            let mut w = Vec::new();
            ctx.push_owner(&rows[i].0, &mut w);
            let mut rd = Vec::new();
            ctx.push_rdata(&rows[(i + 1) % n].0, rows[i].1, &mut rd);
            let sig = signer.sign(&w, Rtype::NSEC3, ttl, &[rd]);
            b.row(rows[i].0, rows[i].1);
            b.sig(
                (i - start) as u16,
                slot,
                signer.times.0,
                signer.times.1,
                &sig,
            );
        }
        blocks.push(b.build(&rows[(start + 3).min(n) % n].0, ttl, &ctx, signer.times.0));
    }
    Chain::new(params.clone(), ttl, bitmaps, blocks)
}

/// A zone with something of everything: cuts secure and not, glue, ENTs, wildcards, aliases,
/// chains, loops, DNAMEs.
pub const MAZE: &str = "
example. 3600 SOA ns1.example. host.example. 2024 7200 3600 1209600 300
example. 3600 NS ns1.example.
example. 3600 NS ns2.deleg.example.
example. 3600 MX 10 mail.example.
example. 3600 MX 20 mail.example.
ns1.example. 3600 A 192.0.2.1
ns1.example. 3600 AAAA 2001:db8::1
mail.example. 600 A 192.0.2.2
www.Example. 60 CNAME web.example.
web.example. 60 A 192.0.2.3
web.example. 60 TXT hello
a.b.ent.example. 60 A 192.0.2.4
deleg.example. 7200 NS ns1.deleg.example.
deleg.example. 7200 NS ns2.deleg.example.
ns1.deleg.example. 7200 A 192.0.2.10
ns2.deleg.example. 7200 A 192.0.2.11
ns2.deleg.example. 7200 AAAA 2001:db8::11
secure.example. 7200 NS ns.secure.example.
secure.example. 7200 DS 5
ns.secure.example. 7200 A 192.0.2.12
sib.example. 7200 NS ns1.deleg.example.
off.example. 7200 NS ns.elsewhere.test.
x.optent.example. 7200 NS ns.elsewhere.test.
*.wild.example. 30 A 192.0.2.20
*.wild.example. 30 TXT star
sub.host.wild.example. 30 A 192.0.2.21
*.wcname.example. 30 CNAME web.example.
*.wout.example. 30 CNAME target.elsewhere.test.
c1.example. 30 CNAME c2.example.
c2.example. 30 CNAME c3.example.
c3.example. 30 CNAME gone.example.
loop1.example. 30 CNAME loop2.example.
loop2.example. 30 CNAME loop1.example.
indeleg.example. 30 CNAME host.deleg.example.
out.example. 30 CNAME www.elsewhere.test.
d.example. 30 DNAME wild.example.
dl.example. 30 DNAME dl.dl.example.
below.d.example. 30 A 192.0.2.66
srv.example. 30 SRV 0 0 53 web.example.
srv.example. 30 SRV 0 1 53 below.d.example.
https.example. 30 HTTPS 1 .
https.example. 30 A 192.0.2.30
big.example. 30 TXT 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789a
big.example. 30 TXT 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789b
big.example. 30 TXT 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789c
big.example. 30 TXT 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789d
big.example. 30 TXT 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789e
big.example. 30 TXT 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789f
big.example. 30 TXT 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789g
big.example. 30 TXT 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789h
";

pub fn maze() -> Arc<ZoneVersion> {
    unsigned("example", MAZE)
}

/// A clock that goes with tokio's.
pub struct Wall(pub tokio::time::Instant);

impl cascade_time::Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_700_000_000) + self.0.elapsed()
    }
    fn monotonic(&self) -> std::time::Duration {
        self.0.elapsed()
    }
}
