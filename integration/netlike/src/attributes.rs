//! Attributes of the objects, and templates.

use cryptoki_sys::*;

use crate::config::Manners;
use crate::keys::{self, Kind, Pair};

/// A template's attributes.
pub type Template = Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    Public,
    Private,
}

/// Why there is no value.
pub enum NoValue {
    Unknown,
    Sensitive,
    /// The instance that was asked does not have the key.
    NoKey,
}

pub fn value(
    pair: &Pair,
    half: Half,
    wanted: CK_ATTRIBUTE_TYPE,
    instance: usize,
    manners: &Manners,
) -> Result<Vec<u8>, NoValue> {
    let private = half == Half::Private;
    let key = pair.private.get(&instance);
    let public = || key.map(|key| key.public()).ok_or(NoValue::NoKey);
    let rsa = matches!(pair.kind, Kind::Rsa(_));
    Ok(match wanted {
        CKA_CLASS => number(match half {
            Half::Public => CKO_PUBLIC_KEY,
            Half::Private => CKO_PRIVATE_KEY,
        }),
        CKA_KEY_TYPE => number(match pair.kind {
            Kind::Rsa(_) => CKK_RSA,
            Kind::P256 | Kind::P384 => CKK_EC,
            Kind::Ed25519 => CKK_EC_EDWARDS,
        }),
        CKA_ID => pair.id.clone(),
        CKA_LABEL if private => pair.private_label.clone(),
        CKA_LABEL => pair.public_label.clone(),
        CKA_TOKEN => vec![CK_TRUE],
        CKA_PRIVATE => vec![u8::from(private)],
        CKA_SENSITIVE | CKA_ALWAYS_SENSITIVE | CKA_NEVER_EXTRACTABLE if private => vec![CK_TRUE],
        CKA_EXTRACTABLE if private => vec![CK_FALSE],
        CKA_SIGN if private => vec![CK_TRUE],
        CKA_VERIFY if !private => vec![CK_TRUE],
        CKA_SIGN
        | CKA_VERIFY
        | CKA_ENCRYPT
        | CKA_DECRYPT
        | CKA_WRAP
        | CKA_UNWRAP
        | CKA_DERIVE
        | CKA_SIGN_RECOVER
        | CKA_VERIFY_RECOVER
        | CKA_TRUSTED
        | CKA_ALWAYS_AUTHENTICATE => {
            vec![CK_FALSE]
        }
        CKA_LOCAL => vec![CK_TRUE],
        CKA_MODIFIABLE => vec![u8::from(!manners.labels_read_only)],
        CKA_KEY_GEN_MECHANISM if manners.key_gen_mechanism => number(match pair.kind {
            Kind::Rsa(_) => CKM_RSA_PKCS_KEY_PAIR_GEN,
            Kind::P256 | Kind::P384 => CKM_EC_KEY_PAIR_GEN,
            Kind::Ed25519 => CKM_EC_EDWARDS_KEY_PAIR_GEN,
        }),
        CKA_EC_PARAMS if !rsa => pair.kind.params().unwrap_or_default().to_vec(),
        CKA_EC_POINT if !rsa => octet_string(&public()?),
        CKA_MODULUS if rsa => keys::rsa_numbers(&public()?).ok_or(NoValue::NoKey)?.0,
        CKA_PUBLIC_EXPONENT if rsa => keys::rsa_numbers(&public()?).ok_or(NoValue::NoKey)?.1,
        CKA_MODULUS_BITS if rsa && !private => match pair.kind {
            Kind::Rsa(bits) => number(CK_ULONG::from(bits)),
            _ => return Err(NoValue::Unknown),
        },
        CKA_VALUE | CKA_PRIVATE_EXPONENT | CKA_PRIME_1 | CKA_PRIME_2 if private => {
            return Err(NoValue::Sensitive);
        }
        _ => return Err(NoValue::Unknown),
    })
}

/// True if the object has all that the template asks for.
pub fn matches(pair: &Pair, half: Half, template: &Template, manners: &Manners) -> bool {
    let has_id = get(template, CKA_ID).is_some();
    template.iter().all(|(wanted, octets)| match *wanted {
        // As in a template for a new key.
        CKA_ID if manners.label_is_id => pair.id == spelled(octets),
        CKA_LABEL if manners.label_is_id && has_id => true,
        wanted => value(pair, half, wanted, 0, manners).is_ok_and(|value| value == *octets),
    })
}

/// What a pair of templates asks for.
pub struct Wanted {
    pub kind: Kind,
    pub id: Vec<u8>,
    pub public_label: Vec<u8>,
    pub private_label: Vec<u8>,
}

/// # Errors
/// The return value of C_GenerateKeyPair.
pub fn read_templates(
    mechanism: CK_MECHANISM_TYPE,
    public: &Template,
    private: &Template,
    manners: &Manners,
) -> Result<Wanted, CK_RV> {
    let asks = |wanted| public.iter().chain(private).any(|(t, _)| *t == wanted);
    if asks(CKA_KEY_GEN_MECHANISM) && !manners.key_gen_mechanism {
        return Err(CKR_ATTRIBUTE_TYPE_INVALID);
    }
    if mechanism == CKM_RSA_PKCS_KEY_PAIR_GEN && manners.odd_about_rsa {
        return Err(CKR_DEVICE_ERROR);
    }
    if asks(CKA_EXTRACTABLE) && manners.refuses_extractable {
        return Err(CKR_TEMPLATE_INCONSISTENT);
    }
    let kind = match (mechanism, get(public, CKA_EC_PARAMS)) {
        (CKM_EC_KEY_PAIR_GEN, Some(keys::P256)) => Kind::P256,
        (CKM_EC_KEY_PAIR_GEN, Some(keys::P384)) => Kind::P384,
        (CKM_EC_EDWARDS_KEY_PAIR_GEN, Some(keys::ED25519_NAME)) => Kind::Ed25519,
        (CKM_EC_EDWARDS_KEY_PAIR_GEN, Some(keys::ED25519)) if !manners.curve_by_name => {
            Kind::Ed25519
        }
        (CKM_EC_KEY_PAIR_GEN | CKM_EC_EDWARDS_KEY_PAIR_GEN, Some(_)) => {
            return Err(CKR_ATTRIBUTE_VALUE_INVALID);
        }
        (CKM_RSA_PKCS_KEY_PAIR_GEN, _) => {
            let bits = get(public, CKA_MODULUS_BITS).and_then(read_number);
            Kind::Rsa(
                bits.and_then(|b| u16::try_from(b).ok())
                    .ok_or(CKR_TEMPLATE_INCOMPLETE)?,
            )
        }
        _ => return Err(CKR_MECHANISM_INVALID),
    };
    let text = |template, wanted| get(template, wanted).map(<[u8]>::to_vec);
    let label = text(private, CKA_LABEL).or_else(|| text(public, CKA_LABEL));
    let id = text(private, CKA_ID).or_else(|| text(public, CKA_ID));
    let id = match manners.label_is_id {
        true => id.map(|id| spelled(&id)).or(label),
        false => id,
    };
    let id = id.unwrap_or_else(|| {
        let mut random = [0; 10];
        keys::random(&mut random);
        keys::hex(&random).into_bytes()
    });
    let named = |template| match manners.label_is_id {
        true => id.clone(),
        false => text(template, CKA_LABEL).unwrap_or_default(),
    };
    Ok(Wanted {
        kind,
        public_label: named(public),
        private_label: named(private),
        id,
    })
}

/// Ids are parts of addresses there: what is more than letters and digits is spelled out.
fn spelled(id: &[u8]) -> Vec<u8> {
    match id.iter().all(u8::is_ascii_alphanumeric) {
        true => id.to_vec(),
        false => keys::hex(id).into_bytes(),
    }
}

fn get(template: &Template, wanted: CK_ATTRIBUTE_TYPE) -> Option<&[u8]> {
    let found = template.iter().find(|(t, _)| *t == wanted);
    found.map(|(_, octets)| octets.as_slice())
}

fn number(n: CK_ULONG) -> Vec<u8> {
    n.to_ne_bytes().to_vec()
}

fn read_number(octets: &[u8]) -> Option<CK_ULONG> {
    octets.try_into().ok().map(CK_ULONG::from_ne_bytes)
}

fn octet_string(contents: &[u8]) -> Vec<u8> {
    let mut der = vec![4];
    if contents.len() >= 0x80 {
        der.push(0x81);
    }
    der.push(contents.len() as u8);
    der.extend(contents);
    der
}
