//! Keys in their stores: made, imported, loaded, destroyed. All of it blocks.

use std::path::Path;
use std::sync::Arc;

use cascade_crypto::{
    FileKeyStore, KeyError, KeySpec, Labelling, NewKey, Role as KeyKind, SigningKey, StoredKey,
    ZoneRef,
};
use cascade_keys::{Event, Home, Key, KeyNum, Origin, Role, Times};
use cascade_policy::{KeyAlgorithm, KeyLabel, Policy};
use cascade_time::Timestamp;
use cascade_zone::{KeyId, Name, ZoneId};

use super::row::{KeysRow, Place, home_of};
use crate::stores::KeyStores;

/// A key to be imported, as the control API names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Import {
    File {
        role: Role,
        path: String,
    },
    Public {
        path: String,
    },
    /// In an HSM, where it was looked at and has proven itself already.
    Stored {
        role: Role,
        key: StoredKey,
    },
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
    BadRow(KeyNum),
    #[error("{0}")]
    Import(String),
    #[error("the algorithm {0} is not available in this build")]
    Algorithm(String),
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub num: KeyNum,
    pub role: Role,
    pub algorithm: u8,
    pub home: Home,
    pub standby: bool,
    /// Tags seen at the parent and at servers, besides those of the zone's own keys.
    pub taken: Vec<u16>,
}

impl Keyring {
    pub fn new(stores: Arc<KeyStores>) -> Self {
        Keyring { stores }
    }

    /// Makes a key and proves it; durable in its store when it returns, with the private half ready to
    /// sign. A file pair of the zone that no row knows was left by a crash between making and noting: it
    /// is taken instead.
    pub fn generate(
        &self,
        zone: ZoneRef<'_>,
        row: &KeysRow,
        want: &Wanted,
        policy: &Policy,
        id: KeyId,
        now: Timestamp,
    ) -> Result<(Key, Place, Arc<dyn SigningKey>), KeyringError> {
        let hsm = match &want.home {
            Home::File => None,
            Home::Hsm(id) => Some(id.as_str()),
        };
        let store = self.stores.home(hsm)?;
        let kind = kind_of(want.role).ok_or_else(|| {
            KeyringError::Import("keys of other signers are imported, never made".into())
        })?;
        let mut taken = row.zone.taken_tags();
        taken.extend(&want.taken);
        let tags = policy.key_manager.generation.tag_range;
        let left = match hsm {
            None => self.left_behind(zone, row, want)?,
            Some(_) => None,
        };
        let (stored, signer) = match left {
            Some(found) => {
                let signer = store.load(id, zone, &found)?;
                (found, signer)
            }
            None => store.generate(&NewKey {
                id,
                zone,
                role: kind,
                spec: spec_of(want.algorithm, policy.key_manager.generation.algorithm)?,
                taken_tags: &taken,
                tag_range: tags.first..=tags.last,
                labelling: labelling(policy.key_manager.generation.key_label),
                now,
            })?,
        };
        let mut key = key(id, want.num, want.role, &stored, Origin::Generated, now);
        key.standby = want.standby;
        Ok((key, place(&stored), signer))
    }

    fn left_behind(
        &self,
        zone: ZoneRef<'_>,
        row: &KeysRow,
        want: &Wanted,
    ) -> Result<Option<StoredKey>, KeyringError> {
        let all = self.stores.home(None)?.list(zone)?;
        Ok(all.into_iter().find(|s| {
            let k = &s.dnskey;
            let known = row
                .zone
                .keys
                .iter()
                .any(|r| r.is_same_key(k.algorithm_number(), k.public_key()));
            !known && k.algorithm_number() == want.algorithm && k.flags() == want.role.flags()
        }))
    }

    /// Imports keys made elsewhere; all or none is taken into `row`. `first`: the zone is being
    /// added, and its keys are in service.
    pub fn import(
        &self,
        zone: ZoneRef<'_>,
        row: &mut KeysRow,
        imports: &[Import],
        first: bool,
        new_id: &mut dyn FnMut() -> KeyId,
        now: Timestamp,
    ) -> Result<Vec<Event>, KeyringError> {
        let mut new = row.clone();
        let mut written: Vec<StoredKey> = Vec::new();
        let mut events = Vec::new();
        let done = imports.iter().try_for_each(|import| {
            let e = self.import_one(zone, &mut new, &mut written, import, first, new_id(), now)?;
            new.apply(&e);
            events.push(e);
            Ok(())
        });
        let done = done.and_then(|()| if first { complete_roles(&new) } else { Ok(()) });
        if let Err(e) = done {
            for key in &written {
                // A copy of a key that was refused; the original is not ours to touch.
                let store = self.stores.of_reference(&key.reference);
                let _ = store.and_then(|s| s.destroy(zone, key));
            }
            return Err(e);
        }
        if first && new.zone.keys.iter().any(Key::in_service) {
            // What was served before is not known; the least that is assumed is days.
            let e = Event::TakenOver {
                dnskey_ttl: 0,
                data_ttl: 0,
                ds_ttl: 0,
                at: now,
            };
            new.apply(&e);
            events.push(e);
        }
        *row = new;
        Ok(events)
    }

    fn import_one(
        &self,
        zone: ZoneRef<'_>,
        row: &mut KeysRow,
        written: &mut Vec<StoredKey>,
        import: &Import,
        first: bool,
        id: KeyId,
        now: Timestamp,
    ) -> Result<Event, KeyringError> {
        let num = row.zone.next_key();
        let (stored, role) = match import {
            Import::Public { path } => {
                let dnskey = FileKeyStore::read_public(zone.name, Path::new(path))?;
                let reference = format!("file://{path}");
                (StoredKey { reference, dnskey }, Role::Foreign)
            }
            Import::File { role, path } => {
                let stored = self.stores.file().import(id, zone, Path::new(path), now)?;
                written.push(stored.clone());
                if stored.dnskey.is_sep() != role.signs_keys() {
                    return Err(KeyringError::Import(format!(
                        "{path} has flags {}, which does not fit the role it is imported for; KSK and CSK have 257, ZSK 256",
                        stored.dnskey.flags()
                    )));
                }
                (stored, *role)
            }
            Import::Stored { role, key } => (key.clone(), *role),
        };
        let k = &stored.dnskey;
        let same = |r: &Key| r.is_same_key(k.algorithm_number(), k.public_key());
        if row.zone.keys.iter().any(same) {
            return Err(KeyringError::Import(format!(
                "{} is a key that the zone has already",
                stored.reference
            )));
        }
        let origin = match role {
            Role::Foreign => Origin::Foreign,
            _ => Origin::Imported,
        };
        let mut key = key(id, num, role, &stored, origin, now);
        // Somebody else made it, and may use it elsewhere.
        key.decoupled = matches!(import, Import::Stored { .. });
        if first && role != Role::Foreign {
            key.times.published_at = Some(now);
            key.times.active_at = Some(now);
        }
        row.places.insert(num, place(&stored));
        Ok(Event::KeyAdded {
            key,
            roll: None,
            at: now,
        })
    }

    /// The private half for signing, after it has proved to belong to the public one.
    pub fn load(
        &self,
        zone: ZoneRef<'_>,
        row: &KeysRow,
        num: KeyNum,
    ) -> Result<Arc<dyn SigningKey>, KeyringError> {
        let bad = || KeyringError::BadRow(num);
        let key = row.zone.key(num).ok_or_else(bad)?;
        let stored = row.stored(key).ok_or_else(bad)?;
        let store = self.stores.of_reference(&stored.reference)?;
        Ok(store.load(key.id, zone, &stored)?)
    }

    /// Brings file pairs where their rows say: into the trash, or out of it. Keys can be used and
    /// destroyed in either place, so what fails is only told.
    pub fn tidy(&self, zone: ZoneRef<'_>, row: &KeysRow) -> Vec<KeyringError> {
        let ours = |k: &&Key| k.role != Role::Foreign && !k.decoupled;
        let left = |k: &&Key| k.times.destroyed_at.is_none();
        let keys = row.zone.keys.iter().filter(ours).filter(left);
        keys.filter_map(|k| self.put(zone, row, k, k.times.trashed_at.is_some()).err())
            .collect()
    }

    /// All keys of a zone that is removed go to the trash.
    pub fn set_all_aside(&self, zone: ZoneRef<'_>, row: &KeysRow) -> Vec<KeyringError> {
        let ours = |k: &&Key| k.role != Role::Foreign && !k.decoupled;
        let keys = row.zone.keys.iter().filter(ours);
        keys.filter_map(|k| self.put(zone, row, k, true).err())
            .collect()
    }

    fn put(
        &self,
        zone: ZoneRef<'_>,
        row: &KeysRow,
        key: &Key,
        aside: bool,
    ) -> Result<(), KeyringError> {
        if key.home != Home::File {
            return Ok(());
        }
        let stored = row.stored(key).ok_or(KeyringError::BadRow(key.num))?;
        let store = self.stores.of_reference(&stored.reference)?;
        match aside {
            true => store.set_aside(zone, &stored)?,
            false => store.bring_back(zone, &stored)?,
        }
        Ok(())
    }

    /// Destroys one key; one that is somebody else's is only forgotten.
    pub fn destroy(
        &self,
        zone: ZoneRef<'_>,
        row: &KeysRow,
        num: KeyNum,
    ) -> Result<(), KeyringError> {
        let bad = || KeyringError::BadRow(num);
        let key = row.zone.key(num).ok_or_else(bad)?;
        if key.role == Role::Foreign || key.decoupled {
            return Ok(());
        }
        let stored = row.stored(key).ok_or_else(bad)?;
        let store = self.stores.of_reference(&stored.reference)?;
        Ok(store.destroy(zone, &stored)?)
    }

    /// Destroys the private halves of a removed zone.
    pub fn purge(&self, zone: ZoneRef<'_>, row: &KeysRow) -> Result<(), KeyringError> {
        let left = |k: &&Key| k.times.destroyed_at.is_none();
        for k in row.zone.keys.iter().filter(left) {
            self.destroy(zone, row, k.num)?;
        }
        Ok(())
    }
}

/// A KSK without somebody to sign the data, or the reverse, cannot sign a zone.
fn complete_roles(row: &KeysRow) -> Result<(), KeyringError> {
    let has = |test: fn(Role) -> bool| row.zone.keys.iter().any(|k| test(k.role));
    match (has(Role::signs_keys), has(Role::signs_data)) {
        (true, false) => Err(KeyringError::Import(
            "a KSK was given without a ZSK; import both, or a CSK".into(),
        )),
        (false, true) => Err(KeyringError::Import(
            "a ZSK was given without a KSK; import both, or a CSK".into(),
        )),
        _ => Ok(()),
    }
}

fn kind_of(role: Role) -> Option<KeyKind> {
    Some(match role {
        Role::Ksk => KeyKind::Ksk,
        Role::Zsk => KeyKind::Zsk,
        Role::Csk => KeyKind::Csk,
        Role::Foreign => return None,
    })
}

fn labelling(policy: KeyLabel) -> Labelling {
    match policy {
        KeyLabel::Auto => Labelling::Auto,
        KeyLabel::AtCreation => Labelling::AtCreation,
        KeyLabel::After => Labelling::After,
    }
}

/// Size comes from the policy as long as it has the same algorithm.
fn spec_of(number: u8, policy: KeyAlgorithm) -> Result<KeySpec, KeyringError> {
    let text = match policy.rsa_bits() {
        _ if policy.number() != number => number.to_string(),
        Some(bits) => format!("{}:{bits}", policy.name()),
        None => policy.name().to_string(),
    };
    text.parse().map_err(|_| KeyringError::Algorithm(text))
}

fn place(stored: &StoredKey) -> Place {
    Place {
        reference: stored.reference.clone(),
    }
}

fn key(
    id: KeyId,
    num: KeyNum,
    role: Role,
    stored: &StoredKey,
    origin: Origin,
    now: Timestamp,
) -> Key {
    Key {
        num,
        id,
        role,
        algorithm: stored.dnskey.algorithm_number(),
        public_key: stored.dnskey.public_key().to_vec(),
        sep: stored.dnskey.is_sep(),
        home: home_of(&stored.reference),
        origin,
        decoupled: false,
        standby: false,
        backed_up: false,
        compromised: false,
        restored: false,
        proved_at: Some(now),
        times: Times {
            generated_at: Some(now),
            ..Times::default()
        },
    }
}

/// The two names of a zone that a key store wants.
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

    fn want(num: u32, role: Role) -> Wanted {
        Wanted {
            num: KeyNum(num),
            role,
            algorithm: 13,
            home: Home::File,
            standby: false,
            taken: Vec::new(),
        }
    }

    fn make(ring: &Keyring, zone: ZoneRef<'_>, row: &mut KeysRow, role: Role) -> Key {
        let want = want(row.zone.next_key().0, role);
        let id = KeyId([row.zone.next_num as u8; 16]);
        let at = Timestamp::from_secs(1_800_000_000);
        let (key, place, _) = ring.generate(zone, row, &want, &policy(), id, at).unwrap();
        row.places.insert(key.num, place);
        let roll = None;
        row.apply(&Event::KeyAdded {
            key: key.clone(),
            roll,
            at,
        });
        key
    }

    #[test]
    fn a_key_is_made_loaded_and_destroyed() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(dir.path());
        let name = Name::parse("example").unwrap();
        let zone = zone_ref(ZoneId([9; 16]), &name);
        let mut row = KeysRow::new(&name);
        let ksk = make(&ring, zone, &mut row, Role::Ksk);
        let zsk = make(&ring, zone, &mut row, Role::Zsk);
        assert_eq!((ksk.flags(), zsk.flags()), (257, 256));
        let loaded = ring.load(zone, &row, ksk.num).unwrap();
        assert_eq!(loaded.dnskey().rdata(), ksk.dnskey_rdata());
        ring.purge(zone, &row).unwrap();
        assert!(ring.load(zone, &row, ksk.num).is_err());
    }

    #[test]
    fn a_pair_that_a_crash_left_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(dir.path());
        let name = Name::parse("example").unwrap();
        let zone = zone_ref(ZoneId([9; 16]), &name);
        let mut row = KeysRow::new(&name);
        let lost = make(&ring, zone, &mut row, Role::Ksk);
        let mut row = KeysRow::new(&name);
        // Not for another role.
        assert!(!make(&ring, zone, &mut row, Role::Zsk).is_same_key(13, &lost.public_key));
        assert!(make(&ring, zone, &mut row, Role::Ksk).is_same_key(13, &lost.public_key));
        assert!(!make(&ring, zone, &mut row, Role::Ksk).is_same_key(13, &lost.public_key));
    }

    #[test]
    fn pairs_are_where_their_rows_say() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(dir.path());
        let name = Name::parse("example").unwrap();
        let zone = zone_ref(ZoneId([9; 16]), &name);
        let mut row = KeysRow::new(&name);
        let num = make(&ring, zone, &mut row, Role::Zsk).num;
        let file = row
            .reference(num)
            .strip_prefix("file://")
            .unwrap()
            .to_owned();
        let (at, trash) = (Path::new(&file), Path::new(&file).with_file_name("trash"));
        let aside = trash.join(at.file_name().unwrap());
        let now = Timestamp::from_secs(1_800_000_000);
        let is_at = |p: &Path| p.is_file() && p.with_extension("private").is_file();
        row.apply(&Event::KeyTrashed { key: num, at: now });
        assert!(ring.tidy(zone, &row).is_empty());
        assert!(is_at(&aside) && !at.exists());
        assert!(ring.load(zone, &row, num).is_ok(), "usable where it is");
        row.apply(&Event::KeyRecovered { key: num, at: now });
        assert!(ring.tidy(zone, &row).is_empty() && ring.tidy(zone, &row).is_empty());
        assert!(is_at(at) && !aside.exists());
        // Destroyed wherever it is.
        row.apply(&Event::KeyTrashed { key: num, at: now });
        assert!(ring.tidy(zone, &row).is_empty());
        ring.destroy(zone, &row, num).unwrap();
        assert!(!aside.exists() && !aside.with_extension("private").exists());
    }

    #[test]
    fn an_hsm_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let ring = ring(dir.path());
        let name = Name::parse("example").unwrap();
        let zone = zone_ref(ZoneId([9; 16]), &name);
        let row = KeysRow::new(&name);
        let want = Wanted {
            home: Home::Hsm("kmip2pkcs11".into()),
            ..want(1, Role::Ksk)
        };
        let e = ring
            .generate(
                zone,
                &row,
                &want,
                &policy(),
                KeyId([1; 16]),
                Timestamp::EPOCH,
            )
            .map(drop)
            .unwrap_err();
        assert!(e.to_string().contains("cascade hsm add kmip2pkcs11"), "{e}");
    }

    #[test]
    fn half_an_import_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (ring(&dir.path().join("a")), ring(&dir.path().join("b")));
        let name = Name::parse("example").unwrap();
        let zone = zone_ref(ZoneId([9; 16]), &name);
        let mut made = KeysRow::new(&name);
        make(&a, zone, &mut made, Role::Ksk);
        make(&a, zone, &mut made, Role::Zsk);
        let file = |num, role| Import::File {
            role,
            path: made
                .reference(KeyNum(num))
                .strip_prefix("file://")
                .unwrap()
                .into(),
        };
        let (ksk, zsk) = (file(1, Role::Ksk), file(2, Role::Zsk));
        let mut row = KeysRow::new(&name);
        let mut n = 0u8;
        let mut ids = || {
            n += 1;
            KeyId([n; 16])
        };
        let half = std::slice::from_ref(&ksk);
        let e = b.import(zone, &mut row, half, true, &mut ids, Timestamp::EPOCH);
        assert!(e.unwrap_err().to_string().contains("without a ZSK"));
        assert!(row.zone.keys.is_empty());
        let both = [ksk.clone(), zsk];
        b.import(zone, &mut row, &both, true, &mut ids, Timestamp::EPOCH)
            .unwrap();
        assert!(
            row.zone
                .keys
                .iter()
                .all(|k| k.origin == Origin::Imported && k.in_service())
        );
        assert!(row.zone.settled_at.is_some());
        let wrong = [file(1, Role::Zsk)];
        let e = b.import(zone, &mut row, &wrong, false, &mut ids, Timestamp::EPOCH);
        assert!(e.is_err() && row.zone.keys.len() == 2);
    }
}
