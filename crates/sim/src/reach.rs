//! What caches can hold: every instance that some server showed within its TTL.
//!
//! A resolver's state is any choice of one instance per RRset, because each is fetched at its own
//! time from any server. Instances of equal signers are one class with the latest end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cascade_keys::KeyNum;
use cascade_time::Timestamp;

use crate::parent::Ds;
use crate::world::World;

pub(crate) type Id = u32;

/// A class of instances.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Content {
    Ds(Vec<Ds>),
    /// The RRset's keys, and who signed it.
    Dnskey(Vec<KeyNum>, Vec<KeyNum>),
    /// Data with RRSIGs by these keys; without any it is unsigned.
    Data(Vec<KeyNum>),
    /// CDS and CDNSKEY, which keys with the function of a KSK sign.
    Cds(Vec<KeyNum>),
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Reach {
    contents: Vec<Content>,
    ids: BTreeMap<Content, Id>,
    /// Contents that no server shows any more, and until when a cache may.
    pub(crate) past: BTreeMap<Id, Timestamp>,
    /// Answers of the three validators: bit set = accepted.
    pub(crate) triples: BTreeMap<(Id, Id, Id), u8>,
    /// The set at the last check.
    pub(crate) last: Vec<Id>,
    /// DS sets that the manager never wanted, as long as they live.
    pub(crate) unwanted: BTreeSet<Id>,
    /// DS sets that came to some server of the parent, and when, until a look at all of those servers
    /// meets them.
    pub(crate) unmet: BTreeMap<Id, Timestamp>,
    /// Begin and end of the last such look.
    pub(crate) looked: Option<(Timestamp, Timestamp)>,
}

impl Reach {
    pub(crate) fn id(&mut self, content: Content) -> Id {
        if let Some(id) = self.ids.get(&content) {
            return *id;
        }
        let id = self.contents.len() as Id;
        self.contents.push(content.clone());
        self.ids.insert(content, id);
        id
    }

    pub(crate) fn content(&self, id: Id) -> &Content {
        &self.contents[id as usize]
    }
}

impl World {
    /// A server stops showing it now.
    pub(crate) fn leave(&mut self, id: Id, ttl: u32) {
        let until = self.now + Duration::from_secs(u64::from(ttl));
        let e = self.reach.past.entry(id).or_insert(until);
        *e = (*e).max(until);
    }

    /// All classes that exist now, sorted.
    pub(crate) fn reachable(&mut self) -> Vec<Id> {
        let now = self.now;
        self.reach.past.retain(|_, until| *until >= now);
        let mut all: Vec<Id> = self.reach.past.keys().copied().collect();
        for s in 0..self.servers.len() {
            let shown = self.shows(s);
            all.extend(shown.into_iter().map(|c| c.0));
        }
        all.extend(self.ds_shown());
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The classes as of the last check.
    pub fn classes(&self) -> Vec<&Content> {
        let ids = self.reach.last.iter();
        ids.map(|i| self.reach.content(*i)).collect()
    }

    /// Until when caches may hold a class that no server shows any more.
    pub fn lives_until(&self, content: &Content) -> Option<Timestamp> {
        let id = self.reach.ids.get(content)?;
        self.reach.past.get(id).copied()
    }

    /// Right after this a class ends; what is left may be judged differently.
    pub(crate) fn reach_deadline(&self) -> Option<Timestamp> {
        self.next_short_signature()
    }
}

pub fn list(k: &[KeyNum]) -> String {
    if k.is_empty() {
        return "-".to_string();
    }
    let names: Vec<String> = k.iter().map(KeyNum::to_string).collect();
    names.join("+")
}
