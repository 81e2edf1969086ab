//! A timeline for calendars (RFC 5545).

use cascade_api::keys::Timeline;
use cascade_time::Timestamp;

use crate::output::clean;

/// Octets of a content line before it is folded (RFC 5545 §3.1).
const LINE: usize = 75;

/// The timeline as an iCalendar object: one event per item, which takes no time.
pub fn calendar(timeline: &Timeline, now: Timestamp) -> String {
    let zone = clean(&timeline.zone);
    let mut out = String::new();
    for text in [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//cascade//timeline//EN",
    ] {
        line(&mut out, text);
    }
    for (n, item) in timeline.items.iter().enumerate() {
        let what = clean(&item.what);
        let at = stamp(item.at);
        line(&mut out, "BEGIN:VEVENT");
        // The same event has the same name in every export, whatever came before it.
        let same = timeline.items[..n]
            .iter()
            .filter(|i| i.at == item.at && i.what == item.what)
            .count();
        line(
            &mut out,
            &format!("UID:{at}-{what}-{same}@{}", text_value(&zone)),
        );
        line(&mut out, &format!("DTSTAMP:{}", stamp(now)));
        line(&mut out, &format!("DTSTART:{at}"));
        let summary = format!("{zone}: {}", clean(&item.text));
        line(&mut out, &format!("SUMMARY:{}", text_value(&summary)));
        line(&mut out, &format!("CATEGORIES:{}", text_value(&what)));
        line(&mut out, "TRANSP:TRANSPARENT");
        line(&mut out, "END:VEVENT");
    }
    line(&mut out, "END:VCALENDAR");
    out
}

/// `20261126T083000Z`
fn stamp(at: Timestamp) -> String {
    let digits = at.to_dns();
    let (day, time) = digits.split_at(digits.len().min(8));
    format!("{day}T{time}Z")
}

/// RFC 5545 §3.3.11.
fn text_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | ';' | ',' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

fn line(out: &mut String, text: &str) {
    let mut used = 0;
    for c in text.chars() {
        if used + c.len_utf8() > LINE {
            out.push_str("\r\n ");
            used = 1;
        }
        out.push(c);
        used += c.len_utf8();
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use cascade_api::keys::TimelineItem;

    #[test]
    fn folded_escaped_and_named() {
        let at = Timestamp::from_secs(1_800_000_000);
        let item = |text: &str| TimelineItem {
            at,
            what: "roll.step".into(),
            text: text.into(),
        };
        let timeline = Timeline {
            zone: "example.net".into(),
            items: vec![item("KSK roll: a, b; c\\d"), item(&"ü".repeat(60))],
        };
        let text = calendar(&timeline, at);
        assert!(text.starts_with("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n"));
        assert!(text.ends_with("END:VCALENDAR\r\n"));
        assert!(text.contains("DTSTART:20270115T080000Z\r\n"), "{text}");
        assert!(
            text.contains("SUMMARY:example.net: KSK roll: a\\, b\\; c\\\\d\r\n"),
            "{text}"
        );
        for n in 0..2 {
            assert!(text.contains(&format!("UID:20270115T080000Z-roll.step-{n}@example.net")));
        }
        assert!(text.split("\r\n").all(|l| l.len() <= LINE), "{text}");
        assert!(text.replace("\r\n ", "").contains(&"ü".repeat(60)));
    }
}
