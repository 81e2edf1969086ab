//! Reading and writing request payloads. Requests are read strictly: what is not understood is
//! refused, because it might matter.

use super::{
    CreateKeyPair, Get, Locate, PayloadError, RequestPayload, Revoke, Sign, SignatureVerify,
};
use crate::attribute::{Attribute, CryptographicParameters};
use crate::enums::{Operation, ResultReason};
use crate::failure::Failure;
use crate::mechanism::SignInput;
use crate::message::Version;
use crate::tags;
use crate::ttlv::{Fields, Item, Tag, TtlvError, Writer};

impl RequestPayload {
    pub(crate) fn read(
        operation: Operation,
        version: Version,
        item: &Item<'_>,
    ) -> Result<RequestPayload, PayloadError> {
        let mut f = item.fields()?;
        let payload = match operation {
            Operation::DiscoverVersions => {
                RequestPayload::DiscoverVersions(Version::read_all(&mut f)?)
            }
            Operation::Query => {
                let mut functions = Vec::new();
                while let Some(function) = f.opt_enum(tags::QUERY_FUNCTION)? {
                    functions.push(function);
                }
                RequestPayload::Query(functions)
            }
            Operation::CreateKeyPair => RequestPayload::CreateKeyPair(CreateKeyPair {
                common: template(&mut f, tags::COMMON_TEMPLATE_ATTRIBUTE)?,
                private: template(&mut f, tags::PRIVATE_KEY_TEMPLATE_ATTRIBUTE)?,
                public: template(&mut f, tags::PUBLIC_KEY_TEMPLATE_ATTRIBUTE)?,
            }),
            Operation::Locate => {
                let maximum_items = f.opt_integer(tags::MAXIMUM_ITEMS)?;
                let offset_items = f.opt_integer(tags::OFFSET_ITEMS)?;
                let storage_status = f.opt_integer(tags::STORAGE_STATUS_MASK)?;
                if f.opt(tags::OBJECT_GROUP_MEMBER)?.is_some() {
                    return Err(feature("object groups").into());
                }
                RequestPayload::Locate(Locate {
                    maximum_items,
                    offset_items,
                    storage_status,
                    attributes: Attribute::read_all(&mut f, false)?,
                })
            }
            Operation::Get => RequestPayload::Get(read_get(&mut f)?),
            Operation::GetAttributes => {
                let id = f.opt_string(tags::UNIQUE_IDENTIFIER)?;
                let mut names = Vec::new();
                while let Some(name) = f.opt_string(tags::ATTRIBUTE_NAME)? {
                    names.push(name);
                }
                RequestPayload::GetAttributes { id, names }
            }
            Operation::ModifyAttribute => {
                let id = f.opt_string(tags::UNIQUE_IDENTIFIER)?;
                let attribute = Attribute::read(&f.req(tags::ATTRIBUTE)?, false)?;
                RequestPayload::ModifyAttribute { id, attribute }
            }
            Operation::Activate => RequestPayload::Activate {
                id: f.opt_string(tags::UNIQUE_IDENTIFIER)?,
            },
            Operation::Destroy => RequestPayload::Destroy {
                id: f.opt_string(tags::UNIQUE_IDENTIFIER)?,
            },
            Operation::Revoke => RequestPayload::Revoke(read_revoke(&mut f)?),
            // Both came with KMIP 1.2.
            Operation::Sign | Operation::SignatureVerify if version < Version::V1_2 => {
                return Err(Failure::new(
                    ResultReason::OperationNotSupported,
                    format!("{operation} needs KMIP 1.2, the request is KMIP {version}"),
                )
                .into());
            }
            Operation::Sign => {
                let (id, parameters) = read_key(&mut f)?;
                let input = read_input(&mut f)?;
                refuse_parts(&mut f)?;
                RequestPayload::Sign(Sign {
                    id,
                    parameters,
                    input,
                })
            }
            Operation::SignatureVerify => {
                let (id, parameters) = read_key(&mut f)?;
                let input = read_input(&mut f)?;
                let signature = f.req(tags::SIGNATURE_DATA)?.octets()?.to_vec();
                refuse_parts(&mut f)?;
                RequestPayload::SignatureVerify(SignatureVerify {
                    id,
                    parameters,
                    input,
                    signature,
                })
            }
            other => return Err(Failure::unsupported(other).into()),
        };
        f.finish()?;
        Ok(payload)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.structure(tags::REQUEST_PAYLOAD, |w| match self {
            RequestPayload::DiscoverVersions(versions) => {
                versions.iter().for_each(|v| v.write(w));
            }
            RequestPayload::Query(functions) => {
                for function in functions {
                    w.enumeration(tags::QUERY_FUNCTION, *function);
                }
            }
            RequestPayload::CreateKeyPair(c) => {
                for (tag, attributes) in [
                    (tags::COMMON_TEMPLATE_ATTRIBUTE, &c.common),
                    (tags::PRIVATE_KEY_TEMPLATE_ATTRIBUTE, &c.private),
                    (tags::PUBLIC_KEY_TEMPLATE_ATTRIBUTE, &c.public),
                ] {
                    if !attributes.is_empty() {
                        w.structure(tag, |w| attributes.iter().for_each(|a| a.write(w)));
                    }
                }
            }
            RequestPayload::Locate(l) => {
                w.opt_integer(tags::MAXIMUM_ITEMS, l.maximum_items);
                w.opt_integer(tags::OFFSET_ITEMS, l.offset_items);
                w.opt_integer(tags::STORAGE_STATUS_MASK, l.storage_status);
                l.attributes.iter().for_each(|a| a.write(w));
            }
            RequestPayload::Get(g) => {
                w.opt_text(tags::UNIQUE_IDENTIFIER, g.id.as_deref());
                w.opt_enum(tags::KEY_FORMAT_TYPE, g.format);
                w.opt_enum(tags::KEY_COMPRESSION_TYPE, g.compression);
            }
            RequestPayload::GetAttributes { id, names } => {
                w.opt_text(tags::UNIQUE_IDENTIFIER, id.as_deref());
                names.iter().for_each(|n| w.text(tags::ATTRIBUTE_NAME, n));
            }
            RequestPayload::ModifyAttribute { id, attribute } => {
                w.opt_text(tags::UNIQUE_IDENTIFIER, id.as_deref());
                attribute.write(w);
            }
            RequestPayload::Activate { id } | RequestPayload::Destroy { id } => {
                w.opt_text(tags::UNIQUE_IDENTIFIER, id.as_deref());
            }
            RequestPayload::Revoke(r) => {
                w.opt_text(tags::UNIQUE_IDENTIFIER, r.id.as_deref());
                w.structure(tags::REVOCATION_REASON, |w| {
                    w.enumeration(tags::REVOCATION_REASON_CODE, r.reason);
                    w.opt_text(tags::REVOCATION_MESSAGE, r.message.as_deref());
                });
                w.opt_date_time(tags::COMPROMISE_OCCURRENCE_DATE, r.compromised);
            }
            RequestPayload::Sign(s) => {
                write_key(w, s.id.as_deref(), s.parameters.as_ref());
                write_input(w, &s.input);
            }
            RequestPayload::SignatureVerify(v) => {
                write_key(w, v.id.as_deref(), v.parameters.as_ref());
                write_input(w, &v.input);
                w.octets(tags::SIGNATURE_DATA, &v.signature);
            }
        });
    }
}

fn feature(what: &str) -> Failure {
    Failure::new(
        ResultReason::FeatureNotSupported,
        format!("{what}: not supported here"),
    )
}

/// A Template-Attribute structure (§2.1.8).
fn template(f: &mut Fields<'_>, tag: Tag) -> Result<Vec<Attribute>, PayloadError> {
    let Some(mut f) = f.opt_fields(tag)? else {
        return Ok(Vec::new());
    };
    if f.opt(tags::NAME)?.is_some() {
        return Err(feature("templates by name").into());
    }
    let attributes = Attribute::read_all(&mut f, false)?;
    f.finish()?;
    Ok(attributes)
}

fn read_get(f: &mut Fields<'_>) -> Result<Get, PayloadError> {
    let id = f.opt_string(tags::UNIQUE_IDENTIFIER)?;
    let format = f.opt_enum(tags::KEY_FORMAT_TYPE)?;
    let compression = f.opt_enum(tags::KEY_COMPRESSION_TYPE)?;
    if f.opt(tags::KEY_WRAPPING_SPECIFICATION)?.is_some() {
        return Err(feature("key wrapping").into());
    }
    Ok(Get {
        id,
        format,
        compression,
    })
}

fn read_revoke(f: &mut Fields<'_>) -> Result<Revoke, TtlvError> {
    let id = f.opt_string(tags::UNIQUE_IDENTIFIER)?;
    let mut reason = f.req_fields(tags::REVOCATION_REASON)?;
    let code = reason.req(tags::REVOCATION_REASON_CODE)?.enumeration()?;
    let message = reason.opt_string(tags::REVOCATION_MESSAGE)?;
    reason.finish()?;
    Ok(Revoke {
        id,
        reason: code,
        message,
        compromised: f.opt_date_time(tags::COMPROMISE_OCCURRENCE_DATE)?,
    })
}

fn read_key(
    f: &mut Fields<'_>,
) -> Result<(Option<String>, Option<CryptographicParameters>), TtlvError> {
    let id = f.opt_string(tags::UNIQUE_IDENTIFIER)?;
    let parameters = f.opt_fields(tags::CRYPTOGRAPHIC_PARAMETERS)?;
    Ok((
        id,
        parameters.map(CryptographicParameters::read).transpose()?,
    ))
}

fn write_key(w: &mut Writer, id: Option<&str>, parameters: Option<&CryptographicParameters>) {
    w.opt_text(tags::UNIQUE_IDENTIFIER, id);
    if let Some(parameters) = parameters {
        parameters.write(w, tags::CRYPTOGRAPHIC_PARAMETERS);
    }
}

/// Data, or Digested Data (since KMIP 1.4), not both.
fn read_input(f: &mut Fields<'_>) -> Result<SignInput, PayloadError> {
    let data = f.opt_octets(tags::DATA)?;
    let digest = f.opt_octets(tags::DIGESTED_DATA)?;
    match (data, digest) {
        (Some(data), None) => Ok(SignInput::Message(data)),
        (None, Some(digest)) => Ok(SignInput::Digest(digest)),
        (None, None) => Err(Failure::new(ResultReason::MissingData, "Data is missing").into()),
        (Some(_), Some(_)) => {
            Err(Failure::invalid("both Data and Digested Data are given; send one").into())
        }
    }
}

fn write_input(w: &mut Writer, input: &SignInput) {
    match input {
        SignInput::Message(data) => w.octets(tags::DATA, data),
        SignInput::Digest(digest) => w.octets(tags::DIGESTED_DATA, digest),
    }
}

/// Correlation Value, Init and Final Indicator: only the whole message in one request is taken.
fn refuse_parts(f: &mut Fields<'_>) -> Result<(), PayloadError> {
    let correlation = f.opt(tags::CORRELATION_VALUE)?.is_some();
    let first = f.opt_boolean(tags::INIT_INDICATOR)?;
    let last = f.opt_boolean(tags::FINAL_INDICATOR)?;
    let whole = first.is_none() && last.is_none() || first == Some(true) && last == Some(true);
    if correlation || !whole {
        return Err(feature("messages in several parts").into());
    }
    Ok(())
}
