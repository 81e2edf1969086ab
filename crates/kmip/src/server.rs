//! The server's half: from the octets of a request to the octets of its response.
//!
//! Nothing here reads, writes, waits or starts threads. [`Server::accept`] gives an [`Exchange`];
//! its operations are performed against a [`Token`], one after the other with
//! [`Exchange::perform_all`], or, if [`Exchange::is_parallel`], each wherever the caller likes with
//! [`Exchange::perform`]; [`Exchange::answer`] puts the results together in the request's order.

use crate::enums::{Operation, ResultReason};
use crate::failure::Failure;

use crate::message::{
    Credential, ItemFailure, MAX_BATCH, MessageFailure, RequestHeader, RequestItem, ResponseItem,
    ResponseMessage, Version, encode_response, read_request,
};
use crate::payload::{RequestPayload, ResponsePayload, Sign};
use crate::token::{Token, TokenError, Tokens};
use crate::ttlv::{FrameError, Limits};

mod attributes;
mod create;
mod perform;

/// The result of one operation.
pub type Performed = Result<ResponsePayload, Failure>;

/// The unique identifier that the operation before left for the next one (KMIP 1.4 §4).
pub type Placeholder = Option<String>;

/// What a server takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerLimits {
    /// Octets, depth and items of a request.
    pub request: Limits,
    /// Items of a batch, at most [`MAX_BATCH`].
    pub max_batch: usize,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            request: Limits::new(1 << 20),
            max_batch: MAX_BATCH,
        }
    }
}

/// Reads requests and writes responses. Holds no state of any connection.
#[derive(Clone, Debug, Default)]
pub struct Server {
    limits: ServerLimits,
}

/// One request on its way.
#[derive(Debug)]
pub struct Exchange {
    header: RequestHeader,
    items: Vec<Result<RequestItem, ItemFailure>>,
}

impl Server {
    pub fn new(limits: ServerLimits) -> Server {
        Server { limits }
    }

    pub fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    /// Reads a request.
    ///
    /// # Errors
    /// The response to send if no operation can be made out. `now` is in seconds since 1970.
    pub fn accept(&self, octets: &[u8], now: i64) -> Result<Exchange, Vec<u8>> {
        match read_request(octets, self.limits.request, self.limits.max_batch) {
            Ok(message) => Ok(Exchange {
                header: message.header,
                items: message.items,
            }),
            Err(MessageFailure { version, failure }) => Err(refusal(version, failure, now)),
        }
    }

    /// The response for a stream that is no KMIP or exceeds the limits. Send it, then close.
    pub fn refuse(&self, error: &FrameError, now: i64) -> Vec<u8> {
        let failure = Failure::new(ResultReason::InvalidMessage, error.to_string());
        refusal(Version::V1_4, failure, now)
    }

    /// The whole way from request to response on the calling thread.
    pub fn respond(&self, octets: &[u8], tokens: &dyn Tokens, now: i64) -> Vec<u8> {
        let exchange = match self.accept(octets, now) {
            Ok(exchange) => exchange,
            Err(response) => return response,
        };
        let token = match exchange.needs_token() {
            true => tokens.open(exchange.credential()).map(Some),
            false => Ok(None),
        };
        match token {
            Ok(token) => {
                let results = exchange.perform_all(token.as_deref());
                exchange.answer(results, now)
            }
            Err(error) => exchange.refuse(error, now),
        }
    }
}

/// A response of one item that names no operation.
fn refusal(version: Version, failure: Failure, now: i64) -> Vec<u8> {
    encode_response(&ResponseMessage {
        version,
        time: now,
        items: vec![ResponseItem {
            operation: None,
            batch_id: None,
            result: Err(failure),
        }],
    })
}

impl Exchange {
    pub fn credential(&self) -> Option<&Credential> {
        self.header.credential.as_ref()
    }

    pub fn version(&self) -> Version {
        self.header.version
    }

    /// Number of batch items, at least 1.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The operations, for logs and metrics.
    pub fn operations(&self) -> impl Iterator<Item = Operation> + '_ {
        self.items.iter().map(operation_of)
    }

    /// False if every operation can be answered without a token, as Discover Versions can.
    pub fn needs_token(&self) -> bool {
        self.items.iter().any(|item| match item {
            Ok(item) => !matches!(item.payload, RequestPayload::DiscoverVersions(_)),
            Err(_) => false,
        })
    }

    /// True if the operations may be performed at the same time: the client asks to go on after a
    /// failure, wants no order, and no operation works on the result of the one before it.
    pub fn is_parallel(&self) -> bool {
        let independent = |item: &Result<RequestItem, ItemFailure>| match item {
            Ok(item) => !item.payload.uses_placeholder(),
            Err(_) => true,
        };
        self.items.len() > 1
            && !self.header.stops_on_error()
            && self.header.in_order != Some(true)
            && self.items.iter().all(independent)
    }

    /// Performs the operation of item `at`. `placeholder` is carried from item to item; where
    /// [`Exchange::is_parallel`], a new one for each item does.
    pub fn perform(
        &self,
        at: usize,
        token: Option<&dyn Token>,
        placeholder: &mut Placeholder,
    ) -> Performed {
        match self.items.get(at) {
            Some(Ok(item)) => {
                perform::perform(&item.payload, self.header.version, token, placeholder)
            }
            Some(Err(item)) => Err(item.failure.clone()),
            None => Err(Failure::invalid("there is no such batch item")),
        }
    }

    /// Performs all operations in order; ends with the first that fails if the client wants so.
    pub fn perform_all(&self, token: Option<&dyn Token>) -> Vec<Performed> {
        let mut results = Vec::with_capacity(self.items.len());
        let mut placeholder = None;
        for at in 0..self.items.len() {
            let result = self.perform(at, token, &mut placeholder);
            let stop = result.is_err() && self.header.stops_on_error();
            results.push(result);
            if stop {
                break;
            }
        }
        results
    }

    /// Performs the operations of a request that [`Exchange::is_parallel`]: the signatures with one
    /// call of [`Token::sign_all`], the others one after the other.
    pub fn perform_together(&self, token: Option<&dyn Token>) -> Vec<Performed> {
        let sign = |item: &Result<RequestItem, ItemFailure>| match item {
            Ok(item) => matches!(item.payload, RequestPayload::Sign(_)),
            Err(_) => false,
        };
        let signs: Vec<&Sign> = self
            .items
            .iter()
            .filter_map(|item| match &item.as_ref().ok()?.payload {
                RequestPayload::Sign(sign) => Some(sign),
                _ => None,
            })
            .collect();
        let mut signed = token
            .map(|token| perform::sign_all(&signs, token))
            .unwrap_or_default()
            .into_iter();
        (0..self.items.len())
            .zip(&self.items)
            .map(|(at, item)| match sign(item) {
                // Without a token `perform` finds the words.
                true => signed
                    .next()
                    .unwrap_or_else(|| self.perform(at, None, &mut None)),
                false => self.perform(at, token, &mut None),
            })
            .collect()
    }

    /// The response. `results` are in the order of the items; those missing at the end were not
    /// performed (KMIP 1.4 §6.14) and are not answered.
    pub fn answer(&self, results: Vec<Performed>, now: i64) -> Vec<u8> {
        let items = self.items.iter().zip(results);
        let mut message = ResponseMessage {
            version: self.header.version,
            time: now,
            items: items
                .map(|(item, result)| response_item(item, result.map(Some)))
                .collect(),
        };
        let octets = encode_response(&message);
        let Some(max) = self.max_response().filter(|max| octets.len() > *max) else {
            return octets;
        };
        // KMIP 1.4 §11.2: Response Too Large, for every item, as the client cannot see any.
        let too_large = Failure::new(
            ResultReason::ResponseTooLarge,
            format!(
                "the response has {} octets, {max} are allowed",
                octets.len()
            ),
        );
        for item in &mut message.items {
            item.result = Err(too_large.clone());
        }
        let octets = encode_response(&message);
        if octets.len() <= max {
            return octets;
        }
        refusal(self.header.version, too_large, now)
    }

    /// The response if no token could be opened: every operation fails for that reason.
    pub fn refuse(&self, error: TokenError, now: i64) -> Vec<u8> {
        let failure = Failure::from(error);
        let results = self.items.iter().map(|item| match item {
            Ok(_) => Err(failure.clone()),
            Err(item) => Err(item.failure.clone()),
        });
        self.answer(results.collect(), now)
    }

    fn max_response(&self) -> Option<usize> {
        let max = self.header.max_response?;
        usize::try_from(max).ok().filter(|max| *max > 0)
    }
}

fn operation_of(item: &Result<RequestItem, ItemFailure>) -> Operation {
    match item {
        Ok(item) => item.payload.operation(),
        Err(item) => item.operation,
    }
}

fn response_item(
    item: &Result<RequestItem, ItemFailure>,
    result: Result<Option<ResponsePayload>, Failure>,
) -> ResponseItem {
    let batch_id = match item {
        Ok(item) => item.batch_id.clone(),
        Err(item) => item.batch_id.clone(),
    };
    ResponseItem {
        operation: Some(operation_of(item)),
        batch_id,
        result,
    }
}
