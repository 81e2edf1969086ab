//! A roll as a picture: who is in the zone, who signs and whose DS is at the parent, step by step.

use std::fmt::Write;

use crate::roll::{Goal, RollType, Row, Seen};

/// Width of one step.
const STEP: usize = 10;
const LABEL: usize = 28;

/// The steps of a roll from left to right, and what ends each.
pub fn drawing(kind: RollType) -> String {
    let rows = kind.rows();
    let mut out = String::new();
    line(&mut out, "", rows.iter().map(|r| format!("|{:?}", r.stage)));
    for (side, pick) in [
        ("old", (|r: &Row| r.old) as fn(&Row) -> Goal),
        ("new", |r: &Row| r.new),
    ] {
        type Part = fn(Goal) -> bool;
        const PARTS: [(&str, Part); 4] = [
            ("in the DNSKEY RRset", |g| g.dnskey),
            ("signs DNSKEY", |g| g.sign_dnskey),
            ("signs the data", |g| g.sign_zone),
            ("DS at the parent", |g| g.ds),
        ];
        for (text, part) in PARTS {
            let on: Vec<bool> = rows.iter().map(|r| part(pick(r))).collect();
            if on.contains(&true) {
                let bars = on.iter().map(|b| {
                    let fill = if *b { '=' } else { '.' };
                    format!("|{}", fill.to_string().repeat(STEP - 1))
                });
                line(&mut out, &format!("{side} key {text}"), bars);
            }
        }
    }
    for r in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:<3} ends when {}", format!("{:?}", r.stage), ends(r));
    }
    out
}

fn line(out: &mut String, label: &str, cells: impl Iterator<Item = String>) {
    let mut text = format!("{label:<LABEL$}");
    for cell in cells {
        let _ = write!(text, "{cell:<STEP$}");
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

fn ends(row: &Row) -> String {
    let mut parts: Vec<String> = row
        .seen
        .iter()
        .map(|s| seen_words(*s).to_string())
        .collect();
    parts.extend(
        row.expired
            .iter()
            .map(|d| format!("no cache holds {}", d.words())),
    );
    parts.join(", and ")
}

fn seen_words(seen: Seen) -> &'static str {
    match seen {
        Seen::Dnskey => "every server of the zone shows this DNSKEY RRset",
        Seen::RrsigNew => "every server shows a version that the new keys have signed",
        Seen::RrsigOldGone => "every server shows a version without signatures of the old keys",
        Seen::Unsigned => "every server shows the unsigned version",
        Seen::DsSwapped => "every server of the parent shows the new DS and not the old one",
        Seen::DsBoth => "every server of the parent shows both DS",
        Seen::DsOldGone => "no server of the parent shows the old DS",
        Seen::DsNone => "no server of the parent shows any DS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_shows_every_roll_as_the_code_has_it() {
        let manual = include_str!("../../../docs/manual/src/rolls.md");
        for kind in RollType::ALL {
            let drawn = drawing(kind);
            assert!(
                manual.contains(&drawn),
                "docs/manual/src/rolls.md lacks this picture of {kind:?}; put it in:\n{drawn}"
            );
        }
    }
}
