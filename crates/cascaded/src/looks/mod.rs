//! Looks at name servers: who is asked, what was answered. What an answer means is decided by
//! `cascade_keys::judge`.

mod answers;
mod dsync;
mod message;
mod nodes;
mod push;
pub mod sample;
mod servers;
mod transport;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cascade_keys::{Answer, DsRecord, KeyNum, MAX_MEMBERS, Member, Scope, Sweep, What};
use cascade_policy::Target;
use cascade_time::Clock;
use cascade_wire::TsigKeys;
use cascade_zone::{Name, ZoneVersion};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::zone::{Message, ZoneHandle};

pub use dsync::{Telling, Told, notify};
pub use push::{Push, push};

use answers::Shown;
pub use transport::Asker;

/// Between two questions to one address: at most 20 a second, so that a parent of 100,000 zones is
/// not flooded.
const SPACING: Duration = Duration::from_millis(50);
/// Addresses whose last question is remembered.
const MAX_PACED: usize = 4096;
/// Looks at the same time: each holds what it asks, and whom, until the last server has answered or
/// has not, and its zone is awake. With `check-parallel` as it is by default, 64, enough to keep the
/// questions busy that may be out at the same time.
const UNDER_WAY: usize = 128;

/// A look that waits for its turn. The zone may rest meanwhile.
#[derive(Debug)]
pub struct Waiting {
    pub zone: Weak<ZoneHandle>,
    pub what: What,
    pub scope: Scope,
}

/// What all looks of the daemon share.
#[derive(Debug)]
pub struct Looks {
    parallel: Semaphore,
    /// Looks under way.
    turns: Arc<Semaphore>,
    /// Those that come next, in order: one of each kind for each zone at most.
    queue: Mutex<VecDeque<Waiting>>,
    queued: Notify,
    /// When the next question to an address may go out, by the monotonic clock.
    paced: Mutex<HashMap<IpAddr, Duration>>,
}

impl Looks {
    /// `parallel`: questions at the same time, of the whole daemon.
    pub fn new(parallel: u32) -> Looks {
        Looks {
            parallel: Semaphore::new(parallel.max(1) as usize),
            turns: Arc::new(Semaphore::new(UNDER_WAY)),
            queue: Mutex::default(),
            queued: Notify::new(),
            paced: Mutex::default(),
        }
    }

    /// Puts a look at the end of the queue; its zone is told when it may begin.
    pub fn queue(&self, look: Waiting) {
        self.queue.lock().push_back(look);
        self.queued.notify_one();
    }

    async fn next(&self) -> Waiting {
        loop {
            if let Some(look) = self.queue.lock().pop_front() {
                return look;
            }
            self.queued.notified().await;
        }
    }

    /// Gives looks their turns, for ever.
    pub async fn give_turns(&self) {
        // Closed never: the semaphore lives as long as the daemon.
        while let Ok(turn) = self.turns.clone().acquire_owned().await {
            let Waiting { zone, what, scope } = self.next().await;
            if let Some(zone) = zone.upgrade() {
                zone.tell(Message::LookTurn(what, scope, turn));
            }
        }
    }

    /// How long to wait before a question to this address.
    fn pace(&self, addr: IpAddr, now: Duration) -> Duration {
        let mut paced = self.paced.lock();
        if paced.len() >= MAX_PACED {
            paced.retain(|_, next| *next > now);
        }
        let next = paced.entry(addr).or_insert(now);
        let at = (*next).max(now);
        *next = at + SPACING;
        at.saturating_sub(now)
    }
}

/// One look to be taken.
#[derive(Debug)]
pub struct Look {
    pub what: What,
    pub scope: Scope,
    pub zone: Name,
    /// The published version.
    pub version: Arc<ZoneVersion>,
    /// DNSKEY RDATA of our keys.
    pub keys: Vec<(KeyNum, Vec<u8>)>,
    /// Keys with an RRSIG over some RRset of the published version, and over every RRset.
    pub any: Vec<KeyNum>,
    pub all: Vec<KeyNum>,
    pub publication_nameservers: Vec<Target>,
    pub parent_nameservers: Vec<Target>,
    /// Empty: those of the system.
    pub resolvers: Vec<SocketAddr>,
    /// Server names in the parent's referral as last seen: they are asked as well.
    pub referral: Vec<Name>,
    /// Nodes that the last looks found behind one address: the address, and how they name
    /// themselves.
    pub nodes: Vec<(String, String)>,
    pub timeout: Duration,
    pub tsig: Arc<TsigKeys>,
}

/// What a look found.
#[derive(Debug)]
pub struct Looked {
    pub sweep: Sweep,
    /// Every DS record that some server of the parent showed; `None` if none gave evidence.
    pub ds: Option<Vec<DsRecord>>,
    pub referral: Vec<Name>,
}

/// Takes the look. Ends by itself: every question has a time-out.
pub async fn look(look: Look, looks: &Arc<Looks>, clock: Arc<dyn Clock>) -> Looked {
    let started = clock.now();
    let what = look.what;
    let mut all: Vec<(Member, Shown)> = Vec::new();
    if look.scope == Scope::Own && what != What::Ds {
        all.push(answers::own(&look, started));
    } else {
        let asker = Asker {
            timeout: look.timeout,
            tsig: look.tsig.clone(),
            looks: looks.clone(),
            clock: clock.clone(),
        };
        all = ask_everyone(look, asker).await;
    }
    let mut ds: Vec<DsRecord> = Vec::new();
    let mut referral: Vec<Name> = Vec::new();
    let evidence = |m: &Member| matches!(&m.answer, Answer::Ds { bogus: false, .. });
    let some = all.iter().any(|(m, _)| evidence(m));
    for (member, shown) in &all {
        if let Answer::Ds {
            set, bogus: false, ..
        } = &member.answer
        {
            ds.extend(
                set.iter()
                    .filter(|d| !ds.contains(d))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
        }
        for name in &shown.referral {
            if !referral.contains(name) && referral.len() < servers::MAX_NAMES {
                referral.push(name.clone());
            }
        }
    }
    let parent_expire = all.iter().filter_map(|(_, s)| s.parent_expire).max();
    Looked {
        sweep: Sweep {
            what,
            started,
            ended: clock.now(),
            members: all.into_iter().map(|(m, _)| m).collect(),
            parent_expire,
        },
        ds: some.then_some(ds),
        referral,
    }
}

async fn ask_everyone(look: Look, asker: Asker) -> Vec<(Member, Shown)> {
    let mut found = servers::find(&look, &asker).await;
    found.truncate(MAX_MEMBERS);
    if found.is_empty() {
        let (server, hint) = match look.what {
            What::Ds => ("servers of the parent", "parent-nameservers"),
            _ => ("servers of the zone", "publication-nameservers"),
        };
        let why = format!("no address was found; set {hint} in the policy");
        return vec![(
            Member {
                server: server.into(),
                address: "-".into(),
                nsid: None,
                answer: Answer::Unusable(why),
            },
            Shown::default(),
        )];
    }
    let (look, asker) = (Arc::new(look), Arc::new(asker));
    let mut set = JoinSet::new();
    for (i, server) in found.iter().cloned().enumerate() {
        let (look, asker) = (look.clone(), asker.clone());
        set.spawn(async move { (i, nodes::ask(&look, &server, &asker).await) });
    }
    let mut all: Vec<Vec<(Member, Shown)>> = found
        .iter()
        .map(|s| vec![(nodes::member(s, None, Answer::Silent), Shown::default())])
        .collect();
    while let Some(done) = set.join_next().await {
        // A question that panicked counts as no answer.
        if let Ok((i, nodes)) = done
            && let Some(entry) = all.get_mut(i)
        {
            *entry = nodes;
        }
    }
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_asked_at_most_twenty_times_a_second() {
        let looks = Looks::new(4);
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let now = Duration::from_secs(5);
        let waits: Vec<u128> = (0..4).map(|_| looks.pace(a, now).as_millis()).collect();
        assert_eq!(waits, [0, 50, 100, 150]);
        assert_eq!(looks.pace(b, now), Duration::ZERO);
        assert_eq!(looks.pace(a, now + Duration::from_secs(1)), Duration::ZERO);
        for i in 0..2 * MAX_PACED as u32 {
            looks.pace(
                IpAddr::from(i.to_be_bytes()),
                Duration::from_secs(60 + u64::from(i)),
            );
        }
        assert!(looks.paced.lock().len() <= MAX_PACED);
    }
}
