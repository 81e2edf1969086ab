//! The publisher's answers over a candidate, as the daemon gives them to the gate (V23).

use std::net::IpAddr;
use std::sync::Arc;

use cascade_publisher::{
    Directory, Outcome, QueryContext, Role, Scratch, Settings, Transport, ZoneSettings, answer,
};
use cascade_time::Timestamp;
use cascade_verifier::Answers;
use cascade_wire::{Composer, Section};
use cascade_zone::{Rtype, ZoneVersion};

/// EDNS with the DO bit (RFC 3225).
const DO: u32 = 0x8000;

/// A directory that holds nothing but the candidate.
pub struct Samples {
    directory: Directory,
    settings: Settings,
    now: Timestamp,
}

impl Samples {
    /// `None` when the candidate cannot be put into a server at all.
    pub fn new(version: &Arc<ZoneVersion>, now: Timestamp) -> Option<Samples> {
        let directory = Directory::new();
        let (zone, apex) = (version.zone(), version.apex());
        directory.add(zone, apex, ZoneSettings::default()).ok()?;
        directory.review_signed(zone, version.clone()).ok()?;
        let settings = Settings::open();
        Some(Samples {
            directory,
            settings,
            now,
        })
    }
}

impl Answers for Samples {
    fn ask(&self, qname: &[u8], qtype: u16, out: &mut Vec<u8>) -> bool {
        let mut query = Vec::new();
        let mut c = Composer::new(&mut query, 512, 1, 0);
        c.question(qname, Rtype(qtype), 1);
        let opt = c.record_with(Section::Additional, &[0], Rtype::OPT, 1232, DO, |_| {});
        if opt.is_err() {
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
        let outcome = answer(&query, &context, &mut Scratch::default(), out);
        matches!(outcome, Outcome::Reply(_))
    }
}
