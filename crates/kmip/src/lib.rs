//! KMIP 1.0 to 1.4: messages, the client's half and the server's half, for keys that sign.
//!
//! Everything but two modules turns octets and values into one another, without sockets, clocks or
//! threads.
//!
//! - [`ttlv`]: the encoding. Checks whole messages before anything is believed.
//! - [`message`], [`payload`], [`attribute`]: what is in messages.
//! - [`server`]: requests against a [`token::Token`].
//! - [`serve`]: connections, TLS and timeouts around the server's half.
//! - [`client`]: requests in flight on one connection.
//! - [`link`]: the client's connections, over TCP and TLS.
//!
//! "§" without a document means the KMIP Specification Version 1.4 (OASIS, 2017).

pub mod attribute;
pub mod client;
mod der;
pub mod enums;
pub mod failure;
pub mod ident;
pub mod key_block;
pub mod link;
pub mod mechanism;
pub mod message;
pub mod payload;
pub mod public_key;
pub mod serve;
pub mod server;
pub mod tags;
pub mod token;
pub mod ttlv;

pub use failure::Failure;
pub use ident::{Half, KeyId, ObjectId};
pub use mechanism::{Hash, Mechanism, SignInput, fixed_signature};
pub use message::{Credential, Version};
pub use public_key::{KeyKind, PublicKey};

/// Memory that a message takes when it is read, in terms of its octets, besides a constant.
///
/// The worst are lists of the smallest items: an empty Attribute Name has 8 octets and becomes a
/// `String`, a list of which has at most twice the room it needs.
pub const MEMORY_FACTOR: usize = 16;
