//! Checks of values inside RDATA.

use cascade_zone::name::Labels;
use cascade_zone::{RawRecord, Rtype};

use super::At;
use crate::code::{Code, Level};

impl At<'_> {
    /// RFC 4034 §5.1: digest lengths; RFC 9904: which digests are of use.
    pub(super) fn ds(&self, set: &[RawRecord<'_>], _apex: bool) {
        if let Some(r) = set.first().filter(|_| self.owner.flags.is_wild()) {
            self.find(Code::WILDCARD, r, |n| format!("DS at the wildcard {n}"));
        }
        let mut only_sha1 = true;
        for r in set {
            let (Some(&digest), Some(value)) = (r.rdata.get(3), r.rdata.get(4..)) else {
                continue;
            };
            let expected = match digest {
                1 => 20,
                2 | 3 | 5 | 6 => 32,
                4 => 48,
                _ => {
                    self.find(Code::DS_DIGEST, r, |n| {
                        format!("DS at {n} has the unknown digest type {digest}")
                    });
                    continue;
                }
            };
            only_sha1 &= digest == 1;
            if value.len() != expected {
                self.find_at(Code::DS_DIGEST, Level::Error, r, |n| {
                    format!(
                        "DS at {n}: a digest of type {digest} has {expected} octets, this one {}",
                        value.len()
                    )
                });
            }
        }
        if let Some(r) = set
            .first()
            .filter(|r| only_sha1 && r.rdata.get(3) == Some(&1))
        {
            self.find(Code::DS_DIGEST, r, |n| {
                format!("DS at {n} has only SHA-1 digests")
            });
        }
    }

    /// RFC 9460 §2.4.1 and §8.
    pub(super) fn service(&self, set: &[RawRecord<'_>]) {
        let alias = |r: &&RawRecord<'_>| r.rdata.starts_with(&[0, 0]);
        if let Some(a) = set.iter().find(alias)
            && set.iter().any(|r| !alias(&r))
        {
            self.find_at(Code::SERVICE, Level::Warning, a, |n| {
                format!("AliasMode and ServiceMode {} records mixed at {n}", a.rtype)
            });
        }
        for r in set {
            let mut at = 2
                + Labels::of(r.rdata.get(2..).unwrap_or(&[]))
                    .map(|l| l.len() + 1)
                    .sum::<usize>()
                + 1;
            let (mut keys, mut mandatory) = (Vec::new(), Vec::new());
            while let Some(&[k0, k1, l0, l1]) = r.rdata.get(at..at + 4) {
                let len = u16::from_be_bytes([l0, l1]) as usize;
                let key = u16::from_be_bytes([k0, k1]);
                let value = r.rdata.get(at + 4..at + 4 + len).unwrap_or(&[]);
                if key == 0 {
                    mandatory.extend(
                        value
                            .chunks_exact(2)
                            .map(|c| u16::from_be_bytes([c[0], c[1]])),
                    );
                }
                keys.push(key);
                at += 4 + len;
            }
            if let Some(missing) = mandatory.iter().find(|m| !keys.contains(m)) {
                self.find(Code::SERVICE, r, |n| {
                    format!("{} at {n}: key{missing} is mandatory and missing", r.rtype)
                });
            }
            // RFC 9460 §8: no-default-alpn needs alpn.
            if keys.contains(&2) && !keys.contains(&1) {
                self.find(Code::SERVICE, r, |n| {
                    format!("{} at {n}: no-default-alpn without alpn", r.rtype)
                });
            }
        }
    }

    /// RFC 8659 §4.1, RFC 6698 §7, RFC 4255 §3.1 and their registries.
    pub(super) fn registry(&self, set: &[RawRecord<'_>]) {
        for r in set {
            let field = |i: usize| r.rdata.get(i).copied().unwrap_or(0);
            let odd = match r.rtype {
                Rtype::CAA => field(0) & 0x7f != 0,
                Rtype::TLSA => {
                    let in_range = |v: u8, top: u8| v <= top || v == 255;
                    !(in_range(field(0), 3) && in_range(field(1), 1) && in_range(field(2), 2))
                }
                _ => !(matches!(field(0), 1..=4 | 6) && matches!(field(1), 1 | 2)),
            };
            if odd {
                self.find(Code::REGISTRY_VALUE, r, |n| {
                    format!(
                        "{} at {n} has a value that its registry does not list",
                        r.rtype
                    )
                });
            }
        }
    }

    /// RFC 1123 §2.1; off unless switched on.
    pub(super) fn host_names(&self, set: &[RawRecord<'_>]) {
        if self.checks.checks.severity(Code::HOST_NAME).is_none() {
            return;
        }
        for r in set {
            if r.rtype == Rtype::NS {
                if !is_host(r.rdata) {
                    self.find(Code::HOST_NAME, r, |n| {
                        format!("the name server of {n} is no host name")
                    });
                }
            } else if !is_host(self.name().as_wire()) {
                self.find(Code::HOST_NAME, r, |n| {
                    format!("{n} is no host name but has {}", r.rtype)
                });
            }
        }
    }
}

/// Letters, digits and inner hyphens; `*` as leftmost label.
fn is_host(wire: &[u8]) -> bool {
    Labels::of(wire).enumerate().all(|(i, label)| {
        (i == 0 && label == b"*")
            || (label
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
                && label.first() != Some(&b'-')
                && label.last() != Some(&b'-'))
    })
}
