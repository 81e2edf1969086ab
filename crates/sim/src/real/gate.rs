//! The gate, told what the daemon tells it of keys and of the delegation.

use cascade_keys::{ApexSet, Cds, Delegation, DsRecord, Key, KeyNum, RollType};
use cascade_pipeline::Event;
use cascade_pipeline::state::{JobId, Report};
use cascade_signer::DenialPlan;
use cascade_verifier::{
    Check, DenialPolicy, Engine, Outcome, OwnKey, Params, Parent, Predecessor, StoreDelta,
    fingerprint_seed, verify_changed, verify_full,
};
use cascade_zone::VersionId;

use super::Denial;
use super::zone::{INCEPTION_OFFSET, pool, secs, signing_keys, small};
use crate::HOUR;
use crate::check::Rule;
use crate::world::World;

fn ds_rdata(ds: &DsRecord) -> Vec<u8> {
    let mut out = ds.tag.to_be_bytes().to_vec();
    out.extend([ds.algorithm, ds.digest_type]);
    out.extend(&ds.digest);
    out
}

fn denial_policy(denial: Denial) -> DenialPolicy {
    match denial.plan() {
        DenialPlan::Nsec => DenialPolicy::Nsec,
        DenialPlan::Nsec3 {
            iterations,
            salt,
            opt_out,
        } => DenialPolicy::Nsec3 {
            iterations,
            salt,
            opt_out,
        },
    }
}

impl World {
    /// The gate.
    pub(crate) fn verify_real(&mut self, job: JobId, version: VersionId) -> Option<Event> {
        let wall = self.wall();
        let apex = self.pipe.as_ref()?.made.get(&version)?.apex.clone();
        let own = self.own_keys(&apex);
        let parent = self.gate_parent(&apex);
        let breaks = self.parent_breaks();
        let cached = self.zone.cached_algorithms(wall);
        let denial = self.config.denial;
        let (life, remain) = (self.config.data_lifetime, self.config.data_remain);
        let key_life = self.policy.apex_signatures.lifetime.as_secs();
        let key_remain = secs(self.policy.apex_signatures.remain);
        let pipe = self.pipe.as_mut()?;
        let live = pipe.zone.live.as_ref();
        let live = live.map(|l| (l.version, l.serial, l.min_exp));
        let seed = pipe.zone.seed;
        let real = pipe.real.as_mut()?;
        let held = real.signed.get(&version)?.clone();
        let v = held.version;
        let approved = real.unsigned(v.unsigned_id());
        let before = live.and_then(|l| real.signed.get(&l.0)?.verified.clone());
        let answers = cascade_publisher::Candidate::new(&v, wall);
        let span = |life: u64| Some(small(life + INCEPTION_OFFSET + HOUR));
        let params = Params {
            fingerprint_seed: fingerprint_seed(v.zone()),
            own_keys: Some(own),
            parent,
            live_chain_broken: breaks,
            live_serial: live.map(|l| l.1),
            highest_serial: live.map(|l| l.1),
            min_remaining: small(remain),
            min_remaining_key_set: Some(key_remain),
            live_earliest: live.map(|l| l.2),
            max_span: span(life),
            max_span_key_set: span(key_life),
            denial: Some(denial_policy(denial)),
            cached_algorithms: cached,
            cdnskey: apex.cdnskey || !matches!(apex.cds, Cds::Keys(_)),
            delete_ds_ordered: apex.cds == Cds::Delete,
            unsigned: apex.unsigned,
            approved: approved
                .as_ref()
                .map(|a| a as &dyn cascade_verifier::Source),
            answers: answers
                .as_ref()
                .map(|a| a as &dyn cascade_verifier::Answers),
            engine: Engine::Auto,
            sample_seed: seed,
            ..Params::file()
        };
        let before = before.and_then(|b| Some((b.version().clone(), b.ledger()?.clone())));
        let by_difference = before.is_some();
        let pool = pool()?;
        let outcome = match &before {
            None => pool.install(|| verify_full(v, &params, wall)),
            Some((old, ledger)) => {
                let new = v.clone();
                let delta = StoreDelta { old, new: &new };
                let predecessor = Predecessor {
                    version: old,
                    ledger,
                    delta: &delta,
                    unsigned_delta: None,
                };
                pool.install(|| verify_changed(v, &predecessor, &params, wall))
            }
        };
        Some(match outcome {
            Outcome::Verified(verified) => {
                let held = real.signed.get_mut(&version)?;
                held.verified = Some(Box::new(verified));
                real.counts.passed += 1;
                real.counts.by_difference += usize::from(by_difference);
                if held.planted {
                    self.fail(Rule::W7, "a wrong signature has passed the gate".into());
                }
                Event::VerifyPassed {
                    job,
                    report: Report::default(),
                }
            }
            Outcome::Refused(refused) => {
                real.counts.refused += 1;
                self.refused += 1;
                let report = refused.report();
                if !held.planted {
                    let found = &report.findings;
                    let text = format!("the gate refuses what nobody spoiled: {found:?}");
                    self.fail(Rule::W7, text);
                }
                let content = [Check::V01, Check::V02, Check::V08, Check::V11, Check::V19];
                Event::VerifyRefused {
                    job,
                    healable: !content.iter().any(|c| report.has(*c)),
                    report: Report::text(report.text()),
                }
            }
        })
    }

    fn own_keys(&self, apex: &ApexSet) -> Vec<OwnKey> {
        let live: &[KeyNum] = self.zone.published.as_ref().map_or(&[], |p| &p.any);
        let signing = signing_keys(apex);
        let left = |k: &&Key| k.times.destroyed_at.is_none();
        let own = |k: &Key| {
            let published = apex.dnskey.contains(&k.num);
            let signs = signing.contains(&k.num) || live.contains(&k.num);
            OwnKey {
                dnskey: k.dnskey_rdata(),
                published,
                may_sign_unpublished: !published && signs,
                wanted_at_parent: self.zone.parent.wanted.contains(&k.num),
                proven: true,
            }
        };
        self.zone.keys.iter().filter(left).map(own).collect()
    }

    fn parent_ds(&self) -> &[DsRecord] {
        let real = self.pipe.as_ref().and_then(|p| p.real.as_ref());
        real.map_or(&[], |r| &r.ds)
    }

    /// What the look at the parent shows is what the gate is told.
    pub(crate) fn note_parent_ds(&mut self, ds: Vec<DsRecord>) {
        if let Some(real) = self.pipe.as_mut().and_then(|p| p.real.as_mut()) {
            real.ds = ds;
        }
    }

    fn gate_parent(&self, apex: &ApexSet) -> Parent {
        let ds: Vec<Vec<u8>> = self.parent_ds().iter().map(ds_rdata).collect();
        match self.zone.parent.delegation {
            Delegation::Ours => Parent::Ours { ds },
            Delegation::Linked => Parent::Linked {
                standby: self.kept_back(apex).iter().map(ds_rdata).collect(),
                ds,
            },
            _ => Parent::NotApplicable,
        }
    }

    /// DS records of keys that are held back from the DNSKEY RRset on purpose.
    fn kept_back(&self, apex: &ApexSet) -> Vec<DsRecord> {
        let double_ds = |k: &Key| {
            self.zone.rolls.iter().any(|r| {
                let has = r.old.contains(&k.num) || r.new.contains(&k.num);
                r.kind == RollType::KskDoubleDs && has
            })
        };
        let held = |k: &&Key| !apex.dnskey.contains(&k.num) && (k.standby || double_ds(k));
        let keys: Vec<&Key> = self.zone.keys.iter().filter(held).collect();
        let of = |ds: &&DsRecord| keys.iter().any(|k| self.is_ds_of(ds, k));
        self.parent_ds().iter().filter(of).cloned().collect()
    }

    fn is_ds_of(&self, ds: &DsRecord, key: &Key) -> bool {
        let own = DsRecord::of(&self.zone.owner, key, ds.digest_type);
        own.is_some_and(|own| own == *ds)
    }

    fn parent_breaks(&self) -> bool {
        let Some(p) = &self.zone.published else {
            return false;
        };
        if !matches!(
            self.zone.parent.delegation,
            Delegation::Ours | Delegation::Linked
        ) {
            return false;
        }
        let kept = self.kept_back(&p.apex);
        let fits = |ds: &DsRecord| {
            let signers = p.apex.dnskey_signers.iter();
            let shown = signers.filter(|n| p.apex.dnskey.contains(n));
            let mut keys = shown.filter_map(|n| self.zone.key(*n));
            keys.any(|k| self.is_ds_of(ds, k))
        };
        let must = || self.parent_ds().iter().filter(|d| !kept.contains(d));
        must().any(|d| !must().any(|o| o.algorithm == d.algorithm && fits(o)))
    }
}
