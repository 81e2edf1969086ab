//! Lints that need facts of a zone; they run again at every load.

use std::time::Duration;

use cascade_time::Timestamp;

use super::{HsmFacts, Lints};
use crate::diag::{Diagnostic, Level};
use crate::file::PolicyFile;
use crate::policy::{DenialType, SerialPolicy};
use crate::value::show_span;

/// What the lints may know of one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFacts {
    pub name: String,
    pub longest_ttl: Duration,
    /// SOA EXPIRE.
    pub expire: Duration,
    /// Owner names.
    pub names: u64,
    /// Delegations without DS.
    pub unsigned_delegations: u64,
    pub source_is_file: bool,
    /// The highest serial published so far.
    pub serial: Option<u32>,
    /// Signatures of a signed version.
    pub signatures: u64,
}

impl PolicyFile {
    /// The findings about one zone that uses this policy.
    pub fn lint_zone(
        &self,
        zone: &ZoneFacts,
        hsms: &[HsmFacts],
        now: Timestamp,
    ) -> Vec<Diagnostic> {
        let mut l = Lints::new(self);
        times(&mut l, self, zone);
        opt_out(&mut l, self, zone);
        serial(&mut l, self, zone, now);
        rate(&mut l, self, zone, hsms);
        l.finish()
    }
}

/// P10, P14.
fn times(l: &mut Lints<'_>, file: &PolicyFile, zone: &ZoneFacts) {
    let s = &file.policy.signer;
    let remain = s.signature_remain_time;
    if remain < zone.expire {
        l.add(
            "P10",
            Level::Note,
            &["signer.signature-remain-time"],
            format!(
                "zone {}: remain-time {} is below SOA EXPIRE {}: a secondary that is cut off may \
                 serve expired signatures",
                zone.name,
                show_span(remain),
                show_span(zone.expire)
            ),
            format!(
                "write at least \"{}\", or lower EXPIRE",
                show_span(zone.expire)
            ),
        );
    }
    let ttl = s
        .max_ttl
        .map_or(zone.longest_ttl, |max| max.min(zone.longest_ttl));
    let sum = ttl + remain + s.signature_refresh_interval;
    if sum >= s.signature_lifetime {
        l.add(
            "P14",
            Level::Warning,
            &["signer.signature-lifetime", "signer.signature-remain-time"],
            format!(
                "zone {}: longest TTL {} + remain-time {} + refresh-interval {} reaches lifetime \
                 {}: such records would be signed anew at every refresh",
                zone.name,
                show_span(ttl),
                show_span(remain),
                show_span(s.signature_refresh_interval),
                show_span(s.signature_lifetime)
            ),
            format!(
                "write more than \"{}\", or set signer.max-ttl",
                show_span(sum)
            ),
        );
    }
}

/// P22.
fn opt_out(l: &mut Lints<'_>, file: &PolicyFile, zone: &ZoneFacts) {
    let d = &file.policy.signer.denial;
    let few = u128::from(zone.unsigned_delegations) * 2 < u128::from(zone.names);
    if d.kind == DenialType::Nsec3 && d.opt_out && few {
        l.add(
            "P22",
            Level::Warning,
            &["signer.denial.opt-out"],
            format!(
                "zone {}: {} of {} names are unsigned delegations, under half: opt-out saves little \
                 and leaves them without proof",
                zone.name, zone.unsigned_delegations, zone.names
            ),
            "write false",
        );
    }
}

/// P23, P24.
fn serial(l: &mut Lints<'_>, file: &PolicyFile, zone: &ZoneFacts, now: Timestamp) {
    let policy = file.policy.signer.serial_policy;
    let key = ["signer.serial-policy"];
    if policy == SerialPolicy::Keep && zone.source_is_file {
        l.add(
            "P23",
            Level::Warning,
            &key,
            format!(
                "zone {}: with \"keep\" each refresh of signatures needs a new serial in the file",
                zone.name
            ),
            "write \"date-counter\"",
        );
    }
    let Some(serial) = zone.serial else { return };
    let given = match policy {
        SerialPolicy::UnixTime => now.to_wire(),
        // A day's numbers end with 99; counting on within the day is as meant.
        SerialPolicy::DateCounter => date_serial(now).saturating_add(99),
        SerialPolicy::Keep | SerialPolicy::Counter => return,
    };
    // RFC 1982 §3.2: `serial` is ahead of `given`.
    let ahead = serial.wrapping_sub(given) as i32 > 0;
    if ahead {
        let until = match policy {
            SerialPolicy::UnixTime => Some(Timestamp::from_wire(serial, now).to_human()),
            _ => day_of(serial),
        };
        let until = until.map(|d| format!(" until {d}")).unwrap_or_default();
        l.add(
            "P24",
            Level::Warning,
            &key,
            format!(
                "zone {}: serial {serial} is ahead of what \"{policy}\" gives now; serials count up \
                 by one{until}",
                zone.name
            ),
            format!("write \"counter\", or go down with: cascade zone resign {} --serial", zone.name),
        );
    }
}

/// `YYYYMMDD00` in UTC.
fn date_serial(now: Timestamp) -> u32 {
    let (year, month, day) = now.date();
    let number = i64::from(year) * 10_000 + i64::from(month) * 100 + i64::from(day);
    u32::try_from(number * 100).unwrap_or(u32::MAX)
}

/// The day a serial of the form `YYYYMMDDnn` names.
fn day_of(serial: u32) -> Option<String> {
    let (year, month, day) = (
        serial / 1_000_000,
        serial / 10_000 % 100,
        serial / 100 % 100,
    );
    let text = format!("{year:04}{month:02}{day:02}000000");
    Timestamp::parse_dns(&text).map(|_| format!("{year:04}-{month:02}-{day:02}"))
}

/// P29: refreshing spreads all signatures over lifetime − remain-time − refresh-interval − TTL.
fn rate(l: &mut Lints<'_>, file: &PolicyFile, zone: &ZoneFacts, hsms: &[HsmFacts]) {
    let (s, g) = (&file.policy.signer, &file.policy.key_manager.generation);
    let home = if g.use_csk {
        g.ksk_home()
    } else {
        g.zsk_home()
    };
    let Some(hsm) = home.and_then(|id| hsms.iter().find(|h| h.id == id)) else {
        return;
    };
    let Some(able) = hsm.signatures_per_second else {
        return;
    };
    let spare = s
        .signature_lifetime
        .saturating_sub(s.signature_remain_time)
        .saturating_sub(s.signature_refresh_interval);
    // The TTL takes at most half of what is left.
    let period = spare
        .saturating_sub(zone.longest_ttl.min(spare / 2))
        .max(Duration::from_secs(1));
    let needed = zone.signatures as f64 / period.as_secs_f64();
    if needed > able {
        l.add(
            "P29",
            Level::Warning,
            &["signer.signature-lifetime", "key-manager.generation.hsm-server-id"],
            format!(
                "zone {}: {} signatures in {} are {needed:.1} a second, and HSM '{}' makes {able:.1}",
                zone.name,
                zone.signatures,
                show_span(period),
                hsm.id
            ),
            "lengthen signature-lifetime, or set zsk-hsm-server-id = \"none\"",
        );
    }
}
