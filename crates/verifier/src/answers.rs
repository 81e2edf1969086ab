//! V23: the publisher's own answers, validated as a resolver would.

use crate::context::Context;
use crate::finding::Sink;
use crate::source::Source;

/// The publisher's answer code over the candidate.
pub trait Answers: Sync {}

pub(crate) fn check(
    _ctx: &Context<'_>,
    _source: &dyn Source,
    _names: &[Vec<u8>],
    _sink: &mut Sink,
) {
}
