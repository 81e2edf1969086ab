//! Keys that were seen on a token.
//!
//! Public keys do not change, so they are read once. And a key that was there and is not found is
//! a reason for doubt: a module whose token was replaced under it may not fail, but show an empty
//! token until it is initialised again.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::id::KeyId;
use crate::key::{KeyKind, PublicKey};

/// Public keys that are remembered; all are forgotten when there are more.
const MAX_KEYS: usize = 100_000;
/// Time between two doubts about one token. A device in several parts that do not know each
/// other's keys gives reason for doubt all the time.
const BETWEEN_DOUBTS: Duration = Duration::from_secs(60);
/// Time after which one key is a reason again.
const AGAIN: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(crate) struct Known(Mutex<Keys>);

#[derive(Default)]
struct Keys {
    public: HashMap<KeyId, PublicKey>,
    doubted: HashMap<KeyId, Duration>,
    last_doubt: Option<Duration>,
}

impl Known {
    pub fn get(&self, key: &KeyId) -> Option<PublicKey> {
        self.0.lock().public.get(key).cloned()
    }

    pub fn kind(&self, key: &KeyId) -> Option<KeyKind> {
        self.0.lock().public.get(key).map(PublicKey::kind)
    }

    pub fn contains(&self, key: &KeyId) -> bool {
        self.0.lock().public.contains_key(key)
    }

    pub fn insert(&self, key: &KeyId, public: &PublicKey) {
        let mut keys = self.0.lock();
        if keys.public.len() >= MAX_KEYS {
            keys.public.clear();
        }
        keys.public.insert(key.clone(), public.clone());
    }

    pub fn remove(&self, key: &KeyId) {
        self.0.lock().public.remove(key);
    }

    /// The key is not found. True if that casts doubt on the module rather than on the key.
    pub fn doubt(&self, key: &KeyId, now: Duration) -> bool {
        let mut keys = self.0.lock();
        let passed = |at: &Duration, pause| now.saturating_sub(*at) >= pause;
        if !keys.public.contains_key(key)
            || !keys.doubted.get(key).is_none_or(|at| passed(at, AGAIN))
            || !keys.last_doubt.is_none_or(|at| passed(&at, BETWEEN_DOUBTS))
        {
            return false;
        }
        keys.doubted.retain(|_, at| !passed(at, AGAIN));
        keys.doubted.insert(key.clone(), now);
        keys.last_doubt = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_are_rare() {
        let known = Known::default();
        let (a, b) = (KeyId::new([1; 20]), KeyId::new([2; 20]));
        let at = Duration::from_secs;
        assert!(!known.doubt(&a, at(0)), "never seen");
        let public = PublicKey::Point {
            kind: KeyKind::Ed25519,
            octets: vec![0; 32],
        };
        known.insert(&a, &public);
        known.insert(&b, &public);
        assert!(known.doubt(&a, at(1)));
        assert!(!known.doubt(&a, at(2)), "it is really gone");
        assert!(!known.doubt(&b, at(2)), "too soon");
        assert!(known.doubt(&b, at(61)));
        assert!(!known.doubt(&a, at(130)));
        assert!(known.doubt(&a, at(601)));
    }
}
