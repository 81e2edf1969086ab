//! Response messages.

use super::{MAX_BATCH, Version};
use crate::enums::{Operation, ResultReason, ResultStatus};
use crate::failure::Failure;
use crate::payload::ResponsePayload;
use crate::tags;
use crate::ttlv::{self, Fault, Fields, Limits, TtlvError, Writer};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResponseMessage {
    pub version: Version,
    /// Seconds since 1970 by the server's clock.
    pub time: i64,
    pub items: Vec<ResponseItem>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResponseItem {
    /// `None` only where the request could not be read as far as its operation.
    pub operation: Option<Operation>,
    pub batch_id: Option<Vec<u8>>,
    /// `Ok(None)`: it succeeded, and the answer's payload is of no interest here.
    pub result: Result<Option<ResponsePayload>, Failure>,
}

/// Writes a response.
pub fn encode_response(message: &ResponseMessage) -> Vec<u8> {
    let mut w = Writer::with_capacity(128 + message.items.len() * 256);
    w.structure(tags::RESPONSE_MESSAGE, |w| {
        w.structure(tags::RESPONSE_HEADER, |w| {
            message.version.write(w);
            w.date_time(tags::TIME_STAMP, message.time);
            let count = i32::try_from(message.items.len()).unwrap_or(i32::MAX);
            w.integer(tags::BATCH_COUNT, count);
        });
        for item in &message.items {
            w.structure(tags::BATCH_ITEM, |w| item.write(w, message.version));
        }
    });
    w.finish()
}

impl ResponseItem {
    fn write(&self, w: &mut Writer, version: Version) {
        w.opt_enum(tags::OPERATION, self.operation);
        w.opt_octets(tags::UNIQUE_BATCH_ITEM_ID, self.batch_id.as_deref());
        match &self.result {
            Ok(payload) => {
                w.enumeration(tags::RESULT_STATUS, ResultStatus::Success);
                if let Some(payload) = payload {
                    payload.write(w, version);
                }
            }
            Err(failure) => {
                w.enumeration(tags::RESULT_STATUS, ResultStatus::OperationFailed);
                w.enumeration(tags::RESULT_REASON, failure.reason);
                let message = (!failure.message.is_empty()).then_some(failure.message.as_str());
                w.opt_text(tags::RESULT_MESSAGE, message);
            }
        }
    }
}

/// Reads a response. Fields that are not known are skipped. Takes memory of at most
/// [`crate::MEMORY_FACTOR`] times the octets.
pub fn read_response(octets: &[u8], limits: Limits) -> Result<ResponseMessage, TtlvError> {
    let root = ttlv::check(octets, limits)?;
    if root.tag != tags::RESPONSE_MESSAGE {
        return Err(TtlvError {
            offset: 0,
            fault: Fault::Unexpected(root.tag),
        });
    }
    let mut f = root.fields()?.lenient();
    let mut header = f.req_fields(tags::RESPONSE_HEADER)?;
    let version = Version::read(header.req_fields(tags::PROTOCOL_VERSION)?)?;
    let time = header.req(tags::TIME_STAMP)?.date_time()?;
    let count = header.req(tags::BATCH_COUNT)?;
    let mut items = Vec::new();
    while let Some(item) = f.opt_fields(tags::BATCH_ITEM)? {
        if items.len() == MAX_BATCH {
            return Err(count.refused());
        }
        items.push(read_item(item)?);
    }
    if usize::try_from(count.integer()?) != Ok(items.len()) {
        return Err(count.refused());
    }
    Ok(ResponseMessage {
        version,
        time,
        items,
    })
}

fn read_item(mut f: Fields<'_>) -> Result<ResponseItem, TtlvError> {
    let operation = f.opt_enum(tags::OPERATION)?;
    let batch_id = f.opt_octets(tags::UNIQUE_BATCH_ITEM_ID)?;
    let status: ResultStatus = f.req(tags::RESULT_STATUS)?.enumeration()?;
    let reason = f.opt_enum(tags::RESULT_REASON)?;
    let message = f.opt_text(tags::RESULT_MESSAGE)?;
    let fail = |otherwise: &str| {
        Failure::new(
            reason.unwrap_or(ResultReason::GeneralFailure),
            message.unwrap_or(otherwise),
        )
    };
    let result = match status {
        ResultStatus::Success => match (operation, f.opt(tags::RESPONSE_PAYLOAD)?) {
            // One answer that cannot be read does not make the others wrong.
            (Some(operation), Some(payload)) => {
                ResponsePayload::read(operation, &payload).map_err(|error| {
                    Failure::new(
                        ResultReason::InvalidMessage,
                        format!("the server's answer to {operation} cannot be read: {error}"),
                    )
                })
            }
            _ => Ok(None),
        },
        ResultStatus::OperationFailed => Err(fail("")),
        // Nobody here offers to wait, so a server that makes us wait has not done the work.
        other => Err(fail(&format!("the server answered '{other}'"))),
    };
    Ok(ResponseItem {
        operation,
        batch_id,
        result,
    })
}
