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
    slots: [Option<KeySlot>; MAX_SLOTS],
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
        let i = self
            .slots
            .iter()
            .position(Option::is_none)
            .ok_or(TableFull)?;
        self.slots[i] = Some(key);
        Ok(i as u8)
    }

    /// Puts a key back into the slot it had on disk.
    pub fn restore(&mut self, slot: u8, key: KeySlot) -> Option<()> {
        let place = self.slots.get_mut(slot as usize)?;
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
