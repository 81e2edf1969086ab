//! A map of a handful of entries that is as large as they are.
//!
//! Very many zones each keep a few small maps, and a tree map takes room for eleven entries with
//! its first one.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Entries in order of keys, each key once. On disk it looks like any other map.
#[derive(Clone, PartialEq, Eq)]
pub struct Few<K, V>(Vec<(K, V)>);

impl<K: Ord, V> Few<K, V> {
    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(k, _)| k.cmp(key))
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(self.place(key).ok()?).map(|(_, v)| v)
    }

    /// The value that was there before, if any.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(i) => self.0.get_mut(i).map(|(_, v)| std::mem::replace(v, value)),
            Err(i) => {
                self.0.reserve_exact(1);
                self.0.insert(i, (key, value));
                None
            }
        }
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let i = self.place(key).ok()?;
        let (_, value) = self.0.remove(i);
        self.0.shrink_to_fit();
        Some(value)
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.0.retain(|(k, v)| keep(k, v));
        self.0.shrink_to_fit();
    }

    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(k, v)| (k, v))
    }
}

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Few(Vec::new())
    }
}

impl<K: fmt::Debug + Ord, V: fmt::Debug> fmt::Debug for Few<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Serialize + Ord, V: Serialize> Serialize for Few<K, V> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Few<K, V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Entries<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
            type Value = Few<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Few<K, V>, A::Error> {
                let mut few = Few::default();
                while let Some((k, v)) = map.next_entry()? {
                    few.insert(k, v);
                }
                Ok(few)
            }
        }
        d.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_does_what_a_tree_map_does(ops in prop::collection::vec((0u8..8, any::<u32>(), 0u8..4), 0..60)) {
            let (mut few, mut tree) = (Few::default(), BTreeMap::new());
            for (key, value, op) in ops {
                match op {
                    0 => prop_assert_eq!(few.remove(&key), tree.remove(&key)),
                    1 => {
                        few.retain(|k, _| *k != key);
                        tree.retain(|k, _| *k != key);
                    }
                    _ => prop_assert_eq!(few.insert(key, value), tree.insert(key, value)),
                }
                prop_assert_eq!(few.get(&key), tree.get(&key));
                prop_assert!(few.iter().eq(tree.iter()));
            }
            // Files of earlier releases hold tree maps.
            let text = serde_json::to_string(&tree).expect("json");
            prop_assert_eq!(&serde_json::to_string(&few).expect("json"), &text);
            let back: Few<u8, u32> = serde_json::from_str(&text).expect("map");
            prop_assert_eq!(back, few);
        }
    }
}
