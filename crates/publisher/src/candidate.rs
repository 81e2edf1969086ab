//! The publication server's own answers over a candidate, for the gate's samples (V23).

use std::net::IpAddr;
use std::sync::Arc;

use cascade_time::Timestamp;
use cascade_verifier::Answers;
use cascade_wire::{Composer, Section};
use cascade_zone::{Rtype, ZoneVersion};

use crate::answer::{Outcome, Scratch, answer};
use crate::context::{QueryContext, Settings, Transport};
use crate::directory::{Directory, Role, ZoneSettings};

/// Answers as over TCP with the DO bit, from a directory that holds nothing but the candidate.
#[derive(Debug)]
pub struct Candidate {
    directory: Directory,
    settings: Settings,
    now: Timestamp,
}

impl Candidate {
    /// `None` when the candidate cannot be put into a server at all.
    pub fn new(version: &Arc<ZoneVersion>, now: Timestamp) -> Option<Candidate> {
        let directory = Directory::small();
        directory
            .add(version.zone(), version.apex(), ZoneSettings::default())
            .ok()?;
        directory
            .review_signed(version.zone(), version.clone())
            .ok()?;
        Some(Candidate {
            directory,
            settings: Settings::open(),
            now,
        })
    }
}

/// EDNS with the DO bit (RFC 3225).
const DO: u32 = 0x8000;

impl Answers for Candidate {
    fn ask(&self, qname: &[u8], qtype: u16, out: &mut Vec<u8>) -> bool {
        let mut query = Vec::new();
        let mut c = Composer::new(&mut query, 512, 1, 0);
        c.question(qname, Rtype(qtype), 1);
        if c.record_with(Section::Additional, &[0], Rtype::OPT, 1232, DO, |_| {})
            .is_err()
        {
            return false;
        }
        c.finish();
        let context = QueryContext {
            role: Role::SignerReview,
            peer: IpAddr::from([127, 0, 0, 1]),
            transport: Transport::Tcp,
            now: self.now,
            directory: &self.directory,
            settings: &self.settings,
            tls_name: None,
            limited: false,
        };
        matches!(
            answer(&query, &context, &mut Scratch::default(), out),
            Outcome::Reply(_)
        )
    }
}
