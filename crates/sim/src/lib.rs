//! The decision code in a simulated world: parent, secondaries, caches, token and operator under a
//! virtual clock, with an answer after every event to one question: could any validating resolver
//! anywhere see bogus data now?
//!
//! The decisions are the product's own ([`cascade_keys::next_action`] and its siblings); all else
//! is a model. Zone data are classes of RRsets, signatures are (key, dates), so a year of rolls
//! takes milliseconds (level K of the simulator). At level Z versions go through the product's
//! pipeline, and where they are real also through its loader, signer, gate and publisher. One seed
//! decides everything that chance decides: a failure is a scenario and a number.
//!
//! ```text
//! rng     config   world              chance by name; knobs; clock, queue and order of events
//! daemon  servers  parent   life       who acts: the product, the zone's servers, the parent's; the zone
//! reach   check    steps    shown      what caches may hold; invariants; steps and their evidence;
//!                                     what a resolver gets that asks now
//! pipe     real                       level Z: the product's pipeline, crashes, its recovery; zones
//!                                     with real keys, signatures and messages
//! scenario  cond   deed    run        scenario files and their execution
//! fault     cross  failure            standard faults, all of them, what is left of a failure
//! explore   small                     random worlds; every order of events in small ones
//! ```

mod config;
mod rng;
mod world;

mod daemon;
mod life;
mod note;
mod parent;
mod pipe;
mod real;
mod servers;

mod check;
mod reach;
mod shown;
mod steps;

mod cond;
mod deed;

pub mod cross;
pub mod explore;
pub mod failure;
pub mod fault;
pub mod many;
pub mod run;
pub mod scenario;
pub mod small;

pub use check::{Broken, Rule};
pub use config::{By, Config, Costs, Led, OWNER, default_policy, quiet_policy};
pub use parent::Ds;
pub use reach::{Content, list};
pub use real::{Counts, Denial};
pub use rng::Rng;
pub use shown::Shown;
pub use world::World;

pub const MINUTE: u64 = 60;
pub const HOUR: u64 = 3600;
pub const DAY: u64 = 86_400;
