//! The status report of a zone, from what its task last showed; never waits for anything.

use cascade_api::common::{Acts, Stage};
use cascade_api::status as api;
use cascade_api::zones::{Maintenance, ZoneState};
use cascade_pipeline::settings::ReviewMode as ReviewRulesMode;
use cascade_pipeline::state::{self as ps, ApiState, Candidate, Hook, RejectedAt, Upkeep};
use cascade_pipeline::{Alert, AlertKey, Severity};
use cascade_policy::Policy;
use cascade_time::Timestamp;
use cascade_zone::VersionId;

use crate::daemon::Daemon;
use crate::keys::report;
use crate::zone::{View, ZoneHandle};

pub fn state(s: ApiState) -> ZoneState {
    match s {
        ApiState::Restoring => ZoneState::Restoring,
        ApiState::WaitingSource => ZoneState::WaitingSource,
        ApiState::Loading => ZoneState::Loading,
        ApiState::UnsignedReview => ZoneState::UnsignedReview,
        ApiState::WaitingKeys => ZoneState::WaitingKeys,
        ApiState::Signing => ZoneState::Signing,
        ApiState::Verifying => ZoneState::Verifying,
        ApiState::SignedReview => ZoneState::SignedReview,
        ApiState::Publishing => ZoneState::Publishing,
        ApiState::Published => ZoneState::Published,
        ApiState::Expired => ZoneState::Expired,
        ApiState::Halted => ZoneState::Halted,
        ApiState::Removed => ZoneState::Removed,
    }
}

/// The state of a zone, its own task's end included.
pub fn zone_state(view: &View) -> ZoneState {
    if view.bug.is_some() {
        ZoneState::Halted
    } else {
        state(view.row.zone.api_state())
    }
}

fn primaries(view: &View) -> api::Primaries {
    let s = &view.row.zone.source;
    api::Primaries {
        confirmed_at: s.last_ok,
        next_refresh_at: view.next_attempt,
        expires_at: s.expires_at,
        expired: s.expired,
        failures: s.failures,
        error: s.error.clone(),
        kind: view.row.reports.load.as_ref().map(|(_, r)| r.kind.clone()),
    }
}

pub fn zone(d: &Daemon, z: &ZoneHandle) -> api::ZoneStatus {
    let now = d.now();
    let view = z.view();
    let row = &view.row;
    let pz = &row.zone;
    let policy = d.policy(&pz.settings.policy);
    let rules = d.key_policy(&pz.settings.policy);
    let bound = d.bound.load();
    let show =
        |list: &[std::net::SocketAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let live = pz.live.as_ref();
    api::ZoneStatus {
        zone: z.name.clone(),
        policy: pz.settings.policy.clone(),
        source: row.source.clone(),
        state: zone_state(&view),
        turn: z.turn(),
        at: Some(now),
        halted: halted(&view),
        maintenance: pz.modes.maintenance.as_ref().map(|m| Maintenance {
            since: m.since,
            until: m.until,
            resign: m.resign,
            by: Some(m.by.clone()),
            comment: None,
        }),
        pin: pz.modes.pin.as_ref().map(|p| api::Pin {
            version: p.version.to_string(),
            since: p.since,
            until: p.until,
            by: Some(p.by.clone()),
        }),
        pauses: pauses(pz),
        primaries: matches!(row.source, cascade_api::zones::Source::Servers { .. })
            .then(|| primaries(&view)),
        loading: view.loading.as_ref().map(|(at, p)| api::Loading {
            started_at: *at,
            size_bytes: p.octets.load(std::sync::atomic::Ordering::Relaxed),
            records: p.records.load(std::sync::atomic::Ordering::Relaxed),
        }),
        unsigned: unsigned(&view),
        reviews: api::Reviews {
            unsigned: review(
                &view,
                ps::Stage::Unsigned,
                policy.as_ref().map(|p| &p.file.policy),
                &show(&bound.loader_review),
            ),
            signed: review(
                &view,
                ps::Stage::Signed,
                policy.as_ref().map(|p| &p.file.policy),
                &show(&bound.signer_review),
            ),
        },
        signing: signing(&view),
        verification: verification(&view),
        published: live.map(|l| api::Published {
            version: l.version.to_string(),
            serial: l.serial.0,
            at: l.published_at,
            records: view
                .versions
                .get(&l.version)
                .map_or(0, |v| v.sums().records),
            addresses: show(&bound.publication),
        }),
        // A version without DNSSEC has none.
        signatures: live
            .filter(|l| view.has_signatures(l.version))
            .map(|l| api::Signatures {
                first_expires_at: l.min_exp,
                next_refresh_at: Some(l.next_due),
                runway_secs: now.secs_until(l.min_exp),
            }),
        keys: report::keys(&row.keys, rules.as_ref(), false, now),
        rolls: rules.as_ref().map_or(Vec::new(), |r| {
            report::rolls(&z.name, &row.keys, r, &view.key_facts, now)
        }),
        secondaries: secondaries(d, z.id, now),
        warnings: warnings(d, z, &view, now),
    }
}

/// What the watch has seen.
fn secondaries(d: &Daemon, zone: cascade_zone::ZoneId, now: Timestamp) -> Vec<api::Secondary> {
    let seen = d.secondaries.of(zone);
    let one = |(addr, s): (std::net::SocketAddr, cascade_publisher::watch::Seen)| {
        let sampled = d.known.sampled(zone, addr);
        api::Secondary {
            server: addr.to_string(),
            serial: s.serial.map(|n| n.0),
            lag_secs: s
                .serial
                .map(|_| s.behind_since.map_or(0, |t| now.since(t).as_secs())),
            up: s.up,
            asked_at: s.asked_at,
            sampled_at: sampled.as_ref().map(|s| s.at),
            bogus: sampled.and_then(|s| s.bogus),
        }
    };
    seen.into_iter().map(one).collect()
}

fn pauses(z: &ps::Zone) -> Vec<api::Pause> {
    let one = |stage, since: Option<Timestamp>| {
        since.map(|since| api::Pause {
            stage,
            since,
            until: None,
        })
    };
    [
        one(api::PauseStage::Load, z.modes.load_paused),
        one(api::PauseStage::Publish, z.modes.publish_paused),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn halted(view: &View) -> Option<api::Halted> {
    if let Some(bug) = &view.bug {
        return Some(api::Halted {
            reason: bug.clone(),
            acts: Acts::Cascade,
            stage: None,
            since: view.row.zone.settled_at,
            actions: vec!["systemctl restart cascaded".into()],
        });
    }
    let name = &view.row.zone.name;
    let (reason, stage, since, actions) = match view.row.zone.candidate.parked() {
        Candidate::Rejected {
            at_stage,
            by,
            reason,
            at,
            cand,
        } => {
            let stage = match at_stage {
                RejectedAt::Guard | RejectedAt::UnsignedReview => Stage::Unsigned,
                RejectedAt::Signer | RejectedAt::SignedReview => Stage::Signed,
            };
            let serial = match (stage, &cand.signed) {
                (Stage::Signed, Some(s)) => s.serial,
                _ => cand.source_serial,
            };
            let what = format!(
                "{} version {serial} rejected by {by}: {reason}",
                stage.as_str()
            );
            let over = format!("cascade zone override --{} {name}", stage.as_str());
            (
                what,
                Some(stage),
                *at,
                vec![format!("cascade zone reset {name}"), over],
            )
        }
        Candidate::Refused { reason, at, .. } => (
            format!("refused by verification: {reason}"),
            Some(Stage::Signed),
            *at,
            vec![
                format!("cascade zone resign --full {name}"),
                format!("cascade zone reset {name}"),
            ],
        ),
        _ => return None,
    };
    Some(api::Halted {
        reason,
        acts: Acts::Operator,
        stage,
        since,
        actions,
    })
}

/// The unsigned version the report is about: the candidate, or what is live.
fn newest_unsigned(view: &View) -> Option<VersionId> {
    let z = &view.row.zone;
    z.candidate
        .cand()
        .map(|c| c.version)
        .or(z.live.as_ref().map(|l| l.of))
}

fn unsigned(view: &View) -> Option<api::Unsigned> {
    let id = newest_unsigned(view)?;
    let z = &view.row.zone;
    let serial = match z.candidate.cand() {
        Some(c) => c.source_serial,
        None => z.live.as_ref()?.source_serial,
    };
    let (load_secs, size, loaded_at, records) = match &view.row.reports.load {
        Some((v, r)) if *v == id.0 => {
            let secs = r.finished.since(r.started).as_secs_f64();
            (secs, r.octets, r.finished, r.records)
        }
        _ => {
            let v = view.versions.get(&id);
            let made = v.map_or(z.settled_at, |v| v.made_at());
            (
                0.0,
                v.map_or(0, |v| v.sums().wire),
                made,
                v.map_or(0, |v| v.sums().records),
            )
        }
    };
    Some(api::Unsigned {
        version: id.to_string(),
        serial: serial.0,
        loaded_at,
        size_bytes: size,
        records,
        load_secs,
    })
}

fn review(
    view: &View,
    stage: ps::Stage,
    policy: Option<&Policy>,
    addresses: &[String],
) -> api::Review {
    let z = &view.row.zone;
    let (rules, hooks) = match stage {
        ps::Stage::Unsigned => (
            &z.settings.unsigned_review,
            policy.map(|p| &p.loader.review),
        ),
        ps::Stage::Signed => (&z.settings.signed_review, policy.map(|p| &p.signer.review)),
    };
    let mode = match rules.mode {
        ReviewRulesMode::Off => api::ReviewMode::Off,
        ReviewRulesMode::Manual => api::ReviewMode::Manual,
        ReviewRulesMode::Script => api::ReviewMode::Script,
    };
    let hook = hooks
        .and_then(|h| h.commands().into_iter().next())
        .map(|c| {
            let mut words = vec![c.program];
            words.extend(c.args);
            words.join(" ")
        });
    let mut out = api::Review {
        mode,
        status: api::ReviewStatus::None,
        hook,
        addresses: addresses.to_vec(),
        since: None,
        detail: None,
    };
    // A guard hold waits at the unsigned stage whatever the review's mode is.
    if let (ps::Stage::Unsigned, Candidate::AwaitGuardApproval { since, cand }) =
        (stage, z.candidate.parked())
    {
        out.mode = api::ReviewMode::Manual;
        out.status = api::ReviewStatus::Pending;
        out.since = Some(*since);
        out.detail = cand
            .guard_report
            .as_ref()
            .map(|r| format!("held by the change guard: {}", r.text));
        return out;
    }
    let open = z
        .candidate
        .review()
        .or(z.upkeep.review())
        .filter(|r| r.stage == stage);
    if let Some(r) = open {
        out.since = Some(r.opened_at);
        out.detail = r.last_error.clone();
        out.status = match r.hook {
            Hook::Held => api::ReviewStatus::Held,
            _ => api::ReviewStatus::Pending,
        };
        return out;
    }
    out.status = review_status(z, stage);
    out
}

/// Whether the newest attempt has come past this stage.
fn review_status(z: &ps::Zone, stage: ps::Stage) -> api::ReviewStatus {
    let rejected = |at: RejectedAt| match at {
        RejectedAt::Guard | RejectedAt::UnsignedReview => ps::Stage::Unsigned,
        RejectedAt::Signer | RejectedAt::SignedReview => ps::Stage::Signed,
    };
    match z.candidate.parked() {
        Candidate::Rejected { at_stage, .. } if rejected(*at_stage) == stage => {
            api::ReviewStatus::Rejected
        }
        Candidate::Rejected { .. } if stage == ps::Stage::Signed => api::ReviewStatus::None,
        Candidate::Signing { .. } | Candidate::Verifying { .. } | Candidate::Refused { .. } => {
            match stage {
                ps::Stage::Unsigned => api::ReviewStatus::Approved,
                ps::Stage::Signed => api::ReviewStatus::None,
            }
        }
        Candidate::AwaitRetry { retry, .. } => match (stage, retry.work) {
            (ps::Stage::Unsigned, ps::Work::Review) => api::ReviewStatus::None,
            (ps::Stage::Unsigned, _) | (ps::Stage::Signed, ps::Work::Persist) => {
                api::ReviewStatus::Approved
            }
            _ => api::ReviewStatus::None,
        },
        Candidate::AwaitUnsignedReview { .. } | Candidate::Guarding { .. } => {
            api::ReviewStatus::None
        }
        Candidate::Idle | Candidate::Loading(_) if z.live.is_none() => api::ReviewStatus::None,
        _ => api::ReviewStatus::Approved,
    }
}

fn signing(view: &View) -> Option<api::Signing> {
    let row = view.row.reports.sign.as_ref()?;
    // A report of content that is neither live nor on its way is not shown.
    let z = &view.row.zone;
    let of_candidate = matches!(
        z.candidate.parked(),
        Candidate::Signing { .. }
            | Candidate::Verifying { .. }
            | Candidate::AwaitSignedReview { .. }
            | Candidate::Persisting { .. }
            | Candidate::AwaitRetry { .. }
            | Candidate::Rejected { .. }
            | Candidate::Refused { .. }
    );
    let waiting = matches!(
        z.candidate.parked(),
        Candidate::AwaitUnsignedReview { .. }
            | Candidate::AwaitGuardApproval { .. }
            | Candidate::Guarding { .. }
    );
    if waiting || (!of_candidate && z.live.is_none()) {
        return None;
    }
    let base = api::Signing {
        serial: row.serial,
        version: Some(VersionId(row.version).to_string()),
        requested_at: row.requested_at,
        started_at: None,
        finished_at: None,
        action: api::SigningAction::Requested,
        records: 0,
        denial_records: 0,
        signatures: 0,
        signatures_kept: 0,
        signatures_planned: None,
        denial_change: z.beside.map(|b| api::DenialChange {
            since: b.since,
            parts_done: b.done,
            parts: b.total,
        }),
        threads: 0,
        collect_secs: 0.0,
        sort_secs: 0.0,
        denial_secs: 0.0,
        sign_secs: 0.0,
        insert_secs: 0.0,
        total_secs: 0.0,
    };
    // One step of building another denial of existence is no signing of a version.
    if let Some(p) = view
        .signing
        .as_ref()
        .filter(|_| z.beside.is_none() || of_candidate)
    {
        use cascade_signer::Stage as S;
        return Some(api::Signing {
            started_at: Some(row.requested_at),
            signatures: p.signatures(),
            action: match p.stage() {
                S::Waiting => api::SigningAction::Requested,
                S::Collecting => api::SigningAction::Collecting,
                S::Denial => api::SigningAction::Denial,
                S::Signing | S::TokenWait => api::SigningAction::Signing,
                S::Inserting | S::Zonemd => api::SigningAction::Inserting,
                S::Finished => api::SigningAction::Finished,
            },
            ..base
        });
    }
    let Some(r) = &row.report else {
        let keys = view.keys_wait.is_some();
        let action = if keys {
            api::SigningAction::WaitingKeys
        } else {
            api::SigningAction::Failed
        };
        return Some(api::Signing { action, ..base });
    };
    Some(api::Signing {
        started_at: Some(r.started_at),
        finished_at: Some(r.finished_at),
        action: api::SigningAction::Finished,
        records: r.records,
        denial_records: r.denial_records,
        signatures: r.signatures,
        signatures_kept: r.kept,
        threads: r.threads.max(1),
        collect_secs: r.collect_time.as_secs_f64(),
        sort_secs: r.sort_time.as_secs_f64(),
        denial_secs: r.denial_time.as_secs_f64(),
        sign_secs: r.sign_time.as_secs_f64(),
        insert_secs: r.insert_time.as_secs_f64(),
        total_secs: r.total_time.as_secs_f64(),
        ..base
    })
}

fn verification(view: &View) -> Option<api::Verification> {
    let z = &view.row.zone;
    let last_full_at = view.row.reports.last_full_at;
    let running = matches!(z.candidate.parked(), Candidate::Verifying { .. })
        || matches!(z.upkeep, Upkeep::Verifying { .. });
    if running {
        return Some(api::Verification {
            status: api::VerificationStatus::Running,
            signatures_checked: 0,
            signatures_total: None,
            finished_at: None,
            last_full_at,
            findings: Vec::new(),
        });
    }
    let (_, r) = view.row.reports.verify.as_ref()?;
    let refused = r.verdict == cascade_verifier::Verdict::Refused;
    Some(api::Verification {
        status: if refused {
            api::VerificationStatus::Refused
        } else {
            api::VerificationStatus::Passed
        },
        signatures_checked: r.counts.signatures_checked,
        signatures_total: None,
        finished_at: Some(
            r.started_at + std::time::Duration::from_millis(r.duration_ms.unwrap_or(0)),
        ),
        last_full_at,
        findings: r.text().lines().take(20).map(str::to_string).collect(),
    })
}

/// What threatens the zone or needs a person, besides what has a place of its own in the report.
fn warnings(d: &Daemon, z: &ZoneHandle, view: &View, now: Timestamp) -> Vec<api::StatusWarning> {
    let troubles = crate::secondaries::troubles(d, z, view, now);
    let z = &view.row.zone;
    let mut out: Vec<api::StatusWarning> = z
        .alerts
        .values()
        .filter(|a: &&Alert| a.severity != Severity::Notice)
        .filter(|a| {
            !matches!(
                a.key,
                AlertKey::Held
                    | AlertKey::Review
                    | AlertKey::Rejected
                    | AlertKey::Refused
                    | AlertKey::Pinned
                    | AlertKey::Paused
                    | AlertKey::Maintenance
            )
        })
        .map(|a| api::StatusWarning {
            detail: a.text.clone(),
            code: serde_json::to_value(a.key)
                .ok()
                .and_then(|v| v.as_str().map(str::to_string)),
        })
        .collect();
    out.extend(troubles.into_iter().map(|t| api::StatusWarning {
        detail: t.detail,
        code: Some(t.check.into()),
    }));
    if let Some(missed) = crate::hsm::events::missed(d, view) {
        out.push(api::StatusWarning {
            detail: missed.text(),
            code: Some("hsm".into()),
        });
    }
    if let Some(why) = &view.keys_wait {
        out.push(api::StatusWarning {
            detail: format!("waiting for keys: {why}"),
            code: Some("keys".into()),
        });
    }
    let parent = &view.row.keys.zone.parent;
    if parent.wanted_at.is_some()
        && parent.followed_at.is_none()
        && let Some(text) = crate::keys::wanted_text(&view.row.zone.name, &view.row.keys)
    {
        out.push(api::StatusWarning {
            detail: text,
            code: Some("ds".into()),
        });
    }
    // Where no chain leads here a DS of others is nobody's mistake.
    let delegation = view.row.keys.zone.parent.delegation;
    for a in crate::control::keyset::alerts(d, view, now) {
        let elsewhere = delegation == cascade_keys::Delegation::Elsewhere;
        if !(elsewhere && a == cascade_keys::Alert::ForeignDs) {
            out.push(api::StatusWarning {
                detail: a.text(),
                code: Some("parent".into()),
            });
        }
    }
    if let Some(report) = &view.row.reports.failed_load {
        out.push(api::StatusWarning {
            detail: format!("last load failed: {}", crate::zone::load_error(report)),
            code: Some("load".into()),
        });
    }
    out
}
