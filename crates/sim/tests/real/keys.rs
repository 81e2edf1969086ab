//! Real keys by their numbers, made once per test program.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use cascade_crypto::{KeySpec, SigningKey, SoftwareKey};
use cascade_keys::{KeyNum, Role};
use cascade_zone::KeyId;

type Pairs = BTreeMap<(KeyNum, u8, u16), Arc<SoftwareKey>>;

pub fn pair(num: KeyNum, role: Role, algorithm: u8) -> Arc<SoftwareKey> {
    static PAIRS: OnceLock<Mutex<Pairs>> = OnceLock::new();
    let flags = if role == Role::Zsk { 256 } else { 257 };
    let mut pairs = PAIRS
        .get_or_init(Default::default)
        .lock()
        .expect("no test panics in here");
    let make = || {
        let spec: KeySpec = algorithm.to_string().parse().expect("an algorithm");
        let mut id = [0u8; 16];
        id[0] = algorithm;
        id[1] = flags as u8;
        id[12..].copy_from_slice(&num.0.to_be_bytes());
        Arc::new(SoftwareKey::generate(KeyId(id), flags, spec).expect("made"))
    };
    pairs
        .entry((num, algorithm, flags))
        .or_insert_with(make)
        .clone()
}

pub fn public_key(num: KeyNum, role: Role, algorithm: u8) -> Vec<u8> {
    pair(num, role, algorithm).dnskey().public_key().to_vec()
}
