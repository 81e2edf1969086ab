//! From the attributes of Create Key Pair to the pair that is wanted.

use super::perform::check_label;
use crate::attribute::{Attribute, AttributeValue};
use crate::enums::{CryptographicAlgorithm, RecommendedCurve, ResultReason, usage};
use crate::failure::Failure;
use crate::payload::CreateKeyPair;
use crate::public_key::{KeyKind, RSA_BITS};
use crate::token::NewPair;

#[derive(Default)]
struct Wanted<'a> {
    algorithm: Option<CryptographicAlgorithm>,
    length: Option<i32>,
    curve: Option<RecommendedCurve>,
    label: Option<&'a str>,
    usage: Option<i32>,
    activation: Option<i64>,
}

/// Attributes that mean nothing to a token and do not contradict what it does are passed over, as
/// clients send many; those that would change the key are not.
pub(super) fn new_pair(request: &CreateKeyPair) -> Result<NewPair, Failure> {
    let common = gather(&request.common)?;
    let private = gather(&request.private)?;
    let public = gather(&request.public)?;
    // §4.2: what is stated for a half wins over what is common; here both halves must agree.
    let algorithm = agreed(
        "Cryptographic Algorithm",
        [private.algorithm, public.algorithm, common.algorithm],
    )?;
    let length = agreed(
        "Cryptographic Length",
        [private.length, public.length, common.length],
    )?;
    let curve = agreed(
        "Recommended Curve",
        [private.curve, public.curve, common.curve],
    )?;
    if private.usage.is_some_and(|mask| mask & usage::SIGN == 0) {
        return Err(Failure::invalid(
            "private keys made here sign; the Cryptographic Usage Mask lacks Sign",
        ));
    }
    let label = |half: Option<&str>| half.or(common.label).map(str::to_owned);
    Ok(NewPair {
        kind: kind(algorithm, length, curve)?,
        private_label: label(private.label),
        public_label: label(public.label),
        activation: private.activation.or(common.activation),
    })
}

fn gather(attributes: &[Attribute]) -> Result<Wanted<'_>, Failure> {
    let mut wanted = Wanted::default();
    for attribute in attributes {
        match &attribute.value {
            AttributeValue::CryptographicAlgorithm(v) => wanted.algorithm = Some(*v),
            AttributeValue::CryptographicLength(v) => wanted.length = Some(*v),
            AttributeValue::CryptographicDomainParameters(p) => {
                wanted.curve = p.curve;
                wanted.length = wanted.length.or(p.q_length);
            }
            AttributeValue::Name(name) => {
                wanted.label.get_or_insert(check_label(name)?);
            }
            AttributeValue::CryptographicUsageMask(mask) => wanted.usage = Some(*mask),
            AttributeValue::ActivationDate(date) => wanted.activation = Some(*date),
            AttributeValue::Extractable(true) | AttributeValue::Sensitive(false) => {
                return Err(Failure::invalid("private keys made here cannot be read"));
            }
            _ => {}
        }
    }
    Ok(wanted)
}

fn agreed<T: PartialEq + Copy>(what: &str, stated: [Option<T>; 3]) -> Result<Option<T>, Failure> {
    let mut all = stated.into_iter().flatten();
    let first = all.next();
    if all.any(|other| Some(other) != first) {
        return Err(Failure::invalid(format!(
            "{what} is stated twice, differently"
        )));
    }
    Ok(first)
}

fn kind(
    algorithm: Option<CryptographicAlgorithm>,
    length: Option<i32>,
    curve: Option<RecommendedCurve>,
) -> Result<KeyKind, Failure> {
    use CryptographicAlgorithm as A;
    use RecommendedCurve as C;
    let missing =
        |what: &str| Failure::new(ResultReason::MissingData, format!("{what} is missing"));
    let algorithm = algorithm.ok_or_else(|| missing("Cryptographic Algorithm"))?;
    let kind = match (algorithm, curve, length) {
        (A::Rsa, None, None) => return Err(missing("Cryptographic Length")),
        (A::Rsa, None, Some(length)) => {
            let bits = u16::try_from(length).ok().filter(|b| RSA_BITS.contains(b));
            let bits = bits.ok_or_else(|| {
                Failure::invalid(format!(
                    "RSA keys of {length} bits are not made here, of {} to {} are",
                    RSA_BITS.start(),
                    RSA_BITS.end()
                ))
            })?;
            return Ok(KeyKind::Rsa { bits });
        }
        (A::Ecdsa | A::Ec, Some(C::P256), _) | (A::Ecdsa | A::Ec, None, Some(256)) => KeyKind::P256,
        (A::Ecdsa | A::Ec, Some(C::P384), _) | (A::Ecdsa | A::Ec, None, Some(384)) => KeyKind::P384,
        (A::Ecdsa | A::Ec | A::Ed25519, Some(C::Curve25519), _) | (A::Ed25519, None, _) => {
            KeyKind::Ed25519
        }
        (A::Ecdsa | A::Ec | A::Ed448, Some(C::Curve448), _) | (A::Ed448, None, _) => KeyKind::Ed448,
        (A::Ecdsa | A::Ec, None, None) => {
            return Err(missing("Recommended Curve or Cryptographic Length"));
        }
        (algorithm, curve, length) => {
            let curve = curve.map_or(String::from("no curve"), |c| c.to_string());
            let length = length.map_or(String::from("no length"), |l| format!("{l} bits"));
            return Err(Failure::invalid(format!(
                "keys of {algorithm} with {curve} and {length} are not made here"
            )));
        }
    };
    // Lengths of Edwards curves are counted in more than one way.
    let edwards = matches!(kind, KeyKind::Ed25519 | KeyKind::Ed448);
    match length {
        Some(length) if !edwards && length != i32::from(kind.bits()) => Err(Failure::invalid(
            format!("Cryptographic Length {length} contradicts the curve"),
        )),
        _ => Ok(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        use CryptographicAlgorithm as A;
        use RecommendedCurve as C;
        let rsa = |bits| Ok(KeyKind::Rsa { bits });
        let ok = |a, l, c| kind(Some(a), l, c);
        assert_eq!(ok(A::Rsa, Some(2048), None), rsa(2048));
        assert_eq!(ok(A::Rsa, Some(8192), None), rsa(8192));
        assert_eq!(ok(A::Ecdsa, Some(256), None), Ok(KeyKind::P256));
        assert_eq!(ok(A::Ec, None, Some(C::P256)), Ok(KeyKind::P256));
        assert_eq!(ok(A::Ecdsa, Some(384), Some(C::P384)), Ok(KeyKind::P384));
        assert_eq!(ok(A::Ed25519, None, None), Ok(KeyKind::Ed25519));
        assert_eq!(ok(A::Ed25519, Some(255), None), Ok(KeyKind::Ed25519));
        assert_eq!(
            ok(A::Ec, Some(256), Some(C::Curve25519)),
            Ok(KeyKind::Ed25519)
        );
        assert_eq!(ok(A::Ed448, Some(448), None), Ok(KeyKind::Ed448));
        for (a, l, c) in [
            (A::Rsa, Some(512), None),
            (A::Rsa, Some(-1), None),
            (A::Rsa, Some(100_000), None),
            (A::Rsa, None, None),
            (A::Rsa, Some(2048), Some(C::P256)),
            (A::Ecdsa, Some(255), None),
            (A::Ecdsa, Some(384), Some(C::P256)),
            (A::Ecdsa, None, Some(C::P521)),
            (A::Ed25519, None, Some(C::P256)),
            (A::Dsa, Some(2048), None),
        ] {
            assert!(ok(a, l, c).is_err(), "{a} {l:?} {c:?}");
        }
        assert!(kind(None, Some(256), None).is_err());
    }
}
