//! Request messages.

use super::{Credential, MAX_BATCH, MAX_BATCH_ID, RequestHeader, Version};
use crate::enums::{BatchErrorContinuation, Operation, ResultReason};
use crate::failure::Failure;
use crate::payload::{PayloadError, RequestPayload};
use crate::tags;
use crate::ttlv::{self, Fields, Limits, TtlvError, Writer};

/// A request as the server takes it: items that are wrong do not make the others wrong.
#[derive(Debug)]
pub struct RequestMessage {
    pub header: RequestHeader,
    pub items: Vec<Result<RequestItem, ItemFailure>>,
}

/// One operation of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestItem {
    pub batch_id: Option<Vec<u8>>,
    pub payload: RequestPayload,
}

/// An item that cannot be processed, with what its answer must repeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ItemFailure {
    pub operation: Operation,
    pub batch_id: Option<Vec<u8>>,
    pub failure: Failure,
}

/// Why no item of a message can be processed.
#[derive(Debug)]
pub struct MessageFailure {
    /// The version to answer in.
    pub version: Version,
    pub failure: Failure,
}

/// Writes a request. The octets hold the password: wipe them after use, as [`crate::client::Client`]
/// does.
pub fn encode_request(header: &RequestHeader, items: &[RequestItem]) -> Vec<u8> {
    let mut w = Writer::with_capacity(256 + items.len() * 256);
    w.structure(tags::REQUEST_MESSAGE, |w| {
        w.structure(tags::REQUEST_HEADER, |w| {
            header.version.write(w);
            w.opt_integer(tags::MAXIMUM_RESPONSE_SIZE, header.max_response);
            if let Some(credential) = &header.credential {
                credential.write(w);
            }
            w.opt_enum(tags::BATCH_ERROR_CONTINUATION_OPTION, header.on_error);
            w.opt_boolean(tags::BATCH_ORDER_OPTION, header.in_order);
            let count = i32::try_from(items.len()).unwrap_or(i32::MAX);
            w.integer(tags::BATCH_COUNT, count);
        });
        for item in items {
            w.structure(tags::BATCH_ITEM, |w| {
                w.enumeration(tags::OPERATION, item.payload.operation());
                w.opt_octets(tags::UNIQUE_BATCH_ITEM_ID, item.batch_id.as_deref());
                item.payload.write(w);
            });
        }
    });
    w.finish()
}

/// Reads a request. Takes memory of at most [`crate::MEMORY_FACTOR`] times the octets.
pub fn read_request(
    octets: &[u8],
    limits: Limits,
    max_batch: usize,
) -> Result<RequestMessage, MessageFailure> {
    let root = ttlv::check(octets, limits).map_err(|e| malformed(Version::V1_4, &e))?;
    if root.tag != tags::REQUEST_MESSAGE {
        let failure = Failure::new(
            ResultReason::InvalidMessage,
            format!("{} is no Request Message", root.tag),
        );
        return Err(MessageFailure {
            version: Version::V1_4,
            failure,
        });
    }
    let mut f = root.fields().map_err(|e| malformed(Version::V1_4, &e))?;
    let (header, count) = read_header(&mut f)?;
    let fail = |failure| MessageFailure {
        version: header.version,
        failure,
    };
    if let Some(BatchErrorContinuation::Undo | BatchErrorContinuation::Other(_)) = header.on_error {
        return Err(fail(Failure::new(
            ResultReason::FeatureNotSupported,
            "a batch cannot be undone here; use Stop or Continue",
        )));
    }
    let mut items = Vec::new();
    while let Some(item) = f
        .opt(tags::BATCH_ITEM)
        .map_err(|e| malformed(header.version, &e))?
    {
        if items.len() == max_batch.min(MAX_BATCH) {
            return Err(fail(Failure::invalid(format!(
                "more than {} batch items",
                items.len()
            ))));
        }
        let fields = item.fields().map_err(|e| malformed(header.version, &e))?;
        items.push(read_item(fields, header.version).map_err(|e| malformed(header.version, &e))?);
    }
    f.finish().map_err(|e| malformed(header.version, &e))?;
    if usize::try_from(count) != Ok(items.len()) || items.is_empty() {
        return Err(fail(Failure::new(
            ResultReason::InvalidMessage,
            format!(
                "Batch Count is {count}, the batch has {} items",
                items.len()
            ),
        )));
    }
    Ok(RequestMessage { header, items })
}

fn malformed(version: Version, error: &TtlvError) -> MessageFailure {
    MessageFailure {
        version,
        failure: Failure::new(
            ResultReason::InvalidMessage,
            format!("malformed message: {error}"),
        ),
    }
}

/// The header and the batch count.
fn read_header(message: &mut Fields<'_>) -> Result<(RequestHeader, i32), MessageFailure> {
    let early = |e: TtlvError| malformed(Version::V1_4, &e);
    let mut f = message.req_fields(tags::REQUEST_HEADER).map_err(early)?;
    let version = f.req_fields(tags::PROTOCOL_VERSION).map_err(early)?;
    let version = Version::read(version).map_err(early)?;
    if !version.is_spoken() {
        return Err(MessageFailure {
            version: Version::V1_4,
            failure: Failure::new(
                ResultReason::InvalidMessage,
                format!("KMIP {version} is not spoken here, 1.0 to 1.4 are"),
            ),
        });
    }
    read_rest(&mut f, version).map_err(|e| malformed(version, &e))
}

fn read_rest(f: &mut Fields<'_>, version: Version) -> Result<(RequestHeader, i32), TtlvError> {
    let max_response = f.opt_integer(tags::MAXIMUM_RESPONSE_SIZE)?;
    f.opt(tags::CLIENT_CORRELATION_VALUE)?;
    f.opt(tags::SERVER_CORRELATION_VALUE)?;
    // A client that can wait for an answer later takes one at once as well.
    f.opt_boolean(tags::ASYNCHRONOUS_INDICATOR)?;
    f.opt_boolean(tags::ATTESTATION_CAPABLE_INDICATOR)?;
    while f.opt(tags::ATTESTATION_TYPE)?.is_some() {}
    let credential = match f.opt_fields(tags::AUTHENTICATION)? {
        Some(authentication) => Credential::read_authentication(authentication)?,
        None => None,
    };
    let on_error = f.opt_enum(tags::BATCH_ERROR_CONTINUATION_OPTION)?;
    let in_order = f.opt_boolean(tags::BATCH_ORDER_OPTION)?;
    f.opt_date_time(tags::TIME_STAMP)?;
    let count = f.req(tags::BATCH_COUNT)?.integer()?;
    f.clone().finish()?;
    let header = RequestHeader {
        version,
        max_response,
        credential,
        on_error,
        in_order,
    };
    Ok((header, count))
}

/// # Errors
/// If the item does not even say which operation it is.
fn read_item(
    mut f: Fields<'_>,
    version: Version,
) -> Result<Result<RequestItem, ItemFailure>, TtlvError> {
    let operation: Operation = f.req(tags::OPERATION)?.enumeration()?;
    let id_item = f.opt(tags::UNIQUE_BATCH_ITEM_ID)?;
    let batch_id = match id_item {
        Some(item) if item.octets()?.len() > MAX_BATCH_ID => return Err(item.refused()),
        Some(item) => Some(item.octets()?.to_vec()),
        None => None,
    };
    let payload = f.req(tags::REQUEST_PAYLOAD)?;
    let critical = match f.opt_fields(tags::MESSAGE_EXTENSION)? {
        Some(mut extension) => {
            extension.req(tags::VENDOR_IDENTIFICATION)?.text()?;
            extension.req(tags::CRITICALITY_INDICATOR)?.boolean()?
        }
        None => false,
    };
    f.finish()?;
    let fail = |failure| ItemFailure {
        operation,
        batch_id: batch_id.clone(),
        failure,
    };
    if critical {
        // §6.16: an extension that is critical and not understood fails its item.
        return Ok(Err(fail(Failure::new(
            ResultReason::FeatureNotSupported,
            "the message extension is not understood here",
        ))));
    }
    let read = RequestPayload::read(operation, version, &payload);
    Ok(match read {
        Ok(payload) => Ok(RequestItem { batch_id, payload }),
        Err(PayloadError::Refused(failure)) => Err(fail(failure)),
        Err(PayloadError::Malformed(error)) => Err(fail(Failure::invalid(error.to_string()))),
    })
}
