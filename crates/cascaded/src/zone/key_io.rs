//! What the key manager asks of the world: looks at servers, and telling the parent.

use std::collections::BTreeMap;
use std::time::Duration;

use cascade_keys::{
    Command, DsRecord, Event, KeyNum, MemberReport, Scope, Subject, SweepReport, What, judge,
};
use cascade_time::Timestamp;
use cascade_zone::{Rtype, ZoneVersion};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::actor::{Actor, Done};
use super::keys::{KeyDone, Purge};
use super::{KeyOrder, KeyRefusal, KeyReply};
use crate::daemon::ActivePolicy;
use crate::hooks::{self, End};
use crate::keys::{Import, ds_rdata, key_policy, zone_ref};
use crate::looks::{Look, Looked, Push, Telling, Told, look, notify, push};

/// A registrar's program may take this long.
const HOOK_BOUND: Duration = Duration::from_secs(300);
const HOOK_OUTPUT: usize = 64 * 1024;
/// A node that has not been reached for so long is no longer asked for.
const NODE_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Of telling the parent's endpoint of one CDS: about five hours. The parent looks by itself, too.
const NOTIFY_ATTEMPTS: u32 = 10;
/// Looks that show nothing new are stored this often.
const LOOK_STORED: Duration = Duration::from_secs(6 * 3600);

impl Actor {
    /// Begins when it is its turn: after a start every zone wants several looks at once.
    pub(super) fn start_look(&mut self, what: What, scope: Scope) {
        let ours = self.row.keys.zone.published.is_some();
        if self.published_version().is_none() || !(ours || self.serves_passed()) {
            return;
        }
        self.desk.begin(Subject::Look(what));
        self.desk.queued.push(what);
        self.d.looks.queue(crate::looks::Waiting {
            zone: Arc::downgrade(&self.me),
            what,
            scope,
        });
    }

    /// Looks at what is published now.
    pub(super) fn take_turn(&mut self, what: What, scope: Scope, turn: OwnedSemaphorePermit) {
        self.desk.queued.retain(|w| *w != what);
        let asked = self.policy().and_then(|p| self.to_look(what, scope, &p));
        let Some(asked) = asked else {
            // What is to be looked at has gone meanwhile; what has come wants looks of its own.
            return self.desk.done(Subject::Look(what));
        };
        let (d, done) = (self.d.clone(), self.done.clone());
        tokio::spawn(async move {
            let found = look(asked, &d.looks, d.clock.clone()).await;
            drop(turn);
            let _ = done.send(Done::Key(Box::new(KeyDone::Looked(found))));
        });
    }

    fn to_look(&self, what: What, scope: Scope, policy: &ActivePolicy) -> Option<Look> {
        let version = self.published_version()?;
        let row = &self.row.keys;
        // Of a zone that is passed on, nothing was published with keys of ours.
        let (any, all) = match &row.zone.published {
            Some(p) => (p.any.clone(), p.all.clone()),
            None if self.serves_passed() => (Vec::new(), Vec::new()),
            None => return None,
        };
        let km = &policy.file.policy.key_manager;
        let config = &self.d.conf().config.key_manager;
        Some(Look {
            what,
            scope,
            zone: self.me.apex.clone(),
            version,
            keys: row
                .zone
                .keys
                .iter()
                .filter(|k| k.times.destroyed_at.is_none())
                .map(|k| (k.num, k.dnskey_rdata()))
                .collect(),
            any,
            all,
            publication_nameservers: km.publication_nameservers.clone(),
            parent_nameservers: km.ds.parent_nameservers.clone(),
            resolvers: config.resolvers.iter().map(|r| r.0).collect(),
            referral: self.desk.referral.clone(),
            nodes: row
                .zone
                .look(what)
                .map_or(Vec::new(), |l| known_nodes(l, self.d.now())),
            timeout: config.check_timeout,
            tsig: crate::servers::tsig_keys(&self.d),
        })
    }

    pub(super) async fn looked(&mut self, found: Looked) {
        let what = found.sweep.what;
        self.desk.done(Subject::Look(what));
        let Some(policy) = self.policy() else { return };
        let rules = key_policy(&policy.file.policy, &self.d.conf().config);
        let mut ds = self.row.keys.parent_ds.clone();
        if what == What::Ds {
            if !found.referral.is_empty() {
                self.desk.referral = found.referral;
            }
            ds = found.ds.unwrap_or(ds);
        }
        let report = judge(&self.row.keys.zone, &rules, &found.sweep);
        for m in &report.members {
            tracing::debug!(zone = %self.me.name, what = ?what, server = m.server, address = m.place(), verdict = ?m.verdict, "{}", m.found);
        }
        self.take_look(Event::Swept(report), ds).await;
        if what == What::Ds {
            self.judge_delegation(&policy).await;
            self.referral_known();
        }
    }

    /// Looks are many, and most show what the one before showed: those wait for the next write, or
    /// some hours.
    async fn take_look(&mut self, swept: Event, parent_ds: Vec<DsRecord>) {
        let now = self.d.now();
        let mut next = self.row.keys.zone.clone();
        next.apply(&swept);
        let known = self.row.keys.parent_ds == parent_ds
            && next.is_same_but_for_look_times(&self.row.keys.zone);
        let late = self
            .desk
            .look_stored
            .is_none_or(|at| now.since(at) >= LOOK_STORED);
        if known && !late {
            self.row.keys.zone = next;
            return;
        }
        let before = std::mem::replace(&mut self.row.keys.parent_ds, parent_ds);
        match self.keys_commit(vec![swept]).await {
            true => self.desk.look_stored = Some(now),
            false => self.row.keys.parent_ds = before,
        }
    }

    pub(super) async fn key_order(&mut self, order: KeyOrder, by: &str, reply: KeyReply) {
        if let KeyOrder::Purge { key, forget } = order {
            return self.start_purge(key, forget, by, reply).await;
        }
        let result = self.obey(order, by).await;
        self.keys_turn().await;
        // Whoever has the answer sees its effect.
        self.show();
        let _ = reply.send(result);
    }

    async fn obey(&mut self, order: KeyOrder, by: &str) -> Result<(), KeyRefusal> {
        let policy = self.policy().ok_or(KeyRefusal::NoPolicy)?;
        let rules = key_policy(&policy.file.policy, &self.d.conf().config);
        let now = self.d.now();
        let events = match order {
            KeyOrder::Look => {
                self.desk.look_now = true;
                return Ok(());
            }
            KeyOrder::Command(command) => cascade_keys::permitted(&command, &self.key_facts())
                .and_then(|()| cascade_keys::decide(&self.row.keys.zone, &rules, &command, now))
                .map_err(KeyRefusal::Refused)?,
            KeyOrder::Import(list) => return self.import_keys(list, by).await,
            // Its own way, because the answer comes from the key's store.
            KeyOrder::Purge { .. } => return Ok(()),
        };
        let mut events = events;
        if let [Event::KeyRecovered { key, .. }] = events[..] {
            // Not before it can still be used.
            self.prove_key(key).await.map_err(KeyRefusal::Unusable)?;
            events.push(Event::KeyProved { key, at: now });
        }
        match self.keys_commit_with(events, Some(by)).await {
            true => Ok(()),
            false => Err(KeyRefusal::Storage),
        }
    }

    /// The clock is right as it is: no wait is shorter than the time that has passed, and work goes on.
    pub(super) async fn clock_confirmed(&mut self, by_secs: u64) {
        let held = self.row.zone.clock_unsafe.is_some();
        let now = self.d.now();
        let (stepped, settled) = crate::steps::confirmed(by_secs, held, self.d.clock_doubt(), now);
        // What cannot be stored is not confirmed; storing it is tried again by the next who says so.
        if (stepped.is_empty() || self.keys_commit_with(stepped, None).await)
            && let Some(event) = settled
        {
            self.apply(event).await;
        }
    }

    /// Takes the key out of use, and then asks its store to destroy it. The zone goes on meanwhile.
    async fn start_purge(&mut self, key: KeyNum, forget: bool, by: &str, reply: KeyReply) {
        let refusal = match self.policy() {
            None => Some(KeyRefusal::NoPolicy),
            Some(policy) => {
                let rules = key_policy(&policy.file.policy, &self.d.conf().config);
                let command = Command::PurgeKey { key };
                let now = self.d.now();
                match cascade_keys::decide(&self.row.keys.zone, &rules, &command, now) {
                    Err(r) => Some(KeyRefusal::Refused(r)),
                    Ok(events) => {
                        let stored = self.keys_commit_with(events, Some(by)).await;
                        (!stored).then_some(KeyRefusal::Storage)
                    }
                }
            }
        };
        if let Some(refusal) = refusal {
            let _ = reply.send(Err(refusal));
            return;
        }
        self.desk.begin(Subject::Destroy(key));
        let purge = Purge {
            forget,
            by: by.to_string(),
            reply,
        };
        self.key_job(move |d, zone, row| {
            let gone = d.keyring.destroy(zone, row, key);
            KeyDone::Purged(key, gone.map_err(|e| e.to_string()), purge)
        });
    }

    pub(super) async fn purged(&mut self, key: KeyNum, end: Result<(), String>, purge: Purge) {
        let now = self.d.now();
        let event = match &end {
            Ok(()) => Event::KeyDestroyed { key, at: now },
            Err(e) if purge.forget => {
                tracing::warn!(zone = %self.me.name, "key {key} is given up by order; its store still has it: {e}");
                Event::KeyForgotten { key, at: now }
            }
            Err(e) => {
                self.desk.failed(Subject::Destroy(key), e, now);
                let _ = purge.reply.send(Err(KeyRefusal::NotDestroyed(e.clone())));
                return;
            }
        };
        self.desk.done(Subject::Destroy(key));
        self.desk.signers.remove(&key);
        let result = match self.keys_commit_with(vec![event], Some(&purge.by)).await {
            true => Ok(()),
            false => Err(KeyRefusal::Storage),
        };
        self.show();
        let _ = purge.reply.send(result);
    }

    /// Loads a private half, which proves that it belongs to the public one.
    async fn prove_key(&self, num: KeyNum) -> Result<(), String> {
        let (d, id, apex) = (self.d.clone(), self.me.id, self.me.apex.clone());
        let row = self.row.keys.clone();
        let work = tokio::task::spawn_blocking(move || {
            d.keyring.load(zone_ref(id, &apex), &row, num).map(drop)
        });
        match work.await {
            Ok(done) => done.map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        }
    }

    async fn import_keys(&mut self, list: Vec<Import>, by: &str) -> Result<(), KeyRefusal> {
        let (d, id, apex) = (self.d.clone(), self.me.id, self.me.apex.clone());
        let mut row = self.row.keys.clone();
        let work = tokio::task::spawn_blocking(move || {
            let zone = zone_ref(id, &apex);
            let mut new_id = || d.new_key_id();
            let done = d
                .keyring
                .import(zone, &mut row, &list, false, &mut new_id, d.now());
            done.map(|events| (row.places, events))
        });
        let (places, events) = match work.await {
            Ok(Ok(done)) => done,
            Ok(Err(e)) => return Err(KeyRefusal::Import(e.to_string())),
            Err(e) => return Err(KeyRefusal::Import(e.to_string())),
        };
        // The task waited for the import, so nobody else has taken a number meanwhile.
        let before = std::mem::replace(&mut self.row.keys.places, places);
        if self.keys_commit_with(events, Some(by)).await {
            return Ok(());
        }
        self.row.keys.places = before;
        Err(KeyRefusal::Storage)
    }

    fn published_version(&self) -> Option<Arc<ZoneVersion>> {
        let live = self.row.zone.live.as_ref()?;
        Some(self.versions.get(&live.version)?.version().clone())
    }

    /// Runs the policy's program and updates the parent's server, whichever the policy has. Both
    /// may happen twice after a crash.
    pub(super) fn start_telling(
        &mut self,
        add: &[DsRecord],
        remove: &[DsRecord],
        set: &[DsRecord],
        policy: &ActivePolicy,
    ) {
        let hook = self.ds_hook(add, remove, set, policy);
        let km = &policy.file.policy.key_manager;
        let update = km.ds.push.as_ref().map(|p| Push {
            server: p.server,
            tsig_key: p.tsig_key.clone(),
            zone: self.me.apex.clone(),
            before: self.row.keys.parent_ds.clone(),
            set: set.to_vec(),
            ttl: secs(km.records.ttl),
        });
        if hook.is_none() && update.is_none() {
            return;
        }
        self.desk.begin(Subject::Parent);
        let (d, done) = (self.d.clone(), self.done.clone());
        let wanted_at = self.row.keys.zone.parent.wanted_at;
        let (tsig, bound) = (
            crate::servers::tsig_keys(&self.d),
            self.d.conf().config.key_manager.check_timeout,
        );
        tokio::spawn(async move {
            let mut end = Ok(());
            if let Some(run) = hook {
                let Ok(_turn) = d.hooks.acquire().await else {
                    return;
                };
                // Never fired: its verdict is always wanted.
                let (_keep, kill) = oneshot::channel();
                end = match hooks::run(run, kill).await {
                    End::Verdict(cascade_pipeline::Verdict::Approve) => Ok(()),
                    End::Verdict(other) => Err(format!("the DS hook said {other:?}")),
                    End::Failed(why) => Err(why),
                };
            }
            if end.is_ok()
                && let Some(update) = update
            {
                end = push(&update, tsig, d.looks.clone(), d.clock.clone(), bound).await;
            }
            let _ = done.send(Done::Key(Box::new(KeyDone::Told(wanted_at, end))));
        });
    }

    /// NOTIFY(CDS) to the parent's endpoint.
    pub(super) fn start_notify(&mut self, policy: &ActivePolicy) {
        let config = &self.d.conf().config.key_manager;
        let km = &policy.file.policy.key_manager;
        let telling = Telling {
            zone: self.me.apex.to_lowercase(),
            parent_servers: km.ds.parent_nameservers.iter().map(|t| t.addr).collect(),
            resolvers: config.resolvers.iter().map(|r| r.0).collect(),
        };
        let (tsig, bound) = (crate::servers::tsig_keys(&self.d), config.check_timeout);
        let wanted_at = self.row.keys.zone.parent.wanted_at;
        self.desk.begin(Subject::Notify);
        let (d, done) = (self.d.clone(), self.done.clone());
        tokio::spawn(async move {
            let end = notify(&telling, tsig, d.looks.clone(), d.clock.clone(), bound).await;
            let _ = done.send(Done::Key(Box::new(KeyDone::Notified(wanted_at, end))));
        });
    }

    pub(super) async fn notified(
        &mut self,
        wanted_at: Option<Timestamp>,
        end: Result<Told, String>,
    ) {
        let now = self.d.now();
        if self.row.keys.zone.parent.wanted_at != wanted_at {
            // It was another set.
            self.desk.done(Subject::Notify);
            return;
        }
        let text = match end {
            Ok(Told::By(endpoint)) => format!("heard by {endpoint}"),
            Ok(Told::NoTarget) => "the parent has no DSYNC record for CDS".to_string(),
            Err(e) if self.desk.failures(Subject::Notify) + 1 >= NOTIFY_ATTEMPTS => {
                format!("given up after {NOTIFY_ATTEMPTS} attempts: {e}")
            }
            Err(e) => {
                tracing::warn!(zone = %self.me.name, "the parent's endpoint did not hear of the new CDS and is told again later: {e}");
                self.desk.failed(Subject::Notify, &e, now);
                return;
            }
        };
        self.desk.done(Subject::Notify);
        self.keys_commit(vec![Event::ParentNotified { text, at: now }])
            .await;
    }

    /// The policy's program with what it is told.
    fn ds_hook(
        &self,
        add: &[DsRecord],
        remove: &[DsRecord],
        set: &[DsRecord],
        policy: &ActivePolicy,
    ) -> Option<hooks::Run> {
        let p = &policy.file.policy;
        let hook = p.key_manager.ds.hook.as_ref();
        let command = hook.and_then(|h| h.command(false))?;
        let ttl = secs(p.key_manager.records.ttl);
        let owner = self.me.apex.to_lowercase();
        let lines = |rtype: Rtype, rdatas: Vec<Vec<u8>>| {
            let text = |r: &Vec<u8>| crate::text::record(owner.as_wire(), rtype, ttl, r);
            rdatas.iter().map(text).collect::<Vec<_>>().join("\n")
        };
        let ds = |rtype, set: &[DsRecord]| lines(rtype, set.iter().map(ds_rdata).collect());
        let dnskey = self.row.keys.published_keys();
        let dnskey = dnskey.iter().map(|k| k.dnskey_rdata()).collect();
        let mut environment = BTreeMap::new();
        let mut put = |k: &str, v: String| _ = environment.insert(format!("CASCADE_{k}"), v);
        put("ZONE", self.me.name.clone());
        put("DS_ADD", ds(Rtype::DS, add));
        put("DS_REMOVE", ds(Rtype::DS, remove));
        put("DS_SET", ds(Rtype::DS, set));
        put("CDS", ds(Rtype::CDS, set));
        put("DNSKEY", lines(Rtype::DNSKEY, dnskey));
        super::hook::pass_on(&self.d.conf().config.hooks.environment, &mut environment);
        Some(hooks::Run {
            zone: self.me.name.clone(),
            command,
            environment,
            timeout: HOOK_BOUND,
            max_output: HOOK_OUTPUT,
        })
    }

    pub(super) async fn told(
        &mut self,
        wanted_at: Option<cascade_time::Timestamp>,
        end: Result<(), String>,
    ) {
        let now = self.d.now();
        match end {
            // The wish may have changed while the program ran; then it runs again.
            Ok(()) if self.row.keys.zone.parent.wanted_at == wanted_at => {
                self.desk.done(Subject::Parent);
                self.keys_commit(vec![Event::ParentTold { at: now }]).await;
            }
            Ok(()) => self.desk.done(Subject::Parent),
            Err(e) => {
                tracing::warn!(zone = %self.me.name, "the parent was not told and is told again later: {e}");
                self.desk.failed(Subject::Parent, &e, now);
            }
        }
    }
}

/// Nodes that named themselves within [`NODE_KEPT`], by their addresses.
fn known_nodes(look: &SweepReport, now: Timestamp) -> Vec<(String, String)> {
    let alive = |m: &&MemberReport| m.last_answer.is_some_and(|at| now.since(at) < NODE_KEPT);
    look.members
        .iter()
        .filter(alive)
        .filter_map(|m| Some((m.address.clone(), m.nsid.clone()?)))
        .collect()
}

fn secs(d: Duration) -> u32 {
    u32::try_from(d.as_secs()).unwrap_or(u32::MAX)
}
