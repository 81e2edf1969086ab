//! Checks of meaning: per owner while the version is built, across owners on the built version.

mod across;
mod values;

use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use cascade_zone::{Inspector, Name, OwnerGroup, RawRecord, Rtype, SoaFields, key};

use crate::code::{Checks, Code, Level, Severity};
use crate::diag::{Diagnostic, Diagnostics, KEPT};

pub use across::{Wanted, across, across_changes, across_owners};

/// Most RRs of one RRset (Z138).
pub const MAX_RRSET: usize = 100_000;
/// What an answer over TCP has room for, besides names: 65,535 octets less the header, the rest of
/// the question, OPT and an RRSIG of RSA with 4,096 bits. An RRset that needs more can be neither
/// answered nor validated (Z130).
const ROOM: usize = 65_535 - 12 - 4 - 11 - (12 + 18 + 512);

/// One finding, before its line is looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub severity: Severity,
    /// Orders findings: the line they are about.
    pub loc: u32,
    pub code: Code,
    pub key: Vec<u8>,
    pub rtype: Option<Rtype>,
    pub message: String,
    pub label: String,
    /// A second line and what it is.
    pub related: Option<(u32, &'static str)>,
    pub help: Option<String>,
}

/// Collects findings from several threads: exact counts, and in full those that come first.
#[derive(Debug, Default)]
pub struct Findings(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    counts: Diagnostics,
    first: [BinaryHeap<Finding>; 3],
}

impl Findings {
    pub fn add(&self, finding: Finding) {
        // A poisoned lock only means that another thread panicked between two counts.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.counts.count(finding.code, finding.severity);
        let heap = &mut kept.first[finding.severity as usize];
        if heap.len() < KEPT {
            heap.push(finding);
        } else if heap.peek().is_some_and(|last| finding < *last) {
            heap.pop();
            heap.push(finding);
        }
    }

    /// Counts a finding that is not kept.
    pub fn count(&self, code: Code, severity: Severity) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .counts
            .count(code, severity);
    }

    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.counts.by_code.is_empty()
    }

    /// Adds what `others` only counted.
    pub fn count_all(&self, others: Findings) {
        let counts = others.into_parts().1;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.counts.append(counts);
    }

    /// The findings in order, and the counts.
    pub fn into_parts(self) -> (Vec<Finding>, Diagnostics) {
        let kept = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Finding> = kept
            .first
            .into_iter()
            .flat_map(BinaryHeap::into_vec)
            .collect();
        all.sort_by(|a, b| {
            (a.loc, a.code, a.severity, &a.message).cmp(&(b.loc, b.code, b.severity, &b.message))
        });
        (all, kept.counts)
    }
}

/// The checks that look at one owner, called by the builder.
pub struct OwnerChecks<'a> {
    pub apex: &'a Name,
    pub checks: &'a Checks,
    pub findings: &'a Findings,
    /// Some entries could not be read, so that what is absent may only seem so.
    pub incomplete: bool,
}

/// One owner with its findings.
pub(crate) struct At<'a> {
    pub checks: &'a OwnerChecks<'a>,
    pub owner: &'a OwnerGroup<'a>,
}

impl At<'_> {
    pub fn name(&self) -> Name {
        key::to_name(self.owner.key, self.owner.case, self.checks.apex)
    }

    pub fn find(&self, code: Code, r: &RawRecord<'_>, message: impl FnOnce(&Name) -> String) {
        let default = code.info().map_or(Level::Error, |i| i.level);
        self.find_at(code, default, r, message);
    }

    pub fn find_at(
        &self,
        code: Code,
        level: Level,
        r: &RawRecord<'_>,
        message: impl FnOnce(&Name) -> String,
    ) {
        self.full(code, level, r, message, "", None);
    }

    pub fn full(
        &self,
        code: Code,
        level: Level,
        r: &RawRecord<'_>,
        message: impl FnOnce(&Name) -> String,
        label: &str,
        related: Option<(u32, &'static str)>,
    ) {
        let Some(severity) = self.checks.checks.severity_or(code, level) else {
            return;
        };
        self.checks.findings.add(Finding {
            severity,
            loc: r.loc,
            code,
            key: self.owner.key.to_vec(),
            rtype: Some(r.rtype),
            message: message(&self.name()),
            label: label.to_string(),
            related,
            help: help(code),
        });
    }
}

/// What to do, naming the check where it can be changed.
fn help(code: Code) -> Option<String> {
    let info = code.info()?;
    let advice = match code {
        Code::CNAME_CONFLICT => "remove one of them",
        Code::MISSING_GLUE | Code::APEX_NS_ADDRESS => "add A or AAAA records for the name server",
        Code::DS_WITHOUT_NS => "add the NS records of the delegation, or remove the DS",
        Code::TARGET => "point it to a name that has addresses",
        Code::TTL_MISMATCH => "give all records of the RRset one TTL",
        _ if info.locked || info.name.is_empty() => return None,
        _ => return Some(format!("check: {}", info.name)),
    };
    Some(format!("{advice} (check: {})", info.name))
}

impl Inspector for OwnerChecks<'_> {
    fn owner(&self, owner: &OwnerGroup<'_>) {
        let at = At {
            checks: self,
            owner,
        };
        if owner.flags.is_occluded() {
            at.occluded();
        }
        let apex = owner.key.is_empty();
        if apex
            && !self.incomplete
            && !owner.records.iter().any(|r| r.rtype == Rtype::NS)
            && let Some(first) = owner.records.first()
        {
            at.find(Code::APEX_NS, first, |n| format!("no NS record at {n}"));
        }
        for set in owner.records.chunk_by(|a, b| a.rtype == b.rtype) {
            at.set(set, apex);
        }
        at.conflicts(apex);
    }

    fn duplicate(&self, key: &[u8], kept: &RawRecord<'_>, dropped: &RawRecord<'_>) {
        let Some(severity) = self.checks.severity(Code::DUPLICATE) else {
            return;
        };
        let name = key::to_name(key, None, self.apex);
        self.findings.add(Finding {
            severity,
            loc: dropped.loc,
            code: Code::DUPLICATE,
            key: key.to_vec(),
            rtype: Some(dropped.rtype),
            message: format!("the same {} record at {name} again: dropped", dropped.rtype),
            label: String::new(),
            related: Some((kept.loc, "first defined here")),
            help: None,
        });
    }

    fn ttl_mismatch(
        &self,
        key: &[u8],
        rtype: Rtype,
        used: u32,
        first: &RawRecord<'_>,
        other: &RawRecord<'_>,
    ) {
        let Some(severity) = self.checks.severity(Code::TTL_MISMATCH) else {
            return;
        };
        let name = key::to_name(key, None, self.apex);
        self.findings.add(Finding {
            severity,
            loc: other.loc.max(first.loc),
            code: Code::TTL_MISMATCH,
            key: key.to_vec(),
            rtype: Some(rtype),
            message: format!("TTLs of the {rtype} RRset at {name} differ: {used} is used"),
            label: String::new(),
            related: Some((other.loc.min(first.loc), "another TTL here")),
            help: help(Code::TTL_MISMATCH),
        });
    }
}

impl At<'_> {
    fn occluded(&self) {
        let (Some(above), Some(first)) = (self.owner.above, self.owner.records.first()) else {
            return;
        };
        let parent = || key::to_name(above.key, None, self.checks.apex);
        if above.is_dname {
            self.find(Code::BELOW_DNAME, first, |n| {
                format!(
                    "{n} is below the DNAME {}: transferred, but neither answered nor signed",
                    parent()
                )
            });
        } else if let Some(r) = self
            .owner
            .records
            .iter()
            .find(|r| !matches!(r.rtype, Rtype::A | Rtype::AAAA))
        {
            self.find(Code::BELOW_CUT, r, |n| {
                format!("{} at {n} is below the zone cut {}", r.rtype, parent())
            });
        }
    }

    /// One RRset; it has at least one record.
    fn set(&self, set: &[RawRecord<'_>], apex: bool) {
        let Some(r) = set.first() else { return };
        if set.len() > MAX_RRSET {
            self.find(Code::RESOURCE_LIMIT, r, |n| {
                format!(
                    "{} {} records at {n}; at most {MAX_RRSET} are allowed in one RRset",
                    set.len(),
                    r.rtype
                )
            });
        }
        // In an answer each RR has a pointer for its owner and ten octets before its RDATA; the
        // question has the owner, the RRSIG names the signer.
        let octets: usize = set.iter().map(|r| 12 + r.rdata.len()).sum();
        let apex_len = self.checks.apex.as_wire().len();
        let most = ROOM - (self.owner.key.len() + apex_len) - apex_len;
        if octets > most && set.len() <= MAX_RRSET && !self.owner.flags.is_occluded() {
            self.find(Code::TOO_LARGE, r, |n| {
                format!(
                    "the {} RRset at {n} takes {octets} octets of an answer; at most {most} fit a message",
                    r.rtype
                )
            });
        }
        let second = set.get(1);
        match r.rtype {
            Rtype::SOA => {
                if !apex {
                    self.find(Code::SOA_BELOW_APEX, r, |n| {
                        format!("SOA at {n}, below the apex {}", self.checks.apex)
                    });
                } else if let Some(s) = second {
                    self.several(Code::SEVERAL_SOA, r, s);
                }
                self.soa(r);
            }
            Rtype::CNAME => {
                if apex {
                    self.find(Code::APEX_CNAME, r, |n| format!("CNAME at the apex {n}"));
                }
                if let Some(s) = second {
                    self.several(Code::SEVERAL_CNAME, r, s);
                }
            }
            Rtype::DNAME => {
                if let Some(s) = second {
                    self.several(Code::DNAME_CONFLICT, r, s);
                }
                if self.owner.flags.is_wild() {
                    self.find_at(Code::WILDCARD, Level::Warning, r, |n| {
                        format!("DNAME at the wildcard {n}")
                    });
                }
            }
            Rtype::NS if self.owner.flags.is_wild() => {
                self.find(Code::WILDCARD, r, |n| {
                    format!("NS at the wildcard {n}: delegations cannot be wildcards")
                });
            }
            Rtype::DS => self.ds(set, apex),
            Rtype::CSYNC if second.is_some() => {
                self.find(Code::CSYNC, r, |n| {
                    format!("{} CSYNC records at {n}; one is allowed", set.len())
                });
            }
            Rtype::DNSKEY if !apex => {
                self.find(Code::MISPLACED_DNSSEC, r, |n| {
                    format!("DNSKEY at {n}, below the apex: it signs nothing")
                });
            }
            Rtype::SVCB | Rtype::HTTPS => self.service(set),
            Rtype::CAA | Rtype::TLSA | Rtype::SSHFP => self.registry(set),
            Rtype::A | Rtype::AAAA | Rtype::MX | Rtype::NS => self.host_names(set),
            _ => {}
        }
    }

    fn several(&self, code: Code, first: &RawRecord<'_>, other: &RawRecord<'_>) {
        let (a, b) = (first.loc.min(other.loc), first.loc.max(other.loc));
        let at = RawRecord { loc: b, ..*other };
        let level = code.info().map_or(Level::Error, |i| i.level);
        let text = |n: &Name| format!("several {} records at {n}; one is allowed", first.rtype);
        self.full(code, level, &at, text, "", Some((a, "first defined here")));
    }

    fn conflicts(&self, apex: bool) {
        let records = self.owner.records;
        let has = |t: Rtype| records.iter().find(|r| r.rtype == t);
        if let Some(cname) = has(Rtype::CNAME) {
            let other = records.iter().find(|r| {
                !matches!(
                    r.rtype,
                    Rtype::CNAME
                        | Rtype::RRSIG
                        | Rtype::NSEC
                        | Rtype::KEY
                        | Rtype::NXT
                        | Rtype::SIG
                )
            });
            if let Some(other) = other {
                let (code, text) = match other.rtype {
                    Rtype::DNAME => (Code::DNAME_CONFLICT, "CNAME and DNAME"),
                    _ => (Code::CNAME_CONFLICT, "CNAME and other data"),
                };
                let (early, late) = if cname.loc < other.loc {
                    (cname, other)
                } else {
                    (other, cname)
                };
                self.full(
                    code,
                    Level::Error,
                    late,
                    |n| format!("{text} at \"{n}\""),
                    &format!("this owner also has {}", early.rtype),
                    Some((early.loc, "first defined here")),
                );
            }
        }
        if !apex && self.owner.flags.is_cut() {
            let odd = records.iter().find(|r| {
                !matches!(
                    r.rtype,
                    Rtype::NS | Rtype::DS | Rtype::NSEC | Rtype::RRSIG | Rtype::A | Rtype::AAAA
                )
            });
            if let Some(r) = odd {
                self.find(Code::AT_CUT, r, |n| {
                    format!("{} at the zone cut {n} belongs to the child zone", r.rtype)
                });
            }
        }
        if let Some(ds) = has(Rtype::DS) {
            if apex {
                self.find_at(Code::DS_WITHOUT_NS, Level::Error, ds, |n| {
                    format!("DS at the apex {n}; it belongs to the parent zone")
                });
            } else if has(Rtype::NS).is_none() && !self.owner.flags.is_occluded() {
                self.find(Code::DS_WITHOUT_NS, ds, |n| format!("DS without NS at {n}"));
            }
        }
    }

    fn soa(&self, r: &RawRecord<'_>) {
        let Some(soa) = SoaFields::parse(r.rdata) else {
            return;
        };
        let mut odd = Vec::new();
        if soa.retry >= soa.refresh {
            odd.push(format!(
                "RETRY {} is not below REFRESH {}",
                soa.retry, soa.refresh
            ));
        }
        if (soa.expire as u64) < soa.refresh as u64 + soa.retry as u64 {
            odd.push(format!("EXPIRE {} is below REFRESH + RETRY", soa.expire));
        }
        if soa.expire < 604_800 {
            odd.push(format!("EXPIRE {} is below one week", soa.expire));
        }
        if !odd.is_empty() {
            self.find(Code::SOA_TIMERS, r, |_| format!("SOA: {}", odd.join("; ")));
        }
        if soa.minimum > 86_400 {
            self.find(Code::SOA_MINIMUM, r, |_| {
                format!(
                    "SOA MINIMUM {} is above one day: so long are denials cached",
                    soa.minimum
                )
            });
        }
    }
}

/// A finding as diagnostic, before it has places.
pub fn plain(f: &Finding, apex: &Name) -> Diagnostic {
    let rule = f.code.info().map(|i| i.rule).filter(|r| !r.is_empty());
    Diagnostic {
        code: f.code,
        severity: f.severity,
        message: f.message.clone(),
        place: None,
        included_from: Vec::new(),
        owner: Some(key::to_name(&f.key, None, apex).to_string()),
        rtype: f.rtype.map(|t| t.to_string()),
        related: Vec::new(),
        rule: rule.map(str::to_string),
        help: f.help.clone(),
    }
}
