//! Durable form of the ids of crate `zone`, which knows no serialisation: numbers stay numbers, a
//! zone id is its 26 characters. Use: `#[serde(with = "crate::plain")]`, `plain::opt` for options.

use cascade_zone::{Serial, VersionId, ZoneId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) trait Plain: Sized + Copy {
    type Raw: Serialize + for<'de> Deserialize<'de>;
    fn raw(self) -> Self::Raw;
    fn from_raw(raw: Self::Raw) -> Option<Self>;
}

impl Plain for VersionId {
    type Raw = u64;
    fn raw(self) -> u64 {
        self.0
    }
    fn from_raw(raw: u64) -> Option<Self> {
        Some(VersionId(raw))
    }
}

impl Plain for Serial {
    type Raw = u32;
    fn raw(self) -> u32 {
        self.0
    }
    fn from_raw(raw: u32) -> Option<Self> {
        Some(Serial(raw))
    }
}

impl Plain for ZoneId {
    type Raw = String;
    fn raw(self) -> String {
        self.to_string()
    }
    fn from_raw(raw: String) -> Option<Self> {
        ZoneId::parse(&raw)
    }
}

pub(crate) fn serialize<T: Plain, S: Serializer>(v: &T, s: S) -> Result<S::Ok, S::Error> {
    v.raw().serialize(s)
}

pub(crate) fn deserialize<'de, T: Plain, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    T::from_raw(T::Raw::deserialize(d)?).ok_or_else(|| serde::de::Error::custom("not an id"))
}

pub(crate) mod opt {
    use super::{Deserialize, Deserializer, Plain, Serialize, Serializer};

    pub(crate) fn serialize<T: Plain, S: Serializer>(
        v: &Option<T>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        v.map(Plain::raw).serialize(s)
    }

    pub(crate) fn deserialize<'de, T: Plain, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<T>, D::Error> {
        match Option::<T::Raw>::deserialize(d)? {
            None => Ok(None),
            Some(raw) => match T::from_raw(raw) {
                Some(v) => Ok(Some(v)),
                None => Err(serde::de::Error::custom("not an id")),
            },
        }
    }
}
