//! Looks at name servers: what was asked, what counts as agreement, and who may be left out.
//!
//! The daemon asks and reports a [`Sweep`]; [`crate::judge`] turns it into the event that is stored.
//! Only members of one and the same sweep count together: a server that showed the new data an
//! hour ago and the old now breaks it.

use std::time::Duration;

use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ds::DsRecord;
use crate::key::KeyNum;
use crate::roll::{Class, Seen};
use crate::stored::is_default;

/// Addresses that are asked in a sweep.
pub const MAX_MEMBERS: usize = 64;
/// Members that are judged: several nodes may name themselves at one address.
pub(crate) const MAX_NODES: usize = 4 * MAX_MEMBERS;
/// A server that has gone back in a wait must show what is expected for this long in all sweeps
/// before it counts: what it shows depends on whom the question reaches.
pub const STEADY: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Dnskey,
    /// SOA and RRSIGs.
    Rrsig,
    /// DS and referral at the parent.
    Ds,
}

impl What {
    pub const ALL: [What; 3] = [What::Dnskey, What::Rrsig, What::Ds];

    pub fn of(seen: Seen) -> What {
        match seen {
            Seen::Dnskey => What::Dnskey,
            Seen::RrsigNew | Seen::RrsigOldGone | Seen::Unsigned => What::Rrsig,
            Seen::DsSwapped | Seen::DsBoth | Seen::DsOldGone | Seen::DsNone => What::Ds,
        }
    }
}

/// Which servers a zone sweep must ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Our own publication output: no chain leads here.
    Own,
    Servers,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenKey {
    pub flags: u16,
    pub algorithm: u8,
    pub public_key: Vec<u8>,
}

/// What the parent says about the delegation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Referral {
    /// The name or the delegation is denied with AA.
    Denied,
    /// A server name in common with our apex NS RRset, or none.
    Names {
        shared: bool,
    },
    Unclear,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Dnskey {
        keys: Vec<SeenKey>,
        ttl: u32,
        /// Keys of ours whose RRSIG over the RRset verified.
        signed_by: Vec<KeyNum>,
    },
    Rrsig {
        serial: u32,
        /// The server rewrites serials; its content was compared and is ours.
        same_content: bool,
        /// RRsets whose RRSIG did not verify with the expected key's octets.
        faults: Vec<String>,
    },
    Ds {
        set: Vec<DsRecord>,
        /// The larger of the RRset's TTL and the original TTL of its RRSIG.
        ttl: u32,
        /// The answer did not validate: no evidence of anything.
        bogus: bool,
        referral: Referral,
    },
    /// No route for the address family here, told by the kernel.
    NoRoute,
    /// No answer at all.
    Silent,
    /// An answer that is no evidence: SERVFAIL, REFUSED, lame, not authoritative.
    Unusable(String),
}

impl Answer {
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Answer::Dnskey { .. } | Answer::Rrsig { .. } => true,
            Answer::Ds { bogus, .. } => !bogus,
            Answer::NoRoute | Answer::Silent | Answer::Unusable(_) => false,
        }
    }
}

/// One node that must be asked. An address that several nodes share (anycast, load balancers) is
/// one member per NSID (RFC 5001) that it has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub server: String,
    pub address: String,
    pub nsid: Option<String>,
    pub answer: Answer,
}

/// Answers of all required servers within ten minutes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sweep {
    pub what: What,
    pub started: Timestamp,
    pub ended: Timestamp,
    pub members: Vec<Member>,
    /// SOA EXPIRE of the parent zone, if known.
    pub parent_expire: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Match,
    /// As expected, but it has shown that before in this wait and then something older.
    Unsteady,
    Mismatch,
    NoAnswer,
    /// No answer, and left out.
    Excused,
}

/// Evidence of one member, as `why` and `check` show it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberReport {
    pub server: String,
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nsid: Option<String>,
    pub verdict: Verdict,
    pub found: String,
    pub ttl: Option<u32>,
    pub first_asked: Timestamp,
    pub last_answer: Option<Timestamp>,
    /// When it last showed something older after it had shown what is expected, in this wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flipped_at: Option<Timestamp>,
}

impl MemberReport {
    /// Its address, with its NSID where it has shown one.
    pub fn place(&self) -> String {
        match &self.nsid {
            Some(id) => format!("{} (NSID {id})", self.address),
            None => self.address.clone(),
        }
    }
}

/// One content of the DS RRset that some server showed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DsShown {
    #[serde(
        rename = "o",
        alias = "ours",
        default,
        skip_serializing_if = "is_default"
    )]
    pub ours: Vec<KeyNum>,
    #[serde(
        rename = "u",
        alias = "usable",
        default,
        skip_serializing_if = "is_default"
    )]
    pub usable: Vec<KeyNum>,
    #[serde(
        rename = "f",
        alias = "foreign",
        default,
        skip_serializing_if = "is_default"
    )]
    pub foreign: bool,
    pub ttl: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delegation {
    #[default]
    Unknown,
    /// The parent denies the delegation.
    None,
    /// Delegated to servers that are not ours.
    Elsewhere,
    Ours,
    /// A DS at the parent has matched a key of ours.
    Linked,
    Root,
}

/// A judged sweep, as stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SweepReport {
    pub what: What,
    pub started: Timestamp,
    pub ended: Timestamp,
    pub members: Vec<MemberReport>,
    /// The expected content is everywhere; the number is x, in seconds.
    pub passed: Option<u64>,
    /// Every server answered or is excused, whatever it said.
    pub covered: Option<u64>,
    pub seen: Vec<(Class, Seen, bool)>,
    pub ds: Vec<DsShown>,
    pub delegation: Option<Delegation>,
}

impl SweepReport {
    /// Some server that had shown what is expected went back to something older.
    pub fn went_back(&self) -> bool {
        self.members
            .iter()
            .any(|m| m.flipped_at == Some(self.ended))
    }

    /// Some server shows now this and now that.
    pub fn is_unsteady(&self) -> bool {
        let swings = |m: &MemberReport| m.flipped_at.is_some() && m.verdict != Verdict::Match;
        self.members.iter().any(swings)
    }
}

/// When it is looked again whether something that has left all servers has stayed away, while
/// caches are waited for: every half hour at first, and less often the longer it lasts.
pub fn next_watch(since: Timestamp, last: Option<Timestamp>) -> Timestamp {
    let last = last.map_or(since, |l| l.max(since));
    let age = last.since(since).as_secs();
    last.saturating_add(Duration::from_secs((age / 4).max(1800)))
}

/// When the next look of a wait that began at `since` is due, the last one having been at `last`:
/// 5 s, 30 s, 2 min, 10 min after the change, then every 10 min for an hour, every 30 min for a
/// week, then every 2 h.
pub fn next_look(since: Timestamp, last: Option<Timestamp>) -> Timestamp {
    const FIRST: [u64; 4] = [5, 30, 120, 600];
    let after = |s: u64| since.saturating_add(Duration::from_secs(s));
    let Some(last) = last.filter(|l| *l >= since) else {
        return after(FIRST[0]);
    };
    let age = last.since(since).as_secs();
    if let Some(s) = FIRST.into_iter().find(|s| *s > age) {
        return after(s);
    }
    let every = match age {
        0..3600 => 600,
        3600..604_800 => 1800,
        _ => 7200,
    };
    last.saturating_add(Duration::from_secs(every))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rarer() {
        let t = Timestamp::from_secs;
        let since = t(1_000_000);
        let mut last = None;
        let mut n = 0;
        while let Some(next) =
            Some(next_look(since, last)).filter(|n| n.since(since).as_secs() < 86_400 * 8)
        {
            assert!(last.is_none_or(|l| next > l));
            last = Some(next);
            n += 1;
        }
        assert!((350..370).contains(&n), "{n}");
        // Looks of an earlier step do not count.
        assert_eq!(next_look(since, Some(t(5))), t(1_000_005));
    }
}
