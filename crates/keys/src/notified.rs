//! Tests of NOTIFY(CDS): when the parent's endpoint is told, and when no more.

use crate::double_ds::{publish, started, step, swept, t, zone};
use crate::event::Event;
use crate::next_action::{Action, Facts, next_action};
use crate::observe::What;
use crate::policy::{CdsPolicy, KeyPolicy};
use crate::roll::RollType;
use crate::state::ZoneKeys;

fn policy() -> KeyPolicy {
    KeyPolicy {
        notify_parent: true,
        ..KeyPolicy::default()
    }
}

fn tells(z: &ZoneKeys, p: &KeyPolicy, at: u64) -> bool {
    let all = next_action(z, p, &Facts::default(), t(at));
    all.contains(&Action::NotifyParent)
}

fn asks_servers(z: &ZoneKeys, p: &KeyPolicy, at: u64) -> bool {
    let all = next_action(z, p, &Facts::default(), t(at));
    let rrsig = |a: &Action| {
        matches!(
            a,
            Action::Look {
                what: What::Rrsig,
                ..
            }
        )
    };
    all.iter().any(rrsig)
}

/// A KSK roll that has come to the parent, with its CDS just published.
fn asking(p: &KeyPolicy) -> ZoneKeys {
    let mut z = zone(p, true);
    started(&mut z, p, RollType::KskDoubleSignature, 10);
    for _ in 0..3 {
        step(&mut z, 20);
    }
    publish(&mut z, p, 100);
    z
}

#[test]
fn told_once_when_every_server_has_the_cds() {
    let p = policy();
    let mut z = asking(&p);
    assert!(!tells(&z, &p, 200));
    assert!(asks_servers(&z, &p, 200));
    swept(&mut z, What::Rrsig, 210);
    assert!(tells(&z, &p, 220));
    z.apply(&Event::ParentNotified {
        text: "heard".into(),
        at: t(230),
    });
    assert!(!tells(&z, &p, 240));
    let text = crate::why("example", &z, &p, &Facts::default(), t(240));
    assert!(
        text.contains("NOTIFY(CDS)") && text.contains(": heard"),
        "{text}"
    );
    // A look before the CDS was there is no evidence.
    let mut z = asking(&p);
    swept(&mut z, What::Rrsig, 90);
    assert!(!tells(&z, &p, 220));
}

#[test]
fn not_without_order_cds_or_parent() {
    let ready = |p: &KeyPolicy| {
        let mut z = asking(p);
        swept(&mut z, What::Rrsig, 210);
        z
    };
    let p = KeyPolicy::default();
    assert!(!tells(&ready(&p), &p, 220));
    let p = KeyPolicy {
        cds: CdsPolicy::Never,
        ..policy()
    };
    assert!(!tells(&ready(&p), &p, 220));
    let p = policy();
    let mut z = ready(&p);
    z.parent.followed_at = Some(t(215));
    assert!(!tells(&z, &p, 220));
}
