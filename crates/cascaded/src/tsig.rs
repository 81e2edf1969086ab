//! TSIG keys: kept in the state, handed to the DNS servers, never shown again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use cascade_archive::{State, Table};
use cascade_wire::TsigKeys;
use cascade_wire::tsig::{Algorithm, TsigKey};
use cascade_zone::Name;
use data_encoding::BASE64;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

/// Shortest and longest secret. RFC 8945 §8 wants at least the digest's length where possible;
/// what is shorter than 16 octets can be guessed.
pub const SECRET_MIN: usize = 16;
pub const SECRET_MAX: usize = 1024;

/// A key as it is stored. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TsigRow {
    pub algorithm: String,
    /// Base64.
    secret: String,
}

impl std::fmt::Debug for TsigRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TsigRow({})", self.algorithm)
    }
}

impl TsigRow {
    pub fn new(algorithm: Algorithm, secret: &[u8]) -> Self {
        TsigRow {
            algorithm: algorithm.name().into(),
            secret: BASE64.encode(secret),
        }
    }

    /// For the one answer that shows it.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    fn key(&self, name: &str) -> Option<TsigKey> {
        let secret = BASE64.decode(self.secret.as_bytes()).ok()?;
        let name = Name::parse(name).ok()?;
        Some(TsigKey::new(
            &name,
            Algorithm::parse(&self.algorithm)?,
            &secret,
        ))
    }
}

/// Keys of the daemon, by name in lower case without final dot.
#[derive(Debug)]
pub struct Tsig {
    rows: RwLock<BTreeMap<String, TsigRow>>,
    keys: ArcSwap<TsigKeys>,
}

impl Tsig {
    /// Keys as an earlier process left them.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn stored(state: &State) -> Result<Self, String> {
        let rows: Vec<(String, TsigRow)> = state
            .list(Table::TsigKeys, None, usize::MAX)
            .map_err(|e| e.to_string())?;
        let tsig = Tsig {
            rows: RwLock::new(rows.into_iter().collect()),
            keys: ArcSwap::default(),
        };
        tsig.rebuild();
        Ok(tsig)
    }

    /// The keys, ready for the servers.
    pub fn keys(&self) -> Arc<TsigKeys> {
        self.keys.load_full()
    }

    pub fn names(&self) -> BTreeSet<String> {
        self.rows.read().keys().cloned().collect()
    }

    /// Name and algorithm of each.
    pub fn list(&self) -> Vec<(String, String)> {
        let rows = self.rows.read();
        rows.iter()
            .map(|(n, r)| (n.clone(), r.algorithm.clone()))
            .collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.rows.read().contains_key(name)
    }

    /// After the change is durable.
    pub fn put(&self, name: &str, row: Option<TsigRow>) {
        match row {
            Some(row) => _ = self.rows.write().insert(name.to_string(), row),
            None => _ = self.rows.write().remove(name),
        }
        self.rebuild();
    }

    fn rebuild(&self) {
        let mut keys = Vec::new();
        for (name, row) in self.rows.read().iter() {
            match row.key(name) {
                Some(key) => keys.push(key),
                None => tracing::error!(
                    "TSIG key '{name}' in the state cannot be used; remove it and add it again: cascade tsig remove {name}"
                ),
            }
        }
        self.keys.store(Arc::new(TsigKeys::new(keys)));
    }
}

/// A key's name as it is kept: names of keys are domain names (RFC 8945 §4.2).
pub fn canonical(name: &str) -> Option<String> {
    let name = Name::parse(name).ok()?.to_lowercase().without_dot();
    (name != ".").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_domain_names() {
        assert_eq!(canonical("Xfr1").as_deref(), Some("xfr1"));
        assert_eq!(canonical("a.B.").as_deref(), Some("a.b"));
        assert_eq!(canonical("."), None);
        assert_eq!(canonical(""), None);
        assert_eq!(canonical("a..b"), None);
    }

    #[test]
    fn a_row_hides_its_secret_and_makes_a_key() {
        let row = TsigRow::new(Algorithm::HmacSha256, b"0123456789abcdef");
        assert!(!format!("{row:?}").contains(row.secret()));
        let key = row.key("Xfr1").unwrap();
        assert_eq!(key.name().to_string(), "xfr1.");
        assert_eq!(key.algorithm(), Algorithm::HmacSha256);
        let broken = TsigRow {
            secret: "***".into(),
            ..row
        };
        assert!(broken.key("xfr1").is_none());
    }
}
