//! DNSKEY RDATA (RFC 4034 §2), key tags, roles.

use std::fmt;

use thiserror::Error;

use crate::algorithm::Algorithm;

/// Zone key flag, bit 7 (RFC 4034 §2.1.1).
pub const FLAG_ZONE: u16 = 0x0100;
/// REVOKE flag, bit 8 (RFC 5011 §2.1).
pub const FLAG_REVOKE: u16 = 0x0080;
/// Secure entry point flag, bit 15 (RFC 4034 §2.1.1).
pub const FLAG_SEP: u16 = 0x0001;

/// What a key is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Role {
    /// Signs DNSKEY, CDS and CDNSKEY.
    Ksk,
    /// Signs everything else.
    Zsk,
    /// Signs all.
    Csk,
}

impl Role {
    pub const fn flags(self) -> u16 {
        match self {
            Role::Zsk => FLAG_ZONE,
            Role::Ksk | Role::Csk => FLAG_ZONE | FLAG_SEP,
        }
    }

    pub const fn signs_dnskey(self) -> bool {
        !matches!(self, Role::Zsk)
    }

    pub const fn signs_zone(self) -> bool {
        !matches!(self, Role::Ksk)
    }

    pub const fn word(self) -> &'static str {
        match self {
            Role::Ksk => "ksk",
            Role::Zsk => "zsk",
            Role::Csk => "csk",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DnskeyError {
    #[error("DNSKEY RDATA of {0} octets is too short (RFC 4034 §2.1)")]
    Short(usize),
    #[error("DNSKEY protocol field is {0}; it must be 3 (RFC 4034 §2.1.2)")]
    Protocol(u8),
    #[error("DNSKEY of algorithm {algorithm} has a public key of {len} octets")]
    PublicKeyLength { algorithm: u8, len: usize },
}

/// The RDATA of a DNSKEY record, as it is published.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Dnskey(Box<[u8]>);

impl Dnskey {
    pub fn new(flags: u16, algorithm: Algorithm, public_key: &[u8]) -> Dnskey {
        let mut rdata = Vec::with_capacity(4 + public_key.len());
        rdata.extend_from_slice(&flags.to_be_bytes());
        rdata.extend_from_slice(&[3, algorithm.number()]);
        rdata.extend_from_slice(public_key);
        Dnskey(rdata.into())
    }

    /// From RDATA; unknown algorithms are kept as they are.
    pub fn from_rdata(rdata: &[u8]) -> Result<Dnskey, DnskeyError> {
        if rdata.len() < 5 {
            return Err(DnskeyError::Short(rdata.len()));
        }
        if rdata[2] != 3 {
            return Err(DnskeyError::Protocol(rdata[2]));
        }
        let (algorithm, len) = (rdata[3], rdata.len() - 4);
        let fits = match Algorithm::from_number(algorithm) {
            Some(a) if a.is_rsa() => rsa_parts(&rdata[4..]).is_some(),
            Some(a) => a.public_key_len().is_none_or(|n| n == len),
            None => true,
        };
        if !fits {
            return Err(DnskeyError::PublicKeyLength { algorithm, len });
        }
        Ok(Dnskey(rdata.into()))
    }

    pub fn rdata(&self) -> &[u8] {
        &self.0
    }

    pub fn flags(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    pub fn algorithm_number(&self) -> u8 {
        self.0[3]
    }

    pub fn algorithm(&self) -> Option<Algorithm> {
        Algorithm::from_number(self.0[3])
    }

    /// The public key field. With the algorithm it is the key's identity.
    pub fn public_key(&self) -> &[u8] {
        &self.0[4..]
    }

    /// Equal algorithm and public key: the same key whatever its flags.
    pub fn is_same_key(&self, other: &Dnskey) -> bool {
        self.0[3..] == other.0[3..]
    }

    pub fn is_sep(&self) -> bool {
        self.flags() & FLAG_SEP != 0
    }

    pub fn is_revoked(&self) -> bool {
        self.flags() & FLAG_REVOKE != 0
    }

    /// RFC 4034 App. B; algorithm 1 has its own rule there and is not supported.
    pub fn key_tag(&self) -> u16 {
        key_tag(&self.0)
    }

    /// The tag that the key has once it is revoked (RFC 5011 §2.1).
    pub fn revoked_tag(&self) -> u16 {
        self.with_flags(self.flags() | FLAG_REVOKE).key_tag()
    }

    pub fn with_flags(&self, flags: u16) -> Dnskey {
        let mut rdata = self.0.clone();
        rdata[..2].copy_from_slice(&flags.to_be_bytes());
        Dnskey(rdata)
    }

    /// Length of a signature by this key; `None` for unknown algorithms.
    pub fn signature_len(&self) -> Option<usize> {
        let algorithm = self.algorithm()?;
        match algorithm.signature_len() {
            Some(n) => Some(n),
            None => rsa_parts(self.public_key()).map(|(_, n)| n.len()),
        }
    }
}

impl fmt::Debug for Dnskey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Dnskey({} {} tag {})",
            self.flags(),
            self.algorithm_number(),
            self.key_tag()
        )
    }
}

/// RFC 4034 App. B over DNSKEY RDATA.
pub fn key_tag(rdata: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for (i, &b) in rdata.iter().enumerate() {
        sum += if i & 1 == 0 {
            (b as u32) << 8
        } else {
            b as u32
        };
    }
    (sum + (sum >> 16)) as u16
}

/// Exponent and modulus of an RSA public key field (RFC 3110 §2), without leading zeros.
pub(crate) fn rsa_parts(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = key.split_first()?;
    let (len, rest) = match first {
        0 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (u16::from_be_bytes(*len) as usize, rest)
        }
        n => (n as usize, rest),
    };
    let (e, n) = rest.split_at_checked(len)?;
    let (e, n) = (trim(e), trim(n));
    (!e.is_empty() && !n.is_empty()).then_some((e, n))
}

/// The public key field of an RSA key (RFC 3110 §2).
pub(crate) fn rsa_public_key(e: &[u8], n: &[u8]) -> Vec<u8> {
    let (e, n) = (trim(e), trim(n));
    let mut out = Vec::with_capacity(3 + e.len() + n.len());
    match u8::try_from(e.len()) {
        Ok(len) if len > 0 => out.push(len),
        _ => {
            out.push(0);
            out.extend_from_slice(&(e.len() as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(e);
    out.extend_from_slice(n);
    out
}

pub(crate) fn trim(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&b| b == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rdata_is_checked() {
        assert_eq!(
            Dnskey::from_rdata(&[1, 0, 3, 13]),
            Err(DnskeyError::Short(4))
        );
        assert_eq!(
            Dnskey::from_rdata(&[1, 0, 2, 13, 1]),
            Err(DnskeyError::Protocol(2))
        );
        assert_eq!(
            Dnskey::from_rdata(&[1, 0, 3, 13, 1]),
            Err(DnskeyError::PublicKeyLength {
                algorithm: 13,
                len: 1
            })
        );
        // An exponent longer than the field.
        assert!(Dnskey::from_rdata(&[1, 0, 3, 8, 9, 1]).is_err());
        assert!(Dnskey::from_rdata(&[1, 0, 3, 8, 0, 0]).is_err());
        assert!(Dnskey::from_rdata(&[1, 0, 3, 200, 1]).is_ok());
    }

    #[test]
    fn identity_is_without_flags() {
        let k = Dnskey::new(256, Algorithm::Ed25519, &[7; 32]);
        let r = k.with_flags(257 | FLAG_REVOKE);
        assert!(k.is_same_key(&r));
        assert_ne!(k, r);
        assert!(r.is_revoked() && r.is_sep());
        assert_eq!(k.with_flags(256 | FLAG_REVOKE).key_tag(), k.revoked_tag());
        assert_eq!(k.revoked_tag(), k.key_tag().wrapping_add(128));
    }

    #[test]
    fn long_exponents() {
        let e = vec![3u8; 300];
        let key = rsa_public_key(&e, &[9; 256]);
        assert_eq!(rsa_parts(&key), Some((&e[..], &[9u8; 256][..])));
    }
}
