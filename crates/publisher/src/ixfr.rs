//! Increments on the wire (RFC 1995): the current SOA; per step the old SOA, what is removed, the
//! new SOA, what is added; the current SOA again.

use std::sync::Arc;

use cascade_wire::{Section, flag, rcode};
use cascade_zone::version::{Record, ZoneVersion};
use cascade_zone::{Rtype, Serial};

use crate::answer::{Reply, Responder, Why};
use crate::directory::ZoneEntry;
use crate::steps::{Soa, Step};

/// Compression saves less than this factor: a larger increment is not even tried over UDP.
const UDP_TRY: u64 = 4 * crate::answer::MAX_UDP as u64;

/// The increment that a client with this serial gets, if there is one.
pub(crate) fn find(
    entry: &ZoneEntry,
    client: Serial,
    version: &Arc<ZoneVersion>,
) -> Option<Increment> {
    let steps = entry.steps().from(client, version)?;
    Some(Increment {
        version: version.clone(),
        steps,
        at: Place::Opening,
    })
}

/// An increment being sent: all but the closing SOA.
#[derive(Debug)]
pub(crate) struct Increment {
    version: Arc<ZoneVersion>,
    steps: Vec<Arc<Step>>,
    at: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Opening,
    OldSoa(usize),
    /// Step, offset in its records.
    Removed(usize, usize),
    NewSoa(usize),
    Added(usize, usize),
}

impl Increment {
    /// Hands over records until `put` does not take one more; that one comes first the next time.
    /// `true`: all were taken.
    pub(crate) fn feed(&mut self, put: &mut dyn FnMut(&Record<'_>) -> bool) -> bool {
        let apex = self.version.apex().as_wire();
        let soa = |ttl: u32, rdata: &[u8], put: &mut dyn FnMut(&Record<'_>) -> bool| {
            put(&Record {
                owner: apex,
                rtype: Rtype::SOA,
                ttl,
                rdata,
            })
        };
        loop {
            let (taken, next) = match self.at {
                Place::Opening => {
                    let v = &self.version;
                    (soa(v.soa_ttl(), v.soa(), put), Place::OldSoa(0))
                }
                Place::OldSoa(i) => {
                    let Some(step) = self.steps.get(i) else {
                        return true;
                    };
                    let Soa { ttl, rdata } = &step.old_soa;
                    (soa(*ttl, rdata, put), Place::Removed(i, 0))
                }
                Place::Removed(i, at) => match self.steps[i].removed.at(at) {
                    Some((record, next)) => (put(&record), Place::Removed(i, next)),
                    None => (true, Place::NewSoa(i)),
                },
                Place::NewSoa(i) => {
                    let Soa { ttl, rdata } = &self.steps[i].new_soa;
                    (soa(*ttl, rdata, put), Place::Added(i, 0))
                }
                Place::Added(i, at) => match self.steps[i].added.at(at) {
                    Some((record, next)) => (put(&record), Place::Added(i, next)),
                    None => (true, Place::OldSoa(i + 1)),
                },
            };
            if !taken {
                return false;
            }
            self.at = next;
        }
    }
}

/// The whole increment in one message over UDP, if it fits.
pub(crate) fn one_message(
    r: &mut Responder<'_>,
    mut increment: Increment,
    out: &mut Vec<u8>,
) -> Option<Reply> {
    let octets: u64 = increment.steps.iter().map(|s| s.octets()).sum();
    if octets > UDP_TRY {
        return None;
    }
    let start = out.len();
    let version = increment.version.clone();
    let mut c = r.open(out, flag::AA);
    let mut fits = increment.feed(&mut |x| {
        c.record(Section::Answer, x.owner, x.rtype, x.ttl, x.rdata)
            .is_ok()
    });
    fits = fits
        && c.record(
            Section::Answer,
            version.apex().as_wire(),
            Rtype::SOA,
            version.soa_ttl(),
            version.soa(),
        )
        .is_ok();
    if !fits {
        out.truncate(start);
        return None;
    }
    r.finish(c, rcode::NOERROR);
    let mut reply = r.reply(rcode::NOERROR, Why::Answered, false);
    reply.version = Some((version.zone(), version.id(), version.serial()));
    Some(reply)
}
