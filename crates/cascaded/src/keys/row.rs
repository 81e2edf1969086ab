//! What is durable about the keys of a zone: the state of the key manager, where the private
//! halves are, and with which apex set each version at hand was signed.

use std::fmt;

use cascade_crypto::{Dnskey, StoredKey};
use cascade_keys::{ApexSet, DsRecord, Event, Home, Key, KeyNum, Origin, Role, Times, ZoneKeys};
use cascade_time::Timestamp;
use cascade_zone::{KeyId, Name};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::few::Few;
use crate::stores::hsm_of;

/// Where the private half of a key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// `file://…` or `kmip://…`
    pub reference: String,
}

/// The keys of a zone as they are stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeysRow {
    pub zone: ZoneKeys,
    pub places: Few<KeyNum, Place>,
    /// By version: what it was signed with.
    pub apexes: Few<u64, ApexSet>,
    /// Every DS record that some server of the parent showed in the last look.
    pub parent_ds: Vec<DsRecord>,
    /// Rows of an early release, until [`KeysRow::renew`] has made keys of them.
    #[serde(skip)]
    old: Vec<OldKey>,
}

impl KeysRow {
    pub fn new(apex: &Name) -> KeysRow {
        KeysRow {
            zone: ZoneKeys::new(apex.to_lowercase().as_wire()),
            places: Few::default(),
            apexes: Few::default(),
            parent_ds: Vec::new(),
            old: Vec::new(),
        }
    }

    pub fn reference(&self, num: KeyNum) -> &str {
        self.places.get(&num).map_or("", |p| p.reference.as_str())
    }

    /// A key as its store knows it; `None` for octets that are no DNSKEY.
    pub fn stored(&self, key: &Key) -> Option<StoredKey> {
        Some(StoredKey {
            reference: self.reference(key.num).to_string(),
            dnskey: Dnskey::from_rdata(&key.dnskey_rdata()).ok()?,
        })
    }

    /// Keys of the DNSKEY RRset that is served; before the first publication, those to come.
    pub fn published_keys(&self) -> Vec<&Key> {
        let published = self.zone.published.as_ref().map(|p| &p.apex.dnskey);
        let keys = self.zone.keys.iter();
        keys.filter(|k| match published {
            Some(nums) => nums.contains(&k.num),
            None => k.times.removed_at.is_none(),
        })
        .collect()
    }

    /// Tags of DS records at the parent, which a new key must not have either.
    pub fn seen_tags(&self) -> Vec<u16> {
        self.parent_ds.iter().map(|d| d.tag).collect()
    }

    /// Takes note of what happened.
    pub fn apply(&mut self, event: &Event) {
        self.zone.apply(event);
        // Destroyed keys that are forgotten take their places with them.
        let zone = &self.zone;
        self.places.retain(|n, _| zone.key(*n).is_some());
    }

    /// Makes keys of the rows of an early release, which knew no rolls: keys in service stay in
    /// service, and nobody knows what TTLs were served before.
    pub fn renew(&mut self, apex: &Name, now: Timestamp) {
        let owner = apex.to_lowercase();
        if self.zone.owner != owner.as_wire() && self.zone.keys.is_empty() {
            self.zone = ZoneKeys::new(owner.as_wire());
        }
        let old = std::mem::take(&mut self.old);
        let mut serving = false;
        for row in &old {
            let Some(key) = row.key() else {
                tracing::error!(zone = %apex, key = row.short, "the key cannot be read from the state and is left out");
                continue;
            };
            serving |= key.times.active_at.is_some();
            let place = Place {
                reference: row.reference.clone(),
            };
            self.places.insert(key.num, place);
            self.apply(&Event::KeyAdded {
                key,
                roll: None,
                at: row.generated_at,
            });
        }
        if serving {
            self.apply(&Event::TakenOver {
                dnskey_ttl: 0,
                data_ttl: 0,
                ds_ttl: 0,
                at: now,
            });
        }
    }
}

#[derive(Deserialize)]
struct Form {
    zone: ZoneKeys,
    #[serde(default)]
    places: Few<KeyNum, Place>,
    #[serde(default)]
    apexes: Few<u64, ApexSet>,
    #[serde(default)]
    parent_ds: Vec<DsRecord>,
}

/// An object, or the list of an early release.
impl<'de> Deserialize<'de> for KeysRow {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<KeysRow, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = KeysRow;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the keys of a zone")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<KeysRow, A::Error> {
                let old = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(KeysRow {
                    old,
                    ..KeysRow::new(&Name::root())
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeysRow, A::Error> {
                let form = Form::deserialize(MapAccessDeserializer::new(map))?;
                Ok(KeysRow {
                    zone: form.zone,
                    places: form.places,
                    apexes: form.apexes,
                    parent_ds: form.parent_ds,
                    old: Vec::new(),
                })
            }
        }
        d.deserialize_any(Either)
    }
}

/// A key as releases without rolls kept it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct OldKey {
    id: String,
    short: String,
    role: String,
    /// DNSKEY RDATA in hexadecimal.
    dnskey: String,
    reference: String,
    imported: bool,
    generated_at: Timestamp,
    published_at: Option<Timestamp>,
    active_at: Option<Timestamp>,
}

impl OldKey {
    fn key(&self) -> Option<Key> {
        let rdata = data_encoding::HEXLOWER
            .decode(self.dnskey.as_bytes())
            .ok()?;
        let dnskey = Dnskey::from_rdata(&rdata).ok()?;
        let role = match self.role.as_str() {
            "ksk" => Role::Ksk,
            "zsk" => Role::Zsk,
            "csk" => Role::Csk,
            "foreign" => Role::Foreign,
            _ => return None,
        };
        Some(Key {
            num: KeyNum(self.short.strip_prefix('k')?.parse().ok()?),
            id: KeyId::parse(&self.id)?,
            role,
            algorithm: dnskey.algorithm_number(),
            public_key: dnskey.public_key().to_vec(),
            sep: dnskey.is_sep(),
            home: home_of(&self.reference),
            origin: match (role, self.imported) {
                (Role::Foreign, _) => Origin::Foreign,
                (_, true) => Origin::Imported,
                _ => Origin::Generated,
            },
            decoupled: false,
            standby: false,
            backed_up: false,
            compromised: false,
            restored: false,
            proved_at: None,
            times: Times {
                generated_at: Some(self.generated_at),
                published_at: self.published_at,
                active_at: self.active_at.filter(|_| role != Role::Foreign),
                ..Times::default()
            },
        })
    }
}

/// The home that a reference names.
pub(super) fn home_of(reference: &str) -> Home {
    hsm_of(reference).map_or(Home::File, |hsm| Home::Hsm(hsm.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_an_early_release_stay_in_service() {
        let mut rdata = vec![1, 1, 3, 13];
        rdata.extend([7u8; 64]);
        let at = Timestamp::from_secs(1_800_000_000);
        let old = serde_json::json!([{
            "id": KeyId([3; 16]).to_string(), "short": "k4", "role": "csk",
            "dnskey": data_encoding::HEXLOWER.encode(&rdata), "reference": "file:///k/K.key",
            "imported": false, "generated_at": at, "published_at": at, "active_at": at,
        }]);
        let mut row: KeysRow = serde_json::from_value(old).unwrap();
        let apex = Name::parse("Example.net").unwrap();
        row.renew(&apex, at);
        let key = row.zone.key(KeyNum(4)).unwrap();
        assert!(key.in_service() && key.role == Role::Csk);
        assert_eq!(key.dnskey_rdata(), rdata);
        assert_eq!(row.zone.next_key(), KeyNum(5));
        assert_eq!(row.zone.settled_at, Some(at));
        assert_eq!(row.zone.owner, b"\x07example\x03net\0");
        assert_eq!(row.reference(KeyNum(4)), "file:///k/K.key");
        row.apexes
            .insert(7, row.zone.apex_set(&Default::default(), at).unwrap());
        // The new form reads back as itself, and is not renewed again.
        let text = serde_json::to_string(&row).unwrap();
        let mut back: KeysRow = serde_json::from_str(&text).unwrap();
        back.renew(&apex, at);
        assert_eq!(back, row);
    }
}
