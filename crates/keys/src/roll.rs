//! The rolls as tables: what every key has to do in every step, and what ends the step.
//!
//! Goals alone change a zone. A row says who is in the DNSKEY RRset, who signs what, whose DS the
//! parent should have, and which observations (`seen`) and which cache lifetimes (`expired`) must
//! be over before the next row.

use std::fmt;
use std::time::Duration;

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::key::{KeyNum, Role};
use crate::observe::What;
use crate::tables::{self, goal};

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
    pub const ALL: [Class; 6] = [
        Class::FirstKeys,
        Class::Insecure,
        Class::Algorithm,
        Class::Csk,
        Class::Ksk,
        Class::Zsk,
    ];

    /// The class with this [`word`](Class::word).
    pub fn of_word(word: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|c| c.word() == word)
    }

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
            RollType::FirstKeys => tables::FIRST_KEYS,
            RollType::GoInsecure => tables::GO_INSECURE,
            RollType::Unsign => tables::UNSIGN,
            RollType::Algorithm => tables::ALGORITHM,
            RollType::Csk => tables::CSK,
            RollType::KskDoubleSignature => tables::KSK_DOUBLE_SIGNATURE,
            RollType::KskDoubleDs => tables::KSK_DOUBLE_DS,
            RollType::ZskPrePublish => tables::ZSK_PRE_PUBLISH,
            RollType::ZskDoubleSignature => tables::ZSK_DOUBLE_SIGNATURE,
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
    /// CDS and CDNSKEY without an RRSIG by the new key.
    CdsWithoutNew,
}

impl Dying {
    /// The look that shows its end.
    pub fn look(self) -> What {
        match self {
            Dying::DnskeyWithoutNew | Dying::DnskeyWithOld => What::Dnskey,
            Dying::DataWithoutNew
            | Dying::DataWithOld
            | Dying::UnsignedData
            | Dying::CdsWithoutNew => What::Rrsig,
            Dying::DsWithoutNew | Dying::DsWithOld | Dying::AnyDs => What::Ds,
        }
    }

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
            Dying::CdsWithoutNew => "CDS and CDNSKEY without a signature by the new key",
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

/// Why a roll is not of the type that the policy asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Instead {
    /// Double-DS begins and ends with DS records, and the parent has never shown one of the zone's
    /// keys.
    NoDs,
    /// Double-DS takes the old key out of the DNSKEY RRset before the new DS is waited for.
    Fast,
}

impl Instead {
    pub fn words(self) -> &'static str {
        match self {
            Instead::NoDs => {
                "not double-ds, which would wait for ever: the parent has never shown a DS of this \
                 zone's keys"
            }
            Instead::Fast => {
                "not double-ds, which would take the old key out before the parent has the new DS"
            }
        }
    }
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
    /// The policy's margin when the stage began: one that is lowered meanwhile does not shorten the
    /// wait that runs.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub margin: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<Instead>,
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
