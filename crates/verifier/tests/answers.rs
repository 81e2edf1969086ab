//! Sample answers: a plain reference responder, right and wrong.

// Helpers of tests: a panic is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
use cascade_verifier::{Answers, Check, Params, Verdict};
use common::*;

/// What the responder does wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    /// Leaves out the NSEC or NSEC3 that covers the name itself.
    WrongDenial,
    /// No denial at all.
    NoDenial,
    NoSoa,
    NoAa,
    NoSignatures,
    /// The first RRset of the zone of that type instead of the right one.
    OtherData,
    NxForNoData,
    Silent,
}

struct Responder<'z> {
    zone: &'z [R],
    signer: &'z Signer,
    fault: Fault,
}

impl Responder<'_> {
    fn with_sigs(&self, owner: &[u8], rtype: u16, as_owner: &[u8], out: &mut Vec<R>) {
        for r in self.zone.iter().filter(|r| same(&r.owner, owner)) {
            let sig = r.rtype == RRSIG && covered(r) == rtype && self.fault != Fault::NoSignatures;
            if r.rtype == rtype || sig {
                out.push(R {
                    owner: as_owner.to_vec(),
                    ..r.clone()
                });
            }
        }
    }

    /// Every denial record of the zone: proofs in plenty.
    fn deny(&self, qname: &[u8], out: &mut Vec<R>) {
        let rtype = if self.signer.chain == Chain::Nsec {
            NSEC
        } else {
            NSEC3
        };
        let mut owners: Vec<Vec<u8>> = self
            .zone
            .iter()
            .filter(|r| r.rtype == rtype)
            .map(|r| r.owner.clone())
            .collect();
        owners.sort_by_key(|o| order(o));
        let drop = match (self.fault, rtype) {
            (Fault::NoDenial, _) => return,
            (Fault::WrongDenial, NSEC) => owners.iter().rposition(|o| order(o) <= order(qname)),
            (Fault::WrongDenial, _) => {
                let h = order(&self.signer.hashed_owner(qname));
                Some(
                    owners
                        .iter()
                        .rposition(|o| order(o) <= h)
                        .unwrap_or(owners.len() - 1),
                )
            }
            _ => None,
        };
        for (_, o) in owners.iter().enumerate().filter(|(i, _)| Some(*i) != drop) {
            self.with_sigs(o, rtype, o, out);
        }
    }

    fn respond(&self, qname: &[u8], qtype: u16) -> Vec<u8> {
        let map = Map::new(self.zone, &self.signer.apex);
        let q = order(qname);
        let (mut rcode, mut aa) = (0u8, true);
        let (mut answer, mut authority) = (Vec::new(), Vec::new());
        let has = |o: &[Vec<u8>], t: u16| map.owners.get(o).is_some_and(|s| s.contains(&t));
        let exists = |o: &[Vec<u8>]| map.owners.keys().any(|k| k.starts_with(o));
        let mut negative = |code: u8, authority: &mut Vec<R>| {
            rcode = if self.fault == Fault::NxForNoData {
                3
            } else {
                code
            };
            if self.fault != Fault::NoSoa {
                self.with_sigs(&self.signer.apex, SOA, &self.signer.apex, authority);
            }
            self.deny(qname, authority);
        };
        for len in 1..=q.len() {
            let at = &q[..len];
            let name = unorder(at);
            if len > 1 && has(at, NS) && !(len == q.len() && qtype == DS) {
                aa = false;
                self.with_sigs(&name, NS, &name, &mut authority);
                if has(at, DS) {
                    self.with_sigs(&name, DS, &name, &mut authority);
                } else {
                    self.deny(&name, &mut authority);
                }
                break;
            }
            if len < q.len() && has(at, DNAME) {
                self.with_sigs(&name, DNAME, &name, &mut answer);
                break;
            }
            let (source, wild) = if exists(at) {
                if len < q.len() {
                    continue;
                }
                (at.to_vec(), false)
            } else {
                let mut w = q[..len - 1].to_vec();
                w.push(b"*".to_vec());
                (w, true)
            };
            if wild && !exists(&source) {
                negative(3, &mut authority);
            } else if has(&source, qtype) || has(&source, 5) {
                let rtype = if has(&source, qtype) { qtype } else { 5 };
                let mut from = unorder(&source);
                if self.fault == Fault::OtherData {
                    from = self
                        .zone
                        .iter()
                        .find(|r| r.rtype == rtype)
                        .unwrap()
                        .owner
                        .clone();
                }
                self.with_sigs(&from, rtype, qname, &mut answer);
                if wild {
                    self.deny(qname, &mut authority);
                }
            } else {
                negative(0, &mut authority);
            }
            break;
        }
        if self.fault == Fault::NoAa {
            aa = false;
        }
        let mut out = vec![0, 0, 0x80 | (aa as u8) << 2, rcode, 0, 1];
        out.extend((answer.len() as u16).to_be_bytes());
        out.extend((authority.len() as u16).to_be_bytes());
        out.extend([0, 0]);
        out.extend(qname);
        out.extend(qtype.to_be_bytes());
        out.extend([0, 1]);
        for r in answer.iter().chain(&authority) {
            out.extend(&r.owner);
            out.extend(r.rtype.to_be_bytes());
            out.extend([0, 1]);
            out.extend(r.ttl.to_be_bytes());
            out.extend((r.rdata.len() as u16).to_be_bytes());
            out.extend(&r.rdata);
        }
        out
    }
}

impl Answers for Responder<'_> {
    fn ask(&self, qname: &[u8], qtype: u16, out: &mut Vec<u8>) -> bool {
        out.extend(self.respond(qname, qtype));
        self.fault != Fault::Silent
    }
}

#[test]
fn right_answers_pass_and_wrong_ones_do_not() {
    for chain in [Chain::Nsec, Chain::nsec3(), Chain::opt_out()] {
        let s = Signer::new(chain.clone(), false);
        let mut content = unsigned();
        content.push(r("*.example", TXT, 3600, b"\x01w"));
        for zone in [s.sign(&content), s.sign(&unsigned())] {
            let judge = |fault, seed| {
                let responder = Responder {
                    zone: &zone,
                    signer: &s,
                    fault,
                };
                let mut params = Params::file();
                params.answers = Some(&responder);
                params.sample_seed = seed;
                verify(&zone, &params).report().clone()
            };
            for seed in 0..6 {
                let report = judge(Fault::None, seed);
                assert_eq!(
                    report.verdict,
                    Verdict::Passed,
                    "{chain:?}\n{}",
                    report.text()
                );
            }
            // 59
            for fault in [
                Fault::WrongDenial,
                Fault::NoDenial,
                Fault::NoSoa,
                Fault::NoAa,
                Fault::NoSignatures,
                Fault::OtherData,
                Fault::NxForNoData,
                Fault::Silent,
            ] {
                // One draw of names may miss what is wrong of some only.
                let report = (1..=8)
                    .map(|seed| judge(fault, seed))
                    .find(|report| report.verdict == Verdict::Refused)
                    .unwrap_or_else(|| panic!("{fault:?} passes, {chain:?}"));
                assert!(report.findings.iter().all(|f| f.check == Check::V23));
            }
        }
    }
}
