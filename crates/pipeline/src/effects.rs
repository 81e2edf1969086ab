//! Actions that follow from the difference between two values: jobs that appeared are started, jobs
//! that vanished are cancelled, versions nothing refers to are dropped, slots that differ are
//! stored. So no transition can forget one, and a restart, which compares with nothing, asks for
//! everything again.

use std::collections::{BTreeMap, BTreeSet};

use cascade_time::Timestamp;
use cascade_zone::{Serial, VersionId};

use crate::action::{Action, RunHook, Serve, StartSign};
use crate::alert;
use crate::deadline::next_deadline;
use crate::state::{
    Candidate, Hook, JobId, Origin, Reason, Review, Serving, SignJob, Stage, Upkeep, Zone,
};
use crate::step::Machine;

/// What the surroundings see of a zone.
pub(crate) struct Outline {
    jobs: BTreeMap<JobId, Action>,
    publication: Serve,
    loader_review: Option<VersionId>,
    signer_review: Option<VersionId>,
    versions: BTreeSet<VersionId>,
    held: bool,
    saved: Option<(VersionId, Option<VersionId>)>,
    deadline: Option<Timestamp>,
}

impl Outline {
    /// What is known of a zone that this process has not seen yet.
    pub(crate) fn nothing() -> Self {
        Outline {
            jobs: BTreeMap::new(),
            publication: Serve::NotReady,
            loader_review: None,
            signer_review: None,
            versions: BTreeSet::new(),
            held: false,
            saved: None,
            deadline: None,
        }
    }

    pub(crate) fn of(z: &Zone, now: Timestamp) -> Self {
        Outline {
            jobs: jobs(z, now),
            publication: publication(z),
            loader_review: loader_review(z),
            signer_review: signer_review(z),
            versions: versions(z),
            held: z.conflict.is_some() && !matches!(z.candidate, Candidate::Restoring { .. }),
            saved: saved(z),
            deadline: next_deadline(z),
        }
    }
}

/// The value and the list of actions that take the surroundings from `before` to it.
pub(crate) fn finish(mut m: Machine, before: Outline) -> (Zone, Vec<Action>) {
    let alerts = update_alerts(&mut m);
    let after = Outline::of(&m.z, m.now);
    let mut out = Vec::new();
    let units: BTreeSet<JobId> = after.jobs.values().filter_map(units_of).collect();
    let kept = waiting_units(&m.z);
    for (job, start) in &before.jobs {
        if !after.jobs.contains_key(job) && !m.finished.contains(job) {
            out.push(match start {
                Action::RunHook(_) => Action::KillHook { run: *job },
                _ => Action::Cancel {
                    job: *job,
                    keep_units: units.contains(job) || kept.contains(job),
                },
            });
        }
    }
    out.extend(
        after
            .jobs
            .into_iter()
            .filter(|(j, _)| !before.jobs.contains_key(j))
            .map(|(_, a)| a),
    );
    if after.saved != before.saved
        && let Some((unsigned, signed)) = after.saved
    {
        out.push(Action::SaveCandidate { unsigned, signed });
    }
    for (stage, old, new) in [
        (Stage::Unsigned, before.loader_review, after.loader_review),
        (Stage::Signed, before.signer_review, after.signer_review),
    ] {
        if old != new {
            out.push(Action::ShowForReview {
                stage,
                version: new,
            });
        }
    }
    if after.held != before.held {
        out.push(Action::HoldTransfers(after.held));
    }
    if after.publication != before.publication {
        out.push(Action::Publish(after.publication));
    }
    // What is served was kept from the secondaries until now.
    let released = before.held && !after.held;
    announce(&m, after.publication, released, &mut out);
    out.extend(m.records.drain(..).map(Action::Record));
    out.extend(alerts);
    out.extend(
        before
            .versions
            .difference(&after.versions)
            .copied()
            .map(Action::DropVersion),
    );
    if let Some((request, result)) = m.answer.take() {
        out.push(Action::Answer { request, result });
    }
    if after.deadline != before.deadline {
        out.push(Action::SetTimer(after.deadline));
    }
    if matches!(m.z.candidate, Candidate::Removing { done: true, .. }) {
        out.push(Action::Forget);
    }
    (m.z, out)
}

/// NOTIFY only after the slot store, never for a version recovered from the past.
fn announce(m: &Machine, publication: Serve, released: bool, out: &mut Vec<Action>) {
    let Some(live) = &m.z.live else { return };
    if !(m.announce || released) || publication != Serve::Version(live.version) {
        return;
    }
    let (version, serial) = (live.version, live.serial);
    if live.serving == Serving::Yes && m.z.conflict.is_none() {
        out.push(Action::SendNotify { version, serial });
        out.push(Action::WatchSecondaries { version, serial });
    }
    if m.announce {
        out.push(Action::TellKeyManager {
            version,
            serial,
            keys: live.keys,
            at: live.published_at,
        });
    }
}

fn update_alerts(m: &mut Machine) -> Vec<Action> {
    let mut wanted = alert::wanted(&m.z, m.now);
    let old = std::mem::take(&mut m.z.alerts);
    let mut out = Vec::new();
    for (key, alert) in &mut wanted {
        match old.get(key) {
            Some(o) => {
                // "Since" is when it was first raised, not when its text changed.
                alert.since = o.since.min(alert.since);
                if o != alert {
                    out.push(Action::Alert(alert.clone()));
                }
            }
            None => out.push(Action::Alert(alert.clone())),
        }
    }
    out.extend(
        old.keys()
            .filter(|k| !wanted.contains_key(k))
            .map(|k| Action::ClearAlert(*k)),
    );
    m.z.alerts = wanted;
    out
}

fn units_of(start: &Action) -> Option<JobId> {
    match start {
        Action::StartSign(s) => s.units_of,
        _ => None,
    }
}

fn waiting_units(z: &Zone) -> BTreeSet<JobId> {
    let mut out = BTreeSet::new();
    if let Candidate::AwaitRetry { retry, .. } = z.candidate.parked() {
        out.extend(retry.units_of);
    }
    if let Upkeep::AwaitRetry { retry, .. } = &z.upkeep {
        out.extend(retry.units_of);
    }
    out
}

/// What is at work in this state, with the action that starts it.
fn jobs(z: &Zone, now: Timestamp) -> BTreeMap<JobId, Action> {
    let mut out = BTreeMap::new();
    let live = z.live.as_ref().map(|l| l.version);
    if let Candidate::Loading(l) = &z.candidate {
        let (job, version, forced) = (l.job, l.version, l.forced);
        out.insert(
            job,
            Action::StartLoad {
                job,
                version,
                forced,
            },
        );
    }
    match z.candidate.parked() {
        Candidate::Guarding { cand, job, .. } => {
            let against = z.live.as_ref().map(|l| l.of);
            let version = cand.version;
            out.insert(
                *job,
                Action::EvaluateGuard {
                    job: *job,
                    version,
                    against,
                },
            );
        }
        Candidate::Signing { cand, job } => {
            let previous = cand.signed.as_ref().map(|s| s.version);
            out.insert(
                job.job,
                start_sign(z, job, cand.version, previous, false, now),
            );
        }
        Candidate::Verifying { cand, job, .. } => {
            if let Some(s) = &cand.signed {
                let (job, version) = (*job, s.version);
                out.insert(
                    job,
                    Action::StartVerify {
                        job,
                        version,
                        against: live,
                    },
                );
            }
        }
        Candidate::Persisting { cand, job, .. } => {
            if let Some(s) = &cand.signed {
                let (job, version) = (*job, s.version);
                let despite = cand.despite.as_ref().is_some_and(|d| d.version == version);
                out.insert(
                    job,
                    Action::Persist {
                        job,
                        version,
                        despite_verification: despite,
                    },
                );
            }
        }
        Candidate::AwaitUnsignedReview { cand, review }
        | Candidate::AwaitSignedReview { cand, review } => {
            let serial = match (review.stage, &cand.signed) {
                (Stage::Signed, Some(s)) => s.serial,
                _ => cand.source_serial,
            };
            let reason = match cand.origin {
                Origin::Rollback { .. } => Reason::Rollback,
                Origin::Source | Origin::Edit { .. } => Reason::Content,
            };
            hook(z, review, cand.version, serial, reason, &mut out);
        }
        Candidate::Removing {
            keys,
            job,
            retry_at: None,
            done: false,
            ..
        } => {
            out.insert(
                *job,
                Action::SetAside {
                    job: *job,
                    keys: *keys,
                },
            );
        }
        _ => {}
    }
    upkeep_jobs(z, live, now, &mut out);
    out
}

fn upkeep_jobs(
    z: &Zone,
    live: Option<VersionId>,
    now: Timestamp,
    out: &mut BTreeMap<JobId, Action>,
) {
    let Some(of) = z.live.as_ref().map(|l| l.of) else {
        return;
    };
    match &z.upkeep {
        Upkeep::Signing { job, .. } => {
            out.insert(job.job, start_sign(z, job, of, live, true, now));
        }
        Upkeep::Verifying { up, job, .. } => {
            let (job, version) = (*job, up.signed.version);
            out.insert(
                job,
                Action::StartVerify {
                    job,
                    version,
                    against: live,
                },
            );
        }
        Upkeep::Persisting { up, job, .. } => {
            let (job, version) = (*job, up.signed.version);
            out.insert(
                job,
                Action::Persist {
                    job,
                    version,
                    despite_verification: false,
                },
            );
        }
        Upkeep::AwaitReview { up, review } => {
            let reason = up.reasons.first().copied().unwrap_or(Reason::Refresh);
            hook(z, review, of, up.signed.serial, reason, out);
        }
        Upkeep::Idle | Upkeep::AwaitRetry { .. } => {}
    }
}

fn start_sign(
    z: &Zone,
    job: &SignJob,
    unsigned: VersionId,
    previous: Option<VersionId>,
    upkeep: bool,
    now: Timestamp,
) -> Action {
    Action::StartSign(StartSign {
        job: job.job,
        version: job.version,
        previous,
        unsigned,
        based_on: job.based_on,
        mode: job.mode,
        full: job.full,
        keys: job.keys,
        above: z.used_serial,
        serial: job.serial,
        reasons: job.reasons.clone(),
        units_of: job.units_of,
        upkeep,
        runway: z.runway(now),
    })
}

fn hook(
    z: &Zone,
    review: &Review,
    unsigned: VersionId,
    serial: Serial,
    reason: Reason,
    out: &mut BTreeMap<JobId, Action>,
) {
    if let Hook::Running { run, deadline } = review.hook {
        let run_hook = RunHook {
            run,
            stage: review.stage,
            version: review.version,
            hook: review.hook_index,
            attempt: review.failures.saturating_add(review.deferrals),
            deadline,
            reason,
            unsigned,
            serial,
            previous: z.live.as_ref().map(|l| l.serial),
        };
        out.insert(run, Action::RunHook(run_hook));
    }
}

/// What the publication server answers (pipeline table of what is served where).
fn publication(z: &Zone) -> Serve {
    match (&z.candidate, &z.live) {
        (Candidate::Removing { .. }, _) => Serve::Gone,
        (Candidate::Restoring { .. }, _) | (_, None) => Serve::NotReady,
        (_, Some(l)) if l.serving.is_silent() || z.is_expired() => Serve::NotReady,
        (_, Some(l)) => Serve::Version(l.version),
    }
}

fn loader_review(z: &Zone) -> Option<VersionId> {
    let of = z.live.as_ref().map(|l| l.of);
    match z.candidate.parked() {
        Candidate::Restoring { .. } | Candidate::Removing { .. } => None,
        Candidate::Guarding { .. } => of,
        other => other.cand().map(|c| c.version).or(of),
    }
}

fn signer_review(z: &Zone) -> Option<VersionId> {
    let verified = match z.candidate.parked() {
        Candidate::Restoring { .. } | Candidate::Removing { .. } => return None,
        Candidate::AwaitSignedReview { cand, .. } | Candidate::Persisting { cand, .. } => {
            cand.signed.as_ref()
        }
        Candidate::AwaitRetry { cand, .. }
        | Candidate::Rejected { cand, .. }
        | Candidate::Refused { cand, .. } => cand
            .signed
            .as_ref()
            .filter(|_| cand.verify_report.is_some()),
        _ => None,
    };
    let upkeep = match &z.upkeep {
        Upkeep::AwaitReview { up, review } if review.hook != Hook::NotOpened => {
            Some(up.signed.version)
        }
        _ => None,
    };
    let in_review = matches!(z.candidate.parked(), Candidate::AwaitSignedReview { .. });
    let first = if in_review {
        verified.map(|s| s.version)
    } else {
        upkeep
    };
    first.or(verified.map(|s| s.version)).or(z
        .live
        .as_ref()
        .filter(|l| !l.serving.is_silent())
        .map(|l| l.version))
}

/// Every version that the value refers to.
pub(crate) fn versions(z: &Zone) -> BTreeSet<VersionId> {
    let mut out = BTreeSet::new();
    if let Some(l) = &z.live {
        out.extend([l.version, l.of]);
    }
    out.extend(z.retained.iter().flat_map(|r| [r.version, r.of]));
    if let Candidate::Loading(l) = &z.candidate {
        out.insert(l.version);
    }
    if let Some(c) = z.candidate.cand() {
        out.insert(c.version);
        out.extend(c.signed.as_ref().map(|s| s.version));
    }
    if let Candidate::Signing { job, .. } = &z.candidate {
        out.insert(job.version);
    }
    if let Upkeep::Signing { job, .. } = &z.upkeep {
        out.insert(job.version);
    }
    out.extend(z.upkeep.signed().map(|s| s.version));
    out
}

/// What must survive a restart because somebody or something may be waited for long.
fn saved(z: &Zone) -> Option<(VersionId, Option<VersionId>)> {
    match z.candidate.parked() {
        Candidate::AwaitGuardApproval { cand, .. }
        | Candidate::AwaitUnsignedReview { cand, .. }
        | Candidate::AwaitSignedReview { cand, .. }
        | Candidate::AwaitRetry { cand, .. }
        | Candidate::Rejected { cand, .. }
        | Candidate::Refused { cand, .. } => {
            Some((cand.version, cand.signed.as_ref().map(|s| s.version)))
        }
        _ => None,
    }
}
