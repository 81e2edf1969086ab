//! Zones that come signed (`signer.mode = "passthrough"`): what another signer made is taken as it
//! is, goes through the gate, and is published unchanged. Nothing is signed, and there are no keys.

use std::sync::Arc;
use std::time::Duration;

use cascade_crypto::Class;
use cascade_crypto::{DigestType, Dnskey, push_ds_rdata};
use cascade_keys::{ApexSet, Cds, Delegation, DsRecord, Scope, Subject, What};
use cascade_loader::ParsedRecord;
use cascade_pipeline::action::StartSign;
use cascade_pipeline::{Event, Fault};
use cascade_policy::{Policy, SignerMode};
use cascade_signer::{AdoptError, Job, SourceRecord, adopt};
use cascade_time::Timestamp;
use cascade_zone::{Name, Rtype, VersionId};

use super::actor::{Actor, Done, Running};
use super::{SignRow, View, ZoneRow, jobs};
use crate::keys::{KeysRow, Loaded, ds_rdata};

/// There is nothing to refresh: the next version comes from the source.
const NO_UPKEEP: Duration = Duration::from_secs(365 * 86_400);

/// Between two looks at the parent.
const DAILY: Duration = Duration::from_secs(86_400);
const SOONEST: Duration = Duration::from_secs(3600);

/// DNSSEC records of the newest source that was loaded, and the version without them.
pub(super) type SourceSigned = Option<(VersionId, Arc<Vec<SourceRecord>>)>;

pub fn is_passthrough(p: &Policy) -> bool {
    p.signer.mode == SignerMode::Passthrough
}

/// Stands for the apex of a version that another signer made: nobody of ours signs in it.
fn mark() -> ApexSet {
    ApexSet {
        ttl: 0,
        dnskey: Vec::new(),
        dnskey_signers: Vec::new(),
        cds_signers: Vec::new(),
        zone_signers: Vec::new(),
        cds: Cds::None,
        cdnskey: false,
        digests: Vec::new(),
        unsigned: false,
    }
}

impl Actor {
    /// The policy passes the zone on, and no version with keys of ours was ever published: caches
    /// would hold what does not fit the other signer's.
    pub(super) fn passes(&self) -> bool {
        let by_policy = self
            .policy()
            .is_some_and(|p| is_passthrough(&p.file.policy));
        by_policy && self.row.keys.zone.published.is_none()
    }

    /// Another signer made this version.
    pub(super) fn is_passed(&self, version: VersionId) -> bool {
        is_passed(&self.row.keys, version)
    }

    /// What is served is another signer's.
    pub(super) fn serves_passed(&self) -> bool {
        serves_passed(&self.row)
    }

    pub(super) fn source_signed(&mut self, version: VersionId, records: Vec<ParsedRecord>) {
        let records = records.into_iter().map(|r| SourceRecord {
            key: r.key,
            rtype: r.rtype,
            ttl: r.ttl,
            rdata: r.rdata,
        });
        self.source_signed = Some((version, Arc::new(records.collect())));
    }

    /// In place of signing: the source's signatures beside its records.
    pub(super) fn start_pass(&mut self, s: StartSign, now: Timestamp) {
        let job = s.job;
        let progress = Arc::new(cascade_signer::Progress::new());
        self.running.insert(job, Running::Sign(progress.clone()));
        let base = self.version(s.unsigned);
        self.row.reports.sign = Some(SignRow {
            version: s.version.0,
            unsigned_serial: base.as_ref().map_or(0, |v| v.serial().0),
            serial: None,
            requested_at: now,
            report: None,
            error: None,
        });
        let live = self.row.zone.live.as_ref();
        if live.is_some_and(|l| l.of == s.unsigned) && self.serves_passed() {
            let end = jobs::SignEnd::Nothing(now + NO_UPKEEP);
            let _ = self
                .done
                .send(Done::Signed(job, s.version, Box::new(Ok(end)), with()));
            return;
        }
        let records = self.source_signed.clone();
        let records = records.filter(|(v, _)| *v == s.unsigned);
        let (Some(base), Some((_, records))) = (base, records) else {
            return self.not_passed(
                job,
                "the signatures of the source are not at hand any more; load it again: \
                 cascade zone reload --force"
                    .into(),
            );
        };
        if let Some(above) = s.above.filter(|a| !base.serial().newer_than(*a)) {
            return self.not_passed(
                job,
                format!(
                    "the source has the serial {}, and {above} was published; it is passed on \
                     unchanged, so its signer must count up",
                    base.serial()
                ),
            );
        }
        let (d, done, at) = (self.d.clone(), self.done.clone(), now);
        tokio::spawn(async move {
            // Closed never: the semaphore lives as long as the daemon.
            let Ok(_turn) = d.signings.acquire().await else {
                return;
            };
            let d2 = d.clone();
            let work = tokio::task::spawn_blocking(move || {
                let pool = d2.pool_for(base.unit_count());
                let parts = Job {
                    pool,
                    clock: d2.clock.as_ref(),
                    progress: &progress,
                    class: Class::Normal,
                    token_wait: Duration::ZERO,
                };
                adopt(&base, &records, s.version, at, &parts, d2.now())
            });
            let result = match work.await {
                Err(e) => {
                    let _ = done.send(Done::Panicked(job, e.to_string()));
                    return;
                }
                Ok(Ok(signed)) => Ok(jobs::SignEnd::Signed {
                    signed: Box::new(signed),
                    due: at + NO_UPKEEP,
                    unmet: false,
                    note: None,
                }),
                Ok(Err(e)) => Err((fault(&e), e.to_string())),
            };
            let _ = done.send(Done::Signed(job, s.version, Box::new(result), with()));
        });
    }

    /// Looks at the parent, so that a DS that fits nothing of what is passed on is told: after each
    /// new version, and once a day.
    pub(super) fn look_for_passed(&mut self) -> Option<Timestamp> {
        let now_asked = std::mem::take(&mut self.desk.look_now);
        let live = self.row.zone.live.as_ref()?;
        let busy = self.desk.in_flight.contains(&Subject::Look(What::Ds));
        if busy || !self.is_passed(live.version) {
            return None;
        }
        let now = self.d.now();
        let last = self.row.keys.zone.look(What::Ds).map(|l| l.ended);
        let due = match last {
            None => now,
            Some(last) if last < live.published_at => last.saturating_add(SOONEST),
            Some(last) => last.saturating_add(DAILY),
        };
        if due > now && !now_asked {
            return Some(due);
        }
        self.start_look(What::Ds, Scope::Servers);
        None
    }

    fn not_passed(&mut self, job: cascade_pipeline::state::JobId, error: String) {
        self.running.remove(&job);
        if let Some(row) = &mut self.row.reports.sign {
            row.error = Some(error.clone());
        }
        self.later(Event::SignFailed {
            job,
            fault: Fault::Content,
            error,
        });
    }
}

/// The DS records at the parent, if they lead to the servers of a zone that is passed on, and none of
/// them names a key that the zone's signer made.
pub fn unfit_ds(view: &View) -> Vec<DsRecord> {
    let keys = &view.row.keys;
    let leads = matches!(
        keys.zone.parent.delegation,
        Delegation::Ours | Delegation::Linked
    );
    let live = view.row.zone.live.as_ref();
    let live = live.filter(|_| leads && serves_passed(&view.row));
    let Some(version) = live.and_then(|l| view.versions.get(&l.version)) else {
        return Vec::new();
    };
    let apex = version.apex_owner();
    let Some(set) = apex.set(Rtype::DNSKEY) else {
        return Vec::new();
    };
    let dnskeys: Vec<Dnskey> = set
        .rdatas()
        .filter_map(|r| Dnskey::from_rdata(r).ok())
        .collect();
    match keys
        .parent_ds
        .iter()
        .any(|ds| fits(version.apex(), &dnskeys, ds))
    {
        true => Vec::new(),
        false => keys.parent_ds.clone(),
    }
}

/// The record is that of one of these keys, by any digest that is known.
fn fits(apex: &Name, dnskeys: &[Dnskey], ds: &DsRecord) -> bool {
    let Some(kind) = DigestType::from_number(ds.digest_type) else {
        return false;
    };
    dnskeys.iter().any(|k| {
        let mut own = Vec::new();
        push_ds_rdata(apex, k, kind, &mut own);
        own == ds_rdata(ds)
    })
}

/// What is served is another signer's.
pub fn serves_passed(row: &ZoneRow) -> bool {
    let live = row.zone.live.as_ref();
    live.is_some_and(|l| is_passed(&row.keys, l.version))
}

fn is_passed(keys: &KeysRow, version: VersionId) -> bool {
    keys.apexes.get(&version.0) == Some(&mark())
}

/// What it was "signed" with.
fn with() -> Arc<Loaded> {
    Arc::new(Loaded {
        apex: mark(),
        keys: Default::default(),
        signers: Default::default(),
        set: Default::default(),
    })
}

fn fault(e: &AdoptError) -> Fault {
    match e {
        AdoptError::Build(_) | AdoptError::Cancelled => Fault::Bug,
        _ => Fault::Content,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dnskey(octet: u8) -> Dnskey {
        let mut rdata = vec![1, 1, 3, 13];
        rdata.extend([octet; 64]);
        Dnskey::from_rdata(&rdata).unwrap()
    }

    fn ds(apex: &Name, key: &Dnskey, kind: u8) -> DsRecord {
        let mut rdata = Vec::new();
        let known = DigestType::from_number(kind).unwrap();
        push_ds_rdata(apex, key, known, &mut rdata);
        DsRecord {
            tag: u16::from_be_bytes([rdata[0], rdata[1]]),
            algorithm: rdata[2],
            digest_type: rdata[3],
            digest: rdata[4..].to_vec(),
        }
    }

    /// One digest of one key is enough; the tag alone is not, and neither is the key under another
    /// name.
    #[test]
    fn a_ds_fits_by_the_digest_of_a_key_that_is_passed_on() {
        let apex = Name::parse("example.net").unwrap();
        let keys = [dnskey(1), dnskey(2)];
        for kind in [2, 4] {
            assert!(fits(&apex, &keys, &ds(&apex, &keys[1], kind)));
            let strange = ds(&apex, &dnskey(3), kind);
            assert!(!fits(&apex, &keys, &strange));
            let mut same_tag = strange;
            same_tag.tag = ds(&apex, &keys[0], kind).tag;
            assert!(!fits(&apex, &keys, &same_tag));
            let other = Name::parse("example.org").unwrap();
            assert!(!fits(&apex, &keys, &ds(&other, &keys[0], kind)));
        }
        let mut unknown = ds(&apex, &keys[0], 2);
        unknown.digest_type = 250;
        assert!(!fits(&apex, &keys, &unknown));
        assert!(!fits(&apex, &[], &ds(&apex, &keys[0], 2)));
    }
}
