//! Conformance: a corpus of zone files, each loaded, signed and judged by programs of others, or
//! refused with the diagnostics that a snapshot holds.
//!
//! [`corpus`] and [`generated`] are the files; [`text`] writes what was signed in a form that
//! every judge can read; [`questions`] and [`resolver`] have a validating resolver ask about it;
//! [`sequences`] are zones on their way, changed and signed again and again;
//! [`limits`] says what a judge cannot do and why.
#![allow(
    clippy::disallowed_methods,
    reason = "a test suite that waits for other programs and signs for the present moment"
)]

pub mod corpus;
pub mod generated;
pub mod limits;
pub mod make;
pub mod questions;
pub mod resolver;
pub mod sequences;
pub mod text;
