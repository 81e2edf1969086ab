//! What other policies would do to zones: told, and agreed to, before anything begins.

use cascade_api::keys::RollKind;
use cascade_api::policies::PlannedRoll;
use cascade_keys::{Assumptions, Class, Event, KeyPolicy, ZoneKeys, forecast, wishes};
use cascade_policy::{Effect, KeyChange, PolicyFile, PolicySet, effects};
use cascade_time::Timestamp;
use sha2::{Digest, Sha256};

use crate::daemon::Daemon;
use crate::zone::ZoneHandle;

/// Effects that are told one by one; what follows is only counted.
const TOLD: usize = 50;
const YEAR: std::time::Duration = std::time::Duration::from_secs(365 * 86_400);
/// Keys whose change works by rolls, which are told instead.
const BY_ROLLS: [&str; 5] = [
    "key-manager.generation.algorithm",
    "key-manager.generation.use-csk",
    "key-manager.generation.hsm-server-id",
    "key-manager.generation.ksk-hsm-server-id",
    "key-manager.generation.zsk-hsm-server-id",
];

/// What would begin, over all zones.
#[derive(Debug, Default)]
pub struct Plan {
    pub rolls: Vec<PlannedRoll>,
    /// What needs consent, for people.
    effects: Vec<String>,
    /// Names the plan: equal for equal state and policies, whatever the time.
    seed: Sha256,
}

impl Plan {
    /// For every zone with a policy that differs in `new`, of those that `wanted` picks.
    pub fn of_policies(d: &Daemon, new: &PolicySet, wanted: impl Fn(&ZoneHandle) -> bool) -> Plan {
        let mut plan = Plan::default();
        for z in d.zone_list() {
            let name = z.view().row.zone.settings.policy.clone();
            let (Some(old), Some(file)) = (d.policy(&name), new.get(&name)) else {
                continue;
            };
            if old.file.text != file.text && wanted(&z) {
                plan.add(d, &z, &old.file, file);
            }
        }
        plan
    }

    /// For one zone that would take another policy.
    pub fn of_zone(d: &Daemon, z: &ZoneHandle, old: &PolicyFile, new: &PolicyFile) -> Plan {
        let mut plan = Plan::default();
        plan.add(d, z, old, new);
        plan
    }

    fn add(&mut self, d: &Daemon, z: &ZoneHandle, old: &PolicyFile, new: &PolicyFile) {
        let view = z.view();
        let (config, now) = (&d.conf().config, d.now());
        let rules = |p: &PolicyFile| crate::keys::key_policy(&p.policy, config);
        let guess = super::keyset::assumed(&new.policy);
        let keys = &view.row.keys.zone;
        let rolls = rolls(
            &z.name,
            &new.name,
            keys,
            &rules(old),
            &rules(new),
            &guess,
            now,
        );
        self.seed.update(format!(
            "{} {} {}\n",
            z.id, view.row.zone.settings.revision, new.text
        ));
        let asks = rolls
            .iter()
            .filter(|r| r.kind != RollKind::Zsk || moves(old, new));
        self.effects.extend(asks.map(roll_text));
        if view.row.zone.live.is_some() {
            let told = |c: &&KeyChange| c.confirm && !BY_ROLLS.contains(&c.key.as_str());
            let changes = effects(&old.policy, &new.policy);
            let changes = changes.iter().filter(told);
            self.effects
                .extend(changes.map(|c| format!("{}: {}", z.name, sentence(c))));
        }
        for r in &rolls {
            self.seed.update(format!("{} {}\n", r.zone, r.roll_type));
        }
        self.rolls.extend(rolls);
    }

    pub fn id(&self) -> String {
        let digest = data_encoding::HEXLOWER.encode(&self.seed.clone().finalize());
        format!("p-{}", digest.get(..12).unwrap_or_default())
    }

    /// What must be agreed to; empty: nothing of the kind begins.
    pub fn effects(&self) -> Vec<String> {
        let mut told: Vec<String> = self.effects.iter().take(TOLD).cloned().collect();
        let more = self.effects.len().saturating_sub(TOLD);
        if more > 0 {
            told.push(format!("and {more} more; see: cascade policy plan"));
        }
        told
    }
}

/// Zone-signing keys go to another HSM.
fn moves(old: &PolicyFile, new: &PolicyFile) -> bool {
    let home = |p: &PolicyFile| {
        let g = &p.policy.key_manager.generation;
        g.zsk_home().map(str::to_owned)
    };
    home(old) != home(new)
}

fn roll_text(r: &PlannedRoll) -> String {
    let class = match r.kind {
        RollKind::Ksk => Class::Ksk,
        RollKind::Zsk => Class::Zsk,
        RollKind::Csk => Class::Csk,
        RollKind::Algorithm => Class::Algorithm,
        RollKind::FirstKeys => Class::FirstKeys,
        RollKind::Insecure => Class::Insecure,
    };
    let parent = match r.needs_parent {
        true => ", the DS at the parent must change",
        false => "",
    };
    let end = r.ends_at.map_or(String::new(), |at| {
        format!(", done about {}", at.to_human())
    });
    format!("{}: {class} ({}) begins{parent}{end}", r.zone, r.roll_type)
}

/// Rolls that begin under the new policy and would not under the old one.
fn rolls(
    zone: &str,
    policy: &str,
    keys: &ZoneKeys,
    old: &KeyPolicy,
    new: &KeyPolicy,
    guess: &Assumptions,
    now: Timestamp,
) -> Vec<PlannedRoll> {
    let before = wishes(keys, old, now);
    let kept = |kind| before.iter().any(|w| w.kind == kind && w.at <= now);
    let fresh: Vec<_> = wishes(keys, new, now)
        .into_iter()
        .filter(|w| w.at <= now && !kept(w.kind) && keys.roll(w.kind.class()).is_none())
        .filter(|w| new.auto(w.kind.class()).start)
        .collect();
    if fresh.is_empty() {
        return Vec::new();
    }
    let coming = forecast(keys, new, now, now + YEAR, guess);
    fresh
        .into_iter()
        .map(|w| {
            let class = w.kind.class();
            let started = coming.iter().find_map(|e| match e {
                Event::RollStarted { roll } if roll.kind == w.kind => Some(roll.started_at),
                _ => None,
            });
            let ends_at = coming.iter().find_map(|e| match e {
                Event::RollDone { class: c, at } if *c == class && Some(*at) >= started => {
                    Some(*at)
                }
                _ => None,
            });
            PlannedRoll {
                zone: zone.to_string(),
                policy: policy.to_string(),
                kind: crate::keys::report::kind(class),
                roll_type: w.kind.word().to_string(),
                starts_at: started.unwrap_or(w.at),
                ends_at,
                needs_parent: class != Class::Zsk && keys.parent.linked_at.is_some(),
            }
        })
        .collect()
}

/// One difference and what it does, for people.
pub fn sentence(c: &KeyChange) -> String {
    let value = |v: &Option<String>| v.clone().unwrap_or_else(|| "not set".into());
    let what = match c.effect {
        _ if c.key == "key-manager.ds.cds" && c.confirm => {
            "the parent is asked to remove the DS, and the zone becomes insecure"
        }
        _ if c.key == "signer.mode" => {
            "signatures go once no DS leads to the zone, or come back before one does"
        }
        Effect::None => "in force at once",
        Effect::Refresh => "signatures take it as they are refreshed",
        Effect::Resign => "the zone is signed anew",
        Effect::Roll | Effect::Parent if c.confirm => "keys in use are replaced by a roll",
        Effect::Roll | Effect::Parent => "in force at the next decision about keys",
        Effect::Destroy => "something goes that cannot come back",
    };
    format!("{}: {} -> {}: {what}", c.key, value(&c.old), value(&c.new))
}
