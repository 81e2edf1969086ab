//! What happens to a zone besides its keys: where it was before us, its source, rollback, removal
//! and return, an upgrade of the daemon.

use std::time::Duration;

use cascade_keys::{
    ApexSet, Cds, Delegation, Event, Home, Key, KeyNum, Origin, Role, Times, What, ZoneKeys,
};
use cascade_zone::id::KeyId;

use crate::check::Rule;
use crate::parent::Ds;
use crate::real::Denial;
use crate::servers::{PARTS, Part};
use crate::world::World;
use crate::{DAY, MINUTE};

/// Keys of the signer before us.
const BEFORE: [(KeyNum, Role); 2] = [(KeyNum(901), Role::Ksk), (KeyNum(902), Role::Zsk)];

impl World {
    /// The zone is live under another signer, with a DS.
    pub(crate) fn sign_before(&mut self) {
        for (num, role) in BEFORE {
            let key = before(num, role, self.policy.algorithm, None);
            self.keys.insert(num, key);
        }
        let [ksk, zsk] = BEFORE.map(|b| b.0);
        let apex = ApexSet {
            ttl: self.policy.ttl,
            dnskey: vec![ksk, zsk],
            dnskey_signers: vec![ksk],
            cds_signers: Vec::new(),
            zone_signers: vec![zsk],
            cds: Cds::None,
            cdnskey: false,
            digests: Vec::new(),
            unsigned: false,
        };
        // Whoever signs there goes on with it.
        let expires = self.now + Duration::from_secs(3650 * DAY);
        let part = Part {
            signers: vec![zsk],
            expires,
        };
        self.version_of_others(apex, vec![part; PARTS], expires);
        self.floor = 1;
        let set: Vec<Ds> = self.ds_of(&[ksk]);
        self.registry.clone_from(&set);
        for p in &mut self.parents {
            p.set.clone_from(&set);
        }
    }

    /// Transfers and NOTIFY wait for the first referral, and stop if the zone is live under keys
    /// that are not its own.
    pub(crate) fn may_leave(&mut self) -> bool {
        if !self.config.signed_before || !self.config.gate {
            return true;
        }
        let parent = &self.zone.parent;
        let known = self.zone.look(What::Ds).is_some() && parent.delegation != Delegation::Unknown;
        let strange = parent.delegation == Delegation::Ours && parent.foreign;
        if known && strange {
            self.refused += 1;
            self.line("nothing is transferred: the parent's DS fits no key".into());
        }
        known && !strange
    }

    /// The zone is added anew with the keys of the signer before us.
    pub fn import(&mut self) {
        let at = self.wall();
        self.line("the keys in service are imported".into());
        self.floor = self.versions.len();
        self.zone = ZoneKeys::new(&self.config.owner);
        self.events.clear();
        self.facts = cascade_keys::Facts::default();
        for (num, role) in BEFORE {
            let key = before(num, role, self.policy.algorithm, Some(at));
            let roll = None;
            self.apply(Event::KeyAdded { key, roll, at });
        }
        self.apply(Event::TakenOver {
            dnskey_ttl: 0,
            data_ttl: 0,
            ds_ttl: 0,
            at,
        });
    }

    /// The source has other content; one that is cut off half way is held by the guard.
    pub fn source(&mut self, content: u32) {
        if self.truncated {
            self.held += 1;
            return;
        }
        self.contents.push(content);
        self.edit();
    }

    pub fn truncate(&mut self, yes: bool) {
        self.truncated = yes;
        if yes {
            self.held += 1;
            return self.line("the source is truncated: the guard holds it".into());
        }
        if let Some(ttl) = self.held_ttl.take() {
            self.set_data_ttl(ttl);
        }
    }

    /// The content before, with a higher serial and the apex set of now.
    pub fn roll_back(&mut self) {
        if self.contents.len() > 1 {
            self.contents.pop();
        }
        if self.is_real() {
            return self.roll_back_real();
        }
        let Some(v) = self.versions.last().cloned() else {
            return;
        };
        let data = self.fresh(&v.apex.zone_signers);
        let e = self.version(v.apex, vec![data; PARTS], false);
        self.apply(e);
    }

    /// NSEC becomes NSEC3 or the reverse: the whole chain is made and signed by the keys of now.
    pub fn change_denial(&mut self, to: Denial) {
        self.config.denial = to;
        if self.is_real() {
            return self.change_settings();
        }
        let Some(v) = self.versions.last().cloned() else {
            return;
        };
        if !self.up || v.apex.unsigned || !self.can_sign(&v.apex.zone_signers) {
            return;
        }
        let mut data = v.data;
        if let Some(chain) = data.last_mut() {
            *chain = self.fresh(&v.apex.zone_signers);
        }
        let e = self.version(v.apex, data, false);
        self.apply(e);
    }

    /// Our servers know the zone no more; its keys and what is known of them are put aside.
    pub fn remove(&mut self) {
        if !self.up {
            return;
        }
        self.line("the zone is removed".into());
        self.kill();
        self.removed = true;
        let long = 10 * 365 * DAY;
        for server in 1..self.servers.len() {
            self.cut_off(server, long);
        }
    }

    /// The zone is added again with its keys.
    pub fn take_back(&mut self) {
        if !std::mem::take(&mut self.removed) {
            return;
        }
        self.line("the zone is back".into());
        let age = self.age();
        for d in self.config.down.iter_mut().filter(|d| d.2 > age) {
            d.2 = age;
        }
        self.boot();
        let wall = self.wall();
        if let Some(apex) = self.zone.apex_set(&self.policy, wall) {
            let e = self.build(apex, true);
            self.apply(e);
        }
        for server in 1..self.servers.len() {
            let version = None;
            self.schedule(MINUTE, crate::world::Coming::Update { server, version });
        }
    }

    /// Another release takes over the state, in which all that the former did not know is missing.
    pub fn upgrade(&mut self) {
        if !self.up {
            return;
        }
        self.kill();
        let old = serde_json::to_value(&self.zone).map(|mut v| {
            let unknown = serde_json::to_value(cascade_keys::Parent::default()).unwrap_or_default();
            if let (Some(p), Some(u)) = (
                v.get_mut("parent").and_then(|p| p.as_object_mut()),
                unknown.as_object(),
            ) {
                p.retain(|k, value| u.get(k) != Some(value));
            }
            v
        });
        let back = old.and_then(serde_json::from_value::<ZoneKeys>);
        if back.as_ref().ok() != Some(&self.zone) {
            let text = format!("the state of the former release is read as another: {back:?}");
            self.fail(Rule::W22, text);
        }
        self.restart(5 * MINUTE);
    }

    fn fresh(&self, signers: &[KeyNum]) -> Part {
        Part {
            signers: signers.to_vec(),
            expires: self.fresh_data(),
        }
    }
}

fn before(
    num: KeyNum,
    role: Role,
    algorithm: u8,
    active_at: Option<cascade_time::Timestamp>,
) -> Key {
    let mut id = [0u8; 16];
    id[12..].copy_from_slice(&num.0.to_be_bytes());
    Key {
        num,
        id: KeyId(id),
        role,
        algorithm,
        public_key: crate::daemon::octets(num, 0),
        sep: false,
        home: Home::File,
        origin: Origin::Imported,
        decoupled: false,
        standby: false,
        backed_up: false,
        compromised: false,
        restored: false,
        proved_at: None,
        times: Times {
            generated_at: active_at,
            published_at: active_at,
            active_at,
            ..Times::default()
        },
    }
}
