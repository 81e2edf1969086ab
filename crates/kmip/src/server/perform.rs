//! One operation against a token.

use super::{Performed, Placeholder, attributes, create};
use crate::attribute::{Attribute, AttributeValue};
use crate::enums::{
    KeyCompressionType, NameType, ObjectType, Operation, QueryFunction, ResultReason,
    ValidityIndicator,
};
use crate::failure::Failure;
use crate::ident::{Half, ObjectId};
use crate::mechanism::{Mechanism, SignInput};
use crate::message::Version;
use crate::payload::{
    Get, Locate, QueryResponse, RequestPayload, ResponsePayload, Revoke, Sign, SignatureVerify,
};
use crate::token::{About, Revocation, SignJob, Token, TokenError};

pub(super) fn perform(
    payload: &RequestPayload,
    version: Version,
    token: Option<&dyn Token>,
    placeholder: &mut Placeholder,
) -> Performed {
    if let RequestPayload::DiscoverVersions(theirs) = payload {
        return Ok(discover(theirs));
    }
    let token = token.ok_or_else(|| {
        Failure::new(
            ResultReason::AuthenticationNotSuccessful,
            format!("operation {} needs a login", payload.operation()),
        )
    })?;
    match payload {
        RequestPayload::DiscoverVersions(theirs) => Ok(discover(theirs)),
        RequestPayload::Query(functions) => query(functions, version, &token.about()?),
        RequestPayload::CreateKeyPair(want) => {
            let key = token.generate(&create::new_pair(want)?)?;
            let private = key.private().to_string();
            *placeholder = Some(private.clone());
            Ok(ResponsePayload::CreateKeyPair {
                private,
                public: key.public().to_string(),
            })
        }
        RequestPayload::Locate(want) => locate(want, token, placeholder),
        RequestPayload::Get(get) => get_key(get, token, placeholder),
        RequestPayload::GetAttributes { id, names } => {
            let id = object_id(id, placeholder)?;
            let all = attributes::of(&token.object(&id)?, version);
            let wanted =
                |a: &Attribute| names.is_empty() || names.iter().any(|n| n == a.value.name());
            Ok(ResponsePayload::GetAttributes {
                id: id.to_string(),
                attributes: all.into_iter().filter(wanted).collect(),
            })
        }
        RequestPayload::ModifyAttribute { id, attribute } => {
            let id = object_id(id, placeholder)?;
            token.rename(&id, new_label(attribute)?)?;
            Ok(ResponsePayload::ModifyAttribute {
                id: id.to_string(),
                attribute: attribute.clone(),
            })
        }
        RequestPayload::Activate { id } => {
            let id = object_id(id, placeholder)?;
            token.activate(&id)?;
            Ok(ResponsePayload::Activate { id: id.to_string() })
        }
        RequestPayload::Revoke(revoke) => revoke_key(revoke, token, placeholder),
        RequestPayload::Destroy { id } => {
            let id = object_id(id, placeholder)?;
            token.destroy(&id)?;
            Ok(ResponsePayload::Destroy { id: id.to_string() })
        }
        RequestPayload::Sign(sign) => sign_input(sign, token, placeholder),
        RequestPayload::SignatureVerify(verify) => verify_signature(verify, token, placeholder),
    }
}

/// The object that is named, or the one that the operation before left.
fn object_id(id: &Option<String>, placeholder: &Placeholder) -> Result<ObjectId, Failure> {
    let text = id.as_ref().or(placeholder.as_ref()).ok_or_else(|| {
        Failure::new(
            ResultReason::MissingData,
            "Unique Identifier is missing, and no operation before this one left an object",
        )
    })?;
    text.parse().map_err(|error| {
        // Long nonsense is not repeated.
        let shown: String = text.chars().take(140).collect();
        Failure::new(ResultReason::ItemNotFound, format!("'{shown}' is {error}"))
    })
}

/// §4.26: the versions of the client that are spoken here in the client's order; all of ours if it
/// names none.
fn discover(theirs: &[Version]) -> ResponsePayload {
    ResponsePayload::DiscoverVersions(match theirs {
        [] => Version::SPOKEN.to_vec(),
        theirs => {
            let mut common: Vec<Version> = Vec::new();
            for version in theirs {
                if version.is_spoken() && !common.contains(version) {
                    common.push(*version);
                }
            }
            common
        }
    })
}

fn query(functions: &[QueryFunction], version: Version, about: &About) -> Performed {
    let mut answer = QueryResponse::default();
    for function in functions {
        match function {
            QueryFunction::Operations => answer.operations = operations(about, version),
            QueryFunction::Objects => {
                answer.objects = vec![ObjectType::PublicKey, ObjectType::PrivateKey];
            }
            QueryFunction::ServerInformation => {
                answer.vendor = Some(about.vendor.clone());
                answer.signing_algorithms = Some(about.algorithms.clone());
            }
            // There is nothing to say about the others.
            _ => {}
        }
    }
    Ok(ResponsePayload::Query(answer))
}

/// Exactly what can be done, in the order of the codes.
fn operations(about: &About, version: Version) -> Vec<Operation> {
    let signing = version >= Version::V1_2;
    [
        (Operation::CreateKeyPair, about.can_generate),
        (Operation::Locate, true),
        (Operation::Get, true),
        (Operation::GetAttributes, true),
        (Operation::ModifyAttribute, about.can_rename),
        (Operation::Activate, true),
        (Operation::Revoke, true),
        (Operation::Destroy, about.can_destroy),
        (Operation::Query, true),
        (Operation::DiscoverVersions, true),
        (Operation::Sign, about.can_sign && signing),
        (Operation::SignatureVerify, about.can_verify && signing),
    ]
    .into_iter()
    .filter_map(|(operation, can)| can.then_some(operation))
    .collect()
}

fn locate(want: &Locate, token: &dyn Token, placeholder: &mut Placeholder) -> Performed {
    let filter = attributes::Filter::new(want)?;
    let mut found: Vec<ObjectId> = token
        .objects(filter.label())?
        .into_iter()
        .filter(|object| filter.matches(object))
        .map(|object| object.id)
        .collect();
    // A stable order, so that a list can be read in parts.
    found.sort_unstable();
    found.dedup();
    let located = i32::try_from(found.len()).ok();
    let bound = |value: Option<i32>, otherwise| match value {
        Some(value) => usize::try_from(value)
            .map_err(|_| Failure::invalid("Maximum Items and Offset Items are not negative")),
        None => Ok(otherwise),
    };
    let ids: Vec<String> = found
        .iter()
        .skip(bound(want.offset_items, 0)?)
        .take(bound(want.maximum_items, usize::MAX)?)
        .map(ObjectId::to_string)
        .collect();
    *placeholder = match &ids[..] {
        [one] => Some(one.clone()),
        _ => None,
    };
    Ok(ResponsePayload::Locate { located, ids })
}

fn get_key(get: &Get, token: &dyn Token, placeholder: &Placeholder) -> Performed {
    let id = object_id(&get.id, placeholder)?;
    if id.half == Half::Private {
        token.object(&id)?;
        return Err(Failure::new(
            ResultReason::PermissionDenied,
            format!("{id} is a private key, which nobody can read"),
        ));
    }
    if let Some(compression) = get.compression
        && compression != KeyCompressionType::EcUncompressed
    {
        return Err(Failure::new(
            ResultReason::KeyCompressionTypeNotSupported,
            format!("keys are not given as {compression}"),
        ));
    }
    let key = token.public_key(&id.key)?.key_block(get.format)?;
    Ok(ResponsePayload::Get {
        object_type: ObjectType::PublicKey,
        id: id.to_string(),
        key,
    })
}

/// Of all attributes only the name can be changed.
fn new_label(attribute: &Attribute) -> Result<&str, Failure> {
    let AttributeValue::Name(name) = &attribute.value else {
        return Err(Failure::new(
            ResultReason::PermissionDenied,
            format!(
                "attribute '{}' cannot be changed here",
                attribute.value.name()
            ),
        ));
    };
    if attribute.index.is_some_and(|index| index != 0) {
        return Err(Failure::new(
            ResultReason::ItemNotFound,
            "an object has one name here, at index 0",
        ));
    }
    check_label(name)
}

/// A name that can be a label.
pub(super) fn check_label(name: &crate::attribute::Name) -> Result<&str, Failure> {
    if name.kind != NameType::Text {
        return Err(Failure::invalid(format!(
            "a name of type {} cannot be a label",
            name.kind
        )));
    }
    if name.value.is_empty() || name.value.len() > 255 || name.value.chars().any(char::is_control) {
        return Err(Failure::invalid(
            "a name has 1 to 255 octets and no control characters",
        ));
    }
    Ok(&name.value)
}

fn revoke_key(revoke: &Revoke, token: &dyn Token, placeholder: &Placeholder) -> Performed {
    let id = object_id(&revoke.id, placeholder)?;
    let why = Revocation {
        reason: revoke.reason,
        message: revoke.message.clone(),
        compromised: revoke.compromised,
    };
    token.revoke(&id, &why)?;
    Ok(ResponsePayload::Revoke { id: id.to_string() })
}

fn sign_input(sign: &Sign, token: &dyn Token, placeholder: &Placeholder) -> Performed {
    let (id, mechanism) = prepare(sign, token, placeholder)?;
    let signature = token.sign(&id.key, mechanism, &sign.input)?;
    Ok(signed(&id, signature))
}

/// Signs all that can be signed with one call of the token; one result for each, in their order.
pub(super) fn sign_all(all: &[&Sign], token: &dyn Token) -> Vec<Performed> {
    // Most requests are for one key; what was found for an item holds for the next that asks the same.
    let mut prepared: Vec<Result<(ObjectId, Mechanism), Failure>> = Vec::with_capacity(all.len());
    let mut before: Option<&Sign> = None;
    for sign in all {
        let like_before =
            before.is_some_and(|b| b.id == sign.id && b.parameters == sign.parameters);
        let ready = match prepared.last() {
            Some(Ok((id, mechanism))) if like_before => mechanism
                .check_input(&sign.input)
                .map(|()| (id.clone(), *mechanism)),
            _ => prepare(sign, token, &None),
        };
        prepared.push(ready);
        before = Some(sign);
    }
    let jobs: Vec<SignJob<'_>> = all
        .iter()
        .zip(&prepared)
        .filter_map(|(sign, ready)| {
            let (id, mechanism) = ready.as_ref().ok()?;
            Some(SignJob {
                key: &id.key,
                mechanism: *mechanism,
                input: &sign.input,
            })
        })
        .collect();
    let mut signatures = token.sign_all(&jobs).into_iter();
    let missing = || Err(TokenError::Refused("the token gave no result".into()));
    prepared
        .iter()
        .map(|ready| {
            let (id, _) = ready.as_ref().map_err(Failure::clone)?;
            let signature = signatures.next().unwrap_or_else(missing)?;
            Ok(signed(id, signature))
        })
        .collect()
}

fn signed(id: &ObjectId, signature: Vec<u8>) -> ResponsePayload {
    ResponsePayload::Sign {
        id: id.to_string(),
        signature,
    }
}

/// The key that signs, and how.
fn prepare(
    sign: &Sign,
    token: &dyn Token,
    placeholder: &Placeholder,
) -> Result<(ObjectId, Mechanism), Failure> {
    let id = object_id(&sign.id, placeholder)?;
    if id.half == Half::Public {
        return Err(Failure::new(
            ResultReason::IllegalOperation,
            format!("{id} is a public key; the private key signs"),
        ));
    }
    let mechanism = Mechanism::resolve(token.kind(&id.key)?, sign.parameters.as_ref())?;
    mechanism.check_input(&sign.input)?;
    Ok((id, mechanism))
}

fn verify_signature(
    verify: &SignatureVerify,
    token: &dyn Token,
    placeholder: &Placeholder,
) -> Performed {
    if !token.about()?.can_verify {
        return Err(Failure::unsupported(Operation::SignatureVerify));
    }
    let id = object_id(&verify.id, placeholder)?;
    if id.half == Half::Private {
        return Err(Failure::new(
            ResultReason::IllegalOperation,
            format!("{id} is a private key; the public key verifies"),
        ));
    }
    let mechanism = Mechanism::resolve(token.kind(&id.key)?, verify.parameters.as_ref())?;
    let input: &SignInput = &verify.input;
    mechanism.check_input(input)?;
    let good = token.verify(&id.key, mechanism, input, &verify.signature)?;
    Ok(ResponsePayload::SignatureVerify {
        id: id.to_string(),
        validity: match good {
            true => ValidityIndicator::Valid,
            false => ValidityIndicator::Invalid,
        },
    })
}
