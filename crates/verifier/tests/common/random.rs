//! Random small zones, crowded so that cuts, DNAMEs, wildcards and empty non-terminals meet.

use super::*;
use proptest::prelude::*;

/// Path below the apex (indices of labels, apex side first) and what to put there.
pub type Spot = (Vec<u8>, u8);

pub fn spots(max: usize) -> impl Strategy<Value = Vec<Spot>> {
    prop::collection::vec((prop::collection::vec(0u8..6, 1..4), 0u8..8), 0..max)
}

const LABELS: [&str; 6] = ["a", "b", "ent", "*", "sub", "Zz"];

pub fn zone_of(spots: &[Spot], serial: u32) -> Vec<R> {
    let mut zone = vec![
        soa(serial),
        r("example", NS, 3600, n("ns1.example")),
        r("ns1.example", A, 3600, [192, 0, 2, 1]),
    ];
    let ds = [&[0x30u8, 0x39, 13, 2][..], &[0x5a; 32]].concat();
    for (path, kind) in spots {
        let mut name = String::new();
        for l in path.iter().rev() {
            name.push_str(LABELS[*l as usize]);
            name.push('.');
        }
        name.push_str("example");
        match kind {
            0 | 1 => zone.push(r(&name, A, 300, [192, 0, 2, *kind])),
            2 => zone.push(r(&name, TXT, 3600, b"\x01x")),
            3 | 4 => zone.push(r(&name, NS, 3600, n("ns.elsewhere.test"))),
            5 => {
                zone.push(r(&name, NS, 3600, n("ns.Elsewhere.test")));
                zone.push(r(&name, DS, 3600, &ds));
            }
            6 => zone.push(r(&name, DNAME, 3600, n("elsewhere.test"))),
            _ => zone.push(r(&name, 28, 3600, [*kind; 16])),
        }
    }
    // RRs that differ in the spelling of names only are duplicates.
    zone.sort_by_key(|r| (order(&r.owner), r.rtype, canonical(r.rtype, &r.rdata)));
    zone.dedup_by_key(|r| (order(&r.owner), r.rtype, canonical(r.rtype, &r.rdata)));
    zone
}

pub fn chain() -> impl Strategy<Value = Chain> {
    prop_oneof![
        Just(Chain::Nsec),
        Just(Chain::nsec3()),
        Just(Chain::opt_out())
    ]
}

/// One mutation of one record.
#[derive(Clone, Debug)]
pub enum Mutation {
    Delete,
    Duplicate,
    Rdata(usize, u8),
    Ttl(u8),
    Type(u8),
    Owner(usize, u8),
}

pub fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        Just(Mutation::Delete),
        Just(Mutation::Duplicate),
        (any::<usize>(), 0u8..8).prop_map(|(at, bit)| Mutation::Rdata(at, bit)),
        (0u8..32).prop_map(Mutation::Ttl),
        (0u8..16).prop_map(Mutation::Type),
        (any::<usize>(), 0u8..8).prop_map(|(at, bit)| Mutation::Owner(at, bit)),
    ]
}

/// False when the mutation changes the spelling of an owner only: an equal zone.
pub fn mutate(zone: &mut Vec<R>, at: usize, how: &Mutation) -> bool {
    let at = at % zone.len();
    let rec = &mut zone[at];
    match how {
        Mutation::Delete => {
            zone.remove(at);
        }
        Mutation::Duplicate => {
            let again = rec.clone();
            zone.push(again);
        }
        Mutation::Rdata(i, bit) => {
            let len = rec.rdata.len();
            rec.rdata[i % len] ^= 1 << bit;
        }
        Mutation::Ttl(bit) => rec.ttl ^= 1 << bit,
        Mutation::Type(bit) => rec.rtype ^= 1 << bit,
        Mutation::Owner(i, bit) => {
            let was = rec.owner.clone();
            let len = rec.owner.len();
            rec.owner[i % len] ^= 1 << bit;
            return !was.eq_ignore_ascii_case(&rec.owner);
        }
    }
    true
}
