//! Small makers for this crate's own tests.

use cascade_zone::id::KeyId;

use crate::key::{Home, Key, KeyNum, Origin, Role, Times};

/// A key with made-up octets that differ per number.
pub fn key(num: u32, role: Role, algorithm: u8) -> Key {
    let mut public_key = vec![0u8; 32];
    for (i, b) in public_key.iter_mut().enumerate() {
        *b = (num as usize * 37 + i * 11 + usize::from(algorithm)) as u8;
    }
    let mut id = [0u8; 16];
    id[12..].copy_from_slice(&num.to_be_bytes());
    Key {
        num: KeyNum(num),
        id: KeyId(id),
        role,
        algorithm,
        public_key,
        sep: false,
        home: Home::File,
        origin: Origin::Generated,
        decoupled: false,
        standby: false,
        backed_up: false,
        compromised: false,
        restored: false,
        proved_at: None,
        times: Times::default(),
    }
}
