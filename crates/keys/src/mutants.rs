//! Wrong decisions on purpose. The simulator switches one of them on at a time and must notice it;
//! one that nobody notices is a test that does not test. Without the feature `mutants`, which no
//! program has, every one of them is constantly off and leaves no code behind.

#[cfg(feature = "mutants")]
use std::cell::Cell;

use crate::roll::{Dying, RollType, Stage};

/// One wrong rule in place of the right one.
#[cfg_attr(
    not(feature = "mutants"),
    allow(dead_code, reason = "built by tests only")
)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// One wait of one row ends one TTL too early.
    ShortWait {
        kind: RollType,
        stage: Stage,
        dying: Dying,
    },
    /// The step is taken without any of its waits.
    SkipWait { kind: RollType, stage: Stage },
    /// Keys at servers are compared by their tags.
    CompareByTag,
    /// A DS belongs to a key that has its tag and algorithm.
    DsByTag,
    /// Nothing is added for what cannot be observed.
    NoMargin,
    /// Nothing is added for a server that could not be asked.
    NoX,
    /// A wait ends by the TTL of now.
    NewTtl,
    /// Old data count as gone from the beginning of the sweep.
    LastAtStart,
    /// What a server showed in the sweep before counts in this one.
    TwoSweepsAsOne,
    /// A server that goes back to the old after it has shown the new is taken at its last word.
    FlipsForgotten,
    /// The first server speaks for all.
    OneServer,
    /// The old KSK leaves the DNSKEY RRset as soon as the new DS is asked for.
    OldKskLeavesInP2,
    /// Only the old KSK signs the DNSKEY RRset in P1 and C1.
    OneSignerInP1,
    /// A standby KSK is published and does not sign.
    StandbyKskSilent,
    /// In an algorithm roll keys and signatures come at once (RFC 6781 §4.1.4, liberal).
    LiberalAlgorithm,
    /// In a double-DS roll CDS is signed by the key in the DNSKEY RRset alone.
    CdsByDnskeyOnly,
    /// CDS is withdrawn once any roll has ended.
    CdsEndsWithAnyRoll,
    /// A confirmed forward step of the clock ends waits.
    ForwardStepEndsWaits,
    /// The zone is unsigned as soon as that is asked for.
    UnsignAtOnce,
    /// A key whose DS comes back does not.
    RestoreNothing,
    /// A key is destroyed as soon as it has left the zone.
    DestroyAtOnce,
    /// A SHA-1 DS is an entry point.
    Sha1IsPresent,
    /// An old DS beside the new one is not waited for.
    OldDsMayStay,
    /// The first DS is wanted from the first publication on.
    DsWantedAtOnce,
    /// Signatures at the apex are not renewed while a roll runs.
    RollsStopRenewal,
    /// A key is published without a fresh proof.
    NoProof,
    /// Steps are taken while the clock is held.
    HeldClockIsIgnored,
    /// A sweep that began before the step counts for it.
    OldSweepsCount,
    /// Rolls of all classes may run at the same time.
    AllRollsTogether,
    /// A DS that was never seen is not assumed to be in caches.
    AssumeNothing,
    /// A DS that comes back to the parent is the one that has ended.
    ReturnedDsIsOld,
    /// Before a zone was taken over its TTLs were those of now.
    TakenOverKnown,
    /// Signatures at the apex are renewed when they end.
    RenewAtTheEnd,
    /// A DS of a replaced algorithm brings back the KSK alone.
    KskComesAlone,
    /// Who comes back with it leaves with it.
    SignersLeaveAtOnce,
    /// Nobody looks at the parent of an unsigned zone.
    UnsignedUnseen,
}

#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
thread_local! {
    static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
}

#[cfg(feature = "mutants")]
pub(crate) fn is(m: Mutant) -> bool {
    ON.with(|on| on.get() == Some(m))
}

/// Runs `work` in this thread with the mutant on.
#[cfg(feature = "mutants")]
pub fn with<T>(m: Mutant, work: impl FnOnce() -> T) -> T {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.with(|on| on.set(None));
        }
    }
    let _off = Off;
    ON.with(|on| on.set(Some(m)));
    work()
}
