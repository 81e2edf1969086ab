//! All courses of each roll in a world of two servers on each side. The numbers of states are
//! snapshots: a search that silently became smaller is noticed. `sim small --fault` adds a restart,
//! a silent secondary or a dead token at any moment.

use cascade_keys::RollType;
use cascade_sim::small::search;

fn all_courses(kinds: &[RollType]) -> String {
    let s = search(kinds, false, 100_000).expect("every course ends");
    assert_eq!(s.broken, None, "{:?}", s.course);
    assert!(s.ended > 0);
    format!(
        "{kinds:?}: {} states, {} transitions, {} ticks",
        s.states, s.transitions, s.deepest
    )
}

#[test]
fn of_zsk_rolls() {
    let out = [
        all_courses(&[RollType::ZskPrePublish]),
        all_courses(&[RollType::ZskDoubleSignature]),
    ];
    insta::assert_snapshot!(out.join("\n"));
}

#[test]
fn of_ksk_rolls() {
    let out = [
        all_courses(&[RollType::KskDoubleSignature]),
        all_courses(&[RollType::KskDoubleDs]),
    ];
    insta::assert_snapshot!(out.join("\n"));
}

#[test]
fn of_csk_algorithm_and_insecure() {
    let out = [
        all_courses(&[RollType::Csk]),
        all_courses(&[RollType::Algorithm]),
        all_courses(&[RollType::GoInsecure]),
    ];
    insta::assert_snapshot!(out.join("\n"));
}
