//! Steps of the machine's clock.
//!
//! Signatures and waits are counted in wall-clock time. Time that has really passed is known from
//! another clock of the kernel, which nobody sets. When the two drift apart by more than
//! `clock.max-step`, one of them is wrong, and nobody here can tell which: nothing is signed and no
//! roll goes on until the clock is back where it was, or a person says that it is right now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use cascade_archive::state::{Change, Table};
use cascade_keys::Event as KeyEvent;
use cascade_pipeline::Event;
use cascade_policy::RequireSync;
use cascade_time::{Clock, Timestamp, format_span};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::daemon::Daemon;
use crate::sync::Lost;
use crate::zone::{BUILT_AT, Message};

/// What the clock drifts within this time counts together; real clocks that are steered by NTP drift
/// by less than a second a day (RFC 5905 §7.1: 15 PPM are common without it).
const WINDOW: Duration = Duration::from_secs(86_400);
/// Every event of a zone looks too; this is for zones to which nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Zones told one after the other before others get a turn.
const GROUP: usize = 64;
/// In the state's settings.
const KEY: &str = "clock-hold";

/// The clock cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// By the clock as it is.
    pub since: Timestamp,
    /// Seconds that it was put forward; negative: back.
    pub ahead: i64,
}

impl Hold {
    /// One sentence, with what to do.
    pub fn why(&self) -> String {
        let way = if self.ahead > 0 { "forward" } else { "back" };
        let by = format_span(Duration::from_secs(self.ahead.unsigned_abs()));
        format!(
            "the clock was put {way} by {by}; set it right, or if it is right now: cascade clock confirm"
        )
    }
}

/// Why nothing may be signed by the clock as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    Stepped(Hold),
    /// And `clock.require-sync` wants it to be.
    Unsynchronised(Lost),
}

impl Doubt {
    /// One sentence, with what to do.
    pub fn why(&self) -> String {
        match self {
            Doubt::Stepped(hold) => hold.why(),
            Doubt::Unsynchronised(lost) => lost.why(),
        }
    }

    /// What only a person, or the clock itself, takes back.
    fn step(&self) -> Option<Hold> {
        match self {
            Doubt::Stepped(hold) => Some(*hold),
            Doubt::Unsynchronised(_) => None,
        }
    }
}

/// Why the clock was not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// Nobody has stepped it; a person's word is not what the configuration asks for.
    #[error("{0}")]
    Unsynchronised(String),
    #[error("that the clock was confirmed cannot be stored: {0}")]
    Storage(String),
}

/// What the two clocks showed when they were last taken to agree.
#[derive(Debug)]
struct Steps {
    /// Nanoseconds of wall-clock time at zero of the other clock.
    base: i64,
    since: Duration,
}

fn gap(now: Timestamp, passed: Duration) -> i64 {
    let passed = i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
    now.nanos().saturating_sub(passed)
}

impl Steps {
    fn new((now, passed): (Timestamp, Duration)) -> Steps {
        Steps {
            base: gap(now, passed),
            since: passed,
        }
    }

    /// Nanoseconds that the clock is ahead of where it should be, if that is more than `longest`.
    fn look(&mut self, at: (Timestamp, Duration), longest: Duration) -> Option<i64> {
        let (now, passed) = at;
        let ahead = gap(now, passed).saturating_sub(self.base);
        if u128::from(ahead.unsigned_abs()) > longest.as_nanos() {
            return Some(ahead);
        }
        if passed.saturating_sub(self.since) >= WINDOW {
            *self = Steps::new((now, passed));
        }
        None
    }
}

/// Whether the clock can be trusted; one per daemon.
pub struct ClockWatch {
    steps: Mutex<Steps>,
    hold: ArcSwapOption<Hold>,
    /// How often a person has confirmed the clock.
    confirmed: AtomicU64,
}

impl ClockWatch {
    /// `before`: what an earlier process held, and nobody has confirmed.
    pub fn new(clock: &dyn Clock, before: Option<Hold>) -> ClockWatch {
        let mut steps = Steps::new(clock.both());
        if let Some(hold) = before {
            steps.base = steps
                .base
                .saturating_sub(hold.ahead.saturating_mul(1_000_000_000));
        }
        ClockWatch {
            steps: Mutex::new(steps),
            hold: ArcSwapOption::new(before.map(Arc::new)),
            confirmed: AtomicU64::new(0),
        }
    }

    /// What an earlier process held.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn kept(state: &cascade_archive::State) -> Result<Option<Hold>, String> {
        state
            .get(Table::Settings, KEY)
            .map(Option::flatten)
            .map_err(|e| e.to_string())
    }

    pub fn hold(&self) -> Option<Arc<Hold>> {
        self.hold.load_full()
    }

    /// Looks at both clocks.
    pub fn look(&self, clock: &dyn Clock, longest: Duration) -> Option<Arc<Hold>> {
        self.look_at(&mut self.steps.lock(), clock.both(), longest)
    }

    fn look_at(
        &self,
        steps: &mut Steps,
        (now, passed): (Timestamp, Duration),
        longest: Duration,
    ) -> Option<Arc<Hold>> {
        let ahead = steps.look((now, passed), longest);
        let before = self.hold.load_full();
        match (ahead, before) {
            (None, None) => None,
            (None, Some(_)) => {
                self.hold.store(None);
                None
            }
            (Some(ahead), before) => {
                let was = Timestamp::from_nanos(now.nanos().saturating_sub(ahead));
                if before.is_none() && was < BUILT_AT {
                    // A machine without a battery for its clock, which has been set now.
                    tracing::warn!(
                        "the clock was set from {was}, which was before this software was made, to {now}"
                    );
                    *steps = Steps::new((now, passed));
                    return None;
                }
                // The two clocks are read one after the other: three hours may be a little less.
                let half = 500_000_000 * ahead.signum();
                let ahead = ahead.saturating_add(half) / 1_000_000_000;
                if let Some(same) = before.as_ref().filter(|h| h.ahead.abs_diff(ahead) < 60) {
                    return Some(same.clone());
                }
                let since = before.map_or(now, |h| h.since);
                let hold = Arc::new(Hold { since, ahead });
                self.hold.store(Some(hold.clone()));
                Some(hold)
            }
        }
    }

    /// The clock is right as it is now. What was held.
    fn confirm(&self, clock: &dyn Clock, longest: Duration) -> Option<Hold> {
        let mut steps = self.steps.lock();
        let at = clock.both();
        let hold = self.look_at(&mut steps, at, longest)?;
        self.confirmed.fetch_add(1, Ordering::AcqRel);
        *steps = Steps::new(at);
        self.hold.store(None);
        Some(*hold)
    }
}

/// Looks every second, keeps what it finds and tells the zones, as long as the daemon runs.
pub async fn watch(d: Arc<Daemon>) {
    let mut told = d.clock_watch.hold().map(|h| Doubt::Stepped(*h));
    let mut confirmed = 0;
    if told.is_some() {
        tell(&d, told);
    }
    // What was told and is not in the state, and whether that was said.
    let (mut unkept, mut said) = (false, false);
    let mut lost = None;
    loop {
        tokio::time::sleep(LOOK_EVERY.min(cascade_program::clock::longest_sleep())).await;
        let asked = d.conf().config.clock.require_sync;
        let steered = d.clock_sync.look(&*d.clock, asked);
        if steered != lost && asked == RequireSync::Warn {
            say(steered);
        }
        lost = steered;
        let found = d.clock_doubt();
        let so_often = d.clock_watch.confirmed.load(Ordering::Acquire);
        if so_often != confirmed {
            // Whoever confirms keeps and tells that.
            confirmed = so_often;
            told = None;
        }
        if found != told {
            tell(&d, found);
            let step = |doubt: Option<Doubt>| doubt.and_then(|d| d.step());
            if step(found) != step(told) {
                (unkept, said) = (true, false);
            }
            told = found;
        }
        if !unkept {
            continue;
        }
        match keep(&d).await {
            Ok(()) => unkept = false,
            Err(e) if !said => {
                said = true;
                tracing::error!(
                    "whether the clock is trusted cannot be stored, and a restart would not know it; it is tried again: {e}"
                );
            }
            Err(_) => {}
        }
    }
}

/// One that nobody steers holds nothing, and is told.
fn say(lost: Option<Lost>) {
    match lost {
        Some(lost) => tracing::warn!("{}", lost.text()),
        None => tracing::info!("a time service steers the clock again"),
    }
}

/// What is held now is so after a restart.
async fn keep(d: &Arc<Daemon>) -> Result<(), String> {
    let hold = d.clock_watch.hold().map(|h| *h);
    let change = Change::put(Table::Settings, KEY, &hold).map_err(|e| e.to_string())?;
    let d = d.clone();
    tokio::task::spawn_blocking(move || d.state.commit(vec![change]))
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())
}

fn tell(d: &Arc<Daemon>, doubt: Option<Doubt>) {
    match &doubt {
        Some(doubt) => tracing::error!(
            critical = true,
            "the clock cannot be trusted: {}. What is published goes on being served, nothing is signed",
            doubt.why()
        ),
        None => tracing::info!("the clock can be trusted again"),
    }
    for z in d.zone_list() {
        let event = match &doubt {
            Some(doubt) => Event::ClockUnsafe { why: doubt.why() },
            None => Event::ClockSafe,
        };
        z.tell(Message::Told(Box::new(event)));
    }
}

/// A person says that the clock is right as it is: running waits become longer by what it was put
/// forward, so that none is shorter than the time that has passed, and the zones go on. What was held,
/// and in how many zones; `None`: nothing.
///
/// # Errors
/// The state cannot be written: the zones go on, and are held again after a restart. Or the clock was
/// not stepped, and nobody steers it: nothing has changed.
pub async fn confirm(d: &Arc<Daemon>) -> Result<Option<(Hold, u64)>, ConfirmError> {
    let longest = d.conf().config.clock.max_step;
    let found = d.clock_watch.confirm(&*d.clock, longest);
    let mut zones = d.zone_list();
    if found.is_none() {
        if let Some(doubt) = d.clock_doubt() {
            return Err(ConfirmError::Unsynchronised(doubt.why()));
        }
        // What an earlier process could not write down any more.
        zones.retain(|z| z.view().row.zone.clock_unsafe.is_some());
        if zones.is_empty() {
            return Ok(None);
        }
    }
    let hold = found.unwrap_or(Hold {
        since: d.now(),
        ahead: 0,
    });
    let longer = u64::try_from(hold.ahead).unwrap_or(0);
    for group in zones.chunks(GROUP) {
        for z in group {
            // One that is gone needs no clock.
            z.tell_in_turn(Message::ClockConfirmed { longer });
        }
        tokio::task::yield_now().await;
    }
    keep(d).await.map_err(ConfirmError::Storage)?;
    Ok(Some((hold, zones.len() as u64)))
}

/// What a confirmation is for one zone: its waits are as short whether it was `held`, that is told of
/// the step, or not; what it is told after they are longer. The clock may be doubtful for another reason.
pub fn confirmed(
    by_secs: u64,
    held: bool,
    doubt: Option<Doubt>,
    at: Timestamp,
) -> (Vec<KeyEvent>, Option<Event>) {
    let longer = (by_secs > 0).then_some(KeyEvent::ClockStepped { by_secs, at });
    let settled = held.then(|| match doubt {
        Some(doubt) => Event::ClockUnsafe { why: doubt.why() },
        None => Event::ClockSafe,
    });
    (longer.into_iter().collect(), settled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};

    const HOUR: Duration = Duration::from_secs(3600);
    const NANO: i64 = 1_000_000_000;

    /// Two clocks that a test moves.
    struct Hands {
        wall: AtomicI64,
        passed: AtomicU64,
    }

    impl Hands {
        fn new(secs: i64) -> Hands {
            Hands {
                wall: AtomicI64::new(secs),
                passed: AtomicU64::new(5),
            }
        }

        fn wait(&self, secs: u64) {
            self.wall.fetch_add(secs as i64, SeqCst);
            self.passed.fetch_add(secs, SeqCst);
        }

        fn step(&self, secs: i64) {
            self.wall.fetch_add(secs, SeqCst);
        }
    }

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(self.wall.load(SeqCst) * NANO)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.passed.load(SeqCst))
        }
    }

    #[test]
    fn steps_are_held_until_the_clock_is_back_or_confirmed() {
        let hands = Hands::new(1_800_000_000);
        let watch = ClockWatch::new(&hands, None);
        hands.wait(40 * 86_400);
        assert_eq!(watch.look(&hands, HOUR), None);
        hands.step(3600);
        assert_eq!(watch.look(&hands, HOUR), None, "not more than an hour");
        hands.step(-3600);
        for by in [3 * 3600, -2 * 86_400, 366 * 86_400] {
            hands.step(by);
            let hold = watch.look(&hands, HOUR).unwrap();
            assert_eq!((hold.ahead, hold.since), (by, hands.now()));
            hands.wait(600);
            assert_eq!(watch.look(&hands, HOUR).unwrap(), hold);
            hands.step(-by);
            assert_eq!(watch.look(&hands, HOUR), None, "back");
            assert_eq!(watch.hold(), None);
        }
        hands.step(7200);
        hands.wait(60);
        assert_eq!(watch.confirm(&hands, HOUR).unwrap().ahead, 7200);
        assert_eq!(watch.look(&hands, HOUR), None);
        assert_eq!(watch.confirm(&hands, HOUR), None, "nothing is held");
        hands.step(-7200);
        assert_eq!(watch.look(&hands, HOUR).unwrap().ahead, -7200);
    }

    /// Small corrections add up within a day, not over months.
    #[test]
    fn drift_counts_within_a_day() {
        let hands = Hands::new(1_800_000_000);
        let watch = ClockWatch::new(&hands, None);
        for _ in 0..1000 {
            hands.wait(4 * 3600);
            hands.step(20);
            assert_eq!(watch.look(&hands, HOUR), None);
        }
        let mut held = false;
        for _ in 0..20 {
            hands.wait(600);
            hands.step(600);
            held |= watch.look(&hands, HOUR).is_some();
        }
        assert!(held, "a clock that goes twice as fast");
    }

    #[test]
    fn a_hold_outlives_the_process() {
        let hands = Hands::new(1_800_000_000);
        let hold = Hold {
            since: hands.now(),
            ahead: 86_400,
        };
        let watch = ClockWatch::new(&hands, Some(hold));
        assert_eq!(watch.look(&hands, HOUR).as_deref(), Some(&hold));
        hands.step(-86_400);
        assert_eq!(watch.look(&hands, HOUR), None);
    }

    /// The clock of a machine without a battery begins in 1970.
    #[test]
    fn a_clock_that_was_never_set_may_be_set() {
        let hands = Hands::new(100);
        let watch = ClockWatch::new(&hands, None);
        hands.step(1_800_000_000);
        assert_eq!(watch.look(&hands, HOUR), None);
        hands.step(2 * 3600);
        assert!(watch.look(&hands, HOUR).is_some());
    }

    /// Whoever is first to hear of a step, the person who confirms it or the zone: a running wait ends
    /// when as much time has really passed.
    #[test]
    fn a_zone_that_was_not_told_yet_waits_as_much_longer() {
        use cascade_keys::{Free, Served, ZoneKeys};
        let at = Timestamp::from_secs(1_800_000_000);
        let old = |s: &Served| matches!(s, Served::Cds(_));
        let waits = |held: bool| {
            let mut zone = ZoneKeys::new(b"\x07example\0");
            zone.log.observe(Served::Cds(Vec::new()), 3600, at);
            for e in &mut zone.log.entries {
                e.last = Some(at);
            }
            let (events, settled) = confirmed(7200, held, None, at + Duration::from_secs(7200));
            events.iter().for_each(|e| zone.apply(e));
            (zone.log.free(old, Duration::ZERO), settled)
        };
        let (told, settled) = waits(true);
        assert_eq!(settled, Some(Event::ClockSafe));
        let (untold, nothing) = waits(false);
        assert_eq!(nothing, None, "it is not held");
        assert_eq!(told, untold);
        let Free::At { at: end, .. } = untold else {
            panic!("{untold:?}");
        };
        assert_eq!(end.since(at).as_secs(), 3600 + 1 + 7200);
        // Back is no reason to wait longer.
        assert!(confirmed(0, false, None, at).0.is_empty());
        let lost = Lost {
            since: at,
            said: true,
        };
        let (_, still) = confirmed(7200, true, Some(Doubt::Unsynchronised(lost)), at);
        assert_eq!(still, Some(Event::ClockUnsafe { why: lost.why() }));
    }

    #[test]
    fn why_says_what_and_what_to_do() {
        let hold = |ahead| Hold {
            since: Timestamp::from_secs(0),
            ahead,
        };
        assert_eq!(
            hold(10_800).why(),
            "the clock was put forward by 3h; set it right, or if it is right now: cascade clock confirm"
        );
        assert!(hold(-172_800).why().contains("put back by 2d"));
    }
}
