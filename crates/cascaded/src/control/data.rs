//! Versions, differences, exports, keys and their records.

use std::sync::Arc;

use bytes::Bytes;
use cascade_api::common::{List, PageQuery, Stage, SubjectKind};
use cascade_api::keys::{Key, KeyFilter, KeyRecords, KeyRecordsQuery, RecordKind};
use cascade_api::zones::{
    Change, Diff, DiffCounts, DiffEnd, DiffQuery, ExportQuery, Version, VersionStatus,
};
use cascade_api::{Problem, ProblemType};
use cascade_crypto::{DigestType, Dnskey, push_ds_rdata};
use cascade_keys::Key as ZoneKey;
use cascade_zone::{Rtype, VersionId, ZoneVersion, diff as zone_diff};
use tokio::sync::mpsc;

use super::Answer;
use crate::daemon::Daemon;
use crate::http::Streamed;
use crate::keys::{self, KeysRow, report};
use crate::zone::{View, ZoneHandle};

/// Records of a difference that are sent unless the caller says otherwise.
const DIFF_LIMIT: u64 = 10_000;
/// Pieces of an export that wait for the reader.
const EXPORT_QUEUE: usize = 4;
const EXPORT_PIECE: usize = 64 * 1024;

fn status(view: &View, v: &ZoneVersion) -> VersionStatus {
    let z = &view.row.zone;
    let live = z
        .live
        .as_ref()
        .is_some_and(|l| l.version == v.id() || l.of == v.id());
    let cand = z.candidate.cand().is_some_and(|c| {
        c.version == v.id() || c.signed.as_ref().is_some_and(|s| s.version == v.id())
    });
    match (live, cand) {
        (true, _) => VersionStatus::Published,
        (_, true) => VersionStatus::Candidate,
        _ => VersionStatus::Retained,
    }
}

fn describe(view: &View, v: &ZoneVersion) -> Version {
    Version {
        version: v.id().to_string(),
        stage: if v.is_signed() {
            Stage::Signed
        } else {
            Stage::Unsigned
        },
        serial: v.serial().0,
        of: v.unsigned_id().to_string(),
        made_at: v.made_at(),
        records: v.sums().records,
        size_bytes: v.sums().wire,
        status: status(view, v),
    }
}

pub fn versions(z: &ZoneHandle, page: &PageQuery) -> List<Version> {
    let view = z.view();
    let all: Vec<Version> = view.versions.values().map(|v| describe(&view, v)).collect();
    let number = |v: &Version| {
        format!(
            "{:020}",
            v.version
                .trim_start_matches('v')
                .parse::<u64>()
                .unwrap_or(0)
        )
    };
    List::page(all, page, number)
}

/// One that was let go from memory is read back from its file. Blocking.
pub fn version(d: &Daemon, z: &ZoneHandle, name: &str) -> Answer<Version> {
    let view = z.view();
    let v = find_or_read(d, z, &view, name, Stage::Signed)?;
    Ok(describe(&view, &v))
}

/// `v<N>`, `serial:<N>`, `current`, `candidate`, `previous`.
fn find(
    z: &ZoneHandle,
    view: &View,
    name: Option<&str>,
    stage: Option<Stage>,
) -> Answer<Arc<ZoneVersion>> {
    let pz = &view.row.zone;
    let unsigned = stage == Some(Stage::Unsigned);
    let live = pz
        .live
        .as_ref()
        .map(|l| if unsigned { l.of } else { l.version });
    let get = |id: VersionId| view.versions.get(&id).cloned();
    let wanted = name.unwrap_or("current");
    let found = match wanted {
        "current" => live.and_then(get),
        "candidate" => pz
            .candidate
            .cand()
            .and_then(|c| match (&c.signed, unsigned) {
                (Some(s), false) => get(s.version),
                _ => get(c.version),
            }),
        "previous" => {
            let mut ids: Vec<VersionId> = pz
                .retained
                .iter()
                .map(|r| if unsigned { r.of } else { r.version })
                .collect();
            ids.retain(|v| Some(*v) != live);
            ids.into_iter().max().and_then(get)
        }
        other => {
            let by_id = other
                .strip_prefix('v')
                .and_then(|n| n.parse().ok())
                .map(VersionId);
            let by_serial = other
                .strip_prefix("serial:")
                .and_then(|n| n.parse::<u32>().ok());
            match (by_id, by_serial) {
                (Some(id), _) => get(id),
                (_, Some(s)) => view
                    .versions
                    .values()
                    .find(|v| v.serial().0 == s && v.is_signed() != unsigned)
                    .cloned(),
                _ => {
                    return Err(Problem::new(
                        ProblemType::InvalidValue,
                        format!("'{other}' names no version"),
                    )
                    .action("write v<N>, serial:<N>, current, previous or candidate"));
                }
            }
        }
    };
    found.ok_or_else(|| {
        Problem::new(
            ProblemType::VersionNotFound,
            format!("zone '{}' has no version '{wanted}' in memory", z.name),
        )
        .subject(SubjectKind::Version, wanted)
        .action(format!("cascade zone show {}", z.name))
    })
}

/// As [`find`], and what is kept on disk alone.
fn find_or_read(
    d: &Daemon,
    z: &ZoneHandle,
    view: &View,
    name: &str,
    stage: Stage,
) -> Answer<Arc<ZoneVersion>> {
    let missing = match find(z, view, Some(name), Some(stage)) {
        Err(p) if p.kind == ProblemType::VersionNotFound => p,
        other => return other,
    };
    let pz = &view.row.zone;
    let live = pz.live.as_ref().map(|l| l.version);
    let number = |prefix: &str| name.strip_prefix(prefix)?.parse::<u64>().ok();
    let (id, serial) = (number("v").map(VersionId), number("serial:"));
    let kept = pz.retained.iter().find(|r| match name {
        "previous" => Some(r.version) != live,
        _ => id == Some(r.version) || id == Some(r.of) || serial == Some(u64::from(r.serial.0)),
    });
    let Some(kept) = kept else {
        let have: Vec<String> = pz
            .retained
            .iter()
            .map(|r| format!("{} (serial {})", r.version, r.serial))
            .collect();
        let text = match have.is_empty() {
            true => "none that was published is kept".to_string(),
            false => format!("kept are {}", have.join(", ")),
        };
        return Err(Problem {
            detail: format!("zone '{}' has no version '{name}': {text}", z.name),
            ..missing
        });
    };
    let lost = |why: String| {
        Problem::new(
            ProblemType::VersionNotFound,
            format!(
                "version {} of zone '{}' is kept on disk and cannot be read back: {why}",
                kept.version, z.name
            ),
        )
        .subject(SubjectKind::Version, name)
    };
    let segments = &view.row.segments;
    let segment = segments.iter().rev().find(|s| s.holds(kept.version.0));
    let unsigned = stage == Stage::Unsigned || id == Some(kept.of);
    let soa = view.row.sources.get(&kept.version.0);
    // As much memory as a load: not more of them at the same time than of those.
    let turn = tokio::runtime::Handle::current().block_on(d.loads.acquire());
    let read = d.pool.install(|| -> Result<Arc<ZoneVersion>, String> {
        let signed = match (view.versions.get(&kept.version), segment) {
            (Some(v), _) => v.clone(),
            (None, Some(s)) => crate::zone::read_one(&d.files, z.id, s, kept.version)?,
            (None, None) => return Err("no file holds it".into()),
        };
        if !unsigned {
            return Ok(signed);
        }
        let (ttl, hex) = soa.ok_or("the SOA of its source was not kept")?;
        let soa = data_encoding::HEXLOWER.decode(hex.as_bytes());
        let soa = soa.map_err(|e| e.to_string())?;
        let half = signed.to_unsigned((*ttl, soa));
        half.map(Arc::new).map_err(|e| e.to_string())
    });
    drop(turn);
    read.map_err(lost)
}

fn is_dnssec(t: Rtype) -> bool {
    t.is_denial_or_signature()
}

/// Versions that were let go from memory are read back from their files. Blocking.
pub fn diff(d: &Daemon, z: &ZoneHandle, q: &DiffQuery) -> Answer<Diff> {
    let view = z.view();
    let stage = q.stage.unwrap_or(Stage::Signed);
    let from = find_or_read(d, z, &view, q.from.as_deref().unwrap_or("previous"), stage)?;
    let to = find_or_read(d, z, &view, q.to.as_deref().unwrap_or("current"), stage)?;
    let limit = q.limit.unwrap_or(DIFF_LIMIT);
    let mut counts = DiffCounts::default();
    let mut changes = Vec::new();
    let mut last: Option<(Vec<u8>, Rtype)> = None;
    zone_diff(&from, &to, &mut |d| {
        match d.rtype {
            Rtype::RRSIG => counts.signatures += 1,
            t if is_dnssec(t) => counts.denial += 1,
            _ => {}
        }
        if is_dnssec(d.rtype) && !q.dnssec {
            return;
        }
        if d.removed {
            counts.removed += 1;
        } else {
            counts.added += 1;
        }
        let set = (d.owner.to_vec(), d.rtype);
        if last.as_ref() != Some(&set) {
            counts.rrsets_changed += 1;
            last = Some(set);
        }
        if (changes.len() as u64) < limit {
            let op = if d.removed { "-" } else { "+" };
            changes.push(Change {
                op: op.into(),
                record: crate::text::record(d.owner, d.rtype, d.ttl, d.rdata),
            });
        }
    });
    let end = |v: &ZoneVersion| DiffEnd {
        version: v.id().to_string(),
        serial: v.serial().0,
    };
    Ok(Diff {
        zone: z.name.clone(),
        stage,
        from: end(&from),
        to: end(&to),
        counts,
        changes,
    })
}

/// The zone as text, one record a line, in pieces that wait for the reader. A version that was let go
/// from memory is read back from its file. Blocking.
pub fn export(d: &Daemon, z: &ZoneHandle, q: &ExportQuery) -> Answer<Streamed> {
    let view = z.view();
    let stage = q.stage.unwrap_or(Stage::Signed);
    let v = find_or_read(
        d,
        z,
        &view,
        q.version.as_deref().unwrap_or("current"),
        stage,
    )?;
    let (tx, pieces) = mpsc::channel(EXPORT_QUEUE);
    let json = q.json;
    tokio::task::spawn_blocking(move || {
        let mut buf = String::with_capacity(EXPORT_PIECE + 4096);
        let mut gone = false;
        let mut emit = |r: cascade_zone::Record<'_>| {
            if gone {
                return;
            }
            let line = crate::text::record(r.owner, r.rtype, r.ttl, r.rdata);
            if json {
                let doc = serde_json::json!({ "record": line, "type": r.rtype.to_string() });
                buf.push_str(&doc.to_string());
            } else {
                buf.push_str(&line);
            }
            buf.push('\n');
            if buf.len() >= EXPORT_PIECE {
                gone = tx
                    .blocking_send(Ok(Bytes::from(std::mem::take(&mut buf))))
                    .is_err();
            }
        };
        v.for_each_record(&mut emit);
        if !gone && !buf.is_empty() {
            let _ = tx.blocking_send(Ok(Bytes::from(buf)));
        }
    });
    let content_type = if json {
        "application/x-ndjson"
    } else {
        "text/dns"
    };
    Ok(Streamed {
        content_type,
        pieces,
    })
}

// ---- keys

pub fn keys(d: &Daemon, z: &ZoneHandle, f: &KeyFilter) -> List<Key> {
    let view = z.view();
    let rules = d.key_policy(&view.row.zone.settings.policy);
    let all = report::keys(&view.row.keys, rules.as_ref(), f.all, d.now());
    List::page(
        all,
        &PageQuery {
            limit: f.limit,
            after: f.after.clone(),
        },
        |k| k.id.clone(),
    )
}

pub fn key(d: &Daemon, z: &ZoneHandle, name: &str) -> Answer<Key> {
    let view = z.view();
    let row = &view.row.keys;
    let key = find_key(z, row, name)?;
    let rules = d.key_policy(&view.row.zone.settings.policy);
    report::key(row, key, rules.as_ref(), d.now())
        .ok_or_else(|| super::bug(format!("key {} cannot be read from the state", key.num)))
}

/// By id, by reference, or by tag when only one key has it.
pub fn find_key<'a>(z: &ZoneHandle, row: &'a KeysRow, name: &str) -> Answer<&'a ZoneKey> {
    let missing = |detail: String| {
        Problem::new(ProblemType::KeyNotFound, detail)
            .subject(SubjectKind::Key, name)
            .action(format!("cascade keyset {} list", z.name))
    };
    let kept = || {
        let keys = row.zone.keys.iter();
        keys.filter(|k| k.times.destroyed_at.is_none())
    };
    let named = |k: &&ZoneKey| {
        k.num.to_string() == name || row.reference(k.num) == name || k.id.to_string() == name
    };
    if let Some(k) = kept().find(named) {
        return Ok(k);
    }
    let with_tag: Vec<&ZoneKey> = kept().filter(|k| k.tag().to_string() == name).collect();
    match with_tag[..] {
        [one] => Ok(one),
        [] => Err(missing(format!("zone '{}' has no key '{name}'", z.name))),
        _ => Err(missing(format!(
            "several keys of zone '{}' have tag {name}; give the key's id",
            z.name
        ))),
    }
}

pub fn key_records(
    d: &Daemon,
    z: &ZoneHandle,
    kind: RecordKind,
    q: &KeyRecordsQuery,
) -> Answer<KeyRecords> {
    let view = z.view();
    let Some(policy) = d.policy(&view.row.zone.settings.policy) else {
        return Err(Problem::policy_not_found(
            &view.row.zone.settings.policy,
            [],
        ));
    };
    let p = &policy.file.policy;
    let digests = match q.digest.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => keys::digests(p),
        Some("sha256" | "sha-256") => vec![DigestType::Sha256],
        Some("sha384" | "sha-384") => vec![DigestType::Sha384],
        Some(other) => {
            return Err(Problem::new(
                ProblemType::InvalidValue,
                format!("'{other}' is not a digest for DS; use sha256 or sha384"),
            ));
        }
    };
    let row = &view.row.keys;
    let chosen: Vec<&ZoneKey> = match (&q.key, kind) {
        (Some(name), _) => vec![find_key(z, row, name)?],
        (None, RecordKind::Dnskey) => row.published_keys(),
        (None, _) => report::for_parent(row),
    };
    let ttl = u32::try_from(p.key_manager.records.ttl.as_secs()).unwrap_or(u32::MAX);
    let mut records = Vec::new();
    for key in chosen {
        let Ok(dnskey) = Dnskey::from_rdata(&key.dnskey_rdata()) else {
            continue;
        };
        let at_parent = key.role.signs_keys();
        let mut line = |t: Rtype, rdata: &[u8]| {
            records.push(crate::text::record(
                z.apex.to_lowercase().as_wire(),
                t,
                ttl,
                rdata,
            ));
        };
        match kind {
            RecordKind::Dnskey => line(Rtype::DNSKEY, dnskey.rdata()),
            RecordKind::Cdnskey if at_parent => line(Rtype::CDNSKEY, dnskey.rdata()),
            RecordKind::Ds | RecordKind::Cds if at_parent => {
                let t = if kind == RecordKind::Ds {
                    Rtype::DS
                } else {
                    Rtype::CDS
                };
                for &digest in &digests {
                    let mut rdata = Vec::new();
                    push_ds_rdata(&z.apex, &dnskey, digest, &mut rdata);
                    line(t, &rdata);
                }
            }
            _ => {}
        }
    }
    Ok(KeyRecords { records })
}
