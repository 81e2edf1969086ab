//! Who may use a token that is open.
//!
//! PKCS#11 login is per process: once one client has logged in, the token serves anybody. So the
//! PIN that worked is kept, and every later one is compared with it here, without asking the
//! token. A PIN that was refused is not tried again for a while: tokens lock after a few attempts,
//! and NetHSM answers only one a second.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// How long a refused PIN is refused without asking the token.
pub const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Refused PINs that are remembered.
const MAX_REFUSED: usize = 16;

/// The state of a token's login in this process.
#[derive(Default)]
pub(crate) struct Access {
    how: How,
    refused: Vec<(PinHash, Duration)>,
    salt: [u8; 16],
}

#[derive(Default)]
pub(crate) enum How {
    /// Nobody has logged in yet.
    #[default]
    Unknown,
    /// The token is open without us: by the module's own configuration, or it wants no login.
    ByItself,
    /// With this PIN.
    Pin(SecretString, PinHash),
}

/// What is known about a PIN without asking the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Good,
    Wrong,
    /// It was refused a moment ago.
    RefusedBefore,
    Ask,
}

/// Salted hash of a PIN.
#[derive(Clone)]
pub(crate) struct PinHash([u8; 32]);

impl Access {
    pub fn new(salt: [u8; 16]) -> Access {
        Access {
            salt,
            ..Access::default()
        }
    }

    pub fn judge(&mut self, pin: &SecretString, now: Duration) -> Verdict {
        let hash = self.hash(pin);
        match &self.how {
            How::ByItself => Verdict::Good,
            How::Pin(_, good) if good.equals(&hash) => Verdict::Good,
            How::Pin(..) => Verdict::Wrong,
            How::Unknown => {
                self.refused
                    .retain(|(_, at)| now.saturating_sub(*at) < REFUSED_FOR);
                match self
                    .refused
                    .iter()
                    .any(|(refused, _)| refused.equals(&hash))
                {
                    true => Verdict::RefusedBefore,
                    false => Verdict::Ask,
                }
            }
        }
    }

    pub fn accepted(&mut self, pin: &SecretString) {
        let hash = self.hash(pin);
        self.how = How::Pin(pin.clone(), hash);
        self.refused.clear();
    }

    pub fn by_itself(&mut self) {
        self.how = How::ByItself;
    }

    /// The token no longer takes the PIN that it took before, or never took it.
    pub fn refused(&mut self, pin: &SecretString, now: Duration) {
        if self.refused.len() >= MAX_REFUSED {
            self.refused.remove(0);
        }
        let hash = self.hash(pin);
        self.refused.push((hash, now));
        self.how = How::Unknown;
    }

    pub fn forget(&mut self) {
        self.how = How::Unknown;
    }

    pub fn how(&self) -> &How {
        &self.how
    }

    /// The PIN to log in with again.
    pub fn pin(&self) -> Option<SecretString> {
        match &self.how {
            How::Pin(pin, _) => Some(pin.clone()),
            _ => None,
        }
    }

    fn hash(&self, pin: &SecretString) -> PinHash {
        let mut hasher = Sha256::new();
        hasher.update(self.salt);
        hasher.update(pin.expose_secret().as_bytes());
        PinHash(hasher.finalize().into())
    }
}

impl PinHash {
    /// Takes the same time wherever the difference is.
    fn equals(&self, other: &PinHash) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        std::hint::black_box(pairs.fold(0, |all, (a, b)| all | (a ^ b))) == 0
    }
}

impl Drop for PinHash {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins() {
        let (a, b): (SecretString, SecretString) = ("1234".into(), "4321".into());
        let at = Duration::from_secs;
        let mut access = Access::new([7; 16]);
        assert_eq!(access.judge(&a, at(0)), Verdict::Ask);
        access.refused(&a, at(0));
        assert_eq!(access.judge(&a, at(59)), Verdict::RefusedBefore);
        assert_eq!(access.judge(&b, at(59)), Verdict::Ask);
        access.accepted(&b);
        assert_eq!(access.judge(&b, at(59)), Verdict::Good);
        assert_eq!(access.judge(&a, at(59)), Verdict::Wrong);
        // The token's PIN was changed elsewhere.
        access.refused(&b, at(100));
        assert_eq!(access.judge(&b, at(101)), Verdict::RefusedBefore);
        assert_eq!(access.judge(&b, at(160)), Verdict::Ask);
        access.by_itself();
        assert_eq!(access.judge(&a, at(160)), Verdict::Good);
        for i in 0..100 {
            access.refused(&i.to_string().into(), at(200));
        }
        assert!(access.refused.len() <= MAX_REFUSED);
    }
}
