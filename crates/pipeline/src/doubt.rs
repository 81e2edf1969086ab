//! A zone whose state was restored from a backup. What was published after the backup is not known
//! here, but secondaries may have it: they are asked before anything new is signed, so that no
//! serial goes out a second time (RFC 1982 §3.2) and no key that validators rely on is forgotten.

use cascade_time::Timestamp;
use cascade_zone::Serial;
use serde::{Deserialize, Serialize};

use crate::history::{HistoryKind, line};
use crate::state::{Serving, Trigger, Zone};
use crate::step::{About, Machine};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    pub since: Timestamp,
    /// What is known so far, for people.
    pub text: String,
    /// There was an answer, and it did not end the doubt.
    pub asked: bool,
}

/// What the servers of a zone have shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing that is newer than what we have.
    Known,
    /// A newer version, signed with keys that we have.
    Ahead { serial: Serial },
    /// Keys that we do not have: to go on without them may break the zone for validators.
    Foreign { serial: Serial, text: String },
    /// Not enough of them answered; they are asked again.
    Silent { text: String },
}

/// The value comes from a backup.
pub fn doubt(zone: &mut Zone, now: Timestamp) {
    if zone.live.is_some() || zone.used_serial.is_some() {
        zone.doubt = Some(Doubt {
            since: now,
            text: "its servers are being asked what they have".to_owned(),
            asked: false,
        });
    }
}

impl Machine {
    pub(crate) fn servers_asked(&mut self, asked: Asked) {
        if self.z.doubt.is_none() {
            return;
        }
        match asked {
            Asked::Known => {
                let about = About::why("no server has anything newer");
                self.record(HistoryKind::ServersAsked, about);
                self.end_doubt();
            }
            Asked::Ahead { serial } => {
                let text = format!("a server has serial {serial}, the backup is older");
                self.record(HistoryKind::ServersAsked, About::why(&text));
                self.use_serial(serial);
                self.end_doubt();
            }
            Asked::Foreign { serial, text } => {
                self.use_serial(serial);
                self.still_in_doubt(&text);
            }
            Asked::Silent { text } => self.still_in_doubt(&text),
        }
    }

    fn still_in_doubt(&mut self, text: &str) {
        let Some(doubt) = &mut self.z.doubt else {
            return;
        };
        let text = line(text);
        doubt.asked = true;
        if doubt.text != text {
            doubt.text.clone_from(&text);
            self.record(HistoryKind::ServersAsked, About::why(&text));
        }
    }

    /// The zone goes on; from what it has, if that is the newest there is, else with what the source
    /// has now and a serial above everything that was seen.
    pub(crate) fn end_doubt(&mut self) {
        self.z.doubt = None;
        self.touch();
        let used = self.z.used_serial;
        if let Some(live) = &mut self.z.live
            && used.is_some_and(|u| u.newer_than(live.serial))
        {
            if live.serving == Serving::Yes {
                live.serving = Serving::RecoveredOld;
            }
            self.want_load(true, Trigger::Restart);
        }
    }

    /// Serials only go up.
    pub(crate) fn use_serial(&mut self, serial: Serial) {
        if self.z.used_serial.is_none_or(|u| serial.newer_than(u)) {
            self.z.used_serial = Some(serial);
        }
    }
}
