//! From the words of policies and configuration to those of the stages.

use std::time::Duration;

use cascade_pipeline::settings as p;
use cascade_policy as policy;
use sha2::{Digest, Sha256};

/// What the pipeline needs of a policy. `revision` is that of the stored policy.
pub fn pipeline(file: &policy::PolicyFile, revision: u64, config: &policy::Config) -> p::Settings {
    let s = &file.policy;
    p::Settings {
        policy: file.name.clone(),
        revision,
        signing: signing_digest(s),
        unsigned_review: review(&s.loader.review, config.hooks.timeout),
        signed_review: review(&s.signer.review, config.hooks.timeout),
        upkeep_review: match (s.signer.review.upkeep, s.signer.review.reviews_upkeep()) {
            (None, _) => p::UpkeepReview::Script,
            (Some(_), true) => p::UpkeepReview::Always,
            (Some(_), false) => p::UpkeepReview::Never,
        },
        on_expiry: match s.loader.on_source_expire {
            policy::OnSourceExpire::Expire => p::OnExpiry::Stop,
            policy::OnSourceExpire::Keep => p::OnExpiry::Keep,
        },
        retained_versions: config.history.max_versions.max(1) as usize,
        runway: p::Runway {
            warning: s.runway_warning(),
            critical: s.runway_critical(),
            ..p::Runway::default()
        },
        limits: p::Limits::default(),
        backoff: p::Backoffs::default(),
    }
}

fn review(r: &policy::Review, hook_bound: Duration) -> p::ReviewRules {
    let silence = |s: policy::OnSilence| match s {
        policy::OnSilence::Hold => p::OnNoVerdict::Hold,
        policy::OnSilence::Reject => p::OnNoVerdict::Reject,
    };
    p::ReviewRules {
        mode: match r.mode {
            policy::ReviewMode::Off => p::ReviewMode::Off,
            policy::ReviewMode::Manual => p::ReviewMode::Manual,
            policy::ReviewMode::Script => p::ReviewMode::Script,
        },
        hooks: r.commands().len(),
        // A person may take longer than any program; only hooks have the daemon's bound.
        timeout: match r.mode {
            policy::ReviewMode::Script => r.timeout.min(hook_bound),
            _ => r.timeout,
        },
        on_reject: match r.on_reject {
            policy::OnReject::Discard => p::OnReject::Discard,
            policy::OnReject::Halt => p::OnReject::Halt,
        },
        on_timeout: silence(r.on_timeout),
        on_failure: silence(r.on_failure),
        on_newer: match r.on_newer {
            policy::OnNewer::Queue => p::OnNewer::Queue,
            policy::OnNewer::Supersede => p::OnNewer::Supersede,
        },
        approvals: r.approvals.max(1) as usize,
        approvers: r.approvers.clone(),
    }
}

/// Digest of everything that decides how a zone is signed, apart from times: another digest means
/// that the live version is signed again.
fn signing_digest(s: &policy::Policy) -> u64 {
    let d = &s.signer.denial;
    let text = format!(
        "{} {} {} {:?} {} {:?} {} {}",
        d.kind.as_str(),
        d.opt_out,
        d.iterations,
        d.salt.0,
        s.signer.zonemd.as_str(),
        s.key_manager.records.ttl,
        s.key_manager.ds.cds.as_str(),
        s.key_manager.ds.cdnskey,
    );
    digest(text.as_bytes())
}

/// First 64 bits of SHA-256: the same in every release, unlike the standard library's hashes.
pub fn digest(bytes: &[u8]) -> u64 {
    let hash = Sha256::digest(bytes);
    hash.iter().take(8).fold(0, |v, b| v << 8 | u64::from(*b))
}
