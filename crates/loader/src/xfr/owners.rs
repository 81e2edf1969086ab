//! The checks of meaning on the owners that differences touched.
//!
//! Checks that look from one owner to another follow the names in the touched owners. What an
//! untouched owner says about an address that vanished is not looked for: that would walk the zone.

use cascade_zone::{Above, Inspector, Owner, OwnerChange, OwnerGroup, RawRecord, ZoneVersion};

use crate::check::{Findings, OwnerChecks, across_owners};
use crate::code::Checks;

pub(crate) fn check(
    version: &ZoneVersion,
    changed: &[OwnerChange],
    checks: &Checks,
    findings: &Findings,
) {
    let inspector = OwnerChecks {
        apex: version.apex(),
        checks,
        findings,
        incomplete: false,
    };
    let mut left = Vec::new();
    for change in changed.iter().filter(|c| c.after.is_some()) {
        if let Some(owner) = version.owner(&change.key) {
            inspect(version, &owner, &inspector);
            left.push(owner);
        }
    }
    for (finding, _) in across_owners(version, &left, checks, findings) {
        findings.add(finding);
    }
}

fn inspect(version: &ZoneVersion, owner: &Owner<'_>, inspector: &OwnerChecks<'_>) {
    let sets: Vec<_> = owner.sets().collect();
    let records: Vec<RawRecord<'_>> = sets
        .iter()
        .flat_map(|set| {
            set.rdatas().map(|rdata| RawRecord {
                rtype: set.rtype,
                ttl: set.ttl,
                rdata,
                loc: 0,
            })
        })
        .collect();
    let stop = match owner.flags().is_occluded() {
        true => version.closest(owner.key()).stop,
        false => None,
    };
    inspector.owner(&OwnerGroup {
        key: owner.key(),
        case: owner.case(),
        records: &records,
        flags: owner.flags(),
        above: stop.as_ref().map(|s| Above {
            key: s.key(),
            is_dname: s.flags().is_dname(),
        }),
    });
}
