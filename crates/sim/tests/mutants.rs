//! Wrong rules in the product, each of which a named scenario must notice. One that survives is a
//! gap in the scenarios.

use std::fs;
use std::path::Path;

use cascade_keys::mutants::{Mutant, with};
use cascade_keys::{Dying, RollType, Stage};
use cascade_sim::fault::Choice;
use cascade_sim::run::run;
use cascade_sim::scenario::{expand, parse};
use cascade_sim::{Rule, World};

/// The rules that failed in the scenario with this mutant, over its combinations and two seeds.
fn caught(m: Mutant, text: &str) -> Option<Rule> {
    for text in expand(text).expect("good") {
        let scenario = parse(&text).expect("good");
        for seed in scenario.seeds.0..=scenario.seeds.1 {
            let choice = Choice {
                seed,
                ..Choice::default()
            };
            let o = with(m, || run(&scenario, &choice));
            if let Some(b) = o.broken {
                return Some(b.rule);
            }
        }
    }
    None
}

fn file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/sim");
    let path = folder.join(format!("{name}.scn"));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn wrong_rules_are_noticed_by_name() {
    use Mutant::*;
    let list: &[(Mutant, &str)] = &[
        (CompareByTag, "m-same-tag-at-a-server"),
        (DsByTag, "s37-wrong-digest"),
        (NoMargin, "s14-hidden-node"),
        (NoX, "s12-one-of-four-dead"),
        (NewTtl, "s17-dnskey-ttl-changes"),
        (LastAtStart, "m-slow-looks"),
        (TwoSweepsAsOne, "s13-flipping-servers"),
        (FlipsForgotten, "s13-back-in-the-wait"),
        (OneServer, "s33-parent-servers-apart"),
        (OldKskLeavesInP2, "s30-ksk-double-signature"),
        (OneSignerInP1, "s30-ksk-double-signature"),
        (StandbyKskSilent, "s69-emergency-safe"),
        (LiberalAlgorithm, "s52-algorithm"),
        (CdsByDnskeyOnly, "s31-double-ds-cds"),
        (CdsEndsWithAnyRoll, "m-cds-after-a-zsk-roll"),
        (ForwardStepEndsWaits, "s62-clock-steps"),
        (UnsignAtOnce, "s56-unsigned"),
        (RestoreNothing, "s40-late-old-ds"),
        (DestroyAtOnce, "s40-late-old-ds"),
        (Sha1IsPresent, "s34-digests-that-do-not-count"),
        (OldDsMayStay, "s32-old-ds-left"),
        (DsWantedAtOnce, "s10-zsk-pre-publish"),
        (RollsStopRenewal, "s66-paused"),
        (NoProof, "i3-nl-2012-signer-dies"),
        (HeldClockIsIgnored, "s62-clock-steps"),
        (AllRollsTogether, "s54-algorithm-wish-queues"),
        (AssumeNothing, "m-ds-never-seen"),
        (TakenOverKnown, "m-taken-over-and-rolled"),
        (RenewAtTheEnd, "s10-zsk-pre-publish"),
        (KskComesAlone, "regress/old-algorithm-ds-late"),
        (SignersLeaveAtOnce, "regress/old-algorithm-ds-late"),
        (UnsignedUnseen, "regress/unsigned-ds-late"),
        (HeldClockIsIgnored, "regress/by-hand-while-held"),
        (AssumeNothing, "regress/ds-back-unseen"),
        (AssumeNothing, "regress/old-ds-back-unseen"),
        (ReturnedDsIsOld, "regress/ds-back-not-wanted"),
    ];
    let mut survivors = Vec::new();
    for (m, name) in list {
        match caught(*m, &file(name)) {
            Some(rule) => println!("{m:?}: {rule} in {name}"),
            None => survivors.push((*m, *name)),
        }
    }
    assert_eq!(survivors, []);
}

/// A DS that no look has met is not held against the log while a look comes first; one that a look has
/// met is, from that look on, although the step that waits for it has not been taken.
#[test]
fn the_log_is_held_to_a_ds_from_the_look_on_that_meets_it() {
    let text = file("regress/ds-back-not-wanted");
    assert_eq!(caught(Mutant::ReturnedDsIsOld, &text), Some(Rule::W10));
    let scenario = parse(&text).expect("good");
    let o = with(Mutant::ReturnedDsIsOld, || {
        run(&scenario, &Choice::default())
    });
    let broken = o.broken.expect("caught");
    // Its first look comes five seconds after the beginning of the roll, two after the DS.
    let look = 20 * 86_400 + 7;
    assert!((look..look + 60).contains(&broken.age), "{broken}");
}

/// The formulas of time that decide about keys, each with the wrong ones that are tried in its
/// place here: nothing that says "not before" is without.
#[test]
fn every_formula_has_its_mutants() {
    use Mutant::*;
    let rows = RollType::ALL.into_iter().flat_map(|kind| {
        let of = move |row: &'static cascade_keys::Row| {
            let short = row.expired.iter().map(move |d| short(kind, row.stage, *d));
            let stage = row.stage;
            let skip = (!row.expired.is_empty()).then_some(SkipWait { kind, stage });
            let name = format!(
                "{} {stage:?}: now >= free of {:?}",
                kind.word(),
                row.expired
            );
            (name, short.chain(skip).collect::<Vec<_>>())
        };
        kind.rows().iter().filter(|r| !r.expired.is_empty()).map(of)
    });
    let others: &[(&str, &[Mutant])] = &[
        ("exp(S) = max of last + TTL + 1 s, TTL as served", &[NewTtl]),
        (
            "last = end of the sweep that shows newer data everywhere; what returns has no end",
            &[LastAtStart, ReturnedDsIsOld],
        ),
        ("free(S) = exp(S) + margin", &[NoMargin]),
        ("x = SOA EXPIRE for a server that was not reached", &[NoX]),
        (
            "a DS before the first look: TTL of 2 days; one that may have come back: its TTL",
            &[AssumeNothing],
        ),
        (
            "taken over: TTLs of at least 1 day, 2 for DS",
            &[TakenOverKnown],
        ),
        (
            "a forward step of the clock lengthens waits",
            &[ForwardStepEndsWaits],
        ),
        ("no step while the clock is held", &[HeldClockIsIgnored]),
        (
            "the members of one sweep, begun after the step",
            &[TwoSweepsAsOne, OneServer],
        ),
        (
            "RRSIGs at the apex: renewed at expiration - remain - spread",
            &[RenewAtTheEnd, RollsStopRenewal],
        ),
        (
            "a key is published at most 10 min after its proof",
            &[NoProof],
        ),
        (
            "destroyed at removal + auto-remove-delay + trash-retention",
            &[DestroyAtOnce],
        ),
        (
            "CDS from the wish until all rolls are satisfied",
            &[CdsEndsWithAnyRoll, DsWantedAtOnce],
        ),
        (
            "unsigned only from the island on",
            &[UnsignAtOnce, UnsignedUnseen],
        ),
        (
            "brought back: signs until no cache has its algorithm",
            &[KskComesAlone, SignersLeaveAtOnce],
        ),
    ];
    let others = others.iter().map(|(f, m)| ((*f).to_string(), m.to_vec()));
    let all: Vec<(String, Vec<Mutant>)> = rows.chain(others).collect();
    let text: Vec<String> = all
        .iter()
        .map(|(f, m)| format!("{f}: {} mutants", m.len()))
        .collect();
    assert!(all.iter().all(|(_, m)| !m.is_empty()));
    insta::assert_snapshot!(text.join("\n"));
}

/// Worlds in which each of the TTLs in turn decides; the margin is slack on top of the formula and
/// is left out.
fn rolls_with_every_ttl(kind: RollType) -> Vec<String> {
    let begin = match kind {
        RollType::FirstKeys => String::new(),
        RollType::GoInsecure => "at 8d policy cds=delete unsigned=yes\n".into(),
        RollType::Unsign => return Vec::new(),
        RollType::Algorithm => "at 8d policy algorithm=15\n".into(),
        RollType::Csk => "at 8d policy use-csk=yes\n".into(),
        RollType::KskDoubleSignature => "at 8d operator start-roll ksk\n".into(),
        RollType::KskDoubleDs => {
            "policy ksk-roll=double-ds cds=always\nat 8d operator start-roll ksk\n".into()
        }
        RollType::ZskPrePublish => "at 8d operator start-roll zsk\n".into(),
        RollType::ZskDoubleSignature => {
            "policy zsk-roll=double-signature\nat 8d operator start-roll zsk\n".into()
        }
    };
    let class = kind.class().word();
    let mut out = Vec::new();
    for (data, ds, dnskey) in [("2d", "1h", "1h"), ("1h", "2d", "1h"), ("1h", "1h", "2d")] {
        out.push(format!(
            "scenario ttls\nzone policy=quiet data-ttl={data} resign=10m\n\
             parent ds-ttl={ds} copy=1s,1s\nsecondaries lags=20s\n\
             policy ttl={dnskey} margin=0s\n{begin}\
             at 8d expect published=yes\nwithin 20d expect roll {class} done\nrun 28d\n"
        ));
    }
    out
}

#[test]
fn every_wait_that_is_one_ttl_too_short_is_noticed() {
    let (mut survivors, mut count) = (Vec::new(), 0);
    for kind in RollType::ALL {
        for row in kind.rows() {
            for dying in row.expired {
                count += 1;
                let m = short(kind, row.stage, *dying);
                let worlds = rolls_with_every_ttl(kind);
                if !worlds.iter().any(|w| caught(m, w).is_some()) {
                    survivors.push(m);
                }
            }
        }
    }
    assert_eq!(survivors, []);
    assert_eq!(count, 18, "waits in all tables");
}

#[test]
fn every_wait_that_is_skipped_is_noticed() {
    let mut survivors = Vec::new();
    for kind in RollType::ALL {
        for row in kind.rows().iter().filter(|r| !r.expired.is_empty()) {
            let stage = row.stage;
            let m = Mutant::SkipWait { kind, stage };
            let worlds = rolls_with_every_ttl(kind);
            if !worlds.iter().any(|w| caught(m, w).is_some()) {
                survivors.push(m);
            }
        }
    }
    assert_eq!(survivors, []);
}

#[test]
fn without_a_mutant_the_same_worlds_hold() {
    for kind in RollType::ALL {
        for text in rolls_with_every_ttl(kind) {
            let scenario = parse(&text).expect("good");
            let o = run(&scenario, &Choice::default());
            assert_eq!(o.broken, None, "{kind:?} {text}\n{}", lines(&o.world));
        }
    }
}

fn short(kind: RollType, stage: Stage, dying: Dying) -> Mutant {
    Mutant::ShortWait { kind, stage, dying }
}

fn lines(w: &World) -> String {
    w.lines.join("\n")
}
