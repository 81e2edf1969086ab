//! The signer against a model: who is signed, which denial records there are, and whether every
//! signature verifies, all worked out anew from plain records.
#![allow(clippy::unwrap_used)]

mod kit;

use std::collections::{BTreeMap, BTreeSet};

use cascade_crypto::dnskey::Role;
use cascade_signer::*;
use cascade_zone::{Name, Rtype, ZoneVersion};
use kit::verify::verified;
use kit::*;
use proptest::prelude::*;

/// The facts of RFC 4035 §2 about each owner name, from its records alone.
struct Model {
    apex: Name,
    types: BTreeMap<Name, BTreeSet<Rtype>>,
}

impl Model {
    fn new(version: &ZoneVersion, all: &[Rec]) -> Model {
        let mut types: BTreeMap<Name, BTreeSet<Rtype>> = BTreeMap::new();
        for r in all.iter().filter(|r| !r.rtype.is_denial_or_signature()) {
            types
                .entry(Name::from_wire(&r.owner).unwrap())
                .or_default()
                .insert(r.rtype);
        }
        Model {
            apex: version.apex().clone(),
            types,
        }
    }

    fn has(&self, name: &Name, t: Rtype) -> bool {
        self.types.get(name).is_some_and(|s| s.contains(&t))
    }

    fn ancestors(&self, name: &Name) -> Vec<Name> {
        let mut out = Vec::new();
        let mut at = name.clone();
        while at != self.apex {
            at = at.parent().unwrap();
            out.push(at.clone());
        }
        out
    }

    fn is_occluded(&self, name: &Name) -> bool {
        self.ancestors(name)
            .iter()
            .any(|a| self.has(a, Rtype::DNAME) || (*a != self.apex && self.has(a, Rtype::NS)))
    }

    fn is_cut(&self, name: &Name) -> bool {
        *name != self.apex && self.has(name, Rtype::NS) && !self.is_occluded(name)
    }

    fn signed_types(&self, name: &Name) -> BTreeSet<Rtype> {
        if self.is_occluded(name) {
            return BTreeSet::new();
        }
        let all = self.types[name].iter().copied();
        if self.is_cut(name) {
            all.filter(|t| *t == Rtype::DS).collect()
        } else {
            all.collect()
        }
    }

    fn listed_types(&self, name: &Name) -> BTreeSet<Rtype> {
        let all = self.types[name].iter().copied();
        match self.is_cut(name) {
            true => all
                .filter(|t| matches!(*t, Rtype::DS | Rtype::NS))
                .collect(),
            false => all.collect(),
        }
    }

    fn nsec(&self) -> Vec<(Name, Name, Vec<Rtype>)> {
        let names: Vec<&Name> = self.types.keys().filter(|n| !self.is_occluded(n)).collect();
        let row = |(i, n): (usize, &&Name)| {
            let mut types = self.listed_types(n);
            types.extend([Rtype::RRSIG, Rtype::NSEC]);
            let next = names[(i + 1) % names.len()].clone();
            ((*n).clone(), next, types.into_iter().collect())
        };
        names.iter().enumerate().map(row).collect()
    }

    /// (hash, next, types) in hash order.
    fn nsec3(
        &self,
        salt: &[u8],
        iterations: u16,
        opt_out: bool,
    ) -> Vec<([u8; 20], [u8; 20], Vec<Rtype>)> {
        let mut rows: BTreeMap<[u8; 20], Vec<Rtype>> = BTreeMap::new();
        let hash = |n: &Name| nsec3_hash(n.to_lowercase().as_wire(), salt, iterations);
        for name in self.types.keys().filter(|n| !self.is_occluded(n)) {
            if opt_out && self.is_cut(name) && !self.has(name, Rtype::DS) {
                continue;
            }
            let mut types = self.listed_types(name);
            if !self.signed_types(name).is_empty() {
                types.insert(Rtype::RRSIG);
            }
            rows.insert(hash(name), types.into_iter().collect());
            for a in self.ancestors(name) {
                if !self.types.contains_key(&a) {
                    rows.entry(hash(&a)).or_default();
                }
            }
        }
        let hashes: Vec<[u8; 20]> = rows.keys().copied().collect();
        let next = |i: usize| hashes[(i + 1) % hashes.len()];
        rows.into_iter()
            .enumerate()
            .map(|(i, (h, t))| (h, next(i), t))
            .collect()
    }
}

/// Everything about a signed version, against the model.
fn check(
    base: &ZoneVersion,
    signed: &Signed,
    zone_tags: &[u16],
    apex_tags: &[u16],
    denial: &DenialPlan,
) {
    let version = &signed.version;
    let all = records(version);
    let model = Model::new(version, &all);
    let found = verified(version, &all, &mut Default::default());
    let by = |tags: &[u16]| tags.iter().copied().collect::<BTreeSet<u16>>();

    // Content stays; apex sets are ours.
    let content = |v: &ZoneVersion| {
        let ours = |r: &Rec| {
            r.rtype.is_denial_or_signature()
                || r.rtype == Rtype::SOA
                || (r.owner.eq_ignore_ascii_case(v.apex().as_wire()) && r.rtype.is_signer_apex())
        };
        let mut list: Vec<Rec> = records(v).into_iter().filter(|r| !ours(r)).collect();
        list.sort();
        list
    };
    assert_eq!(content(base), content(version));
    assert_eq!(version.content_fingerprint(), base.content_fingerprint());

    // Signatures: those of the model and no other.
    let mut want: BTreeMap<(Name, Rtype), BTreeSet<u16>> = BTreeMap::new();
    for name in model.types.keys() {
        for t in model.signed_types(name) {
            let is_key_set = matches!(t, Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY);
            let tags = if is_key_set && *name == model.apex {
                apex_tags
            } else {
                zone_tags
            };
            want.insert((name.clone(), t), by(tags));
        }
    }
    let denial_type = match denial {
        DenialPlan::Nsec => Rtype::NSEC,
        DenialPlan::Nsec3 { .. } => Rtype::NSEC3,
    };
    let denial_records: Vec<&Rec> = all
        .iter()
        .filter(|r| r.rtype.is_denial_or_signature())
        .filter(|r| r.rtype != Rtype::RRSIG)
        .collect();
    for r in &denial_records {
        assert_eq!(r.rtype, denial_type);
        want.insert(
            (Name::from_wire(&r.owner).unwrap(), denial_type),
            by(zone_tags),
        );
    }
    assert_eq!(found, want);

    // Denial.
    match denial {
        DenialPlan::Nsec => {
            let got: Vec<(Name, Name, Vec<Rtype>)> = denial_records
                .iter()
                .map(|r| {
                    let (next, len) = Name::from_prefix(&r.rdata).unwrap();
                    (
                        Name::from_wire(&r.owner).unwrap(),
                        next,
                        bitmap(&r.rdata[len..]),
                    )
                })
                .collect();
            assert_eq!(got, model.nsec());
        }
        DenialPlan::Nsec3 {
            salt,
            iterations,
            opt_out,
        } => {
            let got: Vec<([u8; 20], [u8; 20], Vec<Rtype>)> = denial_records
                .iter()
                .map(|r| {
                    let label = r.owner[1..33].to_ascii_uppercase();
                    let hash = data_encoding::BASE32HEX_NOPAD.decode(&label).unwrap();
                    let at = 5 + salt.len();
                    assert_eq!(r.rdata[..2], [1, *opt_out as u8]);
                    let next: [u8; 20] = r.rdata[at + 1..at + 21].try_into().unwrap();
                    (hash.try_into().unwrap(), next, bitmap(&r.rdata[at + 21..]))
                })
                .collect();
            assert_eq!(got, model.nsec3(salt, *iterations, *opt_out));
        }
    }

    // The report counts what is there.
    let sums: u64 = found
        .iter()
        .filter(|((n, t), _)| {
            *n != model.apex || !matches!(*t, Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY)
        })
        .map(|(_, tags)| tags.len() as u64)
        .sum();
    assert_eq!(signed.report.signatures, sums);
    assert_eq!(signed.report.denial_records, denial_records.len() as u64);
    assert_eq!(signed.report.records, base.sums().records);
}

fn any_zone() -> impl Strategy<Value = Vec<(Vec<&'static str>, &'static str)>> {
    let label = prop::sample::select(&["a", "B", "c", "*", "w", "\\000", "xn--x", "a-b"][..]);
    let record = prop::sample::select(
        &[
            "A 192.0.2.1",
            "A 192.0.2.2",
            "TXT \"x\"",
            "MX 5 Mail.X",
            "NS ns.elsewhere.",
            "NS Ns.a",
            "DS 1 13 2 00ff",
            "DNAME target.example.",
            "AAAA 2001:db8::1",
            "CNAME B",
        ][..],
    );
    prop::collection::vec((prop::collection::vec(label, 0..5), record), 0..25)
}

fn any_denial() -> impl Strategy<Value = DenialPlan> {
    prop_oneof![
        Just(DenialPlan::Nsec),
        any::<bool>().prop_map(nsec3),
        (
            0u16..5,
            prop::collection::vec(any::<u8>(), 0..9),
            any::<bool>()
        )
            .prop_map(|(iterations, salt, opt_out)| DenialPlan::Nsec3 {
                iterations,
                salt,
                opt_out
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn signer_agrees_with_the_model(
        names in any_zone(), denial in any_denial(), soa_ttl in prop::sample::select(&[60u32, 3600, 90_000][..]),
        csk: bool,
    ) {
        let apex = name("eXample.");
        let mut list = vec![(
            apex.clone(), Rtype::SOA, soa_ttl, rdata(Rtype::SOA, &["ns", "h", "1", "2", "3", "4", "900"], &apex),
        )];
        list.push((apex.clone(), Rtype::NS, 3600, rdata(Rtype::NS, &["ns"], &apex)));
        for (labels, record) in &names {
            let owner = name(&format!("{}{}example.", labels.join("."), if labels.is_empty() { "" } else { "." }));
            let words: Vec<&str> = record.split(' ').collect();
            let t: Rtype = words[0].parse().unwrap();
            list.push((owner, t, 3600, rdata(t, &words[1..], &apex)));
        }
        let base = build(&apex, &list);
        let specs: &[(&str, Role)] = match csk {
            true => &[("15", Role::Csk)],
            false => &[("15", Role::Ksk), ("15", Role::Zsk)],
        };
        let keys = keys(specs);
        let plan = plan(&base, &keys, denial.clone());
        let signed = run(&base, &plan);
        let tag = |k: &ApexKey| k.dnskey.key_tag();
        check(&base, &signed, &[tag(&keys[keys.len() - 1])], &[tag(&keys[0])], &denial);
        // RFC 9077 §3.
        for r in records(&signed.version) {
            if matches!(r.rtype, Rtype::NSEC | Rtype::NSEC3) {
                prop_assert_eq!(r.ttl, soa_ttl.min(900));
            }
        }
    }
}

#[test]
fn many_leaves_and_blocks() {
    // Boundaries of leaves and blocks must not show: ENTs, cuts and chain ends across them.
    let apex = name("example.");
    let mut list = vec![(
        apex.clone(),
        Rtype::SOA,
        3600,
        rdata(Rtype::SOA, &["ns", "h", "1", "2", "3", "4", "900"], &apex),
    )];
    for i in 0..2500u32 {
        let owner = match i % 7 {
            0 => name(&format!("h{i}.deep.ent{}.example.", i / 40)),
            1..=4 => name(&format!("d{i:05}.example.")),
            5 => name(&format!("ns.d{:05}.example.", i - 4)),
            _ => name(&format!("*.w{i}.example.")),
        };
        let (t, text): (Rtype, &[&str]) = match i % 7 {
            1..=4 => (Rtype::NS, &["ns.elsewhere."]),
            _ => (Rtype::A, &["192.0.2.1"]),
        };
        if i % 21 == 1 {
            list.push((
                owner.clone(),
                Rtype::DS,
                3600,
                rdata(Rtype::DS, &["1", "13", "2", "00"], &apex),
            ));
        }
        list.push((owner, t, 3600, rdata(t, text, &apex)));
    }
    let base = build(&apex, &list);
    assert!(base.unit_count() > 4, "{} units", base.unit_count());
    let keys = keys(&[("15", Role::Ksk), ("15", Role::Zsk), ("13", Role::Csk)]);
    let tag = |i: usize| keys[i].dnskey.key_tag();
    for denial in [DenialPlan::Nsec, nsec3(false), nsec3(true)] {
        let signed = run(&base, &plan(&base, &keys, denial.clone()));
        check(
            &base,
            &signed,
            &[tag(1), tag(2)],
            &[tag(0), tag(2)],
            &denial,
        );
        assert!(denial == DenialPlan::Nsec || signed.version.block_count() > 2);
        // RSA and EdDSA signatures are a function of their input; so is everything else.
        let one = &keys[..2];
        let a = run_with(
            &base,
            &plan(&base, one, denial.clone()),
            1,
            now(),
            &Progress::new(),
        )
        .unwrap();
        let b = run_with(
            &base,
            &plan(&base, one, denial.clone()),
            7,
            now(),
            &Progress::new(),
        )
        .unwrap();
        assert_eq!(a.version.full_fingerprint(), b.version.full_fingerprint());
        assert_eq!(records(&a.version), records(&b.version));
    }
}
