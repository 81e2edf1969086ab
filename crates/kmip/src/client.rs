//! The client's half: requests in flight on one connection.
//!
//! The program that owns the connection writes what [`Client::take_output`] gives, feeds what it
//! reads to [`Client::receive`], and collects [`Client::next_completion`]. Requests may be sent
//! before earlier ones are answered; answers are matched by batch item id, so their order does not
//! matter. Each request sent completes exactly once, if only with the reason why the connection
//! ended. Deadlines are the program's: when one passes, it calls [`Client::fail`].

use std::collections::VecDeque;

use zeroize::Zeroizing;

use crate::enums::{BatchErrorContinuation, Operation};
use crate::failure::Failure;
use crate::message::{
    Credential, MAX_BATCH, RequestHeader, RequestItem, ResponseItem, Version, encode_request,
    read_response,
};
use crate::payload::{RequestPayload, ResponsePayload};
use crate::tags;
use crate::ttlv::{Framer, HEADER_LEN, Limits, padded};

pub mod ask;
mod error;
mod vendor;

pub use error::{AnswerError, Broken, SendError};
pub use vendor::{Missing, Vendor, missing_operations};

#[derive(Clone, Debug)]
pub struct ClientSettings {
    pub version: Version,
    /// Sent with every request.
    pub credential: Option<Credential>,
    /// Octets of the largest response that is taken; servers are told.
    pub max_response: usize,
    /// Requests sent and not answered.
    pub max_in_flight: usize,
}

impl Default for ClientSettings {
    fn default() -> ClientSettings {
        ClientSettings {
            version: Version::V1_2,
            credential: None,
            max_response: 8192,
            max_in_flight: 8,
        }
    }
}

/// Names a request that was sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// The end of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    pub ticket: Ticket,
    /// One for each operation, in the request's order.
    pub results: Vec<Answer>,
}

pub type Answer = Result<ResponsePayload, AnswerError>;

/// One connection's state.
pub struct Client {
    settings: ClientSettings,
    framer: Framer,
    output: VecDeque<Zeroizing<Vec<u8>>>,
    in_flight: VecDeque<InFlight>,
    completed: VecDeque<Completion>,
    next_ticket: u64,
    next_batch_id: u64,
    broken: Option<Broken>,
}

struct InFlight {
    ticket: Ticket,
    /// The batch ids are this one and those that follow it.
    first_id: u64,
    asked: Vec<Asked>,
}

/// What an answer is compared with.
struct Asked {
    operation: Operation,
    id: Option<String>,
}

impl Client {
    pub fn new(settings: ClientSettings) -> Client {
        let framer = Framer::new(tags::RESPONSE_MESSAGE, settings.max_response);
        Client {
            settings,
            framer,
            output: VecDeque::new(),
            in_flight: VecDeque::new(),
            completed: VecDeque::new(),
            next_ticket: 0,
            next_batch_id: 1,
            broken: None,
        }
    }

    /// Sends operations as one batch. With `Continue` they are independent of one another and the
    /// server may perform them at the same time.
    pub fn send(
        &mut self,
        payloads: Vec<RequestPayload>,
        on_error: BatchErrorContinuation,
    ) -> Result<Ticket, SendError> {
        if let Some(broken) = &self.broken {
            return Err(SendError::Broken(broken.clone()));
        }
        if !(1..=MAX_BATCH).contains(&payloads.len()) {
            return Err(SendError::BadBatch(payloads.len()));
        }
        if self.is_full() {
            return Err(SendError::Full(self.in_flight.len()));
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let first_id = self.next_batch_id;
        self.next_batch_id += payloads.len() as u64;
        let asked = payloads.iter().map(Asked::new).collect();
        let items: Vec<RequestItem> = (first_id..)
            .zip(payloads)
            .map(|(id, payload)| RequestItem {
                batch_id: Some(id.to_be_bytes().to_vec()),
                payload,
            })
            .collect();
        let header = RequestHeader {
            max_response: i32::try_from(self.settings.max_response).ok(),
            credential: self.settings.credential.clone(),
            on_error: (items.len() > 1).then_some(on_error),
            ..RequestHeader::new(self.settings.version)
        };
        self.output
            .push_back(Zeroizing::new(encode_request(&header, &items)));
        self.in_flight.push_back(InFlight {
            ticket,
            first_id,
            asked,
        });
        Ok(ticket)
    }

    /// Octets to be written next. They hold the password and are wiped when dropped.
    pub fn take_output(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        self.output.pop_front()
    }

    /// Takes what was read from the connection.
    ///
    /// # Errors
    /// The connection must be closed; everything in flight has completed with the reason.
    pub fn receive(&mut self, octets: &[u8]) -> Result<(), Broken> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        self.framer.push(octets);
        match self.read_messages() {
            Ok(()) => Ok(()),
            Err(broken) => {
                self.fail(broken.clone());
                Err(broken)
            }
        }
    }

    /// Ends the connection's use: it was closed, or nothing came in time.
    pub fn fail(&mut self, reason: Broken) {
        self.output.clear();
        for request in std::mem::take(&mut self.in_flight) {
            let results = request.asked.iter().map(|asked| {
                Err(AnswerError::Lost {
                    operation: asked.operation,
                    reason: reason.clone(),
                })
            });
            self.completed.push_back(Completion {
                ticket: request.ticket,
                results: results.collect(),
            });
        }
        self.broken.get_or_insert(reason);
    }

    pub fn next_completion(&mut self) -> Option<Completion> {
        self.completed.pop_front()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn is_full(&self) -> bool {
        self.in_flight.len() >= self.settings.max_in_flight.max(1)
    }

    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Uses `version` from the next request on.
    pub fn set_version(&mut self, version: Version) {
        self.settings.version = version;
    }

    pub fn set_max_in_flight(&mut self, requests: usize) {
        self.settings.max_in_flight = requests;
    }

    fn read_messages(&mut self) -> Result<(), Broken> {
        let limits = Limits::new(self.settings.max_response);
        loop {
            let items = match self.framer.next_message()? {
                Some(message) => read_response(message, limits)?.items,
                None => return Ok(()),
            };
            let (at, results) = self.place(items)?;
            // `place` found the request there.
            let request = self.in_flight.remove(at).ok_or(Broken::Unasked)?;
            self.completed.push_back(Completion {
                ticket: request.ticket,
                results,
            });
        }
    }

    /// Finds the request that `items` answer, and puts the answers into its order.
    fn place(&self, items: Vec<ResponseItem>) -> Result<(usize, Vec<Answer>), Broken> {
        let first = items.iter().find_map(|item| item.batch_id.as_deref());
        let at = match first {
            Some(id) => {
                let id = number(id).ok_or(Broken::Unasked)?;
                let mine = |r: &InFlight| r.position(id).is_some();
                self.in_flight.iter().position(mine)
            }
            // Without ids answers come in the order of the requests.
            None => Some(0),
        };
        let at = at.ok_or(Broken::Unasked)?;
        let request = self.in_flight.get(at).ok_or(Broken::Unasked)?;
        Ok((at, request.answers(items)?))
    }
}

impl InFlight {
    fn position(&self, id: u64) -> Option<usize> {
        let at = usize::try_from(id.checked_sub(self.first_id)?).ok()?;
        (at < self.asked.len()).then_some(at)
    }

    fn answers(&self, items: Vec<ResponseItem>) -> Result<Vec<Answer>, Broken> {
        // The server could not read the request as far as its operations.
        if let [
            ResponseItem {
                operation: None,
                batch_id: None,
                result: Err(failure),
            },
        ] = &items[..]
        {
            let refused = |asked: &Asked| Err(asked.refused(failure.clone()));
            return Ok(self.asked.iter().map(refused).collect());
        }
        let mut answers: Vec<Option<Answer>> = self.asked.iter().map(|_| None).collect();
        for (nth, item) in items.into_iter().enumerate() {
            let at = match item.batch_id.as_deref() {
                Some(id) => number(id).and_then(|id| self.position(id)),
                None => Some(nth),
            };
            let at = at.ok_or(Broken::Unasked)?;
            let (Some(asked), Some(slot)) = (self.asked.get(at), answers.get_mut(at)) else {
                return Err(Broken::Unasked);
            };
            if slot.is_some() {
                return Err(Broken::Unasked);
            }
            *slot = Some(asked.judge(item));
        }
        let missing = |asked: &Asked| Err(AnswerError::NotPerformed(asked.operation));
        let all = answers.into_iter().zip(&self.asked);
        Ok(all
            .map(|(answer, asked)| answer.unwrap_or_else(|| missing(asked)))
            .collect())
    }
}

impl Asked {
    fn new(payload: &RequestPayload) -> Asked {
        Asked {
            operation: payload.operation(),
            id: payload.id().map(str::to_owned),
        }
    }

    fn refused(&self, failure: Failure) -> AnswerError {
        AnswerError::Refused {
            operation: self.operation,
            failure,
        }
    }

    fn judge(&self, item: ResponseItem) -> Answer {
        let payload = match item.result {
            Ok(Some(payload)) => payload,
            Ok(None) => return Err(AnswerError::WrongAnswer(self.operation)),
            Err(failure) => return Err(self.refused(failure)),
        };
        let same_object = match (&self.id, payload.id()) {
            (Some(asked), Some(answered)) => asked == answered,
            _ => true,
        };
        match payload.operation() == self.operation && same_object {
            true => Ok(payload),
            false => Err(AnswerError::WrongAnswer(self.operation)),
        }
    }
}

fn number(id: &[u8]) -> Option<u64> {
    id.try_into().ok().map(u64::from_be_bytes)
}

// What stands around the items of a response (88 octets), and room for what other servers add.
const AROUND: usize = 256;

/// Most signatures that one batch may ask for so that the response stays within `max_response`.
/// At least 1.
pub fn sign_capacity(max_response: usize, id_len: usize, signature_len: usize) -> usize {
    // Item and payload; Operation, Unique Batch Item ID and Result Status.
    const FIXED: usize = 2 * HEADER_LEN + 3 * 2 * HEADER_LEN;
    let each = FIXED + HEADER_LEN + padded(id_len) + HEADER_LEN + padded(signature_len);
    (max_response.saturating_sub(AROUND) / each).clamp(1, MAX_BATCH)
}

/// Most objects that one Locate may give so that the response stays within `max_response`. At
/// least 1.
pub fn locate_capacity(max_response: usize, id_len: usize) -> usize {
    (max_response.saturating_sub(AROUND) / (HEADER_LEN + padded(id_len))).max(1)
}
