//! `zone status --detailed`: keys, rolls, signatures, secondaries.

use cascade_api::keys::{Key, KeyState, Roll, RollKind};
use cascade_api::status::ZoneStatus;
use cascade_api::word;
use cascade_time::Timestamp;

use crate::output::{ago, clean, signed_span};
use crate::report::span;

pub fn detail(s: &ZoneStatus, now: Timestamp, out: &mut String) {
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line("DNSSEC keys:".to_string());
    for key in &s.keys {
        line(format!("  {} tagged {}:", key.role.upper(), key.tag));
        line(format!("    Reference: {}", clean(&key.reference)));
        if let Some(label) = key.label.as_ref().filter(|l| !label_is_id(l, key)) {
            line(format!("    Label: {}", clean(label)));
        }
        if key.signing {
            line("    Actively used for signing".to_string());
        }
    }
    line("  Details:".to_string());
    for key in &s.keys {
        line(format!("    {}", key_line(key, now)));
    }
    for roll in &s.rolls {
        roll_lines(roll, now).into_iter().for_each(&mut line);
    }
    if let Some(sig) = &s.signatures {
        let refresh = sig
            .next_refresh_at
            .map_or("none".to_string(), Timestamp::to_human);
        line(format!(
            "Signatures: first expires {}, next refresh {refresh}, runway {}",
            sig.first_expires_at.to_human(),
            signed_span(sig.runway_secs)
        ));
    }
    for sec in &s.secondaries {
        let serial = sec
            .serial
            .map_or("no answer".to_string(), |n| format!("serial {n}"));
        let lag = match sec.lag_secs {
            Some(0) => ", up to date".to_string(),
            Some(n) => format!(", {} behind", span(n)),
            None => String::new(),
        };
        let asked = sec
            .asked_at
            .map_or(String::new(), |at| format!(", asked {}", ago(at, now)));
        let bogus = sec
            .bogus
            .as_ref()
            .map_or(String::new(), |what| format!(", BOGUS: {}", clean(what)));
        line(format!(
            "Secondary {}: {serial}{lag}{asked}{bogus}",
            clean(&sec.server)
        ));
    }
}

/// One sentence on a key's life, as `zone status --detailed` and `status keys` say it.
pub fn key_line(key: &Key, now: Timestamp) -> String {
    let reference = clean(&key.reference);
    match (key.state, key.expires_at, key.remove_at) {
        (KeyState::Generated, _, _) => format!("key {reference} is not yet published"),
        (KeyState::Retired | KeyState::Dead, _, Some(at)) => {
            format!(
                "key {reference} is retired and will be removed at {}",
                at.to_human()
            )
        }
        (KeyState::Retired | KeyState::Dead | KeyState::Removed | KeyState::Revoked, _, None) => {
            format!("key {reference} is {}", word(&key.state))
        }
        (_, None, _) if key.imported => {
            format!("key {reference} is imported and does not expire")
        }
        (_, None, _) => format!(
            "key {reference} does not expire. No validity period is configured for the key type"
        ),
        (_, Some(at), _) if at <= now => {
            format!("key {reference} has expired at {}", at.to_human())
        }
        (_, Some(at), _) => format!("key {reference} expires at {}", at.to_human()),
    }
}

/// One block per roll: what it is, why it does not go on, what comes next.
fn roll_lines(roll: &Roll, now: Timestamp) -> Vec<String> {
    let tags = |tags: &[u16]| match tags {
        [] => "-".to_string(),
        tags => tags
            .iter()
            .map(u16::to_string)
            .collect::<Vec<_>>()
            .join("+"),
    };
    let name = match roll.kind {
        RollKind::Ksk | RollKind::Zsk | RollKind::Csk => {
            format!("{} roll", word(&roll.kind).to_uppercase())
        }
        RollKind::Insecure => "Going insecure".to_string(),
        kind => format!("{} roll", crate::report::capital(&word(&kind))),
    };
    let step = match (roll.step, roll.steps) {
        (Some(n), Some(of)) if n > 0 => format!("step {n} of {of}"),
        _ => clean(&roll.state),
    };
    let why = match (&roll.why, &roll.waits_for) {
        (Some(why), _) => clean(why),
        (None, Some(who)) => format!("waits for {}", clean(who)),
        (None, None) => clean(&roll.state),
    };
    let since = roll.since.or(roll.started_at);
    let since = since.map_or(String::new(), |at| format!(" since {}", ago(at, now)));
    let mut lines = vec![
        format!(
            "    {name} ({}), {} -> {}, {step}, {}{since}",
            clean(&roll.roll_type),
            tags(&roll.old_tags),
            tags(&roll.new_tags),
            clean(&roll.state),
        ),
        format!("      {}", crate::report::capital(&why)),
    ];
    let last = roll
        .last_look
        .map_or(String::new(), |at| format!("Last look {}. ", at.to_human()));
    if let Some(at) = roll.next_check {
        lines.push(format!("      {last}Next check {}", ago(at, now)));
    } else if let Some(at) = roll.earliest_at {
        lines.push(format!("      Earliest: {}", at.to_human()));
    }
    lines.push(match &roll.next_command {
        Some(command) => format!("      Next step: {}", clean(command)),
        None => "      Next step: automatic".to_string(),
    });
    lines
}

/// Tokens that cannot store a label show the id instead, in another case or not.
fn label_is_id(label: &str, key: &Key) -> bool {
    label.is_empty()
        || label.eq_ignore_ascii_case(&key.id)
        || key
            .reference
            .to_ascii_lowercase()
            .contains(&format!("/{}_", label.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_says_why_it_waits() {
        let now = Timestamp::from_secs(1_800_000_000);
        let at = |s: i64| Timestamp::from_secs(1_800_000_000 + s).to_rfc3339();
        let text = format!(
            r#"{{"kind":"ksk","type":"double-signature","state":"await-ds-seen","step":3,"steps":5,
            "old":["k1"],"new":["k3"],"old_tags":[31203],"new_tags":[54321],"waits_for":"parent",
            "why":"waits for the parent (ns at 192.0.2.53 has 31203; 1 of 4 addresses agree)",
            "since":"{}","last_look":"{}","next_look":"{}","next_check":"{}","automatic":true}}"#,
            at(-7200),
            at(-600),
            at(1200),
            at(1200)
        );
        let mut roll: Roll = serde_json::from_str(&text).unwrap();
        assert_eq!(
            roll_lines(&roll, now),
            [
                "    KSK roll (double-signature), 31203 -> 54321, step 3 of 5, await-ds-seen since 2027-01-15T06:00:00+00:00 (2h ago)",
                "      Waits for the parent (ns at 192.0.2.53 has 31203; 1 of 4 addresses agree)",
                "      Last look 2027-01-15T07:50:00+00:00. Next check 2027-01-15T08:20:00+00:00 (in 20m)",
                "      Next step: automatic",
            ]
        );
        // An older daemon, and a roll that a person moves.
        roll.why = None;
        roll.next_check = None;
        roll.earliest_at = Some(now);
        roll.next_command = Some("cascade keyset example.net ksk cache-expired1".into());
        let lines = roll_lines(&roll, now);
        assert_eq!(lines[1], "      Waits for parent");
        assert_eq!(lines[2], "      Earliest: 2027-01-15T08:00:00+00:00");
        assert_eq!(
            lines[3],
            "      Next step: cascade keyset example.net ksk cache-expired1"
        );
    }
}
