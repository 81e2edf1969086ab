//! Lints about the times of signatures.

use std::time::Duration;

use super::{DAY, HOUR, Lints};
use crate::diag::Level;
use crate::keys::RecordTimes;
use crate::value::show_span;

/// P06 to P09, P18, P28.
pub(super) fn times(l: &mut Lints<'_>) {
    let s = &l.file.policy.signer;
    let interval = s.signature_refresh_interval;
    if interval < Duration::from_secs(60) {
        let detail = format!(
            "the refresh interval {} is below a minute",
            show_span(interval)
        );
        l.add(
            "P06",
            Level::Error,
            &["signer.signature-refresh-interval"],
            detail,
            "write at least \"60s\"",
        );
    }
    let zone = RecordTimes {
        signature_inception_offset: s.signature_inception_offset,
        signature_lifetime: s.signature_lifetime,
        signature_remain_time: s.signature_remain_time,
    };
    signature_times(l, "signer", &zone, Some(interval));
    let quarter = zone.signature_remain_time / 4;
    if interval > quarter {
        l.add(
            "P08",
            Level::Warning,
            &[
                "signer.signature-refresh-interval",
                "signer.signature-remain-time",
            ],
            format!(
                "refresh interval {} is more than a quarter of remain-time {}: few attempts are \
                 left when one fails",
                show_span(interval),
                show_span(zone.signature_remain_time)
            ),
            format!("write at most \"{}\"", show_span(quarter)),
        );
    }
    let records = &l.file.policy.key_manager.records;
    signature_times(l, "key-manager.records.dnskey", &records.dnskey, None);
    signature_times(l, "key-manager.records.cds", &records.cds, None);
}

fn signature_times(l: &mut Lints<'_>, section: &str, t: &RecordTimes, interval: Option<Duration>) {
    let key = |name: &str| format!("{section}.{name}");
    let (lifetime_key, remain_key) = (key("signature-lifetime"), key("signature-remain-time"));
    let (interval_key, offset_key) = (
        key("signature-refresh-interval"),
        key("signature-inception-offset"),
    );
    let (life, remain) = (t.signature_lifetime, t.signature_remain_time);
    let offset = t.signature_inception_offset;
    // RFC 4034 §3.1.5: times are compared in serial arithmetic; this stays far from its horizon.
    if life.as_secs() > 1 << 30 {
        let detail = format!("lifetime {} is above 2^30 seconds", show_span(life));
        l.add(
            "P06",
            Level::Error,
            &[&lifetime_key],
            detail,
            "write at most \"1775w\"",
        );
    }
    let least = remain + interval.unwrap_or_default() + HOUR;
    if life <= least {
        let sum = match interval {
            Some(i) => format!(
                "remain-time {} + refresh-interval {}",
                show_span(remain),
                show_span(i)
            ),
            None => format!("remain-time {}", show_span(remain)),
        };
        l.add(
            "P07",
            Level::Error,
            &[&lifetime_key, &remain_key, &interval_key],
            format!(
                "lifetime {} does not exceed {sum} + 1h: new signatures would be due at once",
                show_span(life)
            ),
            format!("write more than \"{}\"", show_span(least)),
        );
    }
    if remain < 3 * DAY {
        l.add(
            "P09",
            Level::Warning,
            &[&remain_key],
            format!(
                "remain-time {} is below 3d: a weekend's outage makes the zone bogus",
                show_span(remain)
            ),
            "write at least \"3d\"",
        );
    }
    let half = life / 2;
    if offset > 7 * DAY {
        let detail = format!("inception offset {} is above 7d", show_span(offset));
        l.add(
            "P18",
            Level::Error,
            &[&offset_key],
            detail,
            "write for example \"1d\"",
        );
    } else if offset < Duration::from_secs(300) || offset >= half {
        l.add(
            "P18",
            Level::Warning,
            &[&offset_key, &lifetime_key],
            format!(
                "inception offset {} should be 5m or more and less than half of lifetime {}: \
                 clocks of validators differ",
                show_span(offset),
                show_span(life)
            ),
            "write for example \"1h\"",
        );
    }
    if life > 60 * DAY {
        l.add(
            "P28",
            Level::Warning,
            &[&lifetime_key],
            format!(
                "lifetime {} is above 60d: old data can be replayed that long",
                show_span(life)
            ),
            "write at most \"60d\"",
        );
    }
}
