//! Reading and writing response payloads. Responses are read leniently: servers of later versions
//! add fields.

use super::{QueryResponse, ResponsePayload};
use crate::attribute::Attribute;
use crate::enums::{ObjectType, Operation};
use crate::key_block::KeyBlock;
use crate::message::Version;
use crate::tags;
use crate::ttlv::{Fields, Item, Tag, TtlvError, Writer};

impl ResponsePayload {
    pub fn operation(&self) -> Operation {
        match self {
            ResponsePayload::DiscoverVersions(_) => Operation::DiscoverVersions,
            ResponsePayload::Query(_) => Operation::Query,
            ResponsePayload::CreateKeyPair { .. } => Operation::CreateKeyPair,
            ResponsePayload::Locate { .. } => Operation::Locate,
            ResponsePayload::Get { .. } => Operation::Get,
            ResponsePayload::GetAttributes { .. } => Operation::GetAttributes,
            ResponsePayload::ModifyAttribute { .. } => Operation::ModifyAttribute,
            ResponsePayload::Activate { .. } => Operation::Activate,
            ResponsePayload::Revoke { .. } => Operation::Revoke,
            ResponsePayload::Destroy { .. } => Operation::Destroy,
            ResponsePayload::Sign { .. } => Operation::Sign,
            ResponsePayload::SignatureVerify { .. } => Operation::SignatureVerify,
        }
    }

    /// The identifier of the object worked on.
    pub fn id(&self) -> Option<&str> {
        match self {
            ResponsePayload::Get { id, .. }
            | ResponsePayload::GetAttributes { id, .. }
            | ResponsePayload::ModifyAttribute { id, .. }
            | ResponsePayload::Activate { id }
            | ResponsePayload::Revoke { id }
            | ResponsePayload::Destroy { id }
            | ResponsePayload::Sign { id, .. }
            | ResponsePayload::SignatureVerify { id, .. } => Some(id),
            ResponsePayload::DiscoverVersions(_)
            | ResponsePayload::Query(_)
            | ResponsePayload::CreateKeyPair { .. }
            | ResponsePayload::Locate { .. } => None,
        }
    }

    /// `None` for operations that nobody here asks for.
    pub(crate) fn read(
        operation: Operation,
        item: &Item<'_>,
    ) -> Result<Option<ResponsePayload>, TtlvError> {
        let mut f = item.fields()?.lenient();
        Ok(Some(match operation {
            Operation::DiscoverVersions => {
                ResponsePayload::DiscoverVersions(Version::read_all(&mut f)?)
            }
            Operation::Query => ResponsePayload::Query(read_query(&mut f)?),
            Operation::CreateKeyPair => ResponsePayload::CreateKeyPair {
                private: text(&mut f, tags::PRIVATE_KEY_UNIQUE_IDENTIFIER)?,
                public: text(&mut f, tags::PUBLIC_KEY_UNIQUE_IDENTIFIER)?,
            },
            Operation::Locate => {
                let located = f.opt_integer(tags::LOCATED_ITEMS)?;
                let mut ids = Vec::new();
                while let Some(id) = f.opt_string(tags::UNIQUE_IDENTIFIER)? {
                    ids.push(id);
                }
                ResponsePayload::Locate { located, ids }
            }
            Operation::Get => {
                let kind = f.req(tags::OBJECT_TYPE)?;
                let object_type = kind.enumeration()?;
                let id = text(&mut f, tags::UNIQUE_IDENTIFIER)?;
                // Only public keys are ever asked for.
                if object_type != ObjectType::PublicKey {
                    return Err(kind.refused());
                }
                let mut object = f.req_fields(tags::PUBLIC_KEY)?;
                let key = KeyBlock::read(object.req_fields(tags::KEY_BLOCK)?)?;
                ResponsePayload::Get {
                    object_type,
                    id,
                    key,
                }
            }
            Operation::GetAttributes => ResponsePayload::GetAttributes {
                id: text(&mut f, tags::UNIQUE_IDENTIFIER)?,
                attributes: Attribute::read_all(&mut f, true)?,
            },
            Operation::ModifyAttribute => ResponsePayload::ModifyAttribute {
                id: text(&mut f, tags::UNIQUE_IDENTIFIER)?,
                attribute: Attribute::read(&f.req(tags::ATTRIBUTE)?, true)?,
            },
            Operation::Activate => ResponsePayload::Activate {
                id: text(&mut f, tags::UNIQUE_IDENTIFIER)?,
            },
            Operation::Revoke => ResponsePayload::Revoke {
                id: text(&mut f, tags::UNIQUE_IDENTIFIER)?,
            },
            Operation::Destroy => ResponsePayload::Destroy {
                id: text(&mut f, tags::UNIQUE_IDENTIFIER)?,
            },
            Operation::Sign => ResponsePayload::Sign {
                id: text(&mut f, tags::UNIQUE_IDENTIFIER)?,
                signature: f.req(tags::SIGNATURE_DATA)?.octets()?.to_vec(),
            },
            Operation::SignatureVerify => ResponsePayload::SignatureVerify {
                id: text(&mut f, tags::UNIQUE_IDENTIFIER)?,
                validity: f.req(tags::VALIDITY_INDICATOR)?.enumeration()?,
            },
            _ => return Ok(None),
        }))
    }

    /// `version` is the one of the request; fields that it does not know are left out.
    pub(crate) fn write(&self, w: &mut Writer, version: Version) {
        w.structure(tags::RESPONSE_PAYLOAD, |w| match self {
            ResponsePayload::DiscoverVersions(versions) => {
                versions.iter().for_each(|v| v.write(w));
            }
            ResponsePayload::Query(q) => write_query(q, w),
            ResponsePayload::CreateKeyPair { private, public } => {
                w.text(tags::PRIVATE_KEY_UNIQUE_IDENTIFIER, private);
                w.text(tags::PUBLIC_KEY_UNIQUE_IDENTIFIER, public);
            }
            ResponsePayload::Locate { located, ids } => {
                if version >= Version::V1_3 {
                    w.opt_integer(tags::LOCATED_ITEMS, *located);
                }
                ids.iter()
                    .for_each(|id| w.text(tags::UNIQUE_IDENTIFIER, id));
            }
            ResponsePayload::Get {
                object_type,
                id,
                key,
            } => {
                w.enumeration(tags::OBJECT_TYPE, *object_type);
                w.text(tags::UNIQUE_IDENTIFIER, id);
                w.structure(tags::PUBLIC_KEY, |w| key.write(w));
            }
            ResponsePayload::GetAttributes { id, attributes } => {
                w.text(tags::UNIQUE_IDENTIFIER, id);
                attributes.iter().for_each(|a| a.write(w));
            }
            ResponsePayload::ModifyAttribute { id, attribute } => {
                w.text(tags::UNIQUE_IDENTIFIER, id);
                attribute.write(w);
            }
            ResponsePayload::Activate { id }
            | ResponsePayload::Revoke { id }
            | ResponsePayload::Destroy { id } => w.text(tags::UNIQUE_IDENTIFIER, id),
            ResponsePayload::Sign { id, signature } => {
                w.text(tags::UNIQUE_IDENTIFIER, id);
                w.octets(tags::SIGNATURE_DATA, signature);
            }
            ResponsePayload::SignatureVerify { id, validity } => {
                w.text(tags::UNIQUE_IDENTIFIER, id);
                w.enumeration(tags::VALIDITY_INDICATOR, *validity);
            }
        });
    }
}

fn text(f: &mut Fields<'_>, tag: Tag) -> Result<String, TtlvError> {
    Ok(f.req(tag)?.text()?.to_owned())
}

fn read_query(f: &mut Fields<'_>) -> Result<QueryResponse, TtlvError> {
    let mut q = QueryResponse::default();
    while let Some(operation) = f.opt_enum(tags::OPERATION)? {
        q.operations.push(operation);
    }
    while let Some(object) = f.opt_enum(tags::OBJECT_TYPE)? {
        q.objects.push(object);
    }
    q.vendor = f.opt_string(tags::VENDOR_IDENTIFICATION)?;
    if let Some(mut information) = f.opt_fields(tags::SERVER_INFORMATION)? {
        while let Some(name) = information.opt_string(tags::X_SIGNING_ALGORITHM)? {
            q.signing_algorithms.get_or_insert_default().push(name);
        }
    }
    Ok(q)
}

fn write_query(q: &QueryResponse, w: &mut Writer) {
    for operation in &q.operations {
        w.enumeration(tags::OPERATION, *operation);
    }
    for object in &q.objects {
        w.enumeration(tags::OBJECT_TYPE, *object);
    }
    w.opt_text(tags::VENDOR_IDENTIFICATION, q.vendor.as_deref());
    if let Some(names) = &q.signing_algorithms {
        w.structure(tags::SERVER_INFORMATION, |w| {
            names
                .iter()
                .for_each(|n| w.text(tags::X_SIGNING_ALGORITHM, n));
        });
    }
}
