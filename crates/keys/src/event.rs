//! What happened. Folding all events of a zone from the start gives its state.

use std::time::Duration;

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::apex::ApexSet;
use crate::key::{Key, KeyNum};
use crate::observe::SweepReport;
use crate::roll::{Class, Roll, Seen, Stage, Strategy};

/// A version that is durable and served.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Publication {
    pub version: u64,
    pub serial: u32,
    pub apex: ApexSet,
    /// Earliest expiration of an RRSIG over DNSKEY, CDS and CDNSKEY.
    pub apex_expires: Timestamp,
    /// Keys with an RRSIG over some RRset of the zone (those of `apex.dnskey_signers` apart).
    pub any: Vec<KeyNum>,
    /// Keys with an RRSIG over every RRset that is signed.
    pub all: Vec<KeyNum>,
    /// Largest TTL of any RRset, denial and negative TTLs included (RFC 2308 §5, RFC 9077).
    pub data_ttl: u32,
    pub soa_expire: u32,
    /// At the first publication: the largest TTL of what may have been served unsigned before.
    pub unsigned_ttl: Option<u32>,
    pub at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Generated or imported, read back, proved, durable.
    KeyAdded {
        key: Key,
        /// The roll it was made for.
        roll: Option<Class>,
        at: Timestamp,
    },
    KeyProved {
        key: KeyNum,
        at: Timestamp,
    },
    KeyBackedUp {
        key: KeyNum,
        at: Timestamp,
    },
    /// An imported zone goes on with keys that are in service already.
    TakenOver {
        dnskey_ttl: u32,
        data_ttl: u32,
        ds_ttl: u32,
        at: Timestamp,
    },
    KeyRestored {
        key: KeyNum,
        at: Timestamp,
    },
    /// Taken out of the trash by hand: as if it had just been made, so that the next roll of its
    /// role takes it.
    KeyRecovered {
        key: KeyNum,
        at: Timestamp,
    },
    /// A key that was never of use, or a standby key, leaves.
    KeyDropped {
        key: KeyNum,
        at: Timestamp,
    },
    KeyCompromised {
        key: KeyNum,
        at: Timestamp,
    },
    KeyTrashed {
        key: KeyNum,
        at: Timestamp,
    },
    KeyDestroyed {
        key: KeyNum,
        at: Timestamp,
    },
    /// Given up by order although its store did not destroy it.
    KeyForgotten {
        key: KeyNum,
        at: Timestamp,
    },
    RollStarted {
        roll: Roll,
    },
    RollStepped {
        class: Class,
        from: Stage,
        to: Stage,
        /// The policy's margin, for the waits of the new stage.
        #[serde(default)]
        margin: Duration,
        at: Timestamp,
    },
    RollDone {
        class: Class,
        at: Timestamp,
    },
    RollCancelled {
        class: Class,
        at: Timestamp,
    },
    RollHurried {
        class: Class,
        strategy: Strategy,
        at: Timestamp,
    },
    /// An operator vouches for what no sweep has shown.
    Vouched {
        class: Class,
        seen: Vec<Seen>,
        who: String,
        ttl: u32,
        /// `ttl` replaces what the parent was seen to serve.
        corrects: bool,
        at: Timestamp,
    },
    VersionPublished(Publication),
    Swept(SweepReport),
    /// The way to insecure was turned back after its end.
    IslandLeft {
        at: Timestamp,
    },
    ParentTold {
        at: Timestamp,
    },
    /// The parent's endpoint heard of the new CDS, or will not be told any more.
    ParentNotified {
        text: String,
        at: Timestamp,
    },
    ParentReminded {
        at: Timestamp,
    },
    /// A confirmed forward step of the clock.
    ClockStepped {
        by_secs: u64,
        at: Timestamp,
    },
}

impl Event {
    /// The name in history, audit log and API.
    pub fn name(&self) -> &'static str {
        match self {
            Event::KeyAdded { .. } => "key.generated",
            Event::KeyProved { .. } => "key.proved",
            Event::KeyBackedUp { .. } => "key.backed-up",
            Event::TakenOver { .. } => "key.taken-over",
            Event::KeyRestored { .. } => "key.restored",
            Event::KeyRecovered { .. } => "key.recovered",
            Event::KeyDropped { .. } => "key.dropped",
            Event::KeyCompromised { .. } => "key.compromised",
            Event::KeyTrashed { .. } => "key.trashed",
            Event::KeyDestroyed { .. } => "key.destroyed",
            Event::KeyForgotten { .. } => "key.forgotten",
            Event::RollStarted { .. } => "roll.started",
            Event::RollStepped { .. } => "roll.step",
            Event::RollDone { .. } => "roll.done",
            Event::RollCancelled { .. } => "roll.cancelled",
            Event::RollHurried { .. } => "roll.hurried",
            Event::Vouched { .. } => "roll.vouched",
            Event::VersionPublished(_) => "zone.published",
            Event::Swept(_) => "look.done",
            Event::IslandLeft { .. } => "ds.wanted",
            Event::ParentTold { .. } => "ds.told",
            Event::ParentNotified { .. } => "ds.notified",
            Event::ParentReminded { .. } => "ds.reminded",
            Event::ClockStepped { .. } => "clock.stepped",
        }
    }

    pub fn at(&self) -> Timestamp {
        match self {
            Event::KeyAdded { at, .. }
            | Event::KeyProved { at, .. }
            | Event::KeyBackedUp { at, .. }
            | Event::TakenOver { at, .. }
            | Event::KeyRestored { at, .. }
            | Event::KeyRecovered { at, .. }
            | Event::KeyDropped { at, .. }
            | Event::KeyCompromised { at, .. }
            | Event::KeyTrashed { at, .. }
            | Event::KeyDestroyed { at, .. }
            | Event::KeyForgotten { at, .. }
            | Event::RollStepped { at, .. }
            | Event::RollDone { at, .. }
            | Event::RollCancelled { at, .. }
            | Event::RollHurried { at, .. }
            | Event::Vouched { at, .. }
            | Event::IslandLeft { at }
            | Event::ParentTold { at }
            | Event::ParentNotified { at, .. }
            | Event::ParentReminded { at }
            | Event::ClockStepped { at, .. } => *at,
            Event::RollStarted { roll } => roll.started_at,
            Event::VersionPublished(p) => p.at,
            Event::Swept(s) => s.ended,
        }
    }
}
