//! DNSSEC algorithms out of a token's mechanisms.

use cryptoki::mechanism::MechanismType;

/// DNSSEC algorithms by mnemonic (RFC 8624 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyAlgorithm {
    RsaSha256,
    RsaSha512,
    EcdsaP256Sha256,
    EcdsaP384Sha384,
    Ed25519,
    Ed448,
}

impl KeyAlgorithm {
    pub const fn mnemonic(self) -> &'static str {
        match self {
            KeyAlgorithm::RsaSha256 => "RSASHA256",
            KeyAlgorithm::RsaSha512 => "RSASHA512",
            KeyAlgorithm::EcdsaP256Sha256 => "ECDSAP256SHA256",
            KeyAlgorithm::EcdsaP384Sha384 => "ECDSAP384SHA384",
            KeyAlgorithm::Ed25519 => "ED25519",
            KeyAlgorithm::Ed448 => "ED448",
        }
    }
}

/// `most_bits` gives the largest key of a mechanism, 0 if it is not known.
pub(crate) fn from_mechanisms(
    list: &[MechanismType],
    most_bits: &dyn Fn(MechanismType) -> usize,
) -> Vec<KeyAlgorithm> {
    let has = |mechanism| list.contains(&mechanism);
    let mut found = Vec::new();
    if has(MechanismType::RSA_PKCS_KEY_PAIR_GEN) && has(MechanismType::RSA_PKCS) {
        found.extend([KeyAlgorithm::RsaSha256, KeyAlgorithm::RsaSha512]);
    }
    if has(MechanismType::ECC_KEY_PAIR_GEN) && has(MechanismType::ECDSA) {
        let bits = most_bits(MechanismType::ECDSA);
        found.push(KeyAlgorithm::EcdsaP256Sha256);
        if bits == 0 || bits >= 384 {
            found.push(KeyAlgorithm::EcdsaP384Sha384);
        }
    }
    if has(MechanismType::ECC_EDWARDS_KEY_PAIR_GEN) && has(MechanismType::EDDSA) {
        found.push(KeyAlgorithm::Ed25519);
        if most_bits(MechanismType::EDDSA) >= 448 {
            found.push(KeyAlgorithm::Ed448);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_need_both_mechanisms() {
        let mut list = vec![
            MechanismType::ECC_KEY_PAIR_GEN,
            MechanismType::ECDSA,
            MechanismType::ECC_EDWARDS_KEY_PAIR_GEN,
            MechanismType::RSA_PKCS_KEY_PAIR_GEN,
        ];
        let small = from_mechanisms(&list, &|_| 256);
        assert_eq!(small, [KeyAlgorithm::EcdsaP256Sha256]);
        list.extend([MechanismType::EDDSA, MechanismType::RSA_PKCS]);
        assert_eq!(from_mechanisms(&list, &|_| 521).len(), 6);
    }
}
