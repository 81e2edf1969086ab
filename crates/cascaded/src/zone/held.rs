//! What is published stays here while it would be bogus at the secondaries: a zone that is live under
//! another signer, whose DS the parent has, is neither announced nor transferred.
//!
//! The very first version waits for what the parent says, at most a second; after that the parent's
//! word holds whenever it comes, and is kept over a restart.

use std::time::Duration;

use cascade_keys::{Delegation, Scope, What};
use cascade_pipeline::Event;
use cascade_pipeline::action::Serve;
use cascade_pipeline::state::{Candidate, Serving};
use cascade_policy::ParentChain;
use cascade_publisher::Hold;
use cascade_publisher::notify::NotifyCommand;
use cascade_publisher::watch::WatchCommand;

use super::actor::{Actor, Done};
use crate::daemon::ActivePolicy;
use crate::keys::{Chain, chain};

/// Secondaries wait for so long at most before it is known whether the zone is live elsewhere.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Whether the first version waits for the first look at the parent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstReferral {
    #[default]
    No,
    /// To be asked for as soon as the key manager knows of the version.
    Wanted,
    Asked,
}

impl FirstReferral {
    /// NOTIFY goes out later.
    pub fn defers(self) -> bool {
        self != FirstReferral::No
    }
}

fn heeds(policy: &ActivePolicy) -> bool {
    policy.file.policy.signer.verify.parent_chain != ParentChain::Off
}

impl Actor {
    /// Before the first version of a zone is served.
    pub(super) fn wait_for_referral(&mut self, serve: Serve) {
        let keys = &self.row.keys.zone;
        let first = matches!(serve, Serve::Version(_))
            && keys.published.is_none()
            && keys.parent.delegation == Delegation::Unknown
            && keys.look(What::Ds).is_none()
            && !keys.unsigned;
        let heeded = self.policy().is_some_and(|p| heeds(&p));
        if !first || !heeded || self.passes() || self.referral.defers() {
            return;
        }
        self.referral = FirstReferral::Wanted;
        self.show_hold();
        let done = self.done.clone();
        tokio::spawn(async move {
            // Real time: secondaries do not know of any other.
            tokio::time::sleep(FIRST_LOOK).await;
            let _ = done.send(Done::ReferralLate);
        });
    }

    /// The first look is not left to the key manager's rhythm.
    pub(super) fn look_at_first(&mut self) {
        if self.referral == FirstReferral::Wanted && self.row.keys.zone.published.is_some() {
            self.referral = FirstReferral::Asked;
            self.start_look(What::Ds, Scope::Servers);
        }
    }

    /// The first look has ended, or lasts too long.
    pub(super) fn referral_known(&mut self) {
        if !std::mem::take(&mut self.referral).defers() {
            return;
        }
        self.show_hold();
        let live = self.row.zone.live.as_ref();
        let live = live
            .filter(|l| l.serving == Serving::Yes)
            .map(|l| l.version);
        if self.row.zone.conflict.is_none()
            && let Some(version) = live
        {
            self.send_notify(version);
        }
    }

    /// What the looks at the parent have shown becomes a fact of the zone.
    pub(super) async fn judge_delegation(&mut self, policy: &ActivePolicy) {
        if matches!(self.row.zone.candidate, Candidate::Restoring { .. }) {
            return;
        }
        let held = self.row.zone.conflict.is_some();
        // Asked in every turn: of a zone that had a DS of its own, or has none, nothing can come.
        if !held && self.row.keys.zone.parent.delegation != Delegation::Ours {
            return;
        }
        let judged = match heeds(policy) {
            true => chain(&self.row.keys),
            false => Chain::Own,
        };
        match (held, judged) {
            (false, Chain::Foreign(what)) => self.apply(Event::DelegationConflict { what }).await,
            (true, Chain::Own) => self.apply(Event::DelegationOk).await,
            _ => {}
        }
    }

    pub(super) fn hold_transfers(&mut self, held: bool) {
        self.show_hold();
        if !held {
            return;
        }
        self.canary.stop();
        let id = self.me.id;
        if self
            .d
            .notify
            .try_send(NotifyCommand::Forget { zone: id })
            .is_err()
        {
            tracing::warn!(zone = %self.me.name, "NOTIFY queue is full; secondaries may still be told, and are refused");
        }
        self.tell_watch(WatchCommand::Forget { zone: id });
    }

    fn show_hold(&self) {
        let hold = match self.row.zone.conflict {
            Some(_) => Hold::Refused,
            None if self.referral.defers() => Hold::Briefly,
            None => Hold::None,
        };
        if let Some(entry) = self.d.directory.by_id(self.me.id) {
            entry.set_hold(hold);
        }
    }
}
