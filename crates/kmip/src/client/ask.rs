//! The requests of a client that signs, spelled so that strict servers are content.

use crate::attribute::{Attribute, AttributeValue};
use crate::enums::{ObjectType, QueryFunction, RevocationReasonCode, usage};
use crate::mechanism::{Mechanism, SignInput};
use crate::message::Version;
use crate::payload::{CreateKeyPair, Get, Locate, RequestPayload, Revoke, Sign};
use crate::public_key::KeyKind;

/// All versions of ours that can sign, best first.
pub fn discover_versions() -> RequestPayload {
    RequestPayload::DiscoverVersions(Version::SPOKEN.to_vec())
}

pub fn query() -> RequestPayload {
    RequestPayload::Query(vec![
        QueryFunction::Operations,
        QueryFunction::Objects,
        QueryFunction::ServerInformation,
    ])
}

/// Names of the halves, as some servers want them; an empty one is none. The curve is told by
/// algorithm and length: Cryptographic Domain Parameters are unknown to several servers.
pub fn create_key_pair(kind: KeyKind, private: &str, public: &str) -> RequestPayload {
    let half = |name: &str, mask| {
        let name = (!name.is_empty()).then(|| AttributeValue::text_name(name));
        let all = name
            .into_iter()
            .chain([AttributeValue::CryptographicUsageMask(mask)]);
        all.map(Attribute::from).collect()
    };
    RequestPayload::CreateKeyPair(CreateKeyPair {
        common: vec![
            AttributeValue::CryptographicAlgorithm(kind.algorithm()).into(),
            AttributeValue::CryptographicLength(i32::from(kind.bits())).into(),
        ],
        private: half(private, usage::SIGN),
        public: half(public, usage::VERIFY),
    })
}

pub fn activate(id: &str) -> RequestPayload {
    let id = Some(id.to_owned());
    RequestPayload::Activate { id }
}

/// In the server's own format: they differ in what they can convert to.
pub fn public_key(id: &str) -> RequestPayload {
    RequestPayload::Get(Get {
        id: Some(id.to_owned()),
        ..Get::default()
    })
}

pub fn attributes(id: &str) -> RequestPayload {
    RequestPayload::GetAttributes {
        id: Some(id.to_owned()),
        names: Vec::new(),
    }
}

pub fn rename(id: &str, name: &str) -> RequestPayload {
    RequestPayload::ModifyAttribute {
        id: Some(id.to_owned()),
        attribute: AttributeValue::text_name(name).into(),
    }
}

/// Objects of one type, with this name if one is given.
pub fn locate(object_type: ObjectType, name: Option<&str>) -> RequestPayload {
    let mut attributes = vec![AttributeValue::ObjectType(object_type).into()];
    attributes.extend(name.map(|n| AttributeValue::text_name(n).into()));
    RequestPayload::Locate(Locate {
        attributes,
        ..Locate::default()
    })
}

/// The next objects of a long list: at most `most`, after `seen` others. Since KMIP 1.3, and
/// servers of ours do it always.
pub fn locate_part(object_type: ObjectType, seen: usize, most: usize) -> RequestPayload {
    let number = |n: usize| Some(i32::try_from(n).unwrap_or(i32::MAX));
    RequestPayload::Locate(Locate {
        maximum_items: number(most),
        offset_items: number(seen).filter(|n| *n > 0),
        attributes: vec![AttributeValue::ObjectType(object_type).into()],
        ..Locate::default()
    })
}

pub fn sign(id: &str, mechanism: Mechanism, input: SignInput) -> RequestPayload {
    RequestPayload::Sign(Sign {
        id: Some(id.to_owned()),
        parameters: Some(mechanism.parameters()),
        input,
    })
}

/// What most servers want before they destroy an active key.
pub fn revoke(id: &str, message: &str) -> RequestPayload {
    RequestPayload::Revoke(Revoke {
        id: Some(id.to_owned()),
        reason: RevocationReasonCode::CessationOfOperation,
        message: Some(message.to_owned()),
        compromised: None,
    })
}

pub fn destroy(id: &str) -> RequestPayload {
    let id = Some(id.to_owned());
    RequestPayload::Destroy { id }
}
