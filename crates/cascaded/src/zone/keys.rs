//! Keys in the zone's task: what the key manager decides is stored, then carried out, and what
//! came of it is told to it as events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cascade_archive::AuditEntry;
use cascade_crypto::SigningKey;
use cascade_keys::{
    Action, ApexSet, Event, Facts, Key, KeyNum, KeyPolicy, Role, Subject, What, is_published,
    next_action, next_deadline,
};
use cascade_pipeline::state::Candidate;
use cascade_pipeline::{Action as ZoneAction, Event as ZoneEvent, Fault};
use cascade_time::Timestamp;

use super::actor::{Actor, Done};
use crate::daemon::ActivePolicy;
use crate::keys::{
    self, KeysRow, Loaded, Place, Wanted, derived_apex, key_policy, publication, zone_ref,
};

/// Decisions taken in one turn; a state that wants more is looked at again at once.
const ROUNDS: usize = 64;
/// After a failed write.
const STORE_RETRY: Duration = Duration::from_secs(5);
/// A refresh or a build that was asked for is the pipeline's to retry; it is only reminded.
const REMIND_PIPELINE: Duration = Duration::from_secs(600);
/// Seconds until the second attempt: the first delay of work that a token keeps from being done
/// (pipeline.md's token class).
const HICCUP: u64 = 5;
const FIRST_RETRY: u64 = 60;
const LAST_RETRY: u64 = 3600;

/// Work of the key manager under way, and what is at hand to sign with.
#[derive(Default)]
pub(super) struct Desk {
    pub signers: BTreeMap<KeyNum, Arc<dyn SigningKey>>,
    pub(super) in_flight: BTreeSet<Subject>,
    /// Looks among them that wait for their turn.
    pub queued: Vec<What>,
    retry_at: BTreeMap<Subject, Timestamp>,
    attempts: BTreeMap<Subject, u32>,
    /// Why the last attempt failed.
    errors: BTreeMap<Subject, String>,
    /// The apex set that the pipeline was asked to build.
    building: Option<ApexSet>,
    /// Private halves are being loaded for this set.
    loading: Option<ApexSet>,
    load_retry: Option<Timestamp>,
    store_retry: Option<Timestamp>,
    /// Server names in the parent's referral, as last seen.
    pub referral: Vec<cascade_zone::Name>,
    /// `keyset check`: every look is due.
    pub look_now: bool,
    /// Key files are being moved to or from the trash.
    tidying: bool,
    /// And must be looked at again after that.
    tidy_again: bool,
    /// When a look was last made durable.
    pub look_stored: Option<Timestamp>,
    /// Why there are no keys to sign with.
    pub wait: Option<String>,
    pub deadline: Option<Timestamp>,
}

/// A [`Desk`] where nothing is under way, in as little room as it needs.
#[derive(Debug, PartialEq)]
pub(super) struct Notes {
    failed: Box<[Failed]>,
    queued: Box<[What]>,
    referral: Box<[cascade_zone::Name]>,
    look_stored: Option<Timestamp>,
}

#[derive(Debug, PartialEq)]
struct Failed {
    subject: Subject,
    retry_at: Option<Timestamp>,
    attempts: Option<u32>,
    error: Option<Box<str>>,
}

impl Notes {
    fn is_empty(&self) -> bool {
        self.failed.is_empty()
            && self.queued.is_empty()
            && self.referral.is_empty()
            && self.look_stored.is_none()
    }
}

/// Ends of the key manager's work.
pub(super) enum KeyDone {
    Loaded(Vec<(KeyNum, Result<Arc<dyn SigningKey>, String>)>),
    Proved(KeyNum, Result<Arc<dyn SigningKey>, String>),
    Made {
        role: Role,
        roll: Option<cascade_keys::Class>,
        made: Result<Box<(Key, Place, Arc<dyn SigningKey>)>, String>,
    },
    Destroyed(KeyNum, Result<(), String>),
    Purged(KeyNum, Result<(), String>, Purge),
    /// Key files are where the state says, but for these.
    Tidied(Vec<String>),
    Looked(crate::looks::Looked),
    /// When the DS set that the parent was told became wanted.
    Told(Option<Timestamp>, Result<(), String>),
    /// The same for the parent's endpoint.
    Notified(Option<Timestamp>, Result<crate::looks::Told, String>),
}

/// Who ordered a key destroyed, and hears of it.
pub(super) struct Purge {
    pub forget: bool,
    pub by: String,
    pub reply: super::KeyReply,
}

impl Desk {
    pub(super) fn begin(&mut self, subject: Subject) {
        self.in_flight.insert(subject);
    }

    pub(super) fn done(&mut self, subject: Subject) {
        self.in_flight.remove(&subject);
        self.retry_at.remove(&subject);
        self.attempts.remove(&subject);
        self.errors.remove(&subject);
    }

    /// Retried once after a few seconds, then from a minute up to an hour, for ever: a token that
    /// refuses one command of many at once is not one that is down.
    pub(super) fn failed(&mut self, subject: Subject, why: &str, now: Timestamp) {
        self.in_flight.remove(&subject);
        self.errors.insert(subject, why.to_string());
        let n = self.attempts.entry(subject).or_insert(0);
        let wait = match *n {
            0 => HICCUP,
            n => (FIRST_RETRY << (n - 1).min(10)).min(LAST_RETRY),
        };
        *n = n.saturating_add(1);
        self.retry_at
            .insert(subject, now + Duration::from_secs(wait));
    }

    /// Nothing is under way; a look that waits for its turn is not. `published`: the apex of what is.
    pub(super) fn is_still(&self, published: Option<&ApexSet>) -> bool {
        let built = self.building.is_none() || self.building.as_ref() == published;
        let waits = |s: &Subject| matches!(s, Subject::Look(w) if self.queued.contains(w));
        self.in_flight.iter().all(waits)
            && built
            && self.loading.is_none()
            && self.load_retry.is_none()
            && self.store_retry.is_none()
            && self.wait.is_none()
            && !self.look_now
            && !self.tidying
            && !self.tidy_again
    }

    /// What a zone at rest has to know when it is woken; nothing if that is nothing. Private halves are
    /// read again.
    pub(super) fn into_notes(self) -> Option<Box<Notes>> {
        let mut failed = Vec::new();
        let subjects = self.retry_at.keys().chain(self.attempts.keys());
        let subjects: BTreeSet<Subject> = subjects.chain(self.errors.keys()).copied().collect();
        failed.reserve_exact(subjects.len());
        for subject in subjects {
            failed.push(Failed {
                subject,
                retry_at: self.retry_at.get(&subject).copied(),
                attempts: self.attempts.get(&subject).copied(),
                error: self.errors.get(&subject).map(|e| e.as_str().into()),
            });
        }
        let notes = Notes {
            failed: failed.into(),
            queued: self.queued.into(),
            referral: self.referral.into(),
            look_stored: self.look_stored,
        };
        (!notes.is_empty()).then(|| Box::new(notes))
    }

    /// The same, back.
    pub(super) fn of_notes(notes: Notes) -> Desk {
        let mut desk = Desk {
            in_flight: notes.queued.iter().map(|w| Subject::Look(*w)).collect(),
            queued: notes.queued.into(),
            referral: notes.referral.into(),
            look_stored: notes.look_stored,
            ..Desk::default()
        };
        for f in notes.failed {
            desk.retry_at.extend(f.retry_at.map(|at| (f.subject, at)));
            desk.attempts.extend(f.attempts.map(|n| (f.subject, n)));
            desk.errors.extend(f.error.map(|e| (f.subject, e.into())));
        }
        desk
    }

    /// How often it has failed in a row.
    pub(super) fn failures(&self, subject: Subject) -> u32 {
        self.attempts.get(&subject).copied().unwrap_or(0)
    }

    fn later(&mut self, subject: Subject, at: Timestamp) {
        self.retry_at.insert(subject, at);
    }

    /// The next time at which there is something to do.
    pub fn next(&self) -> Option<Timestamp> {
        [self.deadline, self.load_retry, self.store_retry]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Actor {
    /// Decides and carries out everything about keys that is due.
    pub(super) async fn keys_turn(&mut self) {
        if self.gone || matches!(self.row.zone.candidate, Candidate::Removing { .. }) {
            self.desk.deadline = None;
            return;
        }
        if matches!(self.row.zone.candidate, Candidate::Restoring { .. }) {
            // Before the power went another version may have become live than the keys know of:
            // nothing is decided before they are told.
            self.desk.deadline = None;
            return;
        }
        let now = self.d.now();
        if self.desk.store_retry.is_some_and(|t| t > now) {
            return;
        }
        self.desk.store_retry = None;
        let Some(policy) = self.policy() else {
            let name = &self.row.zone.settings.policy;
            self.desk.wait = Some(format!("policy '{name}' is not loaded"));
            return;
        };
        if self.passes() {
            // There are no keys to manage; what was published needs its signatures no more.
            self.desk.deadline = self.look_for_passed();
            self.desk.wait = None;
            let live = self.row.zone.live.as_ref().map(|l| l.of);
            self.source_signed.take_if(|(v, _)| Some(*v) == live);
            return;
        }
        if self.serves_passed() {
            // New keys at once would leave caches with what does not fit them.
            self.desk.deadline = None;
            let why = "what is published was signed by another; to sign it here, remove the zone \
                       and add it with that signer's keys (--import-…)";
            return self.no_keys(why.into()).await;
        }
        let rules = key_policy(&policy.file.policy, &self.d.conf().config);
        self.note_publication().await;
        self.look_at_first();
        for _ in 0..ROUNDS {
            let now = self.d.now();
            let facts = self.fresh_facts(&rules, now);
            let mut again = false;
            for action in next_action(&self.row.keys.zone, &rules, &facts, now) {
                match action {
                    Action::Commit(events) => again |= self.keys_commit(events).await,
                    action => self.key_action(action, &policy, now).await,
                }
            }
            if !again {
                break;
            }
        }
        self.desk.look_now = false;
        self.judge_delegation(&policy).await;
        self.keep_loaded(&rules).await;
        let now = self.d.now();
        let facts = self.fresh_facts(&rules, now);
        self.desk.deadline = next_deadline(&self.row.keys.zone, &rules, &facts, now);
        self.explain_missing(&rules, &facts, now).await;
    }

    fn fresh_facts(&mut self, rules: &KeyPolicy, now: Timestamp) -> Facts {
        let wanted = self.row.keys.zone.apex_set(rules, now);
        if self.desk.building.is_some() && self.desk.building != wanted {
            // What failed or waits was another set.
            self.desk.building = None;
            self.desk.done(Subject::Build);
        }
        self.key_facts()
    }

    /// What the key manager is told besides its own state.
    pub(super) fn key_facts(&self) -> Facts {
        Facts {
            // Whoever is told first: no wait ends by a clock that was just put forward.
            clock_held: self.row.zone.clock_unsafe.is_some() || self.d.clock_doubt().is_some(),
            paused: self.row.zone.modes.maintenance.is_some(),
            look_now: self.desk.look_now,
            in_flight: self.desk.in_flight.clone(),
            retry_at: self.desk.retry_at.clone(),
            errors: self.desk.errors.clone(),
            signs_next: self.row.zone.live.as_ref().map(|l| l.next_due),
        }
    }

    /// The version that is served, as soon as it is another one than the key manager knows of;
    /// after a crash between the two as well.
    async fn note_publication(&mut self) {
        if matches!(self.row.zone.candidate, Candidate::Restoring { .. }) {
            return;
        }
        let Some(live) = &self.row.zone.live else {
            return;
        };
        let known = self.row.keys.zone.published.as_ref().map(|p| p.version);
        if known == Some(live.version.0) || live.serving.is_silent() {
            return;
        }
        let Some(held) = self.versions.get(&live.version) else {
            return;
        };
        let version = held.version();
        let row = &self.row.keys;
        let apex = row.apexes.get(&live.version.0).cloned();
        let Some(apex) = apex.or_else(|| derived_apex(version, row)) else {
            return;
        };
        let p = publication(version, apex, &row.zone, live.published_at);
        self.desk.done(Subject::Renew);
        self.keys_commit(vec![Event::VersionPublished(p)]).await;
    }

    /// Applies the events and makes them durable; false: they were not, and nothing has changed.
    pub(super) async fn keys_commit(&mut self, events: Vec<Event>) -> bool {
        self.keys_commit_with(events, None).await
    }

    /// The same with what else has to be durable together with them.
    pub(super) async fn keys_commit_with(&mut self, events: Vec<Event>, by: Option<&str>) -> bool {
        let before = self.row.keys.clone();
        let first_entry = self.row.zone.next_entry;
        let mut records = Vec::new();
        for event in &events {
            if let Some((kind, text)) = keys::note(event, &self.row.keys) {
                match event {
                    // Somebody lets validators depend on a key that we had given up.
                    Event::KeyRestored { .. } => {
                        tracing::error!(critical = true, zone = %self.me.name, "{text}");
                    }
                    _ => tracing::info!(zone = %self.me.name, "{text}"),
                }
                records.push(ZoneAction::Record(self.key_entry(kind, text, by)));
            }
            self.row.keys.apply(event);
        }
        let parent = &self.row.keys.zone.parent;
        if parent.wanted_at != before.zone.parent.wanted_at
            && let Some(text) = keys::wanted_text(&self.me.name, &self.row.keys)
        {
            tracing::warn!(zone = %self.me.name, "{text}");
            let kind = cascade_pipeline::history::HistoryKind::DsWanted;
            records.push(ZoneAction::Record(self.key_entry(kind, text, by)));
        }
        let told = |e: &Event| matches!(e, Event::VersionPublished(_));
        if records.is_empty() && by.is_none() && events.iter().all(told) {
            // After a crash the version that is live says it again; until then the next commit has it.
            self.note_unwritten();
            return true;
        }
        if self.write_or_log(&records).await {
            self.audit_keys(&records, by);
            let moves = |e: &Event| {
                matches!(
                    e,
                    Event::KeyTrashed { .. }
                        | Event::KeyRestored { .. }
                        | Event::KeyRecovered { .. }
                )
            };
            if events.iter().any(moves) {
                self.tidy_key_files();
            }
            return true;
        }
        self.row.keys = before;
        self.row.zone.next_entry = first_entry;
        self.desk.store_retry = Some(self.d.now() + STORE_RETRY);
        false
    }

    /// What happened to keys by themselves; what people ordered is audited where they are heard.
    fn audit_keys(&self, records: &[ZoneAction], by: Option<&str>) {
        if by.is_some() || records.is_empty() {
            return;
        }
        for record in records {
            let ZoneAction::Record(e) = record else {
                continue;
            };
            // It waits for the disk; nothing here waits for it.
            self.d.audit_soon(AuditEntry {
                actor: "cascade".into(),
                from: "daemon".into(),
                action: e.kind.event().into(),
                subject: self.me.name.clone(),
                request_digest: None,
                result: "ok".into(),
                problem: None,
                comment: Some(e.text.clone()),
            });
        }
    }

    fn key_entry(
        &mut self,
        kind: cascade_pipeline::history::HistoryKind,
        text: String,
        by: Option<&str>,
    ) -> cascade_pipeline::history::HistoryEntry {
        let seq = self.row.zone.next_entry;
        self.row.zone.next_entry += 1;
        cascade_pipeline::history::HistoryEntry {
            seq,
            at: self.d.now(),
            kind,
            version: None,
            serial: None,
            text,
            reason: None,
            actor: by.map(str::to_string),
            duration_ms: None,
            details: serde_json::Value::Null,
        }
    }

    async fn key_action(&mut self, action: Action, policy: &ActivePolicy, now: Timestamp) {
        match action {
            Action::Commit(_) => {}
            Action::RenewApex { .. } => {
                self.desk.later(Subject::Renew, now + REMIND_PIPELINE);
                self.apply(ZoneEvent::RefreshDue).await;
            }
            Action::BuildVersion { apex, .. } => {
                self.desk.later(Subject::Build, now + REMIND_PIPELINE);
                self.desk.building = Some(apex.clone());
                self.load_for(&apex).await;
            }
            Action::ProveKey { key } => self.start_proof(key),
            Action::GenerateKey {
                num,
                role,
                algorithm,
                home,
                roll,
            } => {
                // One after the other, so that no two take the same tag.
                let busy = |s: &Subject| matches!(s, Subject::Generate(_));
                if self.desk.in_flight.iter().any(busy) {
                    return;
                }
                let want = Wanted {
                    num,
                    role,
                    algorithm,
                    home,
                    standby: roll.is_none(),
                    taken: self.row.keys.seen_tags(),
                };
                self.start_generation(want, roll, policy.clone());
            }
            Action::Look { what, scope } => self.start_look(what, scope),
            Action::TellParent { add, remove, set } => {
                self.start_telling(&add, &remove, &set, policy);
            }
            Action::NotifyParent => self.start_notify(policy),
            Action::Remind { set } => {
                let ds: Vec<String> = set.iter().map(|d| d.text()).collect();
                tracing::warn!(zone = %self.me.name, "the parent has not followed yet; it should have exactly: {}; see: cascade keyset {} get ds", ds.join(", "), self.me.name);
                self.keys_commit(vec![Event::ParentReminded { at: now }])
                    .await;
            }
            Action::TrashKey { key } => {
                self.keys_commit(vec![Event::KeyTrashed { key, at: now }])
                    .await;
            }
            Action::DestroyKey { key } => self.start_destruction(key),
        }
    }

    fn start_proof(&mut self, num: KeyNum) {
        self.desk.begin(Subject::Prove(num));
        self.key_job(move |d, zone, row| {
            KeyDone::Proved(
                num,
                d.keyring.load(zone, row, num).map_err(|e| e.to_string()),
            )
        });
    }

    fn start_generation(
        &mut self,
        want: Wanted,
        roll: Option<cascade_keys::Class>,
        policy: ActivePolicy,
    ) {
        let role = want.role;
        self.desk.begin(Subject::Generate(role));
        self.key_job(move |d, zone, row| {
            let id = d.new_key_id();
            let p = &policy.file.policy;
            let made = d.keyring.generate(zone, row, &want, p, id, d.now());
            let made = made.map(Box::new).map_err(|e| e.to_string());
            KeyDone::Made { role, roll, made }
        });
    }

    fn start_destruction(&mut self, num: KeyNum) {
        self.desk.begin(Subject::Destroy(num));
        self.key_job(move |d, zone, row| {
            let gone = d.keyring.destroy(zone, row, num);
            KeyDone::Destroyed(num, gone.map_err(|e| e.to_string()))
        });
    }

    /// Brings key files where the state says. One at a time: two could undo each other's moves.
    pub(super) fn tidy_key_files(&mut self) {
        if self.desk.tidying {
            self.desk.tidy_again = true;
            return;
        }
        self.desk.tidying = true;
        self.key_job(|d, zone, row| {
            let left = d.keyring.tidy(zone, row);
            KeyDone::Tidied(left.iter().map(ToString::to_string).collect())
        });
    }

    /// Blocking work with the zone's key stores.
    pub(super) fn key_job(
        &self,
        work: impl FnOnce(&crate::daemon::Daemon, cascade_crypto::ZoneRef<'_>, &KeysRow) -> KeyDone
        + Send
        + 'static,
    ) {
        let (d, done) = (self.d.clone(), self.done.clone());
        let (id, apex, row) = (self.me.id, self.me.apex.clone(), self.row.keys.clone());
        tokio::task::spawn_blocking(move || {
            let end = work(&d, zone_ref(id, &apex), &row);
            let _ = done.send(Done::Key(Box::new(end)));
        });
    }

    pub(super) async fn key_done(&mut self, end: KeyDone) {
        let now = self.d.now();
        match end {
            KeyDone::Loaded(keys) => self.loaded_keys(keys, now).await,
            KeyDone::Proved(num, Ok(key)) => {
                self.desk.done(Subject::Prove(num));
                self.desk.signers.insert(num, key);
                let proved = Event::KeyProved { key: num, at: now };
                self.keys_commit(vec![proved]).await;
            }
            KeyDone::Proved(num, Err(e)) => {
                self.desk.failed(Subject::Prove(num), &e, now);
                self.no_keys(format!("key {num} did not prove itself: {e}"))
                    .await;
            }
            KeyDone::Made { role, roll, made } => match made {
                Ok(made) => self.take_key(*made, roll, now).await,
                Err(e) => {
                    self.desk.failed(Subject::Generate(role), &e, now);
                    self.no_keys(e).await;
                }
            },
            KeyDone::Destroyed(num, Ok(())) => {
                self.desk.done(Subject::Destroy(num));
                self.desk.signers.remove(&num);
                self.keys_commit(vec![Event::KeyDestroyed { key: num, at: now }])
                    .await;
            }
            KeyDone::Destroyed(num, Err(e)) => {
                if !self.desk.attempts.contains_key(&Subject::Destroy(num)) {
                    tracing::warn!(zone = %self.me.name, "key {num} could not be destroyed and is tried again: {e}");
                }
                self.desk.failed(Subject::Destroy(num), &e, now);
            }
            KeyDone::Purged(num, end, purge) => self.purged(num, end, purge).await,
            KeyDone::Tidied(left) => {
                self.desk.tidying = false;
                for why in left {
                    tracing::warn!(zone = %self.me.name, "a key file stays where it is until the next start: {why}");
                }
                if std::mem::take(&mut self.desk.tidy_again) {
                    self.tidy_key_files();
                }
            }
            KeyDone::Looked(found) => self.looked(found).await,
            KeyDone::Told(wanted_at, end) => self.told(wanted_at, end).await,
            KeyDone::Notified(wanted_at, end) => self.notified(wanted_at, end).await,
        }
    }

    /// A key that was made counts from when the state knows it. It has proved itself when it was made.
    async fn take_key(
        &mut self,
        (key, place, signer): (Key, Place, Arc<dyn SigningKey>),
        roll: Option<cascade_keys::Class>,
        now: Timestamp,
    ) {
        let subject = Subject::Generate(key.role);
        let num = key.num;
        // Another key may have taken the number meanwhile, by import.
        let free = self.row.keys.zone.key(num).is_none();
        let mut key = key;
        if !free {
            key.num = self.row.keys.zone.next_key();
        }
        let num = key.num;
        self.row.keys.places.insert(num, place);
        let added = Event::KeyAdded { key, roll, at: now };
        let proved = Event::KeyProved { key: num, at: now };
        self.desk.signers.insert(num, signer);
        if self.keys_commit(vec![added, proved]).await {
            self.desk.done(subject);
        } else {
            // The pair is found again by the next attempt.
            self.row.keys.places.remove(&num);
            self.desk.signers.remove(&num);
            self.desk
                .failed(subject, "the state could not be written", now);
        }
    }

    // ---- private halves at hand

    /// Loads what is missing for `apex`, then signs with it.
    async fn load_for(&mut self, apex: &ApexSet) {
        if let Some(loaded) = Loaded::new(&self.row.keys, apex, &self.desk.signers) {
            self.take_loaded(loaded).await;
            return;
        }
        if self.desk.loading.is_some() {
            return;
        }
        self.desk.loading = Some(apex.clone());
        let missing: Vec<KeyNum> = keys::signing_keys(apex)
            .into_iter()
            .filter(|n| !self.desk.signers.contains_key(n))
            .collect();
        self.key_job(move |d, zone, row| {
            let load = |n: KeyNum| (n, d.keyring.load(zone, row, n).map_err(|e| e.to_string()));
            KeyDone::Loaded(missing.into_iter().map(load).collect())
        });
    }

    async fn loaded_keys(
        &mut self,
        keys: Vec<(KeyNum, Result<Arc<dyn SigningKey>, String>)>,
        now: Timestamp,
    ) {
        let meant = self.desk.loading.take();
        let mut wrong = None;
        for (num, loaded) in keys {
            match loaded {
                Ok(key) => _ = self.desk.signers.insert(num, key),
                Err(e) => wrong = Some(e),
            }
        }
        match wrong {
            None => {
                self.desk.load_retry = None;
                // What is to be built may have become another set meanwhile.
                for apex in [meant, self.desk.building.clone()].into_iter().flatten() {
                    if self.keys.as_ref().is_none_or(|k| k.apex != apex) {
                        self.load_for(&apex).await;
                    }
                }
            }
            Some(e) => {
                self.desk.load_retry = Some(now + Duration::from_secs(FIRST_RETRY));
                if self.desk.building.is_some() {
                    self.desk.failed(Subject::Build, &e, now);
                }
                self.no_keys(e).await;
            }
        }
    }

    async fn take_loaded(&mut self, loaded: Loaded) {
        let set = loaded.set;
        self.keys = Some(Arc::new(loaded));
        self.desk.wait = None;
        self.apply(ZoneEvent::KeysChanged(set)).await;
        // Still wanted, unless the new keys made another plan.
        if let Some(s) = self.waits_for_keys.take() {
            let now = self.d.now();
            self.start_sign(s, now);
        }
    }

    /// The keys of what is published stay at hand: refreshing waits for nothing that is to come.
    async fn keep_loaded(&mut self, rules: &KeyPolicy) {
        let now = self.d.now();
        let known = &self.row.keys.zone;
        self.desk.signers.retain(|n, _| {
            known
                .key(*n)
                .is_some_and(|k| k.times.destroyed_at.is_none())
        });
        if self.desk.loading.is_some() || self.desk.load_retry.is_some_and(|t| t > now) {
            return;
        }
        self.desk.load_retry = None;
        let Some(published) = &known.published else {
            return;
        };
        let at_hand = self.keys.as_ref().map(|k| &k.apex);
        let is_out = is_published(known, rules, now);
        if at_hand.is_none() || is_out && at_hand != Some(&published.apex) {
            let apex = published.apex.clone();
            self.load_for(&apex).await;
        }
    }

    /// A key store can be used again: what waited for it is tried now.
    pub(super) async fn store_back(&mut self) {
        let of_store = |s: &Subject| {
            matches!(
                s,
                Subject::Prove(_) | Subject::Generate(_) | Subject::Destroy(_)
            )
        };
        self.desk.retry_at.retain(|s, _| !of_store(s));
        self.desk.attempts.retain(|s, _| !of_store(s));
        if self.desk.load_retry.take().is_some() && self.desk.building.is_some() {
            self.desk.done(Subject::Build);
        }
        // The keys are the same, and signing with them may succeed now.
        if self.keys.is_some() {
            let set = self.row.zone.keys;
            self.apply(ZoneEvent::KeysChanged(set)).await;
        }
    }

    async fn no_keys(&mut self, error: String) {
        if self.desk.wait.as_ref() != Some(&error) {
            tracing::warn!(zone = %self.me.name, "no keys to sign with yet: {error}");
        }
        self.desk.wait = Some(error.clone());
        if let Some(s) = self.waits_for_keys.take() {
            self.apply(ZoneEvent::SignFailed {
                job: s.job,
                fault: Fault::Keys,
                error,
            })
            .await;
        }
    }

    /// A zone that has no keys although nobody makes or loads any says what it waits for.
    async fn explain_missing(&mut self, rules: &KeyPolicy, facts: &Facts, now: Timestamp) {
        let busy = self.desk.loading.is_some() || !self.desk.in_flight.is_empty();
        if self.keys.is_some() || busy || self.desk.wait.is_some() {
            return;
        }
        let name = self.me.name.clone();
        let why = cascade_keys::why(&name, &self.row.keys.zone, rules, facts, now);
        self.no_keys(why).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + secs)
    }

    #[test]
    fn what_a_zone_at_rest_has_to_know_comes_back() {
        assert!(Desk::default().into_notes().is_none());
        let mut desk = Desk::default();
        desk.failed(Subject::Look(What::Ds), "no answer", at(0));
        desk.failed(Subject::Look(What::Ds), "no answer", at(5));
        desk.failed(Subject::Parent, "refused", at(7));
        desk.later(Subject::Renew, at(600));
        desk.begin(Subject::Look(What::Rrsig));
        desk.queued.push(What::Rrsig);
        desk.look_stored = Some(at(1));
        desk.referral = vec![cascade_zone::Name::parse("ns.example.net.").unwrap()];
        assert!(
            desk.is_still(None),
            "a look that waits for its turn is not under way"
        );
        let (retry, errors) = (desk.retry_at.clone(), desk.errors.clone());
        let notes = desk.into_notes().unwrap();
        let back = Desk::of_notes(*notes);
        assert_eq!((&back.retry_at, &back.errors), (&retry, &errors));
        assert_eq!(back.failures(Subject::Look(What::Ds)), 2);
        assert_eq!(back.failures(Subject::Renew), 0);
        assert!(back.in_flight.contains(&Subject::Look(What::Rrsig)));
        assert_eq!(back.look_stored, Some(at(1)));
        assert_eq!(back.referral.len(), 1);
        assert_eq!(back.failures(Subject::Parent), 1);
    }

    #[test]
    fn a_desk_with_work_on_it_is_not_still() {
        let mut desk = Desk::default();
        desk.begin(Subject::Look(What::Rrsig));
        assert!(!desk.is_still(None), "it has its turn");
        desk.done(Subject::Look(What::Rrsig));
        assert!(desk.is_still(None));
        desk.wait = Some("the HSM is away".into());
        assert!(!desk.is_still(None));
    }
}
