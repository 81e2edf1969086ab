//! Where keys live: in files, or in an HSM under the name it was registered with.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use cascade_crypto::{FileKeyStore, KeyError, KeyStore};
use parking_lot::RwLock;

/// The scheme of references to keys in an HSM: `kmip://<hsm>/keys/<id>?algorithm=13&flags=257`.
const KMIP: &str = "kmip://";

/// All key stores of the daemon. HSMs come and go while it runs; the file store is always there.
pub struct KeyStores {
    file: Arc<FileKeyStore>,
    hsms: RwLock<BTreeMap<String, Arc<dyn KeyStore>>>,
}

impl fmt::Debug for KeyStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyStores({:?})", self.hsms.read().keys())
    }
}

impl KeyStores {
    /// `dir`: where key files are.
    pub fn new(dir: &Path) -> KeyStores {
        KeyStores {
            file: Arc::new(FileKeyStore::new(dir)),
            hsms: RwLock::default(),
        }
    }

    /// The store of key files; it alone imports keys.
    pub fn file(&self) -> &FileKeyStore {
        &self.file
    }

    /// The store of new keys: `home` is the id of an HSM, or `None` for files.
    ///
    /// # Errors
    /// [`KeyError::NoStore`] if no HSM of that id is registered.
    pub fn home(&self, home: Option<&str>) -> Result<Arc<dyn KeyStore>, KeyError> {
        let Some(hsm) = home else {
            return Ok(self.file.clone());
        };
        let known = self.hsms.read().get(hsm).cloned();
        known.ok_or_else(|| KeyError::NoStore(hsm.to_string()))
    }

    /// The store that a key's reference names.
    pub fn of_reference(&self, reference: &str) -> Result<Arc<dyn KeyStore>, KeyError> {
        self.home(hsm_of(reference))
    }

    pub fn is_registered(&self, hsm: &str) -> bool {
        self.hsms.read().contains_key(hsm)
    }

    /// Registers an HSM, or replaces it.
    pub fn put(&self, hsm: &str, store: Arc<dyn KeyStore>) {
        self.hsms.write().insert(hsm.to_string(), store);
    }

    pub fn remove(&self, hsm: &str) {
        self.hsms.write().remove(hsm);
    }
}

/// The HSM that a key's reference names; `None` for keys in files.
pub fn hsm_of(reference: &str) -> Option<&str> {
    let (hsm, _) = reference.strip_prefix(KMIP)?.split_once('/')?;
    Some(hsm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_their_store() {
        let dir = tempfile::tempdir().unwrap();
        let stores = KeyStores::new(dir.path());
        assert_eq!(hsm_of("kmip://a.b/keys/AB_pub?algorithm=13"), Some("a.b"));
        assert_eq!(hsm_of("file:///var/lib/x.key"), None);
        assert!(stores.of_reference("file:///x.key").is_ok());
        let e = stores.of_reference("kmip://vault/keys/AB_pub").err();
        assert!(matches!(e, Some(KeyError::NoStore(hsm)) if hsm == "vault"));
        stores.put("vault", Arc::new(FileKeyStore::new(dir.path())));
        assert!(stores.of_reference("kmip://vault/keys/AB_pub").is_ok());
        stores.remove("vault");
        assert!(!stores.is_registered("vault"));
    }
}
