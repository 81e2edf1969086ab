//! The keys of one zone: made at first need, imported, loaded for signing (first form: no rolls).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cascade_crypto::{
    DigestType, Dnskey, FileKeyStore, KeyError, KeySpec, NewKey, Role, SigningKey, StoredKey,
    ZoneRef,
};
use cascade_pipeline::state::KeySet;
use cascade_policy::{CdsMode, DsDigest, KeyAlgorithm, Policy};
use cascade_signer::{ApexKey, ApexOptions};
use cascade_time::Timestamp;
use cascade_zone::{KeyId, Name, ZoneId};
use serde::{Deserialize, Serialize};

use crate::settings::digest;
use crate::stores::KeyStores;

/// A key as it is kept: times are stored, states derived (RFC 7583 §3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// 26 characters; see [`KeyId`].
    pub id: String,
    /// `k7`: counted per zone, for people.
    pub short: String,
    pub role: KeyRole,
    /// DNSKEY RDATA in hexadecimal: the identity of the key.
    pub dnskey: String,
    /// Where the private half is.
    pub reference: String,
    pub imported: bool,
    pub generated_at: Timestamp,
    pub published_at: Option<Timestamp>,
    pub active_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyRole {
    Ksk,
    Zsk,
    Csk,
    /// Published only: the key of another signer.
    Foreign,
}

impl KeyRole {
    fn role(self) -> Option<Role> {
        match self {
            KeyRole::Ksk => Some(Role::Ksk),
            KeyRole::Zsk => Some(Role::Zsk),
            KeyRole::Csk => Some(Role::Csk),
            KeyRole::Foreign => None,
        }
    }
}

impl KeyRow {
    pub fn dnskey(&self) -> Option<Dnskey> {
        let bytes = data_encoding::HEXLOWER
            .decode(self.dnskey.as_bytes())
            .ok()?;
        Dnskey::from_rdata(&bytes).ok()
    }

    /// When a roll becomes due; imported and foreign keys do not expire by themselves.
    pub fn expires_at(&self, policy: &Policy) -> Option<Timestamp> {
        if self.imported {
            return None;
        }
        let km = &policy.key_manager;
        let validity = match self.role {
            KeyRole::Ksk => km.ksk.validity,
            KeyRole::Zsk => km.zsk.validity,
            KeyRole::Csk => km.csk.validity,
            KeyRole::Foreign => return None,
        };
        Some(self.active_at? + validity.span()?)
    }
}

/// A key to be imported, as the control API names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Import {
    File { role: KeyRole, path: String },
    Public { path: String },
}

/// Makes, finds and loads the keys of zones, each in its store.
#[derive(Debug)]
pub struct Keyring {
    stores: Arc<KeyStores>,
}

/// Why a zone has no keys to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("key {0}: its public key cannot be read from the state; roll to a new key")]
    BadRow(String),
    #[error("{0}")]
    Import(String),
    #[error("the algorithm {0} is not available in this build")]
    Algorithm(String),
}

/// The keys of a zone ready for use.
#[derive(Clone)]
pub struct Loaded {
    pub keys: Vec<ApexKey>,
    pub set: KeySet,
}

impl Keyring {
    pub fn new(stores: Arc<KeyStores>) -> Self {
        Keyring { stores }
    }

    /// Makes what the policy wants and the zone lacks: KSK and ZSK, or a CSK. Blocking; durable
    /// when it returns.
    ///
    /// # Errors
    /// Keys that were made before the error stay in the key store and are found again.
    pub fn complete(
        &self,
        zone: ZoneRef<'_>,
        rows: &mut Vec<KeyRow>,
        policy: &Policy,
        new_id: &mut dyn FnMut() -> KeyId,
        now: Timestamp,
    ) -> Result<(), KeyringError> {
        let generation = &policy.key_manager.generation;
        let has = |rows: &[KeyRow], roles: &[KeyRole]| rows.iter().any(|r| roles.contains(&r.role));
        let mut wanted = Vec::new();
        let apex_missing = !has(rows, &[KeyRole::Ksk, KeyRole::Csk]);
        let zone_missing = !has(rows, &[KeyRole::Zsk, KeyRole::Csk]);
        match (apex_missing, zone_missing, generation.use_csk) {
            (true, true, true) => wanted.push(Role::Csk),
            (apex, data, _) => {
                if apex {
                    wanted.push(Role::Ksk);
                }
                if data {
                    wanted.push(Role::Zsk);
                }
            }
        }
        for role in wanted {
            let home = if role == Role::Zsk {
                generation.zsk_home()
            } else {
                generation.ksk_home()
            };
            let store = self.stores.home(home)?;
            let spec = spec_of(generation.algorithm)?;
            let id = new_id();
            let taken = taken_tags(rows);
            let tags = generation.tag_range;
            let stored = store.generate(&NewKey {
                id,
                zone,
                role,
                spec,
                taken_tags: &taken,
                tag_range: tags.first..=tags.last,
                now,
            })?;
            rows.push(row(id, rows, role_of(role), &stored, false, now));
        }
        Ok(())
    }

    /// Imports keys made elsewhere; all or none is taken into `rows`.
    pub fn import(
        &self,
        zone: ZoneRef<'_>,
        rows: &mut Vec<KeyRow>,
        imports: &[Import],
        new_id: &mut dyn FnMut() -> KeyId,
        now: Timestamp,
    ) -> Result<(), KeyringError> {
        let mut new = rows.clone();
        let mut written: Vec<StoredKey> = Vec::new();
        let done = self.import_all(zone, &mut new, &mut written, imports, new_id, now);
        if let Err(e) = done.and_then(|()| complete_roles(&new)) {
            for key in &written {
                // A copy of a key that was refused; the original is not ours to touch.
                let store = self.stores.of_reference(&key.reference);
                let _ = store.and_then(|s| s.destroy(zone, key));
            }
            return Err(e);
        }
        *rows = new;
        Ok(())
    }

    fn import_all(
        &self,
        zone: ZoneRef<'_>,
        rows: &mut Vec<KeyRow>,
        written: &mut Vec<StoredKey>,
        imports: &[Import],
        new_id: &mut dyn FnMut() -> KeyId,
        now: Timestamp,
    ) -> Result<(), KeyringError> {
        for import in imports {
            let id = new_id();
            match import {
                Import::Public { path } => {
                    let dnskey = FileKeyStore::read_public(zone.name, Path::new(path))?;
                    let stored = StoredKey {
                        reference: format!("file://{path}"),
                        dnskey,
                    };
                    rows.push(row(id, rows, KeyRole::Foreign, &stored, true, now));
                }
                Import::File { role, path } => {
                    let stored = self.stores.file().import(id, zone, Path::new(path), now)?;
                    written.push(stored.clone());
                    let sep = stored.dnskey.is_sep();
                    if sep != matches!(role, KeyRole::Ksk | KeyRole::Csk) {
                        return Err(KeyringError::Import(format!(
                            "{path} has flags {}, which does not fit the role it is imported for; KSK and CSK have 257, ZSK 256",
                            stored.dnskey.flags()
                        )));
                    }
                    if rows
                        .iter()
                        .any(|r| r.dnskey().is_some_and(|k| k.is_same_key(&stored.dnskey)))
                    {
                        return Err(KeyringError::Import(format!(
                            "{path} is a key that the zone has already"
                        )));
                    }
                    rows.push(row(id, rows, *role, &stored, true, now));
                }
            }
        }
        Ok(())
    }

    /// Loads the private halves. Blocking.
    pub fn load(
        &self,
        zone: ZoneRef<'_>,
        rows: &[KeyRow],
        policy: &Policy,
    ) -> Result<Loaded, KeyringError> {
        let mut keys = Vec::with_capacity(rows.len());
        for r in rows {
            let dnskey = r
                .dnskey()
                .ok_or_else(|| KeyringError::BadRow(r.short.clone()))?;
            let id = KeyId::parse(&r.id).ok_or_else(|| KeyringError::BadRow(r.short.clone()))?;
            let stored = StoredKey {
                reference: r.reference.clone(),
                dnskey: dnskey.clone(),
            };
            let signer: Option<Arc<dyn SigningKey>> = match r.role {
                KeyRole::Foreign => None,
                _ => {
                    let store = self.stores.of_reference(&r.reference)?;
                    Some(store.load(id, zone, &stored)?)
                }
            };
            keys.push(ApexKey {
                dnskey,
                role: r.role.role().unwrap_or(Role::Zsk),
                signer,
                wanted_at_parent: matches!(r.role, KeyRole::Ksk | KeyRole::Csk),
            });
        }
        Ok(Loaded {
            keys,
            set: key_set(rows, policy),
        })
    }

    /// Destroys the private halves of a removed zone.
    pub fn purge(&self, zone: ZoneRef<'_>, rows: &[KeyRow]) -> Result<(), KeyringError> {
        for r in rows.iter().filter(|r| r.role != KeyRole::Foreign) {
            let dnskey = r
                .dnskey()
                .ok_or_else(|| KeyringError::BadRow(r.short.clone()))?;
            let key = StoredKey {
                reference: r.reference.clone(),
                dnskey,
            };
            self.stores
                .of_reference(&key.reference)?
                .destroy(zone, &key)?;
        }
        Ok(())
    }
}

/// A KSK without somebody to sign the data, or the reverse, cannot sign a zone.
fn complete_roles(rows: &[KeyRow]) -> Result<(), KeyringError> {
    let has = |roles: &[KeyRole]| rows.iter().any(|r| roles.contains(&r.role));
    let (apex, data) = (
        has(&[KeyRole::Ksk, KeyRole::Csk]),
        has(&[KeyRole::Zsk, KeyRole::Csk]),
    );
    match (apex, data) {
        (true, false) => Err(KeyringError::Import(
            "a KSK was given without a ZSK; import both, or a CSK".into(),
        )),
        (false, true) => Err(KeyringError::Import(
            "a ZSK was given without a KSK; import both, or a CSK".into(),
        )),
        _ => Ok(()),
    }
}

/// Names the keys and what is published of them: a live version with another set is signed again.
pub fn key_set(rows: &[KeyRow], policy: &Policy) -> KeySet {
    if rows.is_empty() {
        return KeySet::default();
    }
    let options = apex_options(policy);
    let list = |roles: &[KeyRole]| {
        let mut all: Vec<&str> = rows
            .iter()
            .filter(|r| roles.contains(&r.role))
            .map(|r| r.dnskey.as_str())
            .collect();
        all.sort_unstable();
        all.join(",")
    };
    let every = [KeyRole::Ksk, KeyRole::Zsk, KeyRole::Csk, KeyRole::Foreign];
    let apex = format!(
        "{} {} {:?} {}",
        list(&every),
        options.ttl,
        options.cds,
        options.cdnskey
    );
    KeySet {
        apex: digest(apex.as_bytes()),
        signing: digest(list(&[KeyRole::Zsk, KeyRole::Csk]).as_bytes()),
    }
}

pub fn apex_options(policy: &Policy) -> ApexOptions {
    let km = &policy.key_manager;
    // Whether the parent follows is not observed yet, so "when needed" is always.
    let publish = !matches!(km.ds.cds, CdsMode::Never);
    let secs = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
    let times = &km.records.dnskey;
    let cds = &km.records.cds;
    ApexOptions {
        ttl: secs(km.records.ttl),
        cds: if publish { digests(policy) } else { Vec::new() },
        cdnskey: publish && km.ds.cdnskey,
        lifetime: secs(times.signature_lifetime.min(cds.signature_lifetime)),
        inception_offset: secs(
            times
                .signature_inception_offset
                .max(cds.signature_inception_offset),
        ),
    }
}

/// Digest types of DS and CDS.
pub fn digests(policy: &Policy) -> Vec<DigestType> {
    policy
        .key_manager
        .ds_algorithm
        .0
        .iter()
        .map(|d| match d {
            DsDigest::Sha256 => DigestType::Sha256,
            DsDigest::Sha384 => DigestType::Sha384,
        })
        .collect()
}

fn spec_of(algorithm: KeyAlgorithm) -> Result<KeySpec, KeyringError> {
    let text = match algorithm.rsa_bits() {
        Some(bits) => format!("{}:{bits}", algorithm.name()),
        None => algorithm.name().to_string(),
    };
    text.parse().map_err(|_| KeyringError::Algorithm(text))
}

fn role_of(role: Role) -> KeyRole {
    match role {
        Role::Ksk => KeyRole::Ksk,
        Role::Zsk => KeyRole::Zsk,
        Role::Csk => KeyRole::Csk,
    }
}

fn row(
    id: KeyId,
    rows: &[KeyRow],
    role: KeyRole,
    key: &StoredKey,
    imported: bool,
    now: Timestamp,
) -> KeyRow {
    let last = rows
        .iter()
        .filter_map(|r| r.short.strip_prefix('k')?.parse::<u64>().ok())
        .max()
        .unwrap_or(0);
    KeyRow {
        id: id.to_string(),
        short: format!("k{}", last + 1),
        role,
        dnskey: data_encoding::HEXLOWER.encode(key.dnskey.rdata()),
        reference: key.reference.clone(),
        imported,
        generated_at: now,
        published_at: None,
        active_at: None,
    }
}

/// Tags and revoked tags of all keys of the zone (keys.md §3 step 3).
fn taken_tags(rows: &[KeyRow]) -> Vec<u16> {
    rows.iter()
        .filter_map(KeyRow::dnskey)
        .flat_map(|k| [k.key_tag(), k.revoked_tag()])
        .collect()
}

/// Owner of the two ids a key store wants.
pub fn zone_ref(id: ZoneId, name: &Name) -> ZoneRef<'_> {
    ZoneRef { id, name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        match cascade_policy::parse_policy(
            "p",
            "p.toml",
            cascade_policy::template_policy().as_bytes(),
        ) {
            Ok(p) => p.policy,
            Err(e) => panic!("{e:?}"),
        }
    }

    fn ring(dir: &Path) -> Keyring {
        Keyring::new(Arc::new(KeyStores::new(dir)))
    }

    fn ids() -> impl FnMut() -> KeyId {
        let mut n = 0u8;
        move || {
            n += 1;
            KeyId([n; 16])
        }
    }

    #[test]
    fn first_keys_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(dir.path());
        let name = Name::parse("example").unwrap();
        let zone = zone_ref(ZoneId([9; 16]), &name);
        let now = Timestamp::from_secs(1_800_000_000);
        let mut rows = Vec::new();
        let mut next = ids();
        ring.complete(zone, &mut rows, &policy(), &mut next, now)
            .unwrap();
        assert_eq!(
            rows.iter()
                .map(|r| (r.role, r.short.as_str()))
                .collect::<Vec<_>>(),
            [(KeyRole::Ksk, "k1"), (KeyRole::Zsk, "k2")]
        );
        let before = rows.clone();
        ring.complete(zone, &mut rows, &policy(), &mut next, now)
            .unwrap();
        assert_eq!(rows, before);
        let loaded = ring.load(zone, &rows, &policy()).unwrap();
        assert_eq!(loaded.keys.len(), 2);
        assert_ne!(loaded.set, KeySet::default());
        assert_eq!(rows[0].expires_at(&policy()), None, "not active yet");
        rows[0].active_at = Some(now);
        assert_eq!(
            rows[0].expires_at(&policy()),
            Some(now + Duration::from_secs(365 * 86_400))
        );
        ring.purge(zone, &rows).unwrap();
        assert!(ring.load(zone, &rows, &policy()).is_err());
    }

    #[test]
    fn an_hsm_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(dir.path());
        let text =
            cascade_policy::template_policy().replace("#hsm-server-id = ", "hsm-server-id = ");
        let policy = cascade_policy::parse_policy("p", "p.toml", text.as_bytes())
            .unwrap()
            .policy;
        let name = Name::parse("example").unwrap();
        let mut rows = Vec::new();
        let e = ring
            .complete(
                zone_ref(ZoneId([9; 16]), &name),
                &mut rows,
                &policy,
                &mut ids(),
                Timestamp::EPOCH,
            )
            .unwrap_err();
        assert!(e.to_string().contains("cascade hsm add kmip2pkcs11"), "{e}");
        assert!(rows.is_empty());
    }

    #[test]
    fn half_an_import_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (ring(&dir.path().join("a")), ring(&dir.path().join("b")));
        let name = Name::parse("example").unwrap();
        let zone = zone_ref(ZoneId([9; 16]), &name);
        let mut made = Vec::new();
        a.complete(zone, &mut made, &policy(), &mut ids(), Timestamp::EPOCH)
            .unwrap();
        let path = |r: &KeyRow| r.reference.strip_prefix("file://").unwrap().to_string();
        let ksk = Import::File {
            role: KeyRole::Ksk,
            path: path(&made[0]),
        };
        let zsk = Import::File {
            role: KeyRole::Zsk,
            path: path(&made[1]),
        };
        let mut rows = Vec::new();
        let e = b
            .import(
                zone,
                &mut rows,
                std::slice::from_ref(&ksk),
                &mut ids(),
                Timestamp::EPOCH,
            )
            .unwrap_err();
        assert!(e.to_string().contains("without a ZSK"), "{e}");
        assert!(rows.is_empty());
        b.import(
            zone,
            &mut rows,
            &[ksk.clone(), zsk],
            &mut ids(),
            Timestamp::EPOCH,
        )
        .unwrap();
        assert!(rows.iter().all(|r| r.imported));
        let wrong = Import::File {
            role: KeyRole::Zsk,
            path: path(&made[0]),
        };
        assert!(
            b.import(zone, &mut rows, &[wrong], &mut ids(), Timestamp::EPOCH)
                .is_err()
        );
        assert_eq!(rows.len(), 2);
    }
}
