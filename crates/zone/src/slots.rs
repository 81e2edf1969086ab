//! Key slots: which key made a signature, in four bits.

use thiserror::Error;

use crate::id::KeyId;

/// Keys with live signatures in one version.
pub const MAX_SLOTS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("more than 16 keys have live signatures; retire keys first")]
pub struct TableFull;

/// One key whose signatures a version holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    pub id: KeyId,
    pub algorithm: u8,
    pub tag: u16,
    /// Octets of each of its signatures.
    pub sig_len: u16,
    /// SHA-256 of the DNSKEY RDATA.
    pub dnskey_sha256: [u8; 32],
}

/// Slot (0..15) -> key. A slot keeps its number while any version with its signatures is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyTable {
    /// As far as the last one that is taken: each version of a hundred thousand zones has this.
    slots: Vec<Option<KeySlot>>,
}

impl KeyTable {
    pub fn new() -> Self {
        Self::default()
    }

    /// The slot of `key`: the one it has, or the first free one.
    ///
    /// # Errors
    /// All 16 slots hold other keys; the table is unchanged.
    pub fn assign(&mut self, key: KeySlot) -> Result<u8, TableFull> {
        if let Some(i) = self
            .slots
            .iter()
            .position(|s| s.as_ref().is_some_and(|s| s.id == key.id))
        {
            self.slots[i] = Some(key);
            return Ok(i as u8);
        }
        let free = self.slots.iter().position(Option::is_none);
        let i = free.unwrap_or(self.slots.len());
        self.place(i).ok_or(TableFull)?.replace(key);
        Ok(i as u8)
    }

    fn place(&mut self, slot: usize) -> Option<&mut Option<KeySlot>> {
        if slot >= MAX_SLOTS {
            return None;
        }
        if slot >= self.slots.len() {
            self.slots.reserve_exact(slot + 1 - self.slots.len());
            self.slots.resize(slot + 1, None);
        }
        self.slots.get_mut(slot)
    }

    /// Puts a key back into the slot it had on disk.
    pub fn restore(&mut self, slot: u8, key: KeySlot) -> Option<()> {
        let place = self.place(slot as usize)?;
        if place.is_some() {
            return None;
        }
        *place = Some(key);
        Some(())
    }

    /// Frees the slots whose bit in `in_use` is not set.
    pub fn retain(&mut self, in_use: u16) {
        for (i, s) in self.slots.iter_mut().enumerate() {
            if in_use >> i & 1 == 0 {
                *s = None;
            }
        }
        let last = self.slots.iter().rposition(Option::is_some);
        self.slots.truncate(last.map_or(0, |i| i + 1));
    }

    pub fn get(&self, slot: u8) -> Option<&KeySlot> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub fn slot_of(&self, id: KeyId) -> Option<u8> {
        self.slots
            .iter()
            .position(|s| s.as_ref().is_some_and(|s| s.id == id))
            .map(|i| i as u8)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u8, &KeySlot)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(i, s)| Some((i as u8, s.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> KeySlot {
        KeySlot {
            id: KeyId([n; 16]),
            algorithm: 13,
            tag: n.into(),
            sig_len: 64,
            dnskey_sha256: [n; 32],
        }
    }

    #[test]
    fn slots_keep_their_numbers_and_no_room_is_kept_for_none() {
        let mut table = KeyTable::new();
        assert_eq!(size_of::<KeyTable>(), 24);
        for n in 0..16 {
            assert_eq!(table.assign(key(n)), Ok(n));
        }
        assert_eq!(table.assign(key(16)), Err(TableFull));
        assert_eq!(table.assign(key(3)), Ok(3));
        table.retain(1 << 3 | 1 << 7);
        assert_eq!(table.slots.len(), 8);
        assert_eq!(
            (table.slot_of(KeyId([7; 16])), table.get(8)),
            (Some(7), None)
        );
        assert_eq!(table.assign(key(20)), Ok(0));
        // The same keys in the same slots are the same table, whatever was there before.
        let mut other = KeyTable::new();
        assert_eq!(other.restore(7, key(7)), Some(()));
        assert_eq!(other.restore(7, key(7)), None);
        assert_eq!(other.restore(16, key(1)), None);
        assert_eq!(
            (other.restore(0, key(20)), other.restore(3, key(3))),
            (Some(()), Some(()))
        );
        assert_eq!(other, table);
        other.retain(0);
        assert_eq!(other, KeyTable::new());
    }
}
