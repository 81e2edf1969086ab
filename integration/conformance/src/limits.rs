//! What a judge cannot do, per zone, with the reason. Nothing else is left unjudged, and an entry
//! without need fails the suite.

/// Who looks at a signed zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judge {
    Ldns,
    Bind,
    Knot,
    Unbound,
}

/// For which kind of denial an entry counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    Any,
    Nsec,
    Nsec3,
}

/// (zone of the corpus, judge, kind of denial, reason). The same zones signed by BIND's tools get the same verdicts
/// from these judges, where BIND's tools can sign them.
pub const LIMITS: &[(&str, Judge, With, &str)] = &[
    (
        "at-sign",
        Judge::Ldns,
        With::Nsec,
        "takes the next owner name \\@ for the origin",
    ),
    (
        "escapes-character",
        Judge::Ldns,
        With::Nsec,
        "takes escaped characters of the next owner name for others",
    ),
    (
        "delegation-missing-glue",
        Judge::Knot,
        With::Any,
        "refuses zones with missing glue, signed or not",
    ),
    (
        "targets-that-are-aliases",
        Judge::Knot,
        With::Any,
        "refuses zones with missing glue, signed or not",
    ),
    (
        "dname-occluding",
        Judge::Knot,
        With::Any,
        "refuses zones with records below a DNAME, signed or not",
    ),
    (
        "dname-occluding",
        Judge::Unbound,
        With::Any,
        "NSD does not load zones with records below a DNAME",
    ),
    (
        "order-traps",
        Judge::Knot,
        With::Nsec,
        "does not order labels with octet 0 as RFC 4034 §6.1 says",
    ),
    (
        "types-dnssec-below-the-apex",
        Judge::Bind,
        With::Any,
        "expects every DNSKEY RRset to be signed by a KSK, not that of the apex only",
    ),
    (
        "types-dnssec-below-the-apex",
        Judge::Knot,
        With::Any,
        "compares CDS and CDNSKEY below the apex with the zone's own keys",
    ),
    (
        "types-a6-apl-sink",
        Judge::Ldns,
        With::Any,
        "calls the signature of a SINK record without data bogus",
    ),
    (
        "types-not-lowered-names",
        Judge::Unbound,
        With::Any,
        "NSD answers names in IPSECKEY and LP in lower case, which the signature does not cover",
    ),
    ("labels-many", Judge::Unbound, With::Nsec3, LONG_NAMES),
    ("name-255-octets", Judge::Unbound, With::Nsec3, LONG_NAMES),
];

const LONG_NAMES: &str = "NSD 4.6.1 crashes on names that leave no room for a wildcard below them";

/// The reason why this judge need not like this zone.
pub fn reason(case: &str, judge: Judge, nsec3: bool) -> Option<&'static str> {
    let counts = |with: With| match with {
        With::Any => true,
        With::Nsec => !nsec3,
        With::Nsec3 => nsec3,
    };
    let entry = LIMITS
        .iter()
        .find(|(c, j, with, _)| *c == case && *j == judge && counts(*with));
    entry.map(|(.., reason)| *reason)
}
