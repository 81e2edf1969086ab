//! A PKCS#11 module with the manners of a network HSM, for tests only.
//!
//! It behaves as NetHSM and its module were seen to behave, where that is not what the standard's
//! reader expects; each manner is a line of [`config::Manners`]. `NETLIKE_CONFIG` names the
//! configuration. A file beside it with `.control` behind its name may hold other manners, and is
//! read again whenever it changes: so a test takes the device away and brings it back.
//!
//! ```toml
//! store = "/tmp/netlike/keys"   # made if it does not exist; a file for each key
//! pin = "123456"
//! login-log = "/tmp/netlike/logins"
//! [[slot]]                      # label = "LocalHSM", description = "NetHSM", serial = "unknown"
//! [[slot]]
//! [manners]
//! latency-us = 10000
//! lie-every = 1000
//! ```
//!
//! Keys are real and live in files without any protection. Never use it for more than tests.
#![allow(
    clippy::disallowed_methods,
    reason = "a PKCS#11 module has nobody who gives it clock and environment"
)]

mod attributes;
mod config;
mod device;
mod entry;
mod keys;
mod sessions;
