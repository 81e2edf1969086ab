//! The control API of a running daemon: what is asked, what is done, what is remembered.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod activation;
mod daemon;
mod keys;
mod operations;
mod settings;
mod tokens;
