//! Scenario files: a world, a policy, what happens when, and what must be so.
//!
//! ```text
//! scenario ksk-old-ds-left
//! zone     policy=quiet data-ttl=1d expire=5d
//! parent   copy=1m,30m ds-ttl=1d by=cds every=6h keep-old=yes
//! at 20d   operator start-roll ksk
//! at 40d   expect roll ksk state=await-ds-seen
//! at 90d   parent keep-old=no apply=k3
//! within 5d expect roll ksk done
//! run 120d
//! ```
//!
//! One parser for all commands; an unknown word is an error with its line and column. The language
//! is described in `integration/sim/README.md`.

mod parse;
mod pattern;
mod settings;
mod words;

use cascade_keys::{Class, KeyNum, KeyPolicy, KeyState, Role, Stage, Step, Strategy};
use thiserror::Error;

use crate::config::{By, Config, Led};
use crate::fault::Faults;
use crate::parent::Ds;
use crate::real::Denial;

pub(crate) use parse::deeds_of;
pub use parse::{expand, parse};
pub use pattern::matches;
pub use settings::apply_policy;

/// Where a scenario cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{line}:{column}: {text}")]
pub struct ScenarioError {
    pub line: usize,
    pub column: usize,
    pub text: String,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    /// The text it was read from, sweeps filled in.
    pub text: String,
    pub policy: KeyPolicy,
    pub config: Config,
    pub lines: Vec<Line>,
    /// Seconds.
    pub run: u64,
    /// First and last seed.
    pub seeds: (u64, u64),
    pub faults: Faults,
}

#[derive(Clone, Debug)]
pub struct Line {
    pub number: usize,
    pub when: When,
    pub what: What,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum When {
    Always,
    /// Seconds since the beginning.
    At(u64),
    Every {
        every: u64,
        from: u64,
        to: u64,
    },
    After {
        trigger: Trigger,
        delay: u64,
    },
}

/// The first time that something happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    Enters(Class, Stage),
    Done(Class),
    Starts(Class),
    KeyGenerated(u32),
    Published,
}

#[derive(Clone, Debug)]
pub enum What {
    Do(Deed),
    Expect(Cond),
    /// Seconds after the line's time.
    Within(u64, Cond),
    Never(Cond),
    /// The forecast for so many seconds must be what happens.
    Forecast(u64),
    /// An emergency begins, and ends when its plan says.
    Plan(Role, Strategy),
}

/// Something that changes the world.
#[derive(Clone, PartialEq, Debug)]
pub enum Deed {
    Order(Order, Answer),
    Policy(Vec<(String, String)>),
    DataTtl(u32),
    Led(Led),
    Denial(Denial),
    Remove,
    TakeBack,
    Upgrade,
    Source(u32),
    Truncated(bool),
    ParentDsTtl(u32),
    ParentBy(By),
    ParentKeepOld(bool),
    ParentRemoveFirst(u64),
    ParentRegister(u64),
    ParentCopy(Vec<u64>),
    ParentDigests(Vec<u8>),
    ParentApply(Vec<ApplyDs>),
    ParentDown(usize, u64),
    ParentMoves(Vec<u64>),
    ParentChildSide(Vec<usize>),
    SecondaryDown(usize, u64),
    SecondaryLag(usize, u64),
    SecondaryRewind(usize, u64, u64),
    /// Period, duration, and whether it begins with the old content.
    SecondaryFlip(usize, u64, u64, bool),
    SecondaryRefuse(usize, u64),
    SecondaryForge(usize, u64),
    TokenDown(u64),
    /// One of several instances is away, and comes back as it was before.
    TokenInstanceLost(u64),
    TokenLies(u64, u64),
    TokenLoses(KeyNum),
    TokenRestores(KeyNum),
    TokenCollides(u32),
    TokenUnsynchronised(bool),
    /// Destroying a key fails for so long.
    TokenKeeps(u64),
    LoseSignature(u32),
    DiskFull(u64),
    NetworkDown(u64),
    ClockStep(i64),
    Kill,
    Restart(u64),
}

/// A DS of a scenario line: a key's, or `None` for somebody else's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApplyDs {
    pub key: Option<KeyNum>,
    /// `None` = as the parent makes them.
    pub digest: Option<u8>,
    pub wrong: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    Start(Class),
    Propagated(Class, Step, u32, bool),
    Expired(Class, Step),
    RollDone(Class, bool),
    Remove(KeyNum, bool),
    Emergency(Role, Strategy),
    BackedUp(KeyNum),
    ConfirmClock,
    Rollback,
    Import,
    Pause,
    Resume,
    Check,
}

/// What the order must be answered with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Done,
    Refused(String),
    Any,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cond {
    Running {
        class: Class,
        state: Option<String>,
        stage: Option<Stage>,
        why: Option<String>,
    },
    NotRunning(Class),
    Done(Class, usize),
    NoRolls,
    Why(String),
    NoAlert,
    Alert(String),
    Critical,
    Is(Flag, bool),
    Dnskey(Vec<KeyNum>),
    Signers(Vec<KeyNum>),
    Cds(CdsIs),
    /// Content of the version that is served.
    Content(u32),
    /// Keys with a DS at every parent server.
    DsIs(Vec<KeyNum>),
    Key(KeyNum, KeyState),
    Count(Counter, u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flag {
    Published,
    Settled,
    Linked,
    Island,
    Unsigned,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CdsIs {
    None,
    Delete,
    Keys(Vec<KeyNum>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counter {
    Destroyed,
    Reminders,
    Refused,
    Restarts,
    Announced,
    Keys,
    Held,
}

impl ApplyDs {
    /// As it stands at the parent.
    pub fn ds(&self, algorithm: u8, digests: &[u8]) -> Vec<Ds> {
        let types = match self.digest {
            Some(d) => vec![d],
            None => digests.to_vec(),
        };
        types
            .into_iter()
            .map(|digest_type| Ds {
                key: self.key,
                algorithm,
                digest_type,
                fits: !self.wrong,
            })
            .collect()
    }
}
