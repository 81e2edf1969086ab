//! The tables: one row per step, with the sections of RFC 6781 and RFC 7583 that each follows.
//!
//! Letters of a goal: K in the DNSKEY RRset, S signs it, Z signs zone data, P has its DS at the
//! parent. They are masked by the role: a ZSK never signs DNSKEY, a KSK never signs data.

use crate::roll::Dying::*;
use crate::roll::Seen as See;
use crate::roll::Stage::{C1, C1b, C2, D, Db, P1, P1b, P2};
use crate::roll::{Dying, Goal, Row, Seen, Stage};

/// RFC 6781 §4.1.2 (double-signature KSK), RFC 7583 §3.3.1 (double-KSK):
/// C1 is I_pubC = D_prpC + TTL_key, C2 is I_ret = D_prpP + TTL_ds.
pub(crate) const KSK_DOUBLE_SIGNATURE: &[Row] = &[
    row(P1, "await-dnskey-seen", "KSP", "KS", &[See::Dnskey], &[]),
    row(
        C1,
        "await-dnskey-expired",
        "KSP",
        "KS",
        &[],
        &[DnskeyWithoutNew],
    ),
    row(P2, "await-ds-seen", "KS", "KSP", &[See::DsSwapped], &[]),
    row(C2, "await-ds-expired", "KS", "KSP", &[], &[DsWithOld]),
    row(D, "await-dnskey-gone", "", "KSP", &[See::Dnskey], &[]),
];

/// RFC 7583 §3.3.2 (double-DS): C1 is D_prpP + TTL_ds, C2 is D_prpC + TTL_key. Both keys sign CDS
/// and CDNSKEY from P1 to C2, so that a copy validates with either DNSKEY RRset; copies that only
/// the old key has signed must be gone before it leaves the DNSKEY RRset (RFC 7344 §4.1).
pub(crate) const KSK_DOUBLE_DS: &[Row] = &[
    row(P1, "await-ds-seen", "KSP", "P", &[See::DsBoth], &[]),
    row(
        C1,
        "await-ds-expired",
        "KSP",
        "P",
        &[],
        &[DsWithoutNew, CdsWithoutNew],
    ),
    row(P2, "await-dnskey-seen", "P", "KSP", &[See::Dnskey], &[]),
    row(
        C2,
        "await-dnskey-expired",
        "P",
        "KSP",
        &[],
        &[DnskeyWithoutNew],
    ),
    row(D, "await-ds-gone", "", "KSP", &[See::DsOldGone], &[]),
];

/// RFC 6781 §4.1.1.1, RFC 7583 §3.2.1: C1 is I_pub = D_prp + TTL_key,
/// C2 is I_ret = D_sgn + D_prp + TTL_sig with D_sgn and D_prp observed in P2.
pub(crate) const ZSK_PRE_PUBLISH: &[Row] = &[
    row(P1, "await-dnskey-seen", "KZ", "K", &[See::Dnskey], &[]),
    row(
        C1,
        "await-dnskey-expired",
        "KZ",
        "K",
        &[],
        &[DnskeyWithoutNew],
    ),
    row(P2, "await-rrsig-seen", "K", "KZ", &[See::RrsigOldGone], &[]),
    row(C2, "await-rrsig-expired", "K", "KZ", &[], &[DataWithOld]),
    row(D, "await-dnskey-gone", "", "KZ", &[See::Dnskey], &[]),
];

/// RFC 6781 §4.1.1.2, RFC 7583 §3.2.2: C1 is D_prp + max(TTL_sig, TTL_key). There is no second
/// cache wait, because all cached data carries the new signature by then.
pub(crate) const ZSK_DOUBLE_SIGNATURE: &[Row] = &[
    row(
        P1,
        "await-rrsig-seen",
        "KZ",
        "KZ",
        &[See::Dnskey, See::RrsigNew],
        &[],
    ),
    row(
        C1,
        "await-rrsig-expired",
        "KZ",
        "KZ",
        &[],
        &[DnskeyWithoutNew, DataWithoutNew],
    ),
    row(P2, "await-rrsig-gone", "K", "KZ", &[See::RrsigOldGone], &[]),
    row(D, "await-dnskey-gone", "", "KZ", &[See::Dnskey], &[]),
];

/// RFC 6781 §4.1.3: both functions at once; C2 is the longer of RFC 7583 §3.2.1 and §3.3.1.
pub(crate) const CSK: &[Row] = &[
    row(P1, "await-dnskey-seen", "KSZP", "KS", &[See::Dnskey], &[]),
    row(
        C1,
        "await-dnskey-expired",
        "KSZP",
        "KS",
        &[],
        &[DnskeyWithoutNew],
    ),
    row(
        P2,
        "await-ds-seen",
        "KS",
        "KSZP",
        &[See::DsSwapped, See::RrsigOldGone],
        &[],
    ),
    row(
        C2,
        "await-ds-expired",
        "KS",
        "KSZP",
        &[],
        &[DsWithOld, DataWithOld],
    ),
    row(D, "await-dnskey-gone", "", "KSZP", &[See::Dnskey], &[]),
];

/// RFC 6781 §4.1.4, conservative: signatures come before keys and leave after them, so that a
/// validator that wants every algorithm of the DNSKEY RRset (RFC 4035 §2.2) is satisfied always.
pub(crate) const ALGORITHM: &[Row] = &[
    row(P1, "await-rrsig-seen", "KSZP", "Z", &[See::RrsigNew], &[]),
    row(
        C1,
        "await-rrsig-expired",
        "KSZP",
        "Z",
        &[],
        &[DataWithoutNew],
    ),
    row(P1b, "await-dnskey-seen", "KSZP", "KSZ", &[See::Dnskey], &[]),
    row(
        C1b,
        "await-dnskey-expired",
        "KSZP",
        "KSZ",
        &[],
        &[DnskeyWithoutNew],
    ),
    row(P2, "await-ds-seen", "KSZ", "KSZP", &[See::DsSwapped], &[]),
    row(C2, "await-ds-expired", "KSZ", "KSZP", &[], &[DsWithOld]),
    row(
        D,
        "await-dnskey-gone",
        "Z",
        "KSZP",
        &[See::Dnskey],
        &[DnskeyWithOld],
    ),
    row(
        Db,
        "await-rrsig-gone",
        "",
        "KSZP",
        &[See::RrsigOldGone],
        &[],
    ),
];

/// RFC 7583 §3.3.5: the DS is submitted when no resolver holds unsigned data, I_ngc included.
pub(crate) const FIRST_KEYS: &[Row] = &[
    row(
        P1,
        "await-rrsig-seen",
        "",
        "KSZ",
        &[See::Dnskey, See::RrsigNew],
        &[],
    ),
    row(C1, "await-rrsig-expired", "", "KSZ", &[], &[UnsignedData]),
];

/// RFC 8078 §4 and RFC 6781 §4.1.4 on removing the chain first: signatures stay until no DS is
/// in any cache.
pub(crate) const GO_INSECURE: &[Row] = &[
    row(P1, "await-ds-gone", "KSZ", "", &[See::DsNone], &[]),
    row(C1, "await-ds-expired", "KSZ", "", &[], &[AnyDs]),
];

/// After [`GO_INSECURE`] and only from there: one version without DNSSEC.
pub(crate) const UNSIGN: &[Row] = &[row(D, "await-rrsig-gone", "", "", &[See::Unsigned], &[])];

pub(crate) const fn goal(letters: &str) -> Goal {
    let mut g = Goal {
        dnskey: false,
        sign_dnskey: false,
        sign_zone: false,
        ds: false,
    };
    let b = letters.as_bytes();
    let mut i = 0;
    while i < b.len() {
        match b[i] {
            b'K' => g.dnskey = true,
            b'S' => g.sign_dnskey = true,
            b'Z' => g.sign_zone = true,
            b'P' => g.ds = true,
            _ => {}
        }
        i += 1;
    }
    g
}

const fn row(
    stage: Stage,
    state: &'static str,
    old: &str,
    new: &str,
    seen: &'static [Seen],
    expired: &'static [Dying],
) -> Row {
    Row {
        stage,
        state,
        old: goal(old),
        new: goal(new),
        seen,
        expired,
    }
}
