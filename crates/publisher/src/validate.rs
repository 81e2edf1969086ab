//! A small validator for tests, written from RFC 4035 §5 and RFC 5155 §8 and sharing nothing with
//! the answer code: every signature, and the proof that each denial needs.

use std::collections::BTreeMap;

use cascade_wire::rcode;
use cascade_zone::{Name, Rtype};
use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};

use crate::testing::*;
use crate::tests::{Ask, Got, ask, world};

type Sets = BTreeMap<(u8, Name, Rtype), Vec<(u32, Vec<u8>)>>;

/// What the records of an answer prove.
struct Evidence {
    apex: Name,
    sets: Sets,
    /// Owner, next, types.
    nsec: Vec<(Name, Name, Vec<u16>)>,
    /// Hash, next, opt-out, types.
    nsec3: Vec<([u8; 20], [u8; 20], bool, Vec<u16>)>,
    /// Answered sets whose signature has fewer labels than the owner, with that number.
    expanded: Vec<(Name, usize)>,
}

fn types(mut bitmap: &[u8]) -> Vec<u16> {
    let mut out = Vec::new();
    while let [window, len, rest @ ..] = bitmap {
        for (i, b) in rest[..*len as usize].iter().enumerate() {
            (0..8)
                .filter(|k| b & (0x80 >> k) != 0)
                .for_each(|k| out.push((*window as u16) << 8 | (i * 8 + k) as u16));
        }
        bitmap = &rest[*len as usize..];
    }
    out
}

fn ancestor(name: &Name, labels: usize) -> Name {
    let mut n = name.clone();
    while n.label_count() > labels {
        n = n.parent().unwrap();
    }
    n
}

fn common(a: &Name, b: &Name) -> usize {
    (0..=a.label_count())
        .rev()
        .find(|n| b.is_at_or_below(&ancestor(a, *n)))
        .unwrap()
}

impl Evidence {
    /// Checks all signatures on the way.
    fn of(got: &Got) -> Result<Evidence, String> {
        let apex = name("example");
        let mut sets: Sets = BTreeMap::new();
        for (section, owner, rtype, ttl, rd) in &got.records {
            if *rtype != Rtype::OPT {
                let set = sets.entry((*section, owner.clone(), *rtype)).or_default();
                if set.iter().any(|(_, r)| r == rd) {
                    return Err(format!("{owner} {rtype} twice"));
                }
                set.push((*ttl, rd.clone()));
            }
        }
        let mut e = Evidence {
            apex,
            nsec: vec![],
            nsec3: vec![],
            expanded: vec![],
            sets: sets.clone(),
        };
        for ((section, owner, rtype), set) in &sets {
            if *rtype == Rtype::RRSIG {
                continue;
            }
            let sigs = sets.get(&(*section, owner.clone(), Rtype::RRSIG));
            let sig = sigs
                .into_iter()
                .flatten()
                .find(|s| s.1[..2] == rtype.0.to_be_bytes());
            match sig {
                Some((ttl, sig)) => e.check(owner, *rtype, set, *ttl, sig)?,
                None if *section == 3 => {}
                None if *section == 2 && *rtype == Rtype::NS => {}
                None if *rtype == Rtype::CNAME && e.has_dname_above(owner) => {}
                None => return Err(format!("{owner} {rtype} is not signed")),
            }
        }
        Ok(e)
    }

    fn has_dname_above(&self, owner: &Name) -> bool {
        self.sets
            .keys()
            .any(|(_, o, t)| *t == Rtype::DNAME && owner != o && owner.is_at_or_below(o))
    }

    fn check(
        &mut self,
        owner: &Name,
        rtype: Rtype,
        set: &[(u32, Vec<u8>)],
        sig_ttl: u32,
        sig: &[u8],
    ) -> Result<(), String> {
        let labels = sig[3] as usize;
        let original = u32::from_be_bytes(sig[4..8].try_into().unwrap());
        let real = owner.label_count() - owner.is_wildcard() as usize;
        if labels > real || sig_ttl > original || set.iter().any(|s| s.0 != sig_ttl) {
            return Err(format!("{owner} {rtype}: labels or TTL"));
        }
        let signed_owner = if labels < real {
            ancestor(owner, labels).child(b"*").unwrap()
        } else {
            owner.clone()
        };
        if labels < real {
            self.expanded.push((owner.clone(), labels));
        }
        let times = ((NOW - 3600) as u32, (NOW + 86400) as u32);
        let rdatas: Vec<Vec<u8>> = set.iter().map(|s| s.1.clone()).collect();
        let data = signed_data(
            &self.apex,
            signed_owner.as_wire(),
            labels as u8,
            rtype,
            original,
            times,
            &rdatas,
        );
        let key = test_key();
        let signer_len = 9;
        UnparsedPublicKey::new(&ED25519, key.public_key().as_ref())
            .verify(&data, &sig[18 + signer_len..])
            .map_err(|_| format!("{owner} {rtype}: bad signature"))?;
        match rtype {
            Rtype::NSEC => {
                for (_, r) in set {
                    let (next, len) = Name::from_prefix(r).unwrap();
                    self.nsec.push((owner.clone(), next, types(&r[len..])));
                }
            }
            Rtype::NSEC3 => {
                let label = owner.labels().next().unwrap().to_ascii_uppercase();
                let hash = data_encoding::BASE32HEX_NOPAD
                    .decode(&label)
                    .unwrap()
                    .try_into()
                    .unwrap();
                for (_, r) in set {
                    assert_eq!(r[..8], [1, r[1], 0, 2, 2, 0xaa, 0xbb, 20]);
                    self.nsec3.push((
                        hash,
                        r[8..28].try_into().unwrap(),
                        r[1] & 1 != 0,
                        types(&r[28..]),
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }

    // ---- NSEC

    fn nsec_at(&self, n: &Name) -> Option<&Vec<u16>> {
        self.nsec.iter().find(|(o, _, _)| o == n).map(|(_, _, t)| t)
    }

    fn nsec_covering(&self, n: &Name) -> Option<&(Name, Name, Vec<u16>)> {
        self.nsec.iter().find(|(o, next, types)| {
            let between = if o < next {
                o < n && n < next
            } else {
                o < n || n < next
            };
            let foreign = types.contains(&2) && !types.contains(&6) || types.contains(&39);
            between && !(foreign && n.is_at_or_below(o))
        })
    }

    /// Labels of the closest encloser that a covering NSEC shows.
    fn nsec_encloser(&self, n: &Name) -> Option<usize> {
        let (o, next, _) = self.nsec_covering(n)?;
        (!next.is_at_or_below(n)).then(|| common(n, o).max(common(n, next)))
    }

    // ---- NSEC3

    fn hash(&self, n: &Name) -> [u8; 20] {
        nsec3_hash(n.as_wire())
    }

    fn nsec3_at(&self, n: &Name) -> Option<&Vec<u16>> {
        let h = self.hash(n);
        self.nsec3.iter().find(|r| r.0 == h).map(|r| &r.3)
    }

    /// Covered; gives the opt-out flag.
    fn nsec3_covering(&self, n: &Name) -> Option<bool> {
        let h = self.hash(n);
        self.nsec3
            .iter()
            .find(|r| {
                if r.0 < r.1 {
                    r.0 < h && h < r.1
                } else {
                    r.0 < h || h < r.1
                }
            })
            .map(|r| r.2)
    }

    /// RFC 5155 §8.3: labels of the encloser, opt-out flag of what covers the next closer name.
    fn nsec3_encloser(&self, n: &Name) -> Option<(usize, bool)> {
        let labels = (self.apex.label_count()..n.label_count())
            .rev()
            .find(|l| self.nsec3_at(&ancestor(n, *l)).is_some())?;
        Some((labels, self.nsec3_covering(&ancestor(n, labels + 1))?))
    }

    // ---- claims

    fn name_error(&self, n: &Name) -> bool {
        if !self.nsec.is_empty() {
            return self.nsec_encloser(n).is_some_and(|l| {
                self.nsec_covering(&ancestor(n, l).child(b"*").unwrap())
                    .is_some()
            });
        }
        self.nsec3_encloser(n).is_some_and(|(l, _)| {
            self.nsec3_covering(&ancestor(n, l).child(b"*").unwrap())
                .is_some()
        })
    }

    fn no_data(&self, n: &Name, t: Rtype) -> bool {
        let lacks = |types: &Vec<u16>| {
            let at_cut = types.contains(&2) && !types.contains(&6);
            !types.contains(&t.0) && !types.contains(&5) && (!at_cut || t == Rtype::DS)
        };
        let star = |l: usize| ancestor(n, l).child(b"*").unwrap();
        if !self.nsec.is_empty() {
            return self.nsec_at(n).is_some_and(lacks)
                || self
                    .nsec_covering(n)
                    .is_some_and(|(_, next, _)| next.is_at_or_below(n))
                || self
                    .nsec_encloser(n)
                    .is_some_and(|l| self.nsec_at(&star(l)).is_some_and(lacks));
        }
        self.nsec3_at(n).is_some_and(lacks)
            // RFC 5155 §8.6: DS under opt-out; the same shows an unsigned empty non-terminal.
            || self.nsec3_encloser(n).is_some_and(|(l, opt_out)| opt_out || self.nsec3_at(&star(l)).is_some_and(lacks))
    }

    fn insecure(&self, cut: &Name) -> bool {
        let fits =
            |types: &Vec<u16>| types.contains(&2) && !types.contains(&43) && !types.contains(&6);
        if !self.nsec.is_empty() {
            return self.nsec_at(cut).is_some_and(fits);
        }
        self.nsec3_at(cut).is_some_and(fits)
            || self.nsec3_encloser(cut).is_some_and(|(_, opt_out)| opt_out)
    }

    fn wildcard_answer(&self, n: &Name, labels: usize) -> bool {
        if !self.nsec.is_empty() {
            return self.nsec_encloser(n) == Some(labels);
        }
        self.nsec3_covering(&ancestor(n, labels + 1)).is_some()
    }
}

/// Everything that a validating resolver would ask of this answer.
fn validate(a: &Ask, got: &Got) -> Result<(), String> {
    let e = Evidence::of(got)?;
    for (n, labels) in &e.expanded {
        if !e.wildcard_answer(n, *labels) {
            return Err(format!("wildcard answer for {n} without proof"));
        }
    }
    let mut at = Name::from_wire(&a.qname).unwrap();
    let keeps = matches!(a.qtype, Rtype::CNAME | Rtype::ANY);
    for _ in 0..40 {
        let alias = e
            .sets
            .get(&(1, at.clone(), Rtype::CNAME))
            .filter(|_| !keeps);
        // A synthesised CNAME is followed even where the type asked for is CNAME.
        let made = e
            .sets
            .get(&(1, at.clone(), Rtype::CNAME))
            .filter(|_| keeps && e.has_dname_above(&at));
        match alias.or(made) {
            Some(set) => at = Name::from_wire(&set[0].1).unwrap(),
            None => break,
        }
    }
    if !at.is_at_or_below(&e.apex) || got.reply.rcode == rcode::YXDOMAIN {
        return Ok(());
    }
    let answered = e.sets.keys().any(|(s, o, _)| *s == 1 && *o == at);
    let cut = e
        .sets
        .keys()
        .find(|(s, _, t)| *s == 2 && *t == Rtype::NS)
        .map(|k| k.1.clone());
    let negative = e.sets.keys().any(|(s, _, t)| *s == 2 && *t == Rtype::SOA);
    let fine = match (got.reply.rcode, cut) {
        (rcode::NXDOMAIN, None) => negative && e.name_error(&at),
        (_, Some(cut)) => {
            at.is_at_or_below(&cut)
                && (e.sets.contains_key(&(2, cut.clone(), Rtype::DS)) || e.insecure(&cut))
        }
        (rcode::NOERROR, None) if negative => !answered && e.no_data(&at, a.qtype),
        _ => answered,
    };
    if fine {
        Ok(())
    } else {
        Err(format!(
            "{at}: no proof of {} in {:?}",
            got.reply.rcode,
            got.shape()
        ))
    }
}

/// Existing names, empty non-terminals, and names around them.
fn questions() -> Vec<Name> {
    let mut all = Vec::new();
    for v in maze()
        .units()
        .flat_map(|u| u.owners().map(|o| o.name()).collect::<Vec<_>>())
    {
        let mut n = v;
        while n.label_count() > 0 {
            all.push(n.clone());
            for extra in [&b"q"[..], b"*", b"\0", b"zzz"] {
                all.extend(n.child(extra));
                all.extend(n.child(extra).and_then(|c| c.child(b"deep")));
            }
            let first = n.labels().next().unwrap().to_vec();
            all.extend(n.parent().unwrap().child(&[&first[..], b"0"].concat()));
            n = n.parent().unwrap();
        }
    }
    all.retain(|n| n.is_at_or_below(&name("example")));
    all.sort();
    all.dedup();
    all
}

const TYPES: [Rtype; 11] = [
    Rtype::A,
    Rtype::TXT,
    Rtype::NS,
    Rtype::DS,
    Rtype::CNAME,
    Rtype::SOA,
    Rtype::DNSKEY,
    Rtype::ANY,
    Rtype::RRSIG,
    Rtype::NSEC,
    Rtype::NSEC3,
];

fn all_answers(scheme: Scheme) {
    let plain = world(&maze());
    let w = world(&signed(&maze(), scheme));
    let mut n = 0;
    for q in questions() {
        for t in TYPES {
            let mut a = ask("example", t).tcp().dnssec();
            a.qname = q.as_wire().to_vec();
            let got = w.get(&a);
            n += 1;
            // RRSIGs alone cannot be validated, and loops have no end to prove.
            let skip = t == Rtype::RRSIG
                || q.to_string().contains("loop")
                || q.to_string().contains("dl.");
            if !skip && let Err(why) = validate(&a, &got) {
                panic!("{scheme:?} {q} {t}: {why}\n{:#?}", got.shape());
            }
            // Without DO, a signed zone answers like the unsigned one but for what signing adds.
            if matches!(t, Rtype::RRSIG | Rtype::NSEC | Rtype::DNSKEY) {
                continue;
            }
            a.edns = Some((1232, false));
            let (got, want) = (w.get(&a), plain.get(&a));
            let strip = |g: &Got| {
                g.shape()
                    .into_iter()
                    .filter(|s| !s.contains(" DNSKEY") && !s.contains(" NSEC3PARAM"))
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                (strip(&got), got.reply.rcode, got.aa()),
                (strip(&want), want.reply.rcode, want.aa()),
                "{q} {t}"
            );
        }
    }
    assert!(n > 3000, "{n}");
}

#[test]
fn every_answer_from_nsec_validates() {
    all_answers(Scheme::Nsec);
}

#[test]
fn every_answer_from_nsec3_validates() {
    all_answers(Scheme::Nsec3);
}

#[test]
fn every_answer_from_opt_out_validates() {
    all_answers(Scheme::OptOut);
}

#[test]
fn sizes_of_proofs() {
    let one = |scheme, q: &str, t, want: &[&str]| {
        let got = world(&signed(&maze(), scheme)).get(&ask(q, t).dnssec().tcp());
        let kinds: Vec<String> = got
            .shape()
            .iter()
            .map(|s| s.rsplit(' ').next().unwrap().to_string())
            .filter(|t| t != "RRSIG")
            .collect();
        assert_eq!(kinds, want, "{scheme:?} {q}");
        let signatures = got.records.iter().filter(|r| r.2 == Rtype::RRSIG).count();
        (got, signatures)
    };
    // One NSEC covers both the name and the wildcard: sent once.
    one(Scheme::Nsec, "a.example", Rtype::A, &["SOA", "NSEC"]);
    one(
        Scheme::Nsec,
        "zz.example",
        Rtype::A,
        &["SOA", "NSEC", "NSEC"],
    );
    one(Scheme::Nsec, "off.example", Rtype::A, &["NS", "NSEC"]);
    one(
        Scheme::Nsec,
        "x.secure.example",
        Rtype::A,
        &["NS", "DS", "A"],
    );
    one(Scheme::Nsec3, "off.example", Rtype::A, &["NS", "NSEC3"]);
    one(
        Scheme::OptOut,
        "off.example",
        Rtype::A,
        &["NS", "NSEC3", "NSEC3"],
    );
    one(Scheme::Nsec3, "web.example", Rtype::MX, &["SOA", "NSEC3"]);
    one(Scheme::Nsec, "q.wild.example", Rtype::A, &["A", "NSEC"]);
    one(Scheme::Nsec3, "q.wild.example", Rtype::A, &["A", "NSEC3"]);
    let (got, n) = one(
        Scheme::Nsec,
        "q.wild.example",
        Rtype::MX,
        &["SOA", "NSEC", "NSEC"],
    );
    assert_eq!(n, 3);
    // TTL of the SOA and its signature: the negative TTL.
    assert!(
        got.records
            .iter()
            .filter(|r| r.0 == 2 && r.1 == name("example"))
            .all(|r| r.3 == 300)
    );
    // NSEC itself can be asked for.
    one(Scheme::Nsec, "web.example", Rtype::NSEC, &["NSEC"]);
}
