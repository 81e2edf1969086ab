//! Just enough DER (X.690) to take the numbers out of an RSA private key (RFC 8017 App. A.1.2).

/// The content of the element with `tag` at the start of `der`, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (len, rest) = match first {
        n @ 0..=0x7f => (n as usize, rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked((first & 0x7f) as usize)?;
            (octets.iter().fold(0, |n, &b| n << 8 | b as usize), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// n, e, d, p, q, d mod p-1, d mod q-1, 1/q mod p: the RSAPrivateKey inside PKCS#8.
pub(crate) fn rsa_numbers(pkcs8: &[u8]) -> Option<[&[u8]; 8]> {
    let (info, _) = element(pkcs8, SEQUENCE)?;
    let (_version, rest) = element(info, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (key, _) = element(rest, OCTET_STRING)?;
    let (body, _) = element(key, SEQUENCE)?;
    let (_version, mut rest) = element(body, INTEGER)?;
    let mut numbers = [&[][..]; 8];
    for number in &mut numbers {
        let (value, tail) = element(rest, INTEGER)?;
        *number = crate::dnskey::trim(value);
        rest = tail;
    }
    Some(numbers)
}

/// n and e of an RSAPublicKey (RFC 8017 App. A.1.1).
pub(crate) fn rsa_public_numbers(der: &[u8]) -> Option<[&[u8]; 2]> {
    let (body, _) = element(der, SEQUENCE)?;
    let (n, rest) = element(body, INTEGER)?;
    let (e, _) = element(rest, INTEGER)?;
    Some([crate::dnskey::trim(n), crate::dnskey::trim(e)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_or_wrong_elements_are_none() {
        assert_eq!(
            element(&[0x30, 2, 1, 2, 9], SEQUENCE),
            Some((&[1u8, 2][..], &[9u8][..]))
        );
        assert_eq!(
            element(&[0x30, 0x82, 0, 1, 7], SEQUENCE),
            Some((&[7u8][..], &[][..]))
        );
        for bad in [
            &[0x30][..],
            &[0x30, 3, 1],
            &[0x30, 0x80],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0x02, 0],
        ] {
            assert_eq!(element(bad, SEQUENCE), None);
        }
        assert!(rsa_numbers(&[0x30, 0]).is_none());
    }
}
