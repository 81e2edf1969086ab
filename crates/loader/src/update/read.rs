//! UPDATE messages (RFC 2136 §2, §3.1, §3.2, §3.4.1).

use std::collections::BTreeMap;

use cascade_wire::reader::{CLASS_ANY, CLASS_IN, RecordView};
use cascade_wire::{Message, WireError, opcode};
use cascade_zone::rdata::check_wire;
use cascade_zone::{Name, Rtype, key};

use super::{Change, Prerequisite, Refused, Request, Target};

/// RFC 2136 §2.4: class NONE.
const CLASS_NONE: u16 = 254;

/// Reads a request whose TSIG was verified. The additional section is not looked at.
///
/// # Errors
/// Not an UPDATE, not for `apex`, or not as RFC 2136 wants it: nothing is to be changed.
pub fn read(msg: &[u8], apex: &Name) -> Result<Request, Refused> {
    let message = Message::parse(msg).map_err(malformed)?;
    if message.header.opcode() != opcode::UPDATE {
        return Err(Refused::Malformed("not an UPDATE".into()));
    }
    zone_section(&message, apex)?;
    let mut request = Request::default();
    // RFC 2136 §2.4.2: records of one RRset with values are one prerequisite.
    let mut sets: BTreeMap<(Vec<u8>, Rtype), (Target, Vec<Vec<u8>>)> = BTreeMap::new();
    for record in message.records() {
        let record = record.map_err(malformed)?;
        match record.section {
            1 => match prerequisite(&record, apex)? {
                Prerequisite::SetIs(at, rdatas) => {
                    let id = (at.key.clone(), at.rtype);
                    let set = sets.entry(id).or_insert_with(|| (at, Vec::new()));
                    set.1.extend(rdatas);
                }
                other => request.prerequisites.push(other),
            },
            2 => request.changes.push(change(&record, apex)?),
            _ => {}
        }
    }
    let sets = sets.into_values();
    let sets = sets.map(|(at, rdatas)| Prerequisite::SetIs(at, rdatas));
    request.prerequisites.extend(sets);
    Ok(request)
}

fn malformed(e: WireError) -> Refused {
    Refused::Malformed(e.to_string())
}

/// RFC 2136 §3.1.1: exactly one zone, of type SOA.
fn zone_section(message: &Message<'_>, apex: &Name) -> Result<(), Refused> {
    let zone = message.question().map_err(malformed)?;
    let Some((name, rtype, class)) = zone else {
        return Err(Refused::Malformed("not exactly one zone".into()));
    };
    if rtype != Rtype::SOA {
        return Err(Refused::Malformed(
            "the zone section is not of type SOA".into(),
        ));
    }
    if class != CLASS_IN || name.to_lowercase() != apex.to_lowercase() {
        return Err(Refused::OtherZone(name.to_string()));
    }
    Ok(())
}

fn target(record: &RecordView<'_>, apex: &Name) -> Result<Target, Refused> {
    let owner = record.owner().map_err(malformed)?;
    let Some(key) = key::key_of(apex, owner.as_wire()) else {
        return Err(Refused::OutOfZone(owner));
    };
    Ok(Target {
        key,
        case: key::case_of(apex, owner.as_wire()),
        rtype: record.rtype,
    })
}

fn rdata(record: &RecordView<'_>) -> Result<Vec<u8>, Refused> {
    let mut rdata = Vec::new();
    record.push_rdata(&mut rdata).map_err(malformed)?;
    check_wire(record.rtype, &rdata)
        .map_err(|e| Refused::Malformed(format!("{}: {e}", record.rtype)))?;
    Ok(rdata)
}

fn bare(record: &RecordView<'_>) -> Result<(), Refused> {
    if record.ttl != 0 {
        return Err(Refused::Malformed("a TTL where there must be none".into()));
    }
    if !record.raw_rdata().is_empty() {
        return Err(Refused::Malformed("RDATA where there must be none".into()));
    }
    if record.rtype.is_meta() && record.rtype != Rtype::ANY {
        return Err(Refused::Malformed(format!("type {}", record.rtype)));
    }
    Ok(())
}

/// RFC 2136 §3.2.5.
fn prerequisite(record: &RecordView<'_>, apex: &Name) -> Result<Prerequisite, Refused> {
    if record.ttl != 0 {
        return Err(Refused::Malformed("a prerequisite with a TTL".into()));
    }
    let at = target(record, apex)?;
    let any = record.rtype == Rtype::ANY;
    match record.class {
        CLASS_ANY | CLASS_NONE => bare(record)?,
        _ => {}
    }
    Ok(match (record.class, any) {
        (CLASS_ANY, true) => Prerequisite::NameInUse(at),
        (CLASS_ANY, false) => Prerequisite::SetExists(at),
        (CLASS_NONE, true) => Prerequisite::NameNotInUse(at),
        (CLASS_NONE, false) => Prerequisite::SetAbsent(at),
        (CLASS_IN, _) => Prerequisite::SetIs(at, vec![rdata(record)?]),
        (class, _) => return Err(Refused::Malformed(format!("class {class}"))),
    })
}

/// RFC 2136 §3.4.1.3.
fn change(record: &RecordView<'_>, apex: &Name) -> Result<Change, Refused> {
    let at = target(record, apex)?;
    match record.class {
        CLASS_IN => Ok(Change::Add {
            // RFC 2181 §8: a TTL with the top bit is zero.
            ttl: match record.ttl {
                ttl if ttl > i32::MAX as u32 => 0,
                ttl => ttl,
            },
            rdata: rdata(record)?,
            at,
        }),
        CLASS_ANY => {
            bare(record)?;
            Ok(match record.rtype {
                Rtype::ANY => Change::DeleteName(at),
                _ => Change::DeleteSet(at),
            })
        }
        CLASS_NONE if record.ttl != 0 => {
            Err(Refused::Malformed("a record to delete with a TTL".into()))
        }
        CLASS_NONE => Ok(Change::DeleteRecord {
            rdata: rdata(record)?,
            at,
        }),
        class => Err(Refused::Malformed(format!("class {class}"))),
    }
}
