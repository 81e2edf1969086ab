//! The key store trait: where keys are made and kept. Keys are found by public key octets, never
//! by label, tag or position.

use std::ops::RangeInclusive;
use std::sync::Arc;

use cascade_time::Timestamp;
use cascade_zone::{KeyId, Name, ZoneId};

use crate::algorithm::KeySpec;
use crate::dnskey::{Dnskey, Role};
use crate::error::KeyError;
use crate::sign::SigningKey;

/// The zone a key belongs to.
#[derive(Clone, Copy, Debug)]
pub struct ZoneRef<'a> {
    pub id: ZoneId,
    pub name: &'a Name,
}

/// When a store that labels keys does so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Labelling {
    /// As the store can.
    #[default]
    Auto,
    /// When the key is made, and never again.
    AtCreation,
    /// Once its tag is known.
    After,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    pub id: KeyId,
    pub zone: ZoneRef<'a>,
    pub role: Role,
    pub spec: KeySpec,
    /// Tags that neither the key nor its revoked form may have.
    pub taken_tags: &'a [u16],
    /// Where the key's tag must lie.
    pub tag_range: RangeInclusive<u16>,
    /// For people who look at the store with other tools.
    pub labelling: Labelling,
    pub now: Timestamp,
}

/// A key that a store holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredKey {
    /// Names the key to people and to its store; never its identity.
    pub reference: String,
    pub dnskey: Dnskey,
}

/// A place where keys are made and kept.
///
/// Every method names zone and key, does its work durably before it returns, and may be called
/// again after a crash:
/// 1. `generate` leaves a whole key or nothing that counts as a key.
/// 2. `load` gives a key only if its private half proves to belong to the public octets asked for.
/// 3. `destroy` of a key that is gone succeeds.
pub trait KeyStore: Send + Sync {
    /// Makes a key, stores it, reads it back and proves it by a trial signature. What comes with it is the
    /// key as it was read back, ready to sign.
    fn generate(&self, want: &NewKey<'_>) -> Result<(StoredKey, Arc<dyn SigningKey>), KeyError>;
    /// The key for signing. `key.dnskey` says which public octets it must have.
    fn load(
        &self,
        id: KeyId,
        zone: ZoneRef<'_>,
        key: &StoredKey,
    ) -> Result<Arc<dyn SigningKey>, KeyError>;
    /// The key of the zone with the algorithm and public octets of `dnskey`.
    fn find(&self, zone: ZoneRef<'_>, dnskey: &Dnskey) -> Result<Option<StoredKey>, KeyError> {
        Ok(self
            .list(zone)?
            .into_iter()
            .find(|k| k.dnskey.is_same_key(dnskey)))
    }
    /// All whole keys of the zone, in the order of their references.
    fn list(&self, zone: ZoneRef<'_>) -> Result<Vec<StoredKey>, KeyError>;
    /// Puts a key where keys wait for their end. It can still be loaded and destroyed there. Stores
    /// without such a place leave it where it is.
    fn set_aside(&self, _zone: ZoneRef<'_>, _key: &StoredKey) -> Result<(), KeyError> {
        Ok(())
    }
    /// The reverse of `set_aside`.
    fn bring_back(&self, _zone: ZoneRef<'_>, _key: &StoredKey) -> Result<(), KeyError> {
        Ok(())
    }
    /// Destroys the private half, then the public half.
    fn destroy(&self, zone: ZoneRef<'_>, key: &StoredKey) -> Result<(), KeyError>;
}
