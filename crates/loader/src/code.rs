//! Diagnostic codes, their rules, and the levels that an operator can give to checks.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How bad a finding is. Any error makes the load fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// What an operator sets a check to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warning,
    Note,
    Off,
}

impl Level {
    pub fn severity(self) -> Option<Severity> {
        match self {
            Level::Error => Some(Severity::Error),
            Level::Warning => Some(Severity::Warning),
            Level::Note => Some(Severity::Note),
            Level::Off => None,
        }
    }
}

/// A diagnostic code, printed as `Z106`. Below 100: syntax; from 101: meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Z{:03}", self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Code, D::Error> {
        let text = String::deserialize(d)?;
        Code::parse(&text).ok_or_else(|| serde::de::Error::custom("not a diagnostic code"))
    }
}

/// What is known of a code.
#[derive(Debug)]
pub struct CodeInfo {
    pub code: Code,
    /// Name usable in `loader.checks`; empty when there is none.
    pub name: &'static str,
    pub level: Level,
    /// The zone could not be signed or served correctly, so the level cannot be lowered.
    pub locked: bool,
    pub rule: &'static str,
}

impl Code {
    /// Reads `Z106`, in either case.
    pub fn parse(text: &str) -> Option<Code> {
        let digits = text.strip_prefix(['Z', 'z'])?;
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().map(Code).filter(|c| c.info().is_some())
    }

    pub fn info(self) -> Option<&'static CodeInfo> {
        let i = CODES.binary_search_by_key(&self, |c| c.code).ok()?;
        CODES.get(i)
    }
}

macro_rules! codes {
    ($($id:ident = $n:literal $name:literal $level:ident $locked:literal $rule:literal;)*) => {
        impl Code {
            $(pub const $id: Code = Code($n);)*
        }
        /// Every code, in order.
        pub static CODES: &[CodeInfo] = &[$(CodeInfo {
            code: Code($n), name: $name, level: Level::$level, locked: $locked, rule: $rule,
        }),*];
    };
}

codes! {
    BAD_CHARACTER = 1 "" Error true "RFC 1035 §5.1";
    UNKNOWN_TYPE = 2 "" Error true "RFC 3597 §5";
    UNKNOWN_DIRECTIVE = 3 "" Error true "RFC 1035 §5.1, RFC 2308 §4";
    BAD_NAME = 4 "" Error true "RFC 1035 §2.3.4, §5.1";
    BAD_NUMBER = 5 "" Error true "RFC 1035 §5.1";
    UNBALANCED = 6 "" Error true "RFC 1035 §5.1";
    MISSING_FIELD = 7 "" Error true "RFC 1035 §5.1";
    TRAILING_DATA = 8 "" Error true "RFC 1035 §5.1";
    BAD_RDATA = 9 "" Error true "";
    STRING_TOO_LONG = 10 "" Error true "RFC 1035 §3.3";
    INCLUDE_REFUSED = 11 "" Error true "RFC 1035 §5.1";
    TTL_FROM_SOA = 12 "ttl-from-soa" Warning false "RFC 2308 §4";
    INCLUDE_CHANGED_TTL = 13 "include-changed-ttl" Note false "RFC 2308 §4";
    LIMIT = 14 "" Error true "";
    CLASS = 15 "" Error true "RFC 1035 §5.2";
    NO_OWNER = 16 "" Error true "RFC 1035 §5.1";
    GENERIC_LENGTH = 17 "" Error true "RFC 3597 §5";
    BYTE_ORDER_MARK = 18 "byte-order-mark" Note false "RFC 1035 §5.1";
    UNREADABLE = 19 "" Error true "";
    NO_SOA = 101 "no-soa" Error true "RFC 1035 §5.2, RFC 2181 §6.1";
    SEVERAL_SOA = 102 "singleton" Error true "RFC 1035 §5.2, RFC 2181 §6.1";
    SOA_BELOW_APEX = 103 "soa-below-apex" Error true "RFC 1035 §5.2, RFC 2181 §6.1";
    APEX_NS = 104 "apex-ns" Error false "RFC 1035 §5.2, RFC 2181 §6.1";
    OUT_OF_ZONE = 105 "out-of-zone" Error true "RFC 1035 §5.2";
    CNAME_CONFLICT = 106 "cname-conflict" Error true "RFC 1034 §3.6.2, RFC 2181 §10.1";
    SEVERAL_CNAME = 107 "singleton" Error true "RFC 2181 §10.1";
    APEX_CNAME = 108 "apex-cname" Error true "RFC 1912 §2.4";
    DNAME_CONFLICT = 109 "singleton" Error true "RFC 6672 §2.4";
    BELOW_DNAME = 110 "below-dname" Warning false "RFC 6672 §2.4";
    BELOW_CUT = 111 "below-cut" Note false "RFC 1034 §4.2.1";
    AT_CUT = 112 "at-cut" Warning false "RFC 4035 §2.2";
    DS_WITHOUT_NS = 113 "ds-without-ns" Warning false "RFC 4035 §2.4";
    MISSING_GLUE = 114 "missing-glue" Warning false "RFC 9471 §3.1";
    TARGET = 115 "target" Warning false "RFC 2181 §10.3, RFC 2782";
    TTL_MISMATCH = 116 "ttl-mismatch" Warning false "RFC 2181 §5.2";
    TTL_RANGE = 117 "ttl-range" Warning false "RFC 2181 §8";
    TTL_LOWERED = 118 "ttl-lowered" Note false "";
    DUPLICATE = 119 "duplicate" Note false "RFC 2181 §5";
    SERIAL_UNCHANGED = 120 "serial-unchanged" Warning false "RFC 1034 §4.3.5";
    SERIAL_BACKWARD = 121 "serial-backward" Warning false "RFC 1982 §3.2";
    SOA_TIMERS = 122 "soa-timers" Warning false "RFC 1912 §2.2";
    SOA_MINIMUM = 123 "soa-minimum" Note false "RFC 2308 §5";
    WILDCARD = 124 "wildcard" Error false "RFC 4592 §4.2, §4.4, §4.6";
    STRIPPED = 125 "stripped" Note false "";
    DS_DIGEST = 126 "ds-digest" Warning false "RFC 4034 §5.1, RFC 9904";
    HOST_NAME = 127 "host-name" Off false "RFC 1123 §2.1";
    SERVICE = 128 "service" Error false "RFC 9460 §2.2, §2.4, §8";
    ZONEMD = 129 "zonemd" Error false "RFC 8976 §4";
    TOO_LARGE = 130 "too-large" Error true "RFC 1035 §4.2.2";
    HASH_COLLISION = 131 "hash-collision" Error true "RFC 5155 §7.1";
    CSYNC = 132 "csync" Warning false "RFC 7477 §2.1";
    APEX_NS_ADDRESS = 133 "apex-ns-address" Warning false "RFC 1912 §2.3";
    CLASS_NOT_IN = 134 "class" Error true "RFC 1035 §5.2";
    META_TYPE = 135 "meta-type" Error true "RFC 6895 §3.1";
    EIGHT_BIT_NAME = 136 "eight-bit-name" Note false "RFC 4343";
    CASE_ONLY = 137 "case-only" Note false "RFC 4343";
    RESOURCE_LIMIT = 138 "limit" Error true "";
    MISPLACED_DNSSEC = 139 "misplaced-dnssec" Note false "RFC 4035 §2.1";
    REGISTRY_VALUE = 140 "registry-value" Note false "RFC 8659, RFC 6698, RFC 4255";
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckError {
    #[error("no check is called {0:?}; use a code such as Z116 or a name such as \"ttl-mismatch\"")]
    Unknown(String),
    #[error("check {0} cannot be lowered: the zone could not be signed or served correctly")]
    Locked(String),
}

/// The levels of all checks: defaults and what the operator changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    set: BTreeMap<u16, Level>,
}

impl Checks {
    /// Sets a check by code (`Z116`) or name (`ttl-mismatch`).
    ///
    /// # Errors
    /// Unknown keys, and any level but `Error` for a check that cannot be lowered; nothing changes.
    pub fn set(&mut self, key: &str, level: Level) -> Result<(), CheckError> {
        let chosen: Vec<&CodeInfo> = CODES
            .iter()
            .filter(|c| {
                c.code.to_string().eq_ignore_ascii_case(key)
                    || (!c.name.is_empty() && c.name == key)
            })
            .collect();
        if chosen.is_empty() {
            return Err(CheckError::Unknown(key.to_string()));
        }
        if level != Level::Error && chosen.iter().any(|c| c.locked) {
            return Err(CheckError::Locked(key.to_string()));
        }
        self.set.extend(chosen.iter().map(|c| (c.code.0, level)));
        Ok(())
    }

    /// The severity of a finding under `code`; `None`: the check is off.
    pub fn severity(&self, code: Code) -> Option<Severity> {
        let info = code.info()?;
        self.set
            .get(&code.0)
            .copied()
            .unwrap_or(info.level)
            .severity()
    }

    /// The same for a variant of a check that has a default of its own.
    pub fn severity_or(&self, code: Code, default: Level) -> Option<Severity> {
        self.set.get(&code.0).copied().unwrap_or(default).severity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_reads_back() {
        assert!(CODES.windows(2).all(|w| w[0].code < w[1].code));
        for c in CODES {
            assert_eq!(Code::parse(&c.code.to_string()), Some(c.code));
        }
        assert_eq!(Code::parse("Z999"), None);
    }

    #[test]
    fn levels_by_code_and_name() {
        let mut c = Checks::default();
        assert_eq!(c.severity(Code::TTL_MISMATCH), Some(Severity::Warning));
        c.set("ttl-mismatch", Level::Error).unwrap();
        c.set("z123", Level::Off).unwrap();
        assert_eq!(c.severity(Code::TTL_MISMATCH), Some(Severity::Error));
        assert_eq!(c.severity(Code::SOA_MINIMUM), None);
        assert_eq!(
            c.set("singleton", Level::Off),
            Err(CheckError::Locked("singleton".into()))
        );
        assert!(matches!(
            c.set("nonsense", Level::Off),
            Err(CheckError::Unknown(_))
        ));
        c.set("host-name", Level::Note).unwrap();
        assert_eq!(c.severity(Code::HOST_NAME), Some(Severity::Note));
    }
}
