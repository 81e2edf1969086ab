//! The PKCS#11 backend: a vendor's module, its tokens, and keys that sign and never leave them.
//!
//! - [`Hsm`] loads the module and opens tokens by name and PIN (`slot.rs` says which one is meant,
//!   `login.rs` who may use it).
//! - [`Token`] makes, finds, names, uses and destroys keys.
//! - Behind it a pool of threads, one for each session (`pool.rs`): `worker.rs` draws the
//!   conclusions from errors, `breaker.rs` answers at once while the device is away.
//!
//! A module may block, crash or lie. Against crashing helps a process of its own; against lying
//! help those who use the signatures: they verify each. Blocking is dealt with here.

mod algorithm;
mod breaker;
mod error;
mod generate;
mod hsm;
mod id;
mod job;
mod key;
mod known;
mod login;
mod module;
mod objects;
mod point;
mod pool;
mod raw;
mod session;
mod sign;
mod slot;
mod token;
mod worker;

pub use algorithm::KeyAlgorithm;
pub use breaker::{Open as Away, PAUSES};
pub use error::{HsmError, ModuleError, Unavailable};
pub use generate::{Made, Naming, NewPair};
pub use hsm::{Event, Hsm, Observer, Settings};
pub use id::{Half, IdForm, KeyId};
pub use key::{Hash, KeyKind, MAX_MESSAGE, Mechanism, PublicKey, SignInput};
pub use login::REFUSED_FOR;
pub use module::check_file;
pub use objects::{MAX_LABEL, MAX_OBJECTS, ObjectInfo};
pub use pool::{HANGS_IN_A_ROW, MAX_IN_FLIGHT, MAX_SESSIONS, SessionStats};
pub use secrecy::SecretString;
pub use slot::{SlotEntry, TokenEntry, choose, describe};
pub use token::{MAX_BATCH, Token};
