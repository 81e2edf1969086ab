//! DNSSEC algorithms this software signs with, and how operators write them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A signing algorithm of the IANA registry "DNS Security Algorithm Numbers".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// 8, RFC 5702 §2.1.
    RsaSha256,
    /// 10, RFC 5702 §2.2.
    RsaSha512,
    /// 13, RFC 6605.
    EcdsaP256Sha256,
    /// 14, RFC 6605.
    EcdsaP384Sha384,
    /// 15, RFC 8080.
    Ed25519,
    /// 16, RFC 8080; needs the feature `ed448` to be used, its name and number are always known.
    Ed448,
}

/// A text or number that names no algorithm that can be used here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AlgorithmError {
    #[error(
        "unknown algorithm '{0}'; known are RSASHA256[:bits], RSASHA512[:bits], ECDSAP256SHA256, \
         ECDSAP384SHA384, ED25519 and ED448, or their numbers"
    )]
    Unknown(String),
    #[error("algorithm {0} is not supported for signing (RFC 9905: 5 and 7 must not be used)")]
    Unsupported(u8),
    #[error("'{0}' is no RSA key size; write for example RSASHA256:2048")]
    BadBits(String),
    #[error("RSA keys of {0} bits cannot be made here; choose 2048, 3072 or 4096")]
    Bits(u16),
    #[error("{0} has a fixed key size; write it without ':{1}'")]
    FixedSize(Algorithm, String),
}

impl Algorithm {
    pub const ALL: [Algorithm; 6] = [
        Algorithm::RsaSha256,
        Algorithm::RsaSha512,
        Algorithm::EcdsaP256Sha256,
        Algorithm::EcdsaP384Sha384,
        Algorithm::Ed25519,
        Algorithm::Ed448,
    ];

    pub const fn number(self) -> u8 {
        match self {
            Algorithm::RsaSha256 => 8,
            Algorithm::RsaSha512 => 10,
            Algorithm::EcdsaP256Sha256 => 13,
            Algorithm::EcdsaP384Sha384 => 14,
            Algorithm::Ed25519 => 15,
            Algorithm::Ed448 => 16,
        }
    }

    pub fn from_number(n: u8) -> Option<Algorithm> {
        Self::ALL.into_iter().find(|a| a.number() == n)
    }

    /// The mnemonic of the registry.
    pub const fn mnemonic(self) -> &'static str {
        match self {
            Algorithm::RsaSha256 => "RSASHA256",
            Algorithm::RsaSha512 => "RSASHA512",
            Algorithm::EcdsaP256Sha256 => "ECDSAP256SHA256",
            Algorithm::EcdsaP384Sha384 => "ECDSAP384SHA384",
            Algorithm::Ed25519 => "ED25519",
            Algorithm::Ed448 => "ED448",
        }
    }

    pub const fn is_rsa(self) -> bool {
        matches!(self, Algorithm::RsaSha256 | Algorithm::RsaSha512)
    }

    /// Length of the public key field in octets; `None` for RSA, where it varies.
    pub const fn public_key_len(self) -> Option<usize> {
        match self {
            Algorithm::RsaSha256 | Algorithm::RsaSha512 => None,
            Algorithm::EcdsaP256Sha256 => Some(64), // RFC 6605 §4
            Algorithm::EcdsaP384Sha384 => Some(96),
            Algorithm::Ed25519 => Some(32), // RFC 8080 §3
            Algorithm::Ed448 => Some(57),
        }
    }

    /// Length of a signature in octets; `None` for RSA, where it is that of the modulus.
    pub const fn signature_len(self) -> Option<usize> {
        match self {
            Algorithm::RsaSha256 | Algorithm::RsaSha512 => None,
            Algorithm::EcdsaP256Sha256 | Algorithm::Ed25519 => Some(64),
            Algorithm::EcdsaP384Sha384 => Some(96),
            Algorithm::Ed448 => Some(114),
        }
    }

    /// True if this build can make signatures with it.
    pub const fn is_available(self) -> bool {
        !matches!(self, Algorithm::Ed448) || cfg!(feature = "ed448")
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mnemonic())
    }
}

impl fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mnemonic())
    }
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;
    /// Mnemonics in any case, or numbers.
    fn from_str(text: &str) -> Result<Self, AlgorithmError> {
        if let Some(a) = Self::ALL
            .into_iter()
            .find(|a| a.mnemonic().eq_ignore_ascii_case(text))
        {
            return Ok(a);
        }
        match text.parse::<u8>() {
            Ok(n) => Self::from_number(n).ok_or(AlgorithmError::Unsupported(n)),
            Err(_) => Err(AlgorithmError::Unknown(text.to_owned())),
        }
    }
}

/// What a policy writes to say which keys to make: an algorithm and, for RSA, a size.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KeySpec {
    pub algorithm: Algorithm,
    /// Size of the modulus; 0 for algorithms of fixed size.
    pub bits: u16,
}

/// RFC 8624 and common practice: strong enough, and answers still fit a UDP message.
const DEFAULT_RSA_BITS: u16 = 2048;

impl KeySpec {
    pub fn new(algorithm: Algorithm) -> KeySpec {
        KeySpec {
            algorithm,
            bits: if algorithm.is_rsa() {
                DEFAULT_RSA_BITS
            } else {
                0
            },
        }
    }
}

impl FromStr for KeySpec {
    type Err = AlgorithmError;
    /// `ECDSAP256SHA256`, `rsasha256:3072`, `13`, `8:2048`.
    fn from_str(text: &str) -> Result<Self, AlgorithmError> {
        let (name, bits) = match text.split_once(':') {
            Some((name, bits)) => (name, Some(bits)),
            None => (text, None),
        };
        let mut spec = KeySpec::new(name.parse()?);
        let Some(bits) = bits else { return Ok(spec) };
        if !spec.algorithm.is_rsa() {
            return Err(AlgorithmError::FixedSize(spec.algorithm, bits.to_owned()));
        }
        spec.bits = bits
            .parse()
            .map_err(|_| AlgorithmError::BadBits(bits.to_owned()))?;
        match spec.bits {
            2048 | 3072 | 4096 => Ok(spec),
            n => Err(AlgorithmError::Bits(n)),
        }
    }
}

impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits {
            0 => write!(f, "{}", self.algorithm),
            bits => write!(f, "{}:{bits}", self.algorithm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for a in Algorithm::ALL {
            assert_eq!(a.mnemonic().to_ascii_lowercase().parse(), Ok(a));
            assert_eq!(a.number().to_string().parse(), Ok(a));
        }
        assert_eq!(
            "5".parse::<Algorithm>(),
            Err(AlgorithmError::Unsupported(5))
        );
        assert!(matches!(
            "RSASHA1".parse::<Algorithm>(),
            Err(AlgorithmError::Unknown(_))
        ));
    }

    #[test]
    fn specs() {
        let spec = |t: &str| t.parse::<KeySpec>();
        assert_eq!(spec("rsasha256").unwrap().to_string(), "RSASHA256:2048");
        assert_eq!(spec("8:3072").unwrap().to_string(), "RSASHA256:3072");
        assert_eq!(spec("Ed25519").unwrap().to_string(), "ED25519");
        assert_eq!(spec("RSASHA512:1024"), Err(AlgorithmError::Bits(1024)));
        assert!(matches!(spec("13:256"), Err(AlgorithmError::FixedSize(..))));
        assert!(matches!(spec("8:x"), Err(AlgorithmError::BadBits(_))));
        assert!(matches!(spec("8:"), Err(AlgorithmError::BadBits(_))));
    }
}
