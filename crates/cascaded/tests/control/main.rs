//! The control API of a running daemon: what is asked, what is done, what is remembered.

mod daemon;
mod keys;
mod operations;
mod settings;
mod tokens;
