//! A zone that was restored from a backup asks its servers what they have seen since.

use std::collections::BTreeSet;
use std::time::Duration;

use cascade_crypto::Dnskey;
use cascade_keys::{Answer, Scope, SeenKey, What};
use cascade_pipeline::{Asked, Event};
use cascade_policy::Target;
use cascade_zone::Serial;

use super::actor::{Actor, Done};
use crate::looks::{Look, Looked, look};

/// Between two rounds while too few answer, and the longest.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_AT_LEAST: Duration = Duration::from_secs(300);
/// Servers that only the zone itself names are given this long.
const UNNAMED: Duration = Duration::from_secs(4);
/// Keys of servers that are named in a message.
const TOLD: usize = 4;

impl Actor {
    /// Begins to ask, if there is something to be asked; goes on until there is an answer or a
    /// person has ended the doubt.
    pub(super) fn ask_servers(&mut self, round: u32) {
        if self.row.zone.doubt.is_none() || self.asking_servers {
            return;
        }
        let Some(version) = self
            .row
            .zone
            .live
            .as_ref()
            .and_then(|l| self.version(l.version))
        else {
            // Nothing was published that anybody could have.
            return self.later(Event::ServersAsked(Asked::Known));
        };
        let Some(policy) = self.policy() else {
            let name = &self.row.zone.settings.policy;
            let text = format!("policy '{name}', which names its servers, is not loaded");
            return self.answer_later(round, Asked::Silent { text });
        };
        let p = &policy.file.policy;
        let named = told_or_watched(&[
            &p.server.outbound.send_notify_to,
            p.server.outbound.watched(),
            &p.key_manager.publication_nameservers,
        ]);
        let must_answer = !named.is_empty();
        let rows = &self.row.keys.zone.keys;
        let keys: Vec<_> = rows.iter().map(|k| (k.num, k.dnskey_rdata())).collect();
        let ours: BTreeSet<Vec<u8>> = keys.iter().map(|(_, rdata)| rdata.clone()).collect();
        let live = version.serial();
        let config = self.d.conf().config.key_manager.clone();
        let (zone, tsig) = (self.me.apex.clone(), crate::servers::tsig_keys(&self.d));
        let asked = move |what| Look {
            what,
            scope: Scope::Servers,
            zone: zone.clone(),
            version: version.clone(),
            keys: keys.clone(),
            any: Vec::new(),
            all: Vec::new(),
            publication_nameservers: named.clone(),
            parent_nameservers: Vec::new(),
            resolvers: config.resolvers.iter().map(|r| r.0).collect(),
            nodes: Vec::new(),
            referral: Vec::new(),
            timeout: config.check_timeout,
            tsig: tsig.clone(),
        };
        self.asking_servers = true;
        let (d, done) = (self.d.clone(), self.done.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause(round)).await;
            let both = async {
                tokio::join!(
                    look(asked(What::Rrsig), &d.looks, d.clock.clone()),
                    look(asked(What::Dnskey), &d.looks, d.clock.clone())
                )
            };
            let asked = if must_answer {
                let (soa, dnskey) = both.await;
                judged(live, &ours, &soa, &dnskey, true)
            } else {
                // Nobody has said who has the zone; whom its NS records name may answer or not.
                match tokio::time::timeout(UNNAMED, both).await {
                    Ok((soa, dnskey)) => judged(live, &ours, &soa, &dnskey, false),
                    Err(_) => Asked::Known,
                }
            };
            let _ = done.send(Done::ServersAsked(round, asked));
        });
    }

    /// Nobody can be asked now.
    fn answer_later(&mut self, round: u32, asked: Asked) {
        self.asking_servers = true;
        let done = self.done.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause(round)).await;
            let _ = done.send(Done::ServersAsked(round, asked));
        });
    }

    pub(super) async fn servers_asked(&mut self, round: u32, asked: Asked) {
        self.asking_servers = false;
        match &asked {
            Asked::Known => {}
            Asked::Ahead { serial } => {
                tracing::warn!(zone = %self.me.name, serial = serial.0, "the backup is older than what a server has; the next version gets a higher serial");
            }
            Asked::Foreign { text, .. } | Asked::Silent { text } => {
                tracing::error!(zone = %self.me.name, critical = round == 0, "restored from a backup, nothing new is signed: {text}");
            }
        }
        self.apply(Event::ServersAsked(asked)).await;
        self.ask_servers(round.saturating_add(1));
    }
}

/// Before a round.
fn pause(round: u32) -> Duration {
    AGAIN.saturating_mul(round).min(AGAIN_AT_LEAST)
}

fn told_or_watched(lists: &[&[Target]]) -> Vec<Target> {
    let mut out: Vec<Target> = Vec::new();
    for target in lists.iter().flat_map(|l| l.iter()) {
        if out.iter().all(|t| t.addr != target.addr) {
            out.push(target.clone());
        }
    }
    out
}

/// What the answers mean for a backup whose newest version has this serial.
fn judged(
    live: Serial,
    ours: &BTreeSet<Vec<u8>>,
    soa: &Looked,
    dnskey: &Looked,
    must_answer: bool,
) -> Asked {
    let mut newest: Option<Serial> = None;
    let mut silent = Vec::new();
    for member in &soa.sweep.members {
        match &member.answer {
            Answer::Rrsig { serial, .. } => {
                let serial = Serial(*serial);
                if newest.is_none_or(|n| serial.newer_than(n)) {
                    newest = Some(serial);
                }
            }
            _ => silent.push(member.address.clone()),
        }
    }
    let mut foreign: Vec<String> = Vec::new();
    // One that lags may show keys that are long gone.
    let is_ahead = |address: &str| {
        let of = soa.sweep.members.iter().find(|m| m.address == address);
        let serial = of.and_then(|m| match m.answer {
            Answer::Rrsig { serial, .. } => Some(Serial(serial)),
            _ => None,
        });
        serial.is_some_and(|s| s.newer_than(live))
    };
    for member in &dnskey.sweep.members {
        let Answer::Dnskey { keys, .. } = &member.answer else {
            continue;
        };
        if !is_ahead(&member.address) {
            continue;
        }
        for key in keys.iter().map(rdata).filter(|k| !ours.contains(k)) {
            let tag = Dnskey::from_rdata(&key).map_or(0, |k| k.key_tag());
            let text = format!("{tag} at {}", member.address);
            if foreign.len() < TOLD && !foreign.contains(&text) {
                foreign.push(text);
            }
        }
    }
    let ahead = newest.filter(|n| n.newer_than(live));
    match (newest, ahead) {
        (Some(serial), _) if !foreign.is_empty() => Asked::Foreign {
            serial,
            text: format!(
                "servers show keys that this backup does not have ({}); restore a newer backup, or \
                 import these keys; going on with the keys of the backup may break the zone for validators",
                foreign.join(", ")
            ),
        },
        (None, _) if must_answer => Asked::Silent {
            text: format!(
                "none of its servers answers ({}), so what they have is not known",
                silent.join(", ")
            ),
        },
        (_, Some(serial)) => Asked::Ahead { serial },
        _ => Asked::Known,
    }
}

fn rdata(key: &SeenKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + key.public_key.len());
    out.extend(key.flags.to_be_bytes());
    // RFC 4034 §2.1.2.
    out.extend([3, key.algorithm]);
    out.extend(&key.public_key);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cascade_keys::{Member, Sweep};
    use cascade_time::Timestamp;

    fn looked(what: What, answers: Vec<Answer>) -> Looked {
        let members = answers.into_iter().enumerate().map(|(n, answer)| Member {
            server: format!("ns{n}"),
            address: format!("192.0.2.{n}:53"),
            nsid: None,
            answer,
        });
        Looked {
            sweep: Sweep {
                what,
                started: Timestamp::EPOCH,
                ended: Timestamp::EPOCH,
                members: members.collect(),
                parent_expire: None,
            },
            ds: None,
            referral: Vec::new(),
        }
    }

    fn has(serial: u32) -> Answer {
        Answer::Rrsig {
            serial,
            same_content: false,
            faults: Vec::new(),
        }
    }

    fn key(n: u8) -> SeenKey {
        SeenKey {
            flags: 257,
            algorithm: 13,
            public_key: vec![n; 64],
        }
    }

    fn judge(soa: Vec<Answer>, keys: Vec<u8>, must: bool) -> Asked {
        let ours: BTreeSet<Vec<u8>> = [rdata(&key(1)), rdata(&key(2))].into();
        let shown = Answer::Dnskey {
            keys: keys.into_iter().map(key).collect(),
            ttl: 300,
            signed_by: Vec::new(),
        };
        let dnskey = looked(What::Dnskey, vec![shown, Answer::Silent]);
        judged(Serial(7), &ours, &looked(What::Rrsig, soa), &dnskey, must)
    }

    #[test]
    fn answers_are_weighed() {
        assert_eq!(judge(vec![has(7), has(6)], vec![1], true), Asked::Known);
        assert_eq!(
            judge(
                vec![has(7), Answer::Silent, has(9), has(8)],
                vec![1, 2],
                true
            ),
            Asked::Ahead { serial: Serial(9) }
        );
        // One that lags says nothing about the others, but one answer is enough to go on.
        assert_eq!(
            judge(vec![has(5), Answer::Silent], vec![1], true),
            Asked::Known
        );
        let silent = judge(vec![Answer::Silent, Answer::NoRoute], vec![], true);
        assert!(
            matches!(&silent, Asked::Silent { text } if text.contains("192.0.2.1:53")),
            "{silent:?}"
        );
        assert_eq!(judge(vec![Answer::Silent], vec![], false), Asked::Known);
        assert_eq!(judge(vec![has(6)], vec![3], true), Asked::Known);
        let foreign = judge(vec![has(9)], vec![1, 3], true);
        assert!(
            matches!(&foreign, Asked::Foreign { serial: Serial(9), text } if text.contains("at 192.0.2.0:53")),
            "{foreign:?}"
        );
    }
}
