//! Attributes of objects on a token, and searching by them.

use crate::attribute::{Attribute, AttributeValue, DomainParameters};
use crate::enums::{CryptographicAlgorithm, ObjectType, usage};
use crate::failure::Failure;
use crate::message::Version;
use crate::payload::Locate;
use crate::token::ObjectInfo;

/// Bit of the Storage Status Mask (§9.1.3.3.2) for what can be used at once.
const ONLINE: i32 = 0x01;

/// All attributes of `object`, in the order of the specification's chapter 3.
pub(super) fn of(object: &ObjectInfo, version: Version) -> Vec<Attribute> {
    let kind = object.kind;
    let mut values = vec![AttributeValue::UniqueIdentifier(object.id.to_string())];
    if let Some(label) = &object.label {
        values.push(AttributeValue::text_name(label));
    }
    values.push(AttributeValue::ObjectType(object_type(object)));
    values.push(AttributeValue::CryptographicAlgorithm(kind.algorithm()));
    values.push(AttributeValue::CryptographicLength(i32::from(kind.bits())));
    if let Some(curve) = kind.curve() {
        values.push(AttributeValue::CryptographicDomainParameters(
            DomainParameters {
                q_length: Some(i32::from(kind.bits())),
                curve: Some(curve),
            },
        ));
    }
    values.push(AttributeValue::CryptographicUsageMask(usage_mask(object)));
    values.push(AttributeValue::State(object.state));
    if object.is_private() && version >= Version::V1_4 {
        values.push(AttributeValue::Sensitive(true));
        values.push(AttributeValue::Extractable(false));
    }
    values.into_iter().map(Attribute::from).collect()
}

fn object_type(object: &ObjectInfo) -> ObjectType {
    match object.is_private() {
        true => ObjectType::PrivateKey,
        false => ObjectType::PublicKey,
    }
}

fn usage_mask(object: &ObjectInfo) -> i32 {
    match object.is_private() {
        true => usage::SIGN,
        false => usage::VERIFY,
    }
}

/// What Locate looks for: objects that fit every attribute.
pub(super) struct Filter<'a> {
    attributes: &'a [Attribute],
    online: bool,
}

impl<'a> Filter<'a> {
    /// # Errors
    /// If it asks for an attribute that objects here do not have: an answer would mislead.
    pub(super) fn new(want: &'a Locate) -> Result<Filter<'a>, Failure> {
        for attribute in &want.attributes {
            let known = matches!(
                attribute.value,
                AttributeValue::UniqueIdentifier(_)
                    | AttributeValue::Name(_)
                    | AttributeValue::ObjectType(_)
                    | AttributeValue::CryptographicAlgorithm(_)
                    | AttributeValue::CryptographicLength(_)
                    | AttributeValue::CryptographicUsageMask(_)
                    | AttributeValue::State(_)
            );
            if !known {
                return Err(Failure::invalid(format!(
                    "objects cannot be located by '{}' here",
                    attribute.value.name()
                )));
            }
        }
        Ok(Filter {
            attributes: &want.attributes,
            online: want.storage_status.is_none_or(|mask| mask & ONLINE != 0),
        })
    }

    /// The label that all objects found will have.
    pub(super) fn label(&self) -> Option<&'a str> {
        self.attributes.iter().find_map(|a| match &a.value {
            AttributeValue::Name(name) => Some(name.value.as_str()),
            _ => None,
        })
    }

    pub(super) fn matches(&self, object: &ObjectInfo) -> bool {
        self.online && self.attributes.iter().all(|a| fits(&a.value, object))
    }
}

fn fits(value: &AttributeValue, object: &ObjectInfo) -> bool {
    match value {
        AttributeValue::UniqueIdentifier(id) => *id == object.id.to_string(),
        AttributeValue::Name(name) => object.label.as_deref() == Some(name.value.as_str()),
        AttributeValue::ObjectType(kind) => *kind == object_type(object),
        AttributeValue::CryptographicAlgorithm(CryptographicAlgorithm::Ec) => {
            object.kind.curve().is_some()
        }
        AttributeValue::CryptographicAlgorithm(algorithm) => *algorithm == object.kind.algorithm(),
        AttributeValue::CryptographicLength(bits) => *bits == i32::from(object.kind.bits()),
        // Every use asked for must be allowed.
        AttributeValue::CryptographicUsageMask(mask) => mask & !usage_mask(object) == 0,
        AttributeValue::State(state) => *state == object.state,
        _ => false,
    }
}
