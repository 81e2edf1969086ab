//! The knobs of a world at its beginning.

use cascade_keys::{KeyNum, KeyPolicy, Role};

use crate::real::Denial;
use crate::{DAY, HOUR};

/// The zone's name in canonical wire form.
pub const OWNER: &[u8] = b"\x07example\x00";

/// Where the parent leads resolvers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Led {
    Here,
    Nowhere,
    /// To servers of somebody else, who has a DS of their own there.
    Elsewhere,
}

/// How the parent hears of a new DS set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The hook or an update of ours.
    Hook,
    /// It reads our CDS RRset from time to time (RFC 7344, RFC 8078).
    Cds,
    /// A person reads `get ds` and writes a ticket.
    Person,
    Nobody,
}

/// Seconds that actions take; with 0 they take none and never are in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Costs {
    pub generate: u64,
    pub build: u64,
    pub prove: u64,
    /// A sweep: some servers are asked at its begin, the others at its end.
    pub look: u64,
}

#[derive(Clone, Debug)]
pub struct Config {
    /// Everything that chance decides follows from it; with 0 events of one second come in the
    /// order in which they were caused.
    pub seed: u64,
    /// Seconds until each zone server has a new version; the first is our own output.
    pub lags: Vec<u64>,
    /// The zone's name in wire form.
    pub owner: Vec<u8>,
    /// Zone servers reached by IPv6 only.
    pub v6_only: Vec<usize>,
    /// Zone servers that count serials their own way.
    pub rewrites: Vec<usize>,
    /// Nobody but the secondaries asks our own server.
    pub hidden_primary: bool,
    /// The zone is live under another signer when it is added.
    pub signed_before: bool,
    /// Parent servers that answer for DS from the child's zone, which they serve as well.
    pub child_side: Vec<usize>,
    /// Nodes behind the address of another that no question of ours reaches.
    pub hidden: Vec<usize>,
    /// Seconds until each parent server has a new DS set.
    pub parent: Vec<u64>,
    pub parent_v6_only: Vec<usize>,
    pub by: By,
    /// From noticing a wish to the registry's database.
    pub register: u64,
    /// Between two scans for CDS.
    pub every: u64,
    /// Accepts a first DS by CDS (RFC 8078 §3).
    pub bootstrap: bool,
    /// The parent leaves the old DS beside the new one.
    pub keep_old: bool,
    /// Seconds between the removal of the old DS and the arrival of the new one.
    pub remove_first: u64,
    /// Digest types that the parent makes of each key.
    pub digests: Vec<u8>,
    pub ds_ttl: u32,
    pub parent_expire: u32,
    pub data_ttl: u32,
    pub soa_expire: u32,
    /// Seconds over which a change of signers is spread.
    pub resign: u64,
    pub data_lifetime: u64,
    pub data_remain: u64,
    /// Zone server `.0` neither transfers nor answers us from `.1` to `.2`.
    pub down: Vec<(usize, u64, u64)>,
    pub parent_down: Vec<(usize, u64, u64)>,
    /// The token fails from `.0` to `.1`.
    pub token_down: Option<(u64, u64)>,
    /// One instance of the token is away from `.0` to `.1`.
    pub instance_lost: Option<(u64, u64)>,
    /// One in `.2` signatures is wrong from `.0` to `.1`.
    pub token_lies: Option<(u64, u64, u64)>,
    /// The token refuses to destroy keys from `.0` to `.1`.
    pub token_keeps: Option<(u64, u64)>,
    pub instances: u32,
    pub disk_full: Option<(u64, u64)>,
    pub network_down: Option<(u64, u64)>,
    /// One in so many answers is spoofed; 0 = none.
    pub spoofed: u64,
    pub has_ipv6: bool,
    pub costs: Costs,
    /// Serialise and read back the state after every event, and forget what only memory had.
    pub restart: bool,
    /// Kill the daemon after this many actions, before the result is recorded.
    pub crash_after: Option<u32>,
    /// Seconds until it runs again.
    pub crash_down: u64,
    pub led: Led,
    /// Trial signatures are made on every instance before a key is trusted.
    pub proofs: bool,
    /// Each signature is verified after it was made.
    pub verify_after_sign: bool,
    /// A version is verified before it is published.
    pub gate: bool,
    /// A forward step of the clock above this holds it.
    pub max_step: u64,
    /// Where real public keys come from; without, octets are made up.
    pub public_keys: Option<fn(KeyNum, Role, u8) -> Vec<u8>>,
    /// Level Z: versions go through the product's pipeline.
    pub pipeline: bool,
    /// Level Z with real keys, signatures and messages; with a pipeline in any case.
    pub real: bool,
    /// How the zone proves that something is not there; real data only.
    pub denial: Denial,
    /// Keep a line for people of everything that matters.
    pub lines: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            seed: 0,
            lags: vec![0, 60, 300],
            owner: OWNER.to_vec(),
            v6_only: Vec::new(),
            rewrites: Vec::new(),
            hidden_primary: false,
            signed_before: false,
            child_side: Vec::new(),
            hidden: Vec::new(),
            parent: vec![60, 1800],
            parent_v6_only: Vec::new(),
            by: By::Hook,
            register: 0,
            every: 6 * HOUR,
            bootstrap: true,
            keep_old: false,
            remove_first: 0,
            digests: vec![2],
            ds_ttl: 86_400,
            parent_expire: 7 * DAY as u32,
            data_ttl: 86_400,
            soa_expire: 5 * DAY as u32,
            resign: 6 * HOUR,
            data_lifetime: 14 * DAY,
            data_remain: 7 * DAY,
            down: Vec::new(),
            parent_down: Vec::new(),
            token_down: None,
            instance_lost: None,
            token_lies: None,
            token_keeps: None,
            instances: 1,
            disk_full: None,
            network_down: None,
            spoofed: 0,
            has_ipv6: true,
            costs: Costs::default(),
            restart: false,
            crash_after: None,
            crash_down: 0,
            led: Led::Here,
            proofs: true,
            verify_after_sign: true,
            gate: true,
            max_step: 300,
            public_keys: None,
            pipeline: false,
            real: false,
            denial: Denial::Nsec,
            lines: true,
        }
    }
}

/// The product's defaults, with a hook that tells the parent.
pub fn default_policy() -> KeyPolicy {
    KeyPolicy {
        tell_parent: true,
        ..KeyPolicy::default()
    }
}

/// Nothing rolls by itself.
pub fn quiet_policy() -> KeyPolicy {
    let mut p = default_policy();
    p.ksk.validity = None;
    p.zsk.validity = None;
    p.csk.validity = None;
    p
}
