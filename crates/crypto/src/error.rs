//! What can go wrong with keys. No text here ever contains octets of a private key.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::algorithm::Algorithm;

#[derive(Debug, Error)]
pub enum KeyError {
    #[error("cannot {operation} {}: {source}; check that the directory exists and belongs to this user", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} exists already; the key in it is left untouched", .0.display())]
    Exists(PathBuf),
    #[error("{} is not a directory of its own (symbolic link or file); remove it or configure another key directory", .0.display())]
    NotADirectory(PathBuf),
    #[error("{} is no regular file; give the path of a .key or .private file", .0.display())]
    NotAFile(PathBuf),
    #[error("{} is larger than {limit} octets, so it is no key file", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{}:{line}: {what}; make the key file anew with the tool it came from", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        what: &'static str,
    },
    #[error("{} lacks the field '{field}'; make the key file anew with the tool it came from", path.display())]
    Missing { path: PathBuf, field: &'static str },
    #[error("{} does not end in .key or .private; give either file of the pair", .0.display())]
    NotAKeyPath(PathBuf),
    #[error("{} is the key of '{found}', not of '{wanted}'; import it for the zone it was made for", path.display())]
    WrongOwner {
        path: PathBuf,
        found: String,
        wanted: String,
    },
    #[error("{} has algorithm {found}, its other half {other}; give both files of one key", path.display())]
    AlgorithmMismatch { path: PathBuf, found: u8, other: u8 },
    #[error("{} holds another private key than the public key beside it; give both files of one key", .0.display())]
    PairMismatch(PathBuf),
    #[error("{} has flags {flags}: {what}", path.display())]
    Flags {
        path: PathBuf,
        flags: u16,
        what: &'static str,
    },
    #[error(
        "algorithm {0} cannot be used for signing; supported are 8, 10, 13, 14 and 15 (16 in builds with Ed448)"
    )]
    Unsupported(u8),
    #[error("this build cannot use {0}; install a build with Ed448 or choose another algorithm")]
    NotBuiltIn(Algorithm),
    #[error("RSA keys of {0} bits cannot be made here; choose 2048, 3072 or 4096")]
    RsaBits(u16),
    #[error(
        "the {0} private key is not acceptable (RSA: 2048 to 8192 bits with consistent numbers); roll to a new key"
    )]
    Rejected(Algorithm),
    #[error("generating a {0} key failed in the cryptographic library; try again")]
    Generate(Algorithm),
    #[error(
        "no free key tag among {tried} new {algorithm} keys; widen the tag range or remove old keys"
    )]
    NoFreeTag { algorithm: Algorithm, tried: u32 },
    #[error("trial signature by the {0} key does not verify; the key is not used")]
    Trial(Algorithm),
    #[error("key {0} is not in this key store; check its reference")]
    NotFound(String),
    #[error("'{0}' is no reference to a key of this store")]
    BadReference(String),
    #[error("HSM '{0}' is not registered; cascade hsm add {0} <host>")]
    NoStore(String),
    /// It may work later without anybody changing anything.
    #[error("HSM '{store}' is away: {why}")]
    Away { store: String, why: String },
    #[error("HSM '{store}' did not {operation}: {why}")]
    Refused {
        store: String,
        operation: &'static str,
        why: String,
    },
    /// The private half does not make signatures that the public octets verify.
    #[error("HSM '{store}': {why}; the key is not used")]
    Unproven { store: String, why: String },
}

impl KeyError {
    pub(crate) fn io(operation: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        KeyError::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}
