//! What the gate must be told: keys, parent, serials, times, policy, approved content.

use cascade_time::Timestamp;
use cascade_zone::Serial;

use crate::answers::Answers;
use crate::engine::Engine;
use crate::source::Source;

/// A key of ours, as the key store (never the signing plan) knows it.
#[derive(Debug, Clone)]
pub struct OwnKey {
    /// DNSKEY RDATA as it must be published.
    pub dnskey: Vec<u8>,
    /// The key must stand in the DNSKEY RRset of this version.
    pub published: bool,
    /// It may sign zone data though it is not (not yet, or no longer) in the DNSKEY RRset:
    /// algorithm rollover.
    pub may_sign_unpublished: bool,
    /// CDS and CDNSKEY may name it though it is not in the DNSKEY RRset: double-DS, standby.
    pub wanted_at_parent: bool,
    /// The private key has proven lately that it belongs to these bytes. A key without fresh proof
    /// must not have signed anything.
    pub proven: bool,
}

/// The delegation as last observed.
#[derive(Debug, Clone, Default)]
pub enum Parent {
    /// Nothing at the parent binds this zone to keys: no chain leads here, or nothing is known.
    #[default]
    NotApplicable,
    /// A chain leads here. `ds`: RDATA of the DS RRset last seen. `standby`: those of them whose
    /// DNSKEY is declared to be kept back.
    Linked {
        ds: Vec<Vec<u8>>,
        standby: Vec<Vec<u8>>,
    },
    /// Delegated to our servers, never matched. A non-empty DS RRset must fit.
    Ours { ds: Vec<Vec<u8>> },
}

impl Parent {
    pub(crate) fn ds(&self) -> Option<&[Vec<u8>]> {
        match self {
            Parent::NotApplicable => None,
            Parent::Linked { ds, .. } | Parent::Ours { ds } => Some(ds),
        }
    }
}

/// Denial of existence that the policy demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DenialPolicy {
    Nsec,
    Nsec3 {
        iterations: u16,
        salt: Vec<u8>,
        opt_out: bool,
    },
}

/// Everything beside the candidate itself. `None` and empty mean: not known, not judged.
#[derive(Clone)]
pub struct Params<'a> {
    /// Seed of the store's fingerprints, so that sums can be compared; any value for files.
    pub fingerprint_seed: u64,
    /// Keys of the key store; `None` in file mode, where only the zone's own DNSKEY RRset is known.
    pub own_keys: Option<Vec<OwnKey>>,
    /// DNSKEY RDATA of other signers of this zone (RFC 8901) that may stand in the RRset.
    pub foreign_keys: Vec<Vec<u8>>,
    pub parent: Parent,
    /// The version that is live breaks the chain from the parent just the same: report, do not refuse.
    pub live_chain_broken: bool,
    /// Serial of the live version.
    pub live_serial: Option<Serial>,
    /// Highest serial any server of ours has shown.
    pub highest_serial: Option<Serial>,
    /// Least time to expiration of every signature, seconds.
    pub min_remaining: u32,
    /// The same for DNSKEY, CDS and CDNSKEY, where the key manager renews them later than that.
    pub min_remaining_key_set: Option<u32>,
    /// Warn when the earliest expiration is nearer than this, seconds.
    pub warn_remaining: u32,
    /// Earliest expiration of the live version: a candidate that is no worse is not refused because
    /// refreshing is late.
    pub live_earliest: Option<Timestamp>,
    /// Longest span from inception to expiration: lifetime + offset + 1 h, seconds.
    pub max_span: Option<u32>,
    /// The same for DNSKEY, CDS and CDNSKEY, which the key manager signs.
    pub max_span_key_set: Option<u32>,
    pub denial: Option<DenialPolicy>,
    /// Algorithms of DNSKEY RRsets that resolvers may still hold: CDS and CDNSKEY need a signature
    /// of each, whatever the DNSKEY RRset of this version announces (RFC 4035 §2.2).
    pub cached_algorithms: Vec<u8>,
    /// CDNSKEY is published beside CDS. Without, CDS stands alone.
    pub cdnskey: bool,
    /// The operator has ordered the DS RRset to be deleted (RFC 8078 §4).
    pub delete_ds_ordered: bool,
    /// The zone is to be without DNSSEC: refused are all of its records, and a DS that leads here.
    pub unsigned: bool,
    /// A ZONEMD RRset is demanded. One that is there is checked in any case.
    pub zonemd_required: bool,
    /// The approved unsigned version.
    pub approved: Option<&'a dyn Source>,
    /// The publisher's answer code over the candidate.
    pub answers: Option<&'a dyn Answers>,
    pub engine: Engine,
    /// Chooses the names of which samples are asked.
    pub sample_seed: u64,
}

impl Params<'_> {
    /// File mode: the zone judged by itself, signatures valid now.
    pub fn file() -> Self {
        Params {
            fingerprint_seed: 0,
            own_keys: None,
            foreign_keys: Vec::new(),
            parent: Parent::NotApplicable,
            live_chain_broken: false,
            live_serial: None,
            highest_serial: None,
            min_remaining: 1,
            min_remaining_key_set: None,
            warn_remaining: 0,
            live_earliest: None,
            max_span: None,
            max_span_key_set: None,
            denial: None,
            cached_algorithms: Vec::new(),
            cdnskey: true,
            delete_ds_ordered: false,
            unsigned: false,
            zonemd_required: false,
            approved: None,
            answers: None,
            engine: Engine::Auto,
            sample_seed: 0,
        }
    }
}

impl std::fmt::Debug for Params<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Params")
            .field("own_keys", &self.own_keys)
            .field("parent", &self.parent)
            .field("denial", &self.denial)
            .field("min_remaining", &self.min_remaining)
            .field("min_remaining_key_set", &self.min_remaining_key_set)
            .finish_non_exhaustive()
    }
}
