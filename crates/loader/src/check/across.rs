//! Checks that look from one owner to another, on the built version.

use std::collections::HashSet;

use cascade_zone::name::write_name;
use cascade_zone::{Built, Flags, Owner, OwnerChange, Rtype, ZoneVersion, key};
use rayon::prelude::*;

use super::{Finding, Findings, help};
use crate::code::{Checks, Code, Severity};
use crate::diag::KEPT;
use crate::sink::{Full, RecordSink};

/// Good targets remembered while one unit is walked; a registry's name servers repeat all the time.
const REMEMBERED: usize = 4096;
/// Units walked before enough findings may end the keeping.
const WINDOW: usize = 512;

/// Runs the checks; findings have no line yet (`loc` 0) but name their record.
pub fn across(
    version: &ZoneVersion,
    checks: &Checks,
    findings: &Findings,
) -> Vec<(Finding, Vec<u8>)> {
    let on = |c: Code| checks.severity(c).is_some();
    if !on(Code::MISSING_GLUE) && !on(Code::TARGET) && !on(Code::APEX_NS_ADDRESS) {
        return Vec::new();
    }
    let mut first: Vec<(Finding, Vec<u8>)> = Vec::new();
    let units: Vec<usize> = (0..version.unit_count()).collect();
    // In windows, so that a zone with a finding at every owner does not keep them all.
    for window in units.chunks(WINDOW) {
        let have = |s: Severity| first.iter().filter(|(f, _)| f.severity == s).count();
        let full = [Severity::Error, Severity::Warning, Severity::Note].map(|s| have(s) >= KEPT);
        let found: Vec<Vec<(Finding, Vec<u8>)>> = window
            .par_iter()
            .map_init(HashSet::new, |good, &i| {
                let mut walk = Walk {
                    version,
                    checks,
                    findings,
                    full,
                    good,
                    found: Vec::new(),
                };
                for owner in version.unit(i).owners() {
                    walk.owner(&owner);
                }
                walk.found
            })
            .collect();
        for (finding, rdata) in found.into_iter().flatten() {
            if first
                .iter()
                .filter(|(f, _)| f.severity == finding.severity)
                .count()
                < KEPT
            {
                first.push((finding, rdata));
            } else {
                findings.count(finding.code, finding.severity);
            }
        }
    }
    first
}

/// The same for a version whose predecessor had no such findings: where what changed cannot matter
/// to the targets of other owners, only what changed is looked at.
pub fn across_changes(
    built: &Built,
    checks: &Checks,
    findings: &Findings,
) -> Vec<(Finding, Vec<u8>)> {
    let version = &built.version;
    match &built.changes {
        Some(changes) if !changes.iter().any(|c| matters(c, built.wildcards)) => {
            let owners: Vec<Owner<'_>> = changes
                .iter()
                .filter_map(|c| version.owner(&c.key))
                .collect();
            across_owners(version, &owners, checks, findings)
        }
        _ => across(version, checks, findings),
    }
}

/// A name that was a good target before this change may not be one after it.
fn matters(change: &OwnerChange, wildcards: bool) -> bool {
    let Some((role, types)) = &change.after else {
        return true;
    };
    let has = |types: &[Rtype], t: Rtype| types.contains(&t);
    let Some((role_before, types_before)) = &change.before else {
        // It may come between a target and the wildcard that makes it exist (RFC 4592 §3.3.1).
        return wildcards || has(types, Rtype::CNAME);
    };
    let (was, is) = (Flags(*role_before), Flags(*role));
    let address = |types: &[Rtype]| has(types, Rtype::A) || has(types, Rtype::AAAA);
    let alias = has(types, Rtype::CNAME)
        && (!has(types_before, Rtype::CNAME) || was.is_occluded() != is.is_occluded());
    // What is below a cut or DNAME is not ours to know.
    let opened = (was.is_cut() && !is.is_cut()) || (was.is_dname() && !is.is_dname());
    alias || opened || (address(types_before) && !address(types))
}

/// The same for some owners only.
pub fn across_owners(
    version: &ZoneVersion,
    owners: &[Owner<'_>],
    checks: &Checks,
    findings: &Findings,
) -> Vec<(Finding, Vec<u8>)> {
    let mut walk = Walk {
        version,
        checks,
        findings,
        full: [false; 3],
        good: &mut HashSet::new(),
        found: Vec::new(),
    };
    for owner in owners {
        walk.owner(owner);
        walk.full = [Severity::Error, Severity::Warning, Severity::Note].map(|s| {
            let had = walk.found.iter().filter(|(f, _)| f.severity == s);
            had.take(KEPT).count() >= KEPT
        });
    }
    walk.found
}

struct Walk<'a> {
    version: &'a ZoneVersion,
    checks: &'a Checks,
    findings: &'a Findings,
    /// Severities of which enough are kept; the rest is counted.
    full: [bool; 3],
    good: &'a mut HashSet<Vec<u8>>,
    found: Vec<(Finding, Vec<u8>)>,
}

impl Walk<'_> {
    fn owner(&mut self, owner: &Owner<'_>) {
        if owner.flags().is_occluded() {
            return;
        }
        for (rtype, skip) in [(Rtype::NS, 0), (Rtype::MX, 2), (Rtype::SRV, 6)] {
            let Some(set) = owner.set(rtype) else {
                continue;
            };
            for rdata in set.rdatas() {
                self.target(owner, rtype, rdata, rdata.get(skip..).unwrap_or(&[]));
            }
        }
    }

    fn target(&mut self, owner: &Owner<'_>, rtype: Rtype, rdata: &[u8], target: &[u8]) {
        // The root as target means "none" (RFC 2782, RFC 7505).
        if target == [0] {
            return;
        }
        let Some(wanted) = key::key_of(self.version.apex(), target) else {
            return;
        };
        // Glue is judged below a cut of its own; everything else does not depend on the owner.
        let own_glue =
            rtype == Rtype::NS && owner.flags().is_cut() && wanted.starts_with(owner.key());
        if !own_glue && self.good.contains(&wanted) {
            return;
        }
        let problem = match own_glue {
            true => self.glue(&wanted),
            false => self.address(&wanted, rtype == Rtype::NS && owner.is_apex()),
        };
        match problem {
            None => {
                if !own_glue && self.good.len() < REMEMBERED {
                    self.good.insert(wanted);
                }
            }
            Some((code, what)) => self.add(owner, rtype, rdata, target, code, what),
        }
    }

    fn has_address(owner: &Owner<'_>) -> bool {
        owner.set(Rtype::A).is_some() || owner.set(Rtype::AAAA).is_some()
    }

    /// RFC 9471 §3.1: a name server at or below its own zone cut needs glue.
    fn glue(&self, wanted: &[u8]) -> Option<(Code, &'static str)> {
        match self.version.owner(wanted) {
            Some(o) if Self::has_address(&o) => None,
            _ => Some((
                Code::MISSING_GLUE,
                "is inside the delegated zone and has no address here",
            )),
        }
    }

    fn address(&self, wanted: &[u8], apex_ns: bool) -> Option<(Code, &'static str)> {
        let found = self.version.owner(wanted);
        if let Some(o) = &found {
            if Self::has_address(o) {
                return None;
            }
            if o.set(Rtype::CNAME).is_some() && !o.flags().is_occluded() {
                return Some((Code::TARGET, "is an alias (CNAME)"));
            }
        }
        let closest = self.version.closest(wanted);
        if apex_ns {
            return Some((
                Code::APEX_NS_ADDRESS,
                "is inside the zone and has no address",
            ));
        }
        // Below another cut or a DNAME the answer is not ours to know.
        if closest.stop.is_some() || found.is_some() || closest.exact {
            return None;
        }
        let mut wildcard = wanted[..closest.encloser_len.min(wanted.len())].to_vec();
        key::push_label(b"*", &mut wildcard);
        match self.version.owner(&wildcard) {
            Some(_) => None,
            None => Some((Code::TARGET, "does not exist")),
        }
    }

    fn add(
        &mut self,
        owner: &Owner<'_>,
        rtype: Rtype,
        rdata: &[u8],
        target: &[u8],
        code: Code,
        what: &str,
    ) {
        let Some(severity) = self.checks.severity(code) else {
            return;
        };
        if self.full[severity as usize] {
            return self.findings.count(code, severity);
        }
        let mut name = String::new();
        // Writing to a String cannot fail.
        let _ = write_name(target, &mut name);
        let finding = Finding {
            severity,
            loc: 0,
            code,
            key: owner.key().to_vec(),
            rtype: Some(rtype),
            message: format!("{rtype} of {}: target {name} {what}", owner.name()),
            label: String::new(),
            related: None,
            help: help(code),
        };
        self.found.push((finding, rdata.to_vec()));
    }
}

/// A sink that only looks for the lines of wanted records.
#[derive(Debug, Default)]
pub struct Wanted {
    records: std::sync::Arc<HashSet<(Vec<u8>, Rtype, Vec<u8>)>>,
    keys: std::sync::Arc<HashSet<Vec<u8>>>,
    key: Option<Vec<u8>>,
    pub found: Vec<((Vec<u8>, Rtype, Vec<u8>), u32)>,
}

impl Wanted {
    /// A sink for one chunk, sharing what is wanted.
    pub fn sinks(records: HashSet<(Vec<u8>, Rtype, Vec<u8>)>) -> impl Fn() -> Wanted + Sync {
        let keys = std::sync::Arc::new(records.iter().map(|(k, _, _)| k.clone()).collect());
        let records = std::sync::Arc::new(records);
        move || Wanted {
            records: records.clone(),
            keys: std::sync::Arc::clone(&keys),
            ..Wanted::default()
        }
    }
}

impl RecordSink for Wanted {
    fn owner(&mut self, key: &[u8], _: Option<&[u8]>) {
        self.key = self.keys.contains(key).then(|| key.to_vec());
    }

    fn record(&mut self, rtype: Rtype, _: u32, rdata: &[u8], loc: u32) -> Result<(), Full> {
        if let Some(key) = &self.key {
            let id = (key.clone(), rtype, rdata.to_vec());
            if self.records.contains(&id) {
                self.found.push((id, loc));
            }
        }
        Ok(())
    }
}
