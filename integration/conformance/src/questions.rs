//! What to ask a validating resolver about a zone, and what it must answer.
//!
//! Derived from the signed zone's records alone, with nothing of the store or the signer.

use std::collections::{BTreeMap, BTreeSet};

use cascade_zone::name::Labels;

use crate::text::{self, Record, rtype};

/// A question and the answer that a correct zone yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Presentation form.
    pub name: String,
    pub rtype: u16,
    pub nxdomain: bool,
    /// Records are in the answer.
    pub data: bool,
    /// Whether the resolver must call it secure; `None`: either is right, as long as it answers.
    pub secure: Option<bool>,
}

/// No zone of the corpus has this label.
const NOBODY: &[u8] = b"zz--nobody";
/// No zone of the corpus has this type.
const ABSENT_TYPE: u16 = 64_999;

/// At most `limit` owners of each kind are asked about.
pub fn about(apex: &[u8], records: &[Record], limit: usize) -> Vec<Question> {
    let zone = Zone::new(apex, records);
    let mut questions = vec![
        zone.positive(&zone.apex, rtype::SOA),
        zone.positive(&zone.apex, rtype::NS),
        zone.positive(&zone.apex, rtype::DNSKEY),
    ];
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for (owner, types) in &zone.owners {
        if zone.hidden(owner) || *owner == zone.apex {
            continue;
        }
        let mut room = |kind| {
            let count = asked.entry(kind).or_default();
            *count += 1;
            *count <= limit
        };
        if types.contains(&rtype::NS) {
            if room("cut") {
                questions.push(zone.ds(owner, types.contains(&rtype::DS)));
            }
        } else if owner.first() == Some(&b"*".to_vec()) {
            if room("wildcard") {
                questions.extend(zone.wildcard(owner, types));
            }
        } else if let Some(rtype) = zone.safe_type(types) {
            if room("positive") {
                questions.push(zone.positive(owner, rtype));
            }
            if !types.contains(&rtype::CNAME) && room("no data") {
                questions.push(zone.absent(owner, ABSENT_TYPE, false, Some(true)));
            }
        }
    }
    for name in zone.empty_non_terminals().iter().take(limit) {
        // Under opt-out those above insecure delegations only have no record of their own.
        questions.push(zone.absent(name, rtype::A, false, zone.certain()));
    }
    questions.extend(zone.nobody());
    questions
}

/// Labels from the left, in lower case.
type Path = Vec<Vec<u8>>;

struct Zone {
    apex: Path,
    owners: BTreeMap<Path, BTreeSet<u16>>,
    opt_out: bool,
}

impl Zone {
    fn new(apex: &[u8], records: &[Record]) -> Zone {
        let mut zone = Zone {
            apex: path(apex),
            owners: BTreeMap::new(),
            opt_out: false,
        };
        for record in records {
            match record.rtype {
                rtype::NSEC3 => zone.opt_out |= record.rdata.get(1).is_some_and(|f| f & 1 != 0),
                rtype::RRSIG | rtype::NSEC => {}
                rtype => {
                    zone.owners
                        .entry(path(&record.owner))
                        .or_default()
                        .insert(rtype);
                }
            }
        }
        zone
    }

    /// Below a zone cut or below a DNAME, so not this zone's to answer.
    fn hidden(&self, owner: &Path) -> bool {
        let depth = owner.len().saturating_sub(self.apex.len());
        (1..=depth).any(|up| {
            let above = self.owners.get(&owner[up..]);
            above.is_some_and(|types| {
                types.contains(&rtype::DNAME) || (up < depth && types.contains(&rtype::NS))
            })
        })
    }

    /// Under opt-out a proof may rest on a span that promises nothing.
    fn certain(&self) -> Option<bool> {
        (!self.opt_out).then_some(true)
    }

    /// A type that can be asked for without the resolver following it out of the zone.
    fn safe_type(&self, types: &BTreeSet<u16>) -> Option<u16> {
        if types.contains(&rtype::CNAME) {
            return Some(rtype::CNAME);
        }
        types.iter().copied().find(|t| !matches!(*t, 24 | 25 | 30))
    }

    fn positive(&self, owner: &Path, rtype: u16) -> Question {
        Question {
            name: name(owner),
            rtype,
            nxdomain: false,
            data: true,
            secure: Some(true),
        }
    }

    fn absent(&self, owner: &Path, rtype: u16, nxdomain: bool, secure: Option<bool>) -> Question {
        Question {
            name: name(owner),
            rtype,
            nxdomain,
            data: false,
            secure,
        }
    }

    fn ds(&self, owner: &Path, secure: bool) -> Question {
        if secure {
            self.positive(owner, rtype::DS)
        } else {
            self.absent(owner, rtype::DS, false, self.certain())
        }
    }

    fn wildcard(&self, owner: &Path, types: &BTreeSet<u16>) -> Option<Question> {
        let mut below = vec![NOBODY.to_vec()];
        below.extend_from_slice(&owner[1..]);
        let rtype = self.safe_type(types)?;
        // What a wildcard DNAME expands to is not defined (RFC 4592 §4.4).
        (!types.contains(&rtype::DNAME) && fits(&below)).then(|| Question {
            name: name(&below),
            rtype,
            nxdomain: false,
            data: true,
            secure: self.certain(),
        })
    }

    fn nobody(&self) -> Option<Question> {
        let mut below = vec![NOBODY.to_vec()];
        below.extend_from_slice(&self.apex);
        let mut wildcard = vec![b"*".to_vec()];
        wildcard.extend_from_slice(&self.apex);
        let covered = self.owners.contains_key(&wildcard) || self.hidden(&below);
        (!covered && fits(&below)).then(|| self.absent(&below, rtype::A, true, self.certain()))
    }

    fn empty_non_terminals(&self) -> Vec<Path> {
        let mut found = BTreeSet::new();
        for owner in self
            .owners
            .keys()
            .filter(|owner| owner.len() > self.apex.len())
        {
            for up in 1..owner.len() - self.apex.len() {
                let above = owner[up..].to_vec();
                let star = above.first() == Some(&b"*".to_vec());
                if !self.owners.contains_key(&above) && !self.hidden(&above) && !star {
                    found.insert(above);
                }
            }
        }
        found.into_iter().collect()
    }
}

fn path(wire: &[u8]) -> Path {
    Labels::of(wire).map(<[u8]>::to_ascii_lowercase).collect()
}

fn fits(path: &Path) -> bool {
    path.iter().map(|label| label.len() + 1).sum::<usize>() < 255
}

fn name(path: &Path) -> String {
    let mut wire = Vec::new();
    for label in path {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
    }
    wire.push(0);
    let mut out = String::new();
    text::push_name(&wire, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(owner: &str, rtype: u16, rdata: &[u8]) -> Record {
        let owner = cascade_zone::Name::parse(owner).expect("a name of this test");
        Record {
            owner: owner.as_wire().to_vec(),
            rtype,
            ttl: 60,
            rdata: rdata.to_vec(),
        }
    }

    #[test]
    fn each_kind_of_name_is_asked_about() {
        let apex = record("z.", 6, &[]).owner;
        let records = [
            record("z.", 6, &[]),
            record("a.z.", 1, &[]),
            record("c.z.", 5, &[]),
            record("*.w.z.", 16, &[]),
            record("x.e.z.", 1, &[]),
            record("d.z.", 2, &[]),
            record("s.z.", 2, &[]),
            record("s.z.", 43, &[]),
            record("glue.d.z.", 1, &[]),
        ];
        let all = about(&apex, &records, 9);
        let find = |name: &str, rtype| all.iter().find(|q| q.name == name && q.rtype == rtype);
        assert!(find("a.z.", 1).is_some_and(|q| q.data));
        assert!(find("a.z.", ABSENT_TYPE).is_some_and(|q| !q.data && !q.nxdomain));
        assert!(find("c.z.", 5).is_some_and(|q| q.data));
        assert!(find("zz--nobody.w.z.", 16).is_some_and(|q| q.data));
        assert!(find("e.z.", 1).is_some_and(|q| !q.data));
        assert!(find("d.z.", 43).is_some_and(|q| !q.data && q.secure == Some(true)));
        assert!(find("s.z.", 43).is_some_and(|q| q.data));
        assert!(find("zz--nobody.z.", 1).is_some_and(|q| q.nxdomain));
        assert!(!all.iter().any(|q| q.name.starts_with("glue")));
        let mut opt_out = records.to_vec();
        opt_out.push(record("h.z.", 50, &[1, 1, 0, 0, 0]));
        let all = about(&apex, &opt_out, 9);
        assert!(all.iter().any(|q| q.name == "d.z." && q.secure.is_none()));
    }
}
