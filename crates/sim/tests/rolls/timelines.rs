//! The course of every roll type, printed from the code.

use cascade_keys::*;

use crate::rolls::{begin_roll, quiet, settled};
use cascade_sim::{Config, DAY, World};

fn timeline(kind: RollType) -> String {
    let mut w = if kind == RollType::FirstKeys {
        World::new(quiet(), Config::default())
    } else {
        settled(quiet(), Config::default())
    };
    w.mark();
    if kind != RollType::FirstKeys {
        begin_roll(&mut w, kind);
    }
    assert!(w.run_until_done(kind, 20 * DAY));
    w.run(45 * DAY);
    assert_eq!(w.broken, None);
    let mut out = String::new();
    for r in kind.rows() {
        let seen: Vec<String> = r.seen.iter().map(|s| format!("{s:?}")).collect();
        let gone: Vec<&str> = r.expired.iter().map(|d| d.words()).collect();
        out += &format!(
            "{:<4}{:<22}old {} new {}  until {}\n",
            format!("{:?}", r.stage),
            r.state,
            r.old.letters(),
            r.new.letters(),
            if seen.is_empty() {
                format!("no cache holds {}", gone.join(", "))
            } else if gone.is_empty() {
                format!("seen {}", seen.join(", "))
            } else {
                format!(
                    "seen {}, no cache holds {}",
                    seen.join(", "),
                    gone.join(", ")
                )
            }
        );
    }
    out += "\n";
    out += &w.lines.join("\n");
    out
}

#[test]
fn of_every_kind() {
    for kind in RollType::ALL {
        insta::assert_snapshot!(format!("{kind:?}"), timeline(kind));
    }
}
