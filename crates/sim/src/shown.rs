//! What somebody gets who asks a server now, for resolvers that are sampled one by one.

use cascade_keys::{ApexSet, DsRecord, Key, KeyNum};
use cascade_time::Timestamp;

use crate::config::Led;
use crate::parent::Ds;
use crate::servers::Version;
use crate::world::World;

/// One version of the zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    pub serial: u32,
    pub at: Timestamp,
    pub apex: ApexSet,
    /// Who signs each part of the data.
    pub data: Vec<Vec<KeyNum>>,
}

impl World {
    /// All versions so far, the newest last.
    pub fn shown(&self) -> impl Iterator<Item = Shown> {
        self.versions.iter().map(shown)
    }

    pub fn newest(&self) -> Option<Shown> {
        self.versions.last().map(shown)
    }

    /// The version that a resolver gets from a zone server; `None` before there is one, or if it
    /// does not answer.
    pub fn served_by(&self, server: usize) -> Option<Shown> {
        let s = self.servers.get(server)?;
        let silent = s.off || s.expired || s.outside;
        let version = s.has.filter(|_| !silent)?;
        self.versions.get(version).map(shown)
    }

    /// The DS RRset that a resolver gets from a parent server, with what it means.
    pub fn ds_shown_at(&self, server: usize) -> Vec<(Ds, DsRecord)> {
        let p = self.parents.get(server);
        let led = self.config.led == Led::Here;
        let set = p.filter(|p| led && !p.expired && !p.gone);
        let set = set.map_or(&[][..], |p| &p.set);
        set.iter().map(|d| (*d, d.record(self))).collect()
    }

    pub fn ds_at(&self, server: usize) -> Vec<DsRecord> {
        let set = self.ds_shown_at(server).into_iter();
        set.map(|d| d.1).collect()
    }

    /// A key that was ever made.
    pub fn key(&self, num: KeyNum) -> Option<&Key> {
        self.keys.get(&num)
    }

    pub fn all_keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.values()
    }
}

fn shown(v: &Version) -> Shown {
    Shown {
        serial: v.serial,
        at: v.at,
        apex: v.apex.clone(),
        data: v.data.iter().map(|p| p.signers.clone()).collect(),
    }
}
