//! Levels of the loader's checks of content.

use std::collections::BTreeMap;

use crate::reader::Cx;
use crate::tree::{Node, Val, quote};
use crate::value::{Value, choice, not_a_word};

choice! {
    /// What a finding of the loader does: an error refuses the load.
    pub enum CheckLevel { Off = "off", Note = "note", Warn = "warn", Error = "error" }
}

/// A check an operator can name.
#[derive(Clone, Copy, Debug)]
pub struct CheckDef {
    /// Number of the code: 116 is Z116.
    pub codes: &'static [u16],
    pub name: &'static str,
    /// `None`: errors for transfers, warnings for files.
    pub default: Option<CheckLevel>,
    pub doc: &'static str,
    /// The zone could not be signed or served correctly, so the level stays.
    pub fixed: bool,
}

const fn check(
    codes: &'static [u16],
    name: &'static str,
    default: Option<CheckLevel>,
    fixed: bool,
    doc: &'static str,
) -> CheckDef {
    CheckDef {
        codes,
        name,
        default,
        doc,
        fixed,
    }
}

const E: Option<CheckLevel> = Some(CheckLevel::Error);
const W: Option<CheckLevel> = Some(CheckLevel::Warn);
const N: Option<CheckLevel> = Some(CheckLevel::Note);

/// Every check with a level of its own; those without a name are set by code.
pub static CHECKS: &[CheckDef] = &[
    check(&[101], "", E, true, "no SOA record"),
    check(
        &[102, 107, 109],
        "singleton",
        E,
        true,
        "several SOA, CNAME or DNAME records",
    ),
    check(&[103], "", E, true, "SOA below the apex"),
    check(&[104], "apex-ns", E, false, "no NS record at the apex"),
    check(&[105], "out-of-zone", E, true, "owner outside the zone"),
    check(&[106], "cname-conflict", E, true, "CNAME beside other data"),
    check(&[108], "", E, true, "CNAME at the apex"),
    check(&[110], "", W, false, "data below a DNAME"),
    check(
        &[111],
        "",
        N,
        false,
        "data below a zone cut that is not glue",
    ),
    check(
        &[112],
        "",
        W,
        false,
        "types at a zone cut that do not belong there",
    ),
    check(&[113], "ds-without-ns", W, false, "DS at a name without NS"),
    check(
        &[114],
        "missing-glue",
        W,
        false,
        "name server in the delegated zone without address",
    ),
    check(
        &[115],
        "",
        W,
        false,
        "target in the zone is a CNAME or does not exist",
    ),
    check(
        &[116],
        "ttl-mismatch",
        W,
        false,
        "TTLs differ in an RRset; the lowest is used",
    ),
    check(&[117], "", W, false, "TTL above 2^31-1; 0 is used"),
    check(&[118], "", N, false, "TTL above signer.max-ttl; lowered"),
    check(&[119], "", N, false, "duplicate record dropped"),
    check(
        &[120],
        "serial-unchanged",
        W,
        false,
        "content changed and the serial did not",
    ),
    check(
        &[121],
        "serial-backward",
        None,
        false,
        "serial lower than the present one",
    ),
    check(
        &[122],
        "",
        W,
        false,
        "SOA timers that contradict each other",
    ),
    check(&[123], "", N, false, "SOA MINIMUM above a day"),
    check(&[124], "", None, false, "NS, DS or DNAME at a wildcard"),
    check(
        &[125],
        "",
        N,
        false,
        "DNSSEC records of the input are replaced",
    ),
    check(
        &[126],
        "",
        None,
        false,
        "DS digest of wrong length, unknown, or SHA-1 only",
    ),
    check(
        &[127],
        "",
        Some(CheckLevel::Off),
        false,
        "name of a host or mail domain is not a host name",
    ),
    check(&[128], "", None, false, "SVCB or HTTPS parameters"),
    check(&[130], "", E, true, "record too large for any message"),
    check(&[131], "", E, true, "two names with one NSEC3 hash"),
    check(&[132], "", W, false, "several CSYNC records"),
    check(
        &[133],
        "",
        W,
        false,
        "name server of the apex in the zone without address",
    ),
    check(&[134], "", E, true, "class is not IN"),
    check(&[135], "", E, true, "meta type in data"),
    check(&[136], "", N, false, "octets above 127 in a name"),
    check(
        &[137],
        "",
        N,
        false,
        "owners that differ in upper case only",
    ),
    check(&[138], "", E, false, "more records or octets than allowed"),
    check(
        &[139],
        "",
        N,
        false,
        "DNSKEY below the apex, RRSIG without data",
    ),
    check(&[140], "", N, false, "value out of its registry's range"),
];

/// Levels that differ from the defaults, by code.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Checks {
    set: BTreeMap<u16, CheckLevel>,
}

impl Checks {
    /// The level an operator chose for `Z<code>`, if any.
    pub fn level(&self, code: u16) -> Option<CheckLevel> {
        self.set.get(&code).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u16, CheckLevel)> + '_ {
        self.set.iter().map(|(code, level)| (*code, *level))
    }
}

impl Value for Checks {
    fn type_text() -> String {
        "table of check = \"error\", \"warn\", \"note\" or \"off\"".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Val::Table(table) = &node.value else {
            cx.wrong_type(node, "a table of checks");
            return None;
        };
        let mut set: BTreeMap<u16, CheckLevel> = BTreeMap::new();
        let mut good = true;
        for entry in &table.entries {
            let Some((def, codes)) = find(&entry.name) else {
                cx.unknown_key(entry, &names());
                good = false;
                continue;
            };
            let level = match &entry.node.value {
                Val::Str(s) => match CheckLevel::from_word(s) {
                    Some(level) => level,
                    None => {
                        not_a_word(&entry.node, cx, s, &["error", "warn", "note", "off"]);
                        good = false;
                        continue;
                    }
                },
                _ => {
                    cx.wrong_type(&entry.node, "a level");
                    good = false;
                    continue;
                }
            };
            if def.fixed && level != CheckLevel::Error {
                let detail = format!("{}: this check cannot be lowered", entry.name);
                cx.bad(
                    &entry.node,
                    detail,
                    "such a zone could not be signed or served correctly",
                );
                good = false;
                continue;
            }
            for code in codes {
                if set
                    .insert(code, level)
                    .is_some_and(|before| before != level)
                {
                    let detail = format!("{}: the level of Z{code} is set twice", entry.name);
                    cx.bad(&entry.node, detail, "");
                    good = false;
                }
            }
        }
        set.retain(|code, level| default_of(*code) != Some(*level));
        good.then_some(Checks { set })
    }

    fn write(&self) -> String {
        if self.set.is_empty() {
            return "{}".into();
        }
        let parts: Vec<String> = self
            .set
            .iter()
            .map(|(c, l)| format!("{} = {}", name_of(*c), quote(l.as_str())))
            .collect();
        format!("{{ {} }}", parts.join(", "))
    }
}

fn find(name: &str) -> Option<(&'static CheckDef, Vec<u16>)> {
    if let Some(code) = name.strip_prefix('Z').and_then(|n| n.parse::<u16>().ok()) {
        let def = CHECKS.iter().find(|c| c.codes.contains(&code))?;
        return Some((def, vec![code]));
    }
    let def = CHECKS
        .iter()
        .find(|c| !c.name.is_empty() && c.name == name)?;
    Some((def, def.codes.to_vec()))
}

fn names() -> Vec<&'static str> {
    CHECKS
        .iter()
        .map(|c| c.name)
        .filter(|n| !n.is_empty())
        .collect()
}

fn default_of(code: u16) -> Option<CheckLevel> {
    CHECKS
        .iter()
        .find(|c| c.codes.contains(&code))
        .and_then(|c| c.default)
}

fn name_of(code: u16) -> String {
    match CHECKS
        .iter()
        .find(|c| c.codes == [code] && !c.name.is_empty())
    {
        Some(c) => c.name.to_string(),
        None => format!("Z{code}"),
    }
}
