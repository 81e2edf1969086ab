//! The rolls as tables: what every key has to do in every step, and what ends the step.
//!
//! Goals alone change a zone. A row says who is in the DNSKEY RRset, who signs what, whose DS the
//! parent should have, and which observations (`seen`) and which cache lifetimes (`expired`) must
//! be over before the next row.

use std::fmt;

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::key::{KeyNum, Role};

/// At most one roll per class runs in a zone. In the order of preference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    FirstKeys,
    Insecure,
    Algorithm,
    Csk,
    Ksk,
    Zsk,
}

impl Class {
    /// KSK and ZSK rolls may run together; all others run alone.
    pub fn may_run_with(self, other: Class) -> bool {
        matches!(
            (self, other),
            (Class::Ksk, Class::Zsk) | (Class::Zsk, Class::Ksk)
        )
    }

    /// The word of the command line.
    pub fn word(self) -> &'static str {
        match self {
            Class::FirstKeys => "first-keys",
            Class::Insecure => "insecure",
            Class::Algorithm => "algorithm",
            Class::Csk => "csk",
            Class::Ksk => "ksk",
            Class::Zsk => "zsk",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::FirstKeys => "first-keys roll",
            Class::Insecure => "going insecure",
            Class::Algorithm => "algorithm roll",
            Class::Csk => "CSK roll",
            Class::Ksk => "KSK roll",
            Class::Zsk => "ZSK roll",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RollType {
    FirstKeys,
    GoInsecure,
    Unsign,
    Algorithm,
    Csk,
    KskDoubleSignature,
    KskDoubleDs,
    ZskPrePublish,
    ZskDoubleSignature,
}

impl RollType {
    pub const ALL: [RollType; 9] = [
        RollType::FirstKeys,
        RollType::GoInsecure,
        RollType::Unsign,
        RollType::Algorithm,
        RollType::Csk,
        RollType::KskDoubleSignature,
        RollType::KskDoubleDs,
        RollType::ZskPrePublish,
        RollType::ZskDoubleSignature,
    ];

    pub fn class(self) -> Class {
        match self {
            RollType::FirstKeys => Class::FirstKeys,
            RollType::GoInsecure | RollType::Unsign => Class::Insecure,
            RollType::Algorithm => Class::Algorithm,
            RollType::Csk => Class::Csk,
            RollType::KskDoubleSignature | RollType::KskDoubleDs => Class::Ksk,
            RollType::ZskPrePublish | RollType::ZskDoubleSignature => Class::Zsk,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            RollType::FirstKeys => "first-keys",
            RollType::GoInsecure => "go-insecure",
            RollType::Unsign => "unsign",
            RollType::Algorithm => "algorithm",
            RollType::Csk => "csk",
            RollType::KskDoubleSignature | RollType::ZskDoubleSignature => "double-signature",
            RollType::KskDoubleDs => "double-ds",
            RollType::ZskPrePublish => "pre-publish",
        }
    }

    /// The rows in order, without the wait for keys before the first.
    pub fn rows(self) -> &'static [Row] {
        match self {
            RollType::FirstKeys => FIRST_KEYS,
            RollType::GoInsecure => GO_INSECURE,
            RollType::Unsign => UNSIGN,
            RollType::Algorithm => ALGORITHM,
            RollType::Csk => CSK,
            RollType::KskDoubleSignature => KSK_DOUBLE_SIGNATURE,
            RollType::KskDoubleDs => KSK_DOUBLE_DS,
            RollType::ZskPrePublish => ZSK_PRE_PUBLISH,
            RollType::ZskDoubleSignature => ZSK_DOUBLE_SIGNATURE,
        }
    }

    pub fn row(self, stage: Stage) -> Option<&'static Row> {
        self.rows().iter().find(|r| r.stage == stage)
    }

    /// The stage after `stage`; `None` after the last.
    pub fn after(self, stage: Stage) -> Option<Stage> {
        let rows = self.rows();
        match rows.iter().position(|r| r.stage == stage) {
            Some(i) => rows.get(i + 1).map(|r| r.stage),
            None => rows.first().map(|r| r.stage),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Stage {
    /// Before the first row: keys are generated, proved and backed up.
    Keys,
    P1,
    C1,
    P1b,
    C1b,
    P2,
    C2,
    D,
    Db,
}

impl Stage {
    /// The flag that lets it end by itself, and the command that ends it by hand.
    pub fn step(self) -> Step {
        match self {
            Stage::Keys => Step::Keys,
            Stage::P1 | Stage::P1b => Step::Propagation1Complete,
            Stage::C1 | Stage::C1b => Step::CacheExpired1,
            Stage::P2 => Step::Propagation2Complete,
            Stage::C2 => Step::CacheExpired2,
            Stage::D | Stage::Db => Step::RollDone,
        }
    }
}

/// Commands that move a roll by one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Keys,
    Propagation1Complete,
    CacheExpired1,
    Propagation2Complete,
    CacheExpired2,
    RollDone,
}

impl Step {
    pub fn word(self) -> &'static str {
        match self {
            Step::Keys => "start-roll",
            Step::Propagation1Complete => "propagation1-complete",
            Step::CacheExpired1 => "cache-expired1",
            Step::Propagation2Complete => "propagation2-complete",
            Step::CacheExpired2 => "cache-expired2",
            Step::RollDone => "roll-done",
        }
    }
}

/// What one key has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Goal {
    pub dnskey: bool,
    pub sign_dnskey: bool,
    pub sign_zone: bool,
    pub ds: bool,
}

impl Goal {
    pub const NONE: Goal = goal("");

    /// What of it the role allows.
    pub fn masked(self, role: Role) -> Goal {
        Goal {
            dnskey: self.dnskey,
            sign_dnskey: self.sign_dnskey && role.signs_keys(),
            sign_zone: self.sign_zone && role.signs_data(),
            ds: self.ds && role.signs_keys(),
        }
    }

    /// The letters of the tables: K in DNSKEY, S signs DNSKEY, Z signs data, P at the parent.
    pub fn letters(self) -> String {
        [
            (self.dnskey, 'K'),
            (self.sign_dnskey, 'S'),
            (self.sign_zone, 'Z'),
            (self.ds, 'P'),
        ]
        .into_iter()
        .map(|(on, c)| if on { c } else { '-' })
        .collect()
    }
}

/// Something that servers must show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// The DNSKEY RRset that is published.
    Dnskey,
    /// A version in which the new keys sign every RRset.
    RrsigNew,
    /// A version without RRSIGs by the old keys.
    RrsigOldGone,
    /// DS: new present, old absent.
    DsSwapped,
    /// DS: old and new present.
    DsBoth,
    /// DS: old absent.
    DsOldGone,
    /// No DS at all.
    DsNone,
    /// The unsigned version.
    Unsigned,
}

/// Something that must have left all caches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dying {
    DnskeyWithoutNew,
    DnskeyWithOld,
    DataWithoutNew,
    DataWithOld,
    DsWithoutNew,
    DsWithOld,
    AnyDs,
    UnsignedData,
}

impl Dying {
    pub fn words(self) -> &'static str {
        match self {
            Dying::DnskeyWithoutNew => "the DNSKEY RRset without the new key",
            Dying::DnskeyWithOld => "the DNSKEY RRset with the old key",
            Dying::DataWithoutNew => "data without a signature by the new key",
            Dying::DataWithOld => "signatures by the old key",
            Dying::DsWithoutNew => "the DS RRset without the new key",
            Dying::DsWithOld => "the old DS",
            Dying::AnyDs => "a DS",
            Dying::UnsignedData => "unsigned data",
        }
    }
}

/// One step of a roll.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub stage: Stage,
    /// The state's name in the API and in refusals.
    pub state: &'static str,
    pub old: Goal,
    pub new: Goal,
    pub seen: &'static [Seen],
    pub expired: &'static [Dying],
}

/// Urgency of a roll.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    Normal,
    /// An emergency without bogus answers: the same order, small margin, frequent looks.
    Safe,
    /// An emergency that does not wait for caches.
    Fast,
}

/// Why a roll began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    Due,
    Policy,
    Operator,
    Emergency,
    Parent,
}

/// Who established that something was seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Witness {
    Sweep,
    Operator(String),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Met {
    pub seen: Seen,
    pub at: Timestamp,
    pub witness: Witness,
}

/// A running roll.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Roll {
    pub kind: RollType,
    pub stage: Stage,
    /// When the stage began.
    pub since: Timestamp,
    pub started_at: Timestamp,
    pub old: Vec<KeyNum>,
    pub new: Vec<KeyNum>,
    /// Roles that the roll introduces; keys for them may still be missing.
    pub wants: Vec<Role>,
    /// Algorithm of incoming keys.
    pub algorithm: u8,
    pub cause: Cause,
    pub strategy: Strategy,
    pub met: Vec<Met>,
}

impl Roll {
    pub fn class(&self) -> Class {
        self.kind.class()
    }

    pub fn row(&self) -> Option<&'static Row> {
        self.kind.row(self.stage)
    }

    pub fn state(&self) -> &'static str {
        self.row().map_or("await-keys", |r| r.state)
    }

    pub fn is_met(&self, seen: Seen) -> bool {
        self.met.iter().any(|m| m.seen == seen)
    }

    /// Goal of one of its keys by its side; masks by role are the caller's.
    pub fn goal(&self, is_new: bool) -> Goal {
        match (self.row(), is_new) {
            (Some(r), true) => r.new,
            (Some(r), false) => r.old,
            // Until the new keys exist, the old ones go on.
            (None, true) => Goal::NONE,
            (None, false) => goal("KSZP"),
        }
    }
}

const fn goal(letters: &str) -> Goal {
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

use Dying::*;
use Seen as See;
use Stage::{C1, C1b, C2, D, Db, P1, P1b, P2};

/// RFC 6781 §4.1.2 (double-signature KSK), RFC 7583 §3.3.1 (double-KSK):
/// C1 is I_pubC = D_prpC + TTL_key, C2 is I_ret = D_prpP + TTL_ds.
const KSK_DOUBLE_SIGNATURE: &[Row] = &[
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

/// RFC 7583 §3.3.2 (double-DS): C1 is D_prpP + TTL_ds, C2 is D_prpC + TTL_key.
const KSK_DOUBLE_DS: &[Row] = &[
    row(P1, "await-ds-seen", "KSP", "P", &[See::DsBoth], &[]),
    row(C1, "await-ds-expired", "KSP", "P", &[], &[DsWithoutNew]),
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
const ZSK_PRE_PUBLISH: &[Row] = &[
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
const ZSK_DOUBLE_SIGNATURE: &[Row] = &[
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
const CSK: &[Row] = &[
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
const ALGORITHM: &[Row] = &[
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
const FIRST_KEYS: &[Row] = &[
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
const GO_INSECURE: &[Row] = &[
    row(P1, "await-ds-gone", "KSZ", "", &[See::DsNone], &[]),
    row(C1, "await-ds-expired", "KSZ", "", &[], &[AnyDs]),
];

/// After [`GO_INSECURE`] and only from there: one version without DNSSEC.
const UNSIGN: &[Row] = &[row(D, "await-rrsig-gone", "", "", &[See::Unsigned], &[])];
