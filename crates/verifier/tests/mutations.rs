//! One fault in a correctly signed zone, and the check that must tell it. Numbers as in the table
//! of mutations that the gate is designed against.

// Helpers of tests: a panic is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
use cascade_time::Timestamp;
use cascade_verifier::{
    Check, Claims, OwnKey, Params, Parent, RecordList, Rr, Source, Verdict, verify_full,
};
use cascade_zone::Serial;
use common::*;

/// Refused, and by (at least) these checks.
#[track_caller]
fn refused(no: u32, checks: &[Check], zone: &[R], params: &Params<'_>) {
    let outcome = verify(zone, params);
    let report = outcome.report();
    assert_eq!(
        report.verdict,
        Verdict::Refused,
        "mutation {no} was accepted"
    );
    for check in checks {
        assert!(
            report.has(*check),
            "mutation {no}: no {check} in\n{}",
            report.text()
        );
    }
    assert!(outcome.verified().is_none());
}

fn all_kinds() -> Vec<Signer> {
    let mut out = Vec::new();
    for two in [false, true] {
        for chain in [Chain::Nsec, Chain::nsec3(), Chain::opt_out()] {
            out.push(Signer::new(chain, two));
        }
    }
    out
}

fn nsec() -> (Signer, Vec<R>) {
    let s = Signer::new(Chain::Nsec, false);
    let z = s.sign(&unsigned());
    (s, z)
}

fn nsec3(chain: Chain) -> (Signer, Vec<R>) {
    let s = Signer::new(chain, false);
    let z = s.sign(&unsigned());
    (s, z)
}

fn set(zone: &[R], owner: &str, rtype: u16) -> Vec<R> {
    zone.iter()
        .filter(|r| same(&r.owner, &n(owner)) && r.rtype == rtype)
        .cloned()
        .collect()
}

fn drop_sigs(zone: &mut Vec<R>, owner: &str, rtype: u16) {
    zone.retain(|r| !(r.rtype == RRSIG && same(&r.owner, &n(owner)) && covered(r) == rtype));
}

fn own(dnskey: Vec<u8>) -> OwnKey {
    OwnKey {
        dnskey,
        published: true,
        may_sign_unpublished: false,
        wanted_at_parent: false,
        proven: true,
    }
}

#[test]
fn signatures() {
    for s in all_kinds() {
        let good = s.sign(&unsigned());
        let sigs: Vec<usize> = (0..good.len())
            .filter(|&i| good[i].rtype == RRSIG)
            .collect();
        // 1: in every single RRSIG.
        for &i in &sigs {
            let mut z = good.clone();
            *z[i].rdata.last_mut().unwrap() ^= 1;
            refused(1, &[Check::V03], &z, &Params::file());
        }
        // 2
        let mut z = good.clone();
        let sig = find_sig(&mut z, "www.example", A);
        let at = sig.rdata.len() - 64;
        sig.rdata[at..].rotate_left(32);
        refused(2, &[Check::V03], &z, &Params::file());
        let mut z = good.clone();
        find_sig(&mut z, "www.example", A).rdata.pop();
        refused(2, &[Check::V03], &z, &Params::file());
        // 5, 60
        for step in [3, 17] {
            let other = Key::ed(999, 256);
            let mut z = good.clone();
            for &i in sigs.iter().step_by(step) {
                let message = z[i].rdata.clone();
                let at = message.len() - 64;
                z[i].rdata[at..].copy_from_slice(&other.sign(&message)[..64]);
            }
            refused(5, &[Check::V03], &z, &Params::file());
        }
        // 6
        let mut z = good.clone();
        find(&mut z, "mail.example", A).rdata[3] ^= 9;
        refused(6, &[Check::V03], &z, &Params::file());
        // 7
        let mut z = good.clone();
        drop_sigs(&mut z, "www.example", A);
        refused(7, &[Check::V06], &z, &Params::file());
    }
}

/// A key of the same algorithm and tag.
fn twin(of: &Key) -> Key {
    (10_000..)
        .map(|seed| Key::ed(seed, of.flags))
        .find(|k| k.tag() == of.tag())
        .unwrap()
}

#[test]
fn twins() {
    let (s, good) = nsec();
    let other = twin(&s.keys[1]);
    // 3
    let mut z = good.clone();
    let www = set(&good, "www.example", A);
    *find_sig(&mut z, "www.example", A) = s.rrsig(&www, &other);
    refused(3, &[Check::V03], &z, &Params::file());
    // 4
    let mut params = Params::file();
    params.own_keys = Some(s.keys.iter().map(|k| own(k.dnskey())).collect());
    assert_eq!(verify(&good, &params).report().verdict, Verdict::Passed);
    let mut z = good.clone();
    let old = s.keys[1].dnskey();
    z.iter_mut().find(|r| r.rdata == old).unwrap().rdata = other.dnskey();
    s.resign(&mut z, &s.apex, DNSKEY);
    refused(4, &[Check::V08, Check::V03], &z, &params);
    // Both in the RRset: signatures are tried with each; our own keys must not clash.
    let mut z = good.clone();
    z.push(R {
        rdata: other.dnskey(),
        ..r("example", DNSKEY, 3600, [])
    });
    s.resign(&mut z, &s.apex, DNSKEY);
    assert_eq!(
        verify(&z, &Params::file()).report().verdict,
        Verdict::Passed
    );
    params.own_keys.as_mut().unwrap().push(own(other.dnskey()));
    refused(50, &[Check::V08], &z, &params);
    // A key that signs without fresh proof.
    let mut params = Params::file();
    params.own_keys = Some(
        s.keys
            .iter()
            .map(|k| OwnKey {
                proven: false,
                ..own(k.dnskey())
            })
            .collect(),
    );
    refused(4, &[Check::V08], &good, &params);
}

#[test]
fn algorithms_and_keys() {
    for chain in [Chain::Nsec, Chain::nsec3()] {
        // 8
        let s = Signer::new(chain.clone(), true);
        let mut z = s.sign(&unsigned());
        let at = z
            .iter()
            .position(|r| r.rtype == RRSIG && covered(r) == TXT && r.rdata[2] == 13)
            .unwrap();
        z.remove(at);
        refused(8, &[Check::V06], &z, &Params::file());
        // 9
        let mut s = Signer::new(chain, false);
        let mut z = s.sign(&unsigned());
        s.keys.push(Key::p256(257));
        z.push(R {
            rdata: s.keys[2].dnskey(),
            ..r("example", DNSKEY, 3600, [])
        });
        s.resign(&mut z, &s.apex, DNSKEY);
        refused(9, &[Check::V06], &z, &Params::file());
    }
    let (s, good) = nsec();
    let mut params = Params::file();
    params.parent = Parent::Linked {
        ds: vec![s.keys[0].ds(&s.apex)],
        standby: vec![],
    };
    assert_eq!(verify(&good, &params).report().verdict, Verdict::Passed);
    let keys = set(&good, "example", DNSKEY);
    // 10
    let mut z = good.clone();
    drop_sigs(&mut z, "example", DNSKEY);
    refused(10, &[Check::V06, Check::V09], &z, &params);
    // 12
    z.push(s.rrsig(&keys, &s.keys[1]));
    refused(12, &[Check::V09], &z, &params);
    // 11
    let mut elsewhere = Params::file();
    elsewhere.parent = Parent::Ours {
        ds: vec![Key::ed(77, 257).ds(&s.apex)],
    };
    refused(11, &[Check::V09], &good, &elsewhere);
    elsewhere.live_chain_broken = true;
    assert_eq!(
        verify(&good, &elsewhere).report().verdict,
        Verdict::PassedWithWarnings
    );
    // A declared standby DS is no reason to refuse.
    params.parent = Parent::Linked {
        ds: vec![s.keys[0].ds(&s.apex), Key::ed(77, 257).ds(&s.apex)],
        standby: vec![Key::ed(77, 257).ds(&s.apex)],
    };
    assert_eq!(verify(&good, &params).report().verdict, Verdict::Passed);
    // 13
    let mut z = good.clone();
    let zsk = s.keys[1].dnskey();
    z.retain(|r| r.rdata != zsk);
    s.resign(&mut z, &s.apex, DNSKEY);
    refused(13, &[Check::V06, Check::V07], &z, &Params::file());
    // 50
    for (at, value) in [(2, 2u8), (0, 0), (1, 1 | 0x80), (1, 2)] {
        let mut z = good.clone();
        let key = z.iter_mut().find(|r| r.rdata == zsk).unwrap();
        key.rdata[at] = value;
        s.resign(&mut z, &s.apex, DNSKEY);
        refused(
            50,
            if value == 1 | 0x80 {
                &[Check::V06]
            } else {
                &[Check::V08]
            },
            &z,
            &Params::file(),
        );
    }
    // 51
    let mut z = good.clone();
    z.iter_mut().find(|r| r.rdata == zsk).unwrap().rdata[3] = 8;
    s.resign(&mut z, &s.apex, DNSKEY);
    refused(51, &[Check::V08], &z, &Params::file());
    let mut z = good.clone();
    find_sig(&mut z, "www.example", A).rdata[2] = 13;
    refused(51, &[Check::V06, Check::V07], &z, &Params::file());
}

#[test]
fn fields() {
    for s in all_kinds() {
        let good = s.sign(&unsigned());
        let alter = |owner: &str, rtype: u16, f: &dyn Fn(&mut Vec<u8>)| {
            let mut z = good.clone();
            let rrset = set(&good, owner, rtype);
            z.retain(|r| !(r.rtype == RRSIG && same(&r.owner, &n(owner)) && covered(r) == rtype));
            for k in s
                .keys
                .iter()
                .filter(|k| (k.flags == 257) == (rtype == DNSKEY))
            {
                z.push(s.rrsig_with(&rrset, k, f));
            }
            z
        };
        let p = Params::file();
        // 14
        refused(
            14,
            &[Check::V04],
            &alter("*.wild.example", A, &|h| h[3] += 1),
            &p,
        );
        refused(
            14,
            &[Check::V04],
            &alter("www.example", A, &|h| h[3] -= 1),
            &p,
        );
        // 15
        refused(
            15,
            &[Check::V04],
            &alter("www.example", A, &|h| h[7] ^= 1),
            &p,
        );
        let mut z = good.clone();
        find_sig(&mut z, "www.example", A).ttl += 1;
        refused(15, &[Check::V04], &z, &p);
        // 16
        let to_root = |h: &mut Vec<u8>| {
            h.truncate(18);
            h.push(0);
        };
        refused(16, &[Check::V04], &alter("www.example", A, &to_root), &p);
        refused(
            16,
            &[Check::V04],
            &alter("www.example", A, &|h| h[19] = b'E'),
            &p,
        );
        // 17
        refused(
            17,
            &[Check::V04],
            &alter("www.example", A, &|h| h[17] ^= 1),
            &p,
        );
        // 18, 19, 20
        let time = |inception: u32, expiration: u32| {
            alter("www.example", A, &|h| {
                h[8..12].copy_from_slice(&expiration.to_be_bytes());
                h[12..16].copy_from_slice(&inception.to_be_bytes());
            })
        };
        let t = NOW as u32;
        let mut remain = Params::file();
        remain.min_remaining = 7 * DAY;
        remain.max_span = Some(16 * DAY);
        assert_eq!(verify(&good, &remain).report().verdict, Verdict::Passed);
        refused(18, &[Check::V05], &time(t - DAY, t - 1), &p);
        refused(18, &[Check::V05], &time(t - DAY, t + 3600), &remain);
        refused(
            18,
            &[Check::V05],
            &time(t - DAY, t.wrapping_add(1 << 31)),
            &p,
        );
        refused(18, &[Check::V05], &time(t - DAY, t + 40 * DAY), &remain);
        refused(19, &[Check::V05], &time(t + DAY, t + 14 * DAY), &p);
        refused(20, &[Check::V05], &time(t + 14 * DAY, t + 13 * DAY), &p);
        // 21, 22
        let sign = |owner: &str, rtype: u16| {
            let mut z = good.clone();
            z.extend(s.sign_set(&set(&good, owner, rtype)));
            z
        };
        refused(21, &[Check::V07], &sign("secure.example", NS), &p);
        refused(21, &[Check::V07], &sign("insecure.example", NS), &p);
        refused(22, &[Check::V07], &sign("ns.secure.example", A), &p);
        refused(22, &[Check::V07], &sign("under.dname.example", TXT), &p);
        // RRSIG over what is not there, over RRSIG.
        let mut z = good.clone();
        z.push(s.rrsig(&[r("www.example", 33, 3600, [0; 8])], &s.keys[1]));
        refused(7, &[Check::V07], &z, &p);
        let mut z = good.clone();
        z.push(s.rrsig(&set(&good, "www.example", RRSIG), &s.keys[1]));
        refused(7, &[Check::V07], &z, &p);
    }
}

#[test]
fn nsec_chain() {
    let (s, good) = nsec();
    let p = Params::file();
    let next = |owner: &str, next: &str| {
        let mut z = good.clone();
        let rec = find(&mut z, owner, NSEC);
        let len = name_len(&rec.rdata);
        rec.rdata = [n(next), rec.rdata[len..].to_vec()].concat();
        s.resign(&mut z, &n(owner), NSEC);
        z
    };
    // 23, 24, 25
    refused(23, &[Check::V12], &next("mail.example", "ns2.example"), &p);
    refused(24, &[Check::V12], &next("www.example", "www.example"), &p);
    // Two cycles: the first half leads back to the apex, the last owner into the second half.
    let mut z = next("mail.example", "example");
    let rec = find(&mut z, "www.example", NSEC);
    let len = name_len(&rec.rdata);
    rec.rdata = [n("ns1.example"), rec.rdata[len..].to_vec()].concat();
    s.resign(&mut z, &n("www.example"), NSEC);
    refused(25, &[Check::V12], &z, &p);
    // 26
    for owner in ["under.dname.example", "ns.secure.example"] {
        let mut z = good.clone();
        z.push(r(
            owner,
            NSEC,
            900,
            [n("example"), vec![0, 6, 0x40, 0, 0, 0, 0, 3]].concat(),
        ));
        s.heal(&mut z);
        refused(26, &[Check::V12], &z, &p);
    }
    // At a name without data, too.
    let mut z = good.clone();
    z.push(r(
        "ent.example",
        NSEC,
        900,
        [n("example"), vec![0, 6, 0, 0, 0, 0, 0, 3]].concat(),
    ));
    s.heal(&mut z);
    refused(26, &[Check::V12], &z, &p);
    // An NSEC that is missing altogether.
    for at in (0..good.len()).filter(|&i| good[i].rtype == NSEC) {
        let mut z = good.clone();
        let owner = z[at].owner.clone();
        z.retain(|r| {
            !(r.owner == owner && (r.rtype == NSEC || r.rtype == RRSIG && covered(r) == NSEC))
        });
        s.heal(&mut z);
        refused(23, &[Check::V12], &z, &p);
    }
    // 38
    let mut z = good.clone();
    z.iter_mut()
        .filter(|r| r.rtype == NSEC)
        .for_each(|r| r.ttl = 3600);
    s.resign_type(&mut z, NSEC);
    refused(38, &[Check::V17], &z, &p);
}

/// Replaces the bitmap of the denial record of a name and signs it again.
fn with_bitmap(s: &Signer, good: &[R], owner: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<R> {
    let mut z = good.to_vec();
    let (owner, rtype) = match s.chain {
        Chain::Nsec => (n(owner), NSEC),
        _ => (s.hashed_owner(&n(owner)), NSEC3),
    };
    let rec = z
        .iter_mut()
        .find(|r| r.rtype == rtype && same(&r.owner, &owner))
        .unwrap();
    let at = if rtype == NSEC {
        name_len(&rec.rdata)
    } else {
        5 + rec.rdata[4] as usize + 21
    };
    let map = change(rec.rdata[at..].to_vec());
    rec.rdata.truncate(at);
    rec.rdata.extend(map);
    s.resign(&mut z, &owner, rtype);
    z
}

#[test]
fn bitmaps() {
    for s in all_kinds() {
        let good = s.sign(&unsigned());
        let check = if s.chain == Chain::Nsec {
            Check::V13
        } else {
            Check::V15
        };
        let flip = |rtype: u16| {
            move |mut m: Vec<u8>| {
                m[2 + rtype as usize / 8] ^= 128 >> (rtype % 8);
                m
            }
        };
        let p = Params::file();
        // 27
        refused(
            27,
            &[check],
            &with_bitmap(&s, &good, "secure.example", flip(DS)),
            &p,
        );
        refused(
            27,
            &[check],
            &with_bitmap(&s, &good, "secure.example", flip(RRSIG)),
            &p,
        );
        refused(
            27,
            &[check],
            &with_bitmap(&s, &good, "www.example", flip(5)),
            &p,
        );
        refused(
            27,
            &[check],
            &with_bitmap(&s, &good, "www.example", flip(RRSIG)),
            &p,
        );
        refused(
            27,
            &[check],
            &with_bitmap(&s, &good, "*.wild.example", flip(A)),
            &p,
        );
        // 28: the apex has types in two windows.
        let swap = |m: Vec<u8>| {
            let first = 2 + m[1] as usize;
            [m[first..].to_vec(), m[..first].to_vec()].concat()
        };
        refused(28, &[check], &with_bitmap(&s, &good, "example", swap), &p);
        let pad = |mut m: Vec<u8>| {
            m[1] += 1;
            m.push(0);
            m
        };
        refused(
            28,
            &[check],
            &with_bitmap(&s, &good, "www.example", pad),
            &p,
        );
        let cut = |mut m: Vec<u8>| {
            m.pop();
            m
        };
        refused(
            28,
            &[check],
            &with_bitmap(&s, &good, "www.example", cut),
            &p,
        );
    }
}

fn drop_hash(s: &Signer, good: &[R], name: &str) -> Vec<R> {
    let owner = s.hashed_owner(&n(name));
    let mut z = good.to_vec();
    let before = z.len();
    z.retain(|r| !same(&r.owner, &owner));
    assert!(z.len() < before, "{name} has no NSEC3");
    s.heal(&mut z);
    z
}

fn add_hash(s: &Signer, good: &[R], name: &str) -> Vec<R> {
    let mut z = good.to_vec();
    let pattern = z.iter().find(|r| r.rtype == NSEC3).unwrap();
    let mut rdata = pattern.rdata.clone();
    rdata.truncate(5 + rdata[4] as usize + 21);
    z.push(R {
        owner: s.hashed_owner(&n(name)),
        rdata,
        ..pattern.clone()
    });
    s.heal(&mut z);
    z
}

#[test]
fn nsec3_chain() {
    let p = Params::file();
    for chain in [Chain::nsec3(), Chain::opt_out()] {
        let (s, good) = nsec3(chain.clone());
        // 29
        for name in [
            "ent.example",
            "c.ent.example",
            "wild.example",
            "www.example",
            "secure.example",
            "example",
            "cuts2.example",
        ] {
            refused(29, &[Check::V14], &drop_hash(&s, &good, name), &p);
        }
        refused(29, &[Check::V14], &add_hash(&s, &good, "gone.example"), &p);
        refused(
            29,
            &[Check::V14],
            &add_hash(&s, &good, "under.dname.example"),
            &p,
        );
        // 30: broken at the wrap, then a record that names the wrong one.
        let mut owners: Vec<Vec<u8>> = good
            .iter()
            .filter(|r| r.rtype == NSEC3)
            .map(|r| r.owner.clone())
            .collect();
        owners.sort();
        for at in [owners.len() - 1, 3] {
            let mut z = good.clone();
            let rec = z
                .iter_mut()
                .find(|r| r.rtype == NSEC3 && r.owner == owners[at])
                .unwrap();
            let pos = 5 + rec.rdata[4] as usize + 1;
            rec.rdata[pos..pos + 20].copy_from_slice(&unbase32(&owners[at][1..33]));
            s.resign(&mut z, &owners[at], NSEC3);
            refused(30, &[Check::V14], &z, &p);
        }
        // 32, 34
        for (pos, bit) in [(1, 1u8), (3, 1), (1, 2), (0, 2)] {
            let mut z = good.clone();
            z.iter_mut().find(|r| r.rtype == NSEC3).unwrap().rdata[pos] ^= bit;
            s.resign_type(&mut z, NSEC3);
            refused(32, &[Check::V14], &z, &p);
        }
        let mut z = good.clone();
        find(&mut z, "example", NSEC3PARAM).rdata[3] ^= 1;
        s.resign(&mut z, &s.apex, NSEC3PARAM);
        refused(34, &[Check::V14], &z, &p);
        let mut z = good.clone();
        find(&mut z, "example", NSEC3PARAM).rdata = param(0, 0, &[1]);
        s.resign(&mut z, &s.apex, NSEC3PARAM);
        refused(34, &[Check::V14], &z, &p);
        // 35, 36
        let mut z = good.clone();
        z.push(r("example", NSEC3PARAM, 3600, param(0, 9, &[])));
        s.resign(&mut z, &s.apex, NSEC3PARAM);
        refused(35, &[Check::V14, Check::V18], &z, &p);
        let mut z = good.clone();
        z.retain(|r| r.rtype != NSEC3PARAM && !(r.rtype == RRSIG && covered(r) == NSEC3PARAM));
        refused(35, &[Check::V14, Check::V18, Check::V15], &z, &p);
        let mut z = good.clone();
        find(&mut z, "example", NSEC3PARAM).rdata[1] = 1;
        s.resign(&mut z, &s.apex, NSEC3PARAM);
        refused(36, &[Check::V14], &z, &p);
        // 37
        let mut z = good.clone();
        z.push(r(
            "www.example",
            NSEC,
            900,
            [n("example"), vec![0, 6, 0x40, 0, 0, 0, 0, 3]].concat(),
        ));
        s.resign_type(&mut z, NSEC);
        refused(37, &[Check::V18], &z, &p);
        // A chain that is gone, its NSEC3PARAM left.
        let mut z = good.clone();
        z.retain(|r| r.rtype != NSEC3 && !(r.rtype == RRSIG && covered(r) == NSEC3));
        refused(35, &[Check::V18, Check::V14], &z, &p);
        // 38
        let mut z = good.clone();
        z.iter_mut()
            .filter(|r| r.rtype == NSEC3)
            .for_each(|r| r.ttl = 3600);
        s.resign_type(&mut z, NSEC3);
        refused(38, &[Check::V17], &z, &p);
        // Policy.
        let mut policy = Params::file();
        policy.denial = Some(cascade_verifier::DenialPolicy::Nsec3 {
            iterations: 0,
            salt: vec![],
            opt_out: false,
        });
        let passes = verify(&good, &policy).report().verdict == Verdict::Passed;
        assert_eq!(passes, chain == Chain::nsec3());
        // A second NSEC3 at one name, an NSEC3 two labels below the apex.
        let mut z = good.clone();
        let mut more = z.iter().find(|r| r.rtype == NSEC3).unwrap().clone();
        more.rdata.extend([0, 1, 0x40]);
        z.push(more.clone());
        s.resign_type(&mut z, NSEC3);
        refused(30, &[Check::V14], &z, &p);
        more.owner = [n("example.example"), vec![]].concat();
        more.owner.splice(..0, owners[0][..33].to_vec());
        let mut z = good.clone();
        z.push(more);
        s.resign_type(&mut z, NSEC3);
        refused(30, &[Check::V14], &z, &p);
    }
    // 31: no opt-out, the insecure cut left out.
    let (s, good) = nsec3(Chain::nsec3());
    refused(
        31,
        &[Check::V16],
        &drop_hash(&s, &good, "insecure.example"),
        &p,
    );
    // 33 is secure.example above, under opt-out. An insecure cut may be in the chain all the same,
    // with its right bitmap (RFC 5155 §6).
    let (s, good) = nsec3(Chain::opt_out());
    let z = add_hash(&s, &good, "insecure.example");
    refused(33, &[Check::V15], &z, &p);
    let z = with_bitmap(&s, &z, "insecure.example", |_| vec![0, 1, 0x20]);
    assert_eq!(
        verify(&z, &p).report().verdict,
        Verdict::Passed,
        "{}",
        verify(&z, &p).report().text()
    );
}

#[test]
fn content() {
    for s in all_kinds() {
        let approved = list(&unsigned());
        let mut p = Params::file();
        p.approved = Some(&approved);
        // 39, 40, 41: a correct zone, but of other content.
        let mut c = unsigned();
        c.retain(|r| !order(&r.owner).starts_with(&order(&n("secure.example"))));
        refused(39, &[Check::V19], &s.sign(&c), &p);
        let mut c = unsigned();
        find(&mut c, "mail.example", A).rdata[3] = 77;
        refused(40, &[Check::V19], &s.sign(&c), &p);
        let mut c = unsigned();
        c.retain(|r| order(&r.owner) < order(&n("f.example")));
        refused(41, &[Check::V19], &s.sign(&c), &p);
        // Unsigned glue and occluded data count.
        for owner in ["ns.insecure.example", "under.dname.example"] {
            let mut z = s.sign(&unsigned());
            z.iter_mut().find(|r| r.owner == n(owner)).unwrap().rdata[1] ^= 1;
            refused(40, &[Check::V19], &z, &p);
        }
        let mut z = s.sign(&unsigned());
        find(&mut z, "example", SOA).rdata[20] ^= 1;
        s.resign(&mut z, &s.apex, SOA);
        refused(40, &[Check::V19], &z, &p);
        // A newer serial is no difference.
        let mut c = unsigned();
        c[0] = soa(8);
        assert_eq!(verify(&s.sign(&c), &p).report().verdict, Verdict::Passed);
        let p = Params::file();
        // 42
        let mut c = s.sign(&unsigned());
        c.push(r("Www.example", A, 3600, [192, 0, 2, 5]));
        refused(42, &[Check::V02], &c, &p);
        // 43, 44, 45
        let mut z = s.sign(&unsigned());
        find(&mut z, "mail.example", A).ttl = 301;
        refused(43, &[Check::V02], &z, &p);
        let good = s.sign(&unsigned());
        for again in &good {
            let mut z = good.clone();
            z.push(again.clone());
            refused(44, &[Check::V02], &z, &p);
        }
        let mut c = unsigned();
        c.push(soa(9));
        refused(45, &[Check::V01], &s.sign(&c), &p);
        let mut c = unsigned();
        c.push(R {
            owner: n("www.example"),
            ..soa(9)
        });
        refused(45, &[Check::V01], &s.sign(&c), &p);
        let mut z = s.sign(&unsigned());
        drop_sigs(&mut z, "example", SOA);
        z.retain(|r| r.rtype != SOA);
        refused(45, &[Check::V01], &z, &p);
        // Names outside, RDATA that does not decode, meta types.
        let mut z = s.sign(&unsigned());
        z.push(r("www.example.test", A, 3600, [192, 0, 2, 5]));
        refused(45, &[Check::V01], &z, &p);
        let mut c = unsigned();
        c.push(r("www.example", 28, 3600, [1, 2, 3]));
        refused(45, &[Check::V01], &s.sign(&c), &p);
        let mut c = unsigned();
        c.push(r("www.example", 255, 3600, [1, 2, 3]));
        refused(45, &[Check::V01], &s.sign(&c), &p);
    }
}

#[test]
fn serials() {
    let (_, good) = nsec();
    for (live, highest) in [
        (Some(7), None),
        (Some(8), None),
        (Some(7 + (1 << 31)), None),
        (Some(6), Some(7)),
    ] {
        let mut p = Params::file();
        p.live_serial = live.map(Serial);
        p.highest_serial = highest.map(Serial);
        refused(46, &[Check::V11], &good, &p);
    }
    let mut p = Params::file();
    p.live_serial = Some(Serial(6));
    p.highest_serial = Some(Serial(u32::MAX));
    assert_eq!(verify(&good, &p).report().verdict, Verdict::Passed);
}

#[test]
fn parent_records() {
    let (s, _) = nsec();
    let with = |records: &[(u16, Vec<u8>)]| {
        let mut c = unsigned();
        c.extend(records.iter().map(|(t, d)| r("example", *t, 3600, d)));
        s.sign(&c)
    };
    let ksk = &s.keys[0];
    let (ds, key) = (ksk.ds(&s.apex), ksk.dnskey());
    let mut p = Params::file();
    p.parent = Parent::Linked {
        ds: vec![ds.clone()],
        standby: vec![],
    };
    let good = with(&[(CDS, ds.clone()), (CDNSKEY, key.clone())]);
    assert_eq!(
        verify(&good, &p).report().verdict,
        Verdict::Passed,
        "{}",
        verify(&good, &p).report().text()
    );
    // 48
    let other = Key::ed(50, 257);
    let z = with(&[(CDS, other.ds(&s.apex)), (CDNSKEY, other.dnskey())]);
    refused(48, &[Check::V10], &z, &p);
    let mut wanted = p.clone();
    wanted.own_keys = Some(s.keys.iter().map(|k| own(k.dnskey())).collect());
    wanted.own_keys.as_mut().unwrap().push(OwnKey {
        published: false,
        wanted_at_parent: true,
        ..own(other.dnskey())
    });
    assert_eq!(verify(&z, &wanted).report().verdict, Verdict::Passed);
    refused(
        48,
        &[Check::V10],
        &with(&[(CDS, other.ds(&s.apex)), (CDNSKEY, key.clone())]),
        &p,
    );
    // 49
    let delete = [(CDS, vec![0, 0, 0, 0, 0]), (CDNSKEY, vec![0, 0, 3, 0, 0])];
    refused(49, &[Check::V10], &with(&delete), &p);
    let mut ordered = p.clone();
    ordered.delete_ds_ordered = true;
    assert_eq!(
        verify(&with(&delete), &ordered).report().verdict,
        Verdict::Passed
    );
    refused(
        49,
        &[Check::V10],
        &with(&[(CDS, ds.clone()), delete[1].clone()]),
        &ordered,
    );
    refused(49, &[Check::V10], &with(&[(CDS, ds.clone())]), &p);
    refused(49, &[Check::V10], &with(&[(CDNSKEY, key.clone())]), &p);
    // Signed by the ZSK only.
    let mut z = good.clone();
    drop_sigs(&mut z, "example", CDS);
    z.push(s.rrsig(&set(&good, "example", CDS), &s.keys[1]));
    refused(49, &[Check::V10], &z, &p);
    // The old algorithm has left DNSKEY, but not every cache (RFC 4035 §2.2).
    let old = Key::p256(257);
    let mut rolled = p.clone();
    rolled.cached_algorithms = vec![old.algorithm(), ksk.algorithm()];
    rolled.own_keys = Some(s.keys.iter().map(|k| own(k.dnskey())).collect());
    rolled.own_keys.as_mut().unwrap().push(OwnKey {
        published: false,
        may_sign_unpublished: true,
        ..own(old.dnskey())
    });
    refused(49, &[Check::V10], &good, &rolled);
    let mut z = good.clone();
    z.push(s.rrsig(&set(&good, "example", CDS), &old));
    refused(49, &[Check::V10], &z, &rolled);
    z.push(s.rrsig(&set(&good, "example", CDNSKEY), &old));
    let report = verify(&z, &rolled);
    assert_eq!(
        report.report().verdict,
        Verdict::Passed,
        "{}",
        report.report().text()
    );
}

#[test]
fn a_zone_that_is_to_be_without_dnssec() {
    let (s, signed) = nsec();
    let mut p = Params::file();
    p.unsigned = true;
    let bare = unsigned();
    let outcome = verify(&bare, &p);
    let verdict = outcome.report().verdict;
    assert_eq!(verdict, Verdict::Passed, "{}", outcome.report().text());
    assert!(
        outcome.verified().is_some_and(|v| v.ledger().is_none()),
        "its successor is judged in full"
    );
    // Something of DNSSEC is left, whatever it is.
    refused(60, &[Check::V07], &signed, &p);
    for rtype in [DNSKEY, CDS, CDNSKEY] {
        let mut z = bare.clone();
        z.push(r("example", rtype, 3600, s.keys[0].dnskey()));
        refused(60, &[Check::V07], &z, &p);
    }
    // A DS leads here: whoever validates would see bogus answers only.
    let ds = vec![s.keys[0].ds(&s.apex)];
    let linked = Parent::Linked {
        ds: ds.clone(),
        standby: vec![],
    };
    for parent in [linked, Parent::Ours { ds }] {
        let mut p = p.clone();
        p.parent = parent;
        refused(60, &[Check::V09], &bare, &p);
    }
    let mut ours = p.clone();
    ours.parent = Parent::Ours { ds: vec![] };
    assert_eq!(verify(&bare, &ours).report().verdict, Verdict::Passed);
    // The serial goes on.
    let mut later = p.clone();
    later.live_serial = Some(Serial(7));
    refused(60, &[Check::V11], &bare, &later);
    // Not ordered: as refused as ever.
    assert_eq!(
        verify(&bare, &Params::file()).report().verdict,
        Verdict::Refused
    );
}

fn zonemd(zone: &[R], serial: u32) -> Vec<u8> {
    use sha1::Digest;
    let mut sorted = zone.to_vec();
    sorted.retain(|r| r.rtype != ZONEMD && !(r.rtype == RRSIG && covered(r) == ZONEMD));
    sorted.sort_by_key(|r| (order(&r.owner), r.rtype, canonical(r.rtype, &r.rdata)));
    let mut hash = sha2::Sha384::new();
    for r in &sorted {
        let d = canonical(r.rtype, &r.rdata);
        hash.update(r.owner.to_ascii_lowercase());
        hash.update(r.rtype.to_be_bytes());
        hash.update([0, 1]);
        hash.update(r.ttl.to_be_bytes());
        hash.update((d.len() as u16).to_be_bytes());
        hash.update(d);
    }
    [&serial.to_be_bytes()[..], &[1, 1], &hash.finalize()].concat()
}

#[test]
fn digests() {
    for s in all_kinds() {
        let mut c = unsigned();
        c.push(r("example", ZONEMD, 3600, vec![0; 54]));
        let mut good = s.sign(&c);
        let digest = zonemd(&good, 7);
        find(&mut good, "example", ZONEMD).rdata = digest;
        s.resign(&mut good, &s.apex, ZONEMD);
        let mut p = Params::file();
        p.zonemd_required = true;
        assert_eq!(
            verify(&good, &p).report().verdict,
            Verdict::Passed,
            "{}",
            verify(&good, &p).report().text()
        );
        // 47
        for at in [3, 4, 5, 6, 53] {
            let mut z = good.clone();
            find(&mut z, "example", ZONEMD).rdata[at] ^= 1;
            s.resign(&mut z, &s.apex, ZONEMD);
            refused(47, &[Check::V20], &z, &p);
        }
        refused(47, &[Check::V20], &s.sign(&unsigned()), &p);
    }
}

#[test]
fn cuts_and_dnames() {
    let p = Params::file();
    for s in all_kinds() {
        let denial = if s.chain == Chain::Nsec {
            Check::V12
        } else {
            Check::V14
        };
        let good = s.sign(&unsigned());
        // 56: a cut above names that were signed; the chain is made for the new state.
        let mut c = unsigned();
        c.push(r("ent.example", NS, 3600, n("ns.elsewhere.test")));
        let mut z = s.sign(&c);
        z.extend(
            good.iter()
                .filter(|r| {
                    r.owner == n("a.b.c.ent.example") && r.rtype == RRSIG && covered(r) == TXT
                })
                .cloned(),
        );
        refused(56, &[Check::V07], &z, &p);
        // The chain is not made for the new state.
        let mut z = good.clone();
        z.push(r("ent.example", NS, 3600, n("ns.elsewhere.test")));
        refused(56, &[Check::V07, denial], &z, &p);
        // 57
        let mut z = good.clone();
        z.retain(|r| !(r.owner == n("insecure.example") && r.rtype == NS));
        refused(57, &[Check::V06, denial], &z, &p);
        // 58
        let mut z = good.clone();
        z.push(r("ent.example", DNAME, 3600, n("elsewhere.test")));
        s.resign(&mut z, &n("ent.example"), DNAME);
        refused(58, &[denial], &z, &p);
    }
}

/// A store whose sums are wrong by one.
struct Miscounting(RecordList, Claims);

impl Source for Miscounting {
    fn apex(&self) -> &[u8] {
        self.0.apex()
    }
    fn unit_count(&self) -> usize {
        self.0.unit_count()
    }
    fn unit(&self, index: usize, f: &mut dyn FnMut(Rr<'_>)) {
        self.0.unit(index, f)
    }
    fn block_count(&self) -> usize {
        self.0.block_count()
    }
    fn block(&self, index: usize, f: &mut dyn FnMut(Rr<'_>)) {
        self.0.block(index, f)
    }
    fn at(&self, owner: &[u8], f: &mut dyn FnMut(Rr<'_>)) {
        self.0.at(owner, f)
    }
    fn hashed_at(&self, owner: &[u8], f: &mut dyn FnMut(Rr<'_>)) {
        self.0.hashed_at(owner, f)
    }
    fn next_owner(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.next_owner(name, out)
    }
    fn previous_owner(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.previous_owner(name, out)
    }
    fn next_hashed(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.next_hashed(name, out)
    }
    fn previous_hashed(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.previous_hashed(name, out)
    }
    fn claims(&self) -> Option<Claims> {
        Some(self.1)
    }
}

#[test]
fn sums() {
    let (_, good) = nsec();
    let ledger = verify(&good, &Params::file())
        .verified()
        .unwrap()
        .ledger()
        .unwrap()
        .clone();
    let right = Claims {
        records: good.len() as u64,
        content: u128::from_be_bytes(ledger.content.0),
        full: u128::from_be_bytes(ledger.full.0),
    };
    let judge = |claims| verify_full(Miscounting(list(&good), claims), &Params::file(), now());
    assert_eq!(judge(right).report().verdict, Verdict::Passed);
    // 54
    for wrong in [
        Claims {
            records: right.records + 1,
            ..right
        },
        Claims {
            content: right.content ^ 1,
            ..right
        },
        Claims {
            full: right.full ^ 1,
            ..right
        },
    ] {
        assert!(judge(wrong).report().has(Check::V22));
    }
}

#[test]
fn late_refreshing() {
    let (_, good) = nsec();
    let mut p = Params::file();
    p.min_remaining = 20 * DAY;
    refused(18, &[Check::V05, Check::V24], &good, &p);
    // The live version is just as late: this one must not be held back for it.
    p.live_earliest = Some(Timestamp::from_secs(NOW + 14 * DAY as i64));
    let report = verify(&good, &p).report().clone();
    assert_eq!(
        report.verdict,
        Verdict::PassedWithWarnings,
        "{}",
        report.text()
    );
    assert!(report.has(Check::V24));
    p.live_earliest = Some(Timestamp::from_secs(NOW + 15 * DAY as i64));
    refused(18, &[Check::V05], &good, &p);
}

/// Signatures over DNSKEY, CDS and CDNSKEY have times of their own.
#[test]
fn key_sets_may_have_less_left() {
    let (_, good) = nsec();
    let mut p = Params::file();
    p.min_remaining = 20 * DAY;
    let of_keys = |p: &Params<'_>| {
        let report = verify(&good, p).report().clone();
        let dnskey = report
            .findings
            .iter()
            .filter(|f| f.rtype == Some("DNSKEY".into()));
        (
            dnskey.count(),
            report.has(Check::V24),
            report.has(Check::V05),
        )
    };
    let (late, runway, data) = of_keys(&p);
    assert!(late > 0 && runway && data);
    p.min_remaining_key_set = Some(13 * DAY);
    assert_eq!(of_keys(&p), (0, false, true));
    // Never more than of everything else.
    p.min_remaining = 7 * DAY;
    p.min_remaining_key_set = Some(20 * DAY);
    assert_eq!(of_keys(&p), (0, false, false));
}
