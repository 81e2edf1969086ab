//! What happened, as lines for people and as one number for machines.

use cascade_keys::{Cds, Event};
use cascade_time::format_span;

use crate::reach::list;
use crate::world::World;

impl World {
    /// Equal for equal histories, whatever was written down of them.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn mix(&mut self, text: &str) {
        for b in text.bytes() {
            self.hash = (self.hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn line(&mut self, text: String) {
        let at = self.now.secs();
        self.mix(&format!("{at} {text}"));
        if self.config.lines {
            let at = format_span(self.now.since(self.mark));
            self.lines.push(format!("{at:>14}  {text}"));
        }
    }

    pub(crate) fn note(&mut self, event: &Event) {
        let at = self.now.secs();
        self.mix(&format!("{at} {}", event.name()));
        let text = match event {
            Event::RollStarted { roll } => format!(
                "{} {} starts, old {}",
                roll.class().word(),
                roll.kind.word(),
                list(&roll.old)
            ),
            Event::RollStepped { class, to, .. } => {
                let row = self.zone.roll(*class).and_then(|r| r.kind.row(*to));
                format!(
                    "{} {to:?} {}  old {} new {}",
                    class.word(),
                    row.map_or("", |r| r.state),
                    row.map_or(String::new(), |r| r.old.letters()),
                    row.map_or(String::new(), |r| r.new.letters()),
                )
            }
            Event::RollDone { class, .. } => {
                if let Some(r) = self.zone.roll(*class) {
                    *self.finished.entry(r.kind).or_insert(0) += 1;
                }
                format!("{} done", class.word())
            }
            Event::RollCancelled { class, .. } => format!("{} cancelled", class.word()),
            Event::RollHurried { class, .. } => format!("{} hurried", class.word()),
            Event::Vouched { class, who, .. } => {
                format!("{who} vouches for a step of {}", class.word())
            }
            Event::KeyAdded { key, .. } => {
                format!("{} {} alg {} generated", key.num, key.role, key.algorithm)
            }
            Event::KeyRestored { key, .. } => format!("{key} restored"),
            Event::KeyTrashed { key, .. } => format!("{key} to the trash"),
            Event::KeyDestroyed { key, .. } => format!("{key} destroyed"),
            Event::VersionPublished(p) => {
                let old = self.zone.published.as_ref();
                if old.is_some_and(|o| o.apex == p.apex && o.any == p.any) {
                    return;
                }
                let cds = match &p.apex.cds {
                    Cds::None => "-".to_string(),
                    Cds::Delete => "delete".to_string(),
                    Cds::Keys(k) => list(k),
                };
                format!(
                    "published: DNSKEY {} by {}, data by {}, CDS {cds}",
                    list(&p.apex.dnskey),
                    list(&p.apex.dnskey_signers),
                    list(&p.any)
                )
            }
            _ => return,
        };
        self.line(text);
    }
}
