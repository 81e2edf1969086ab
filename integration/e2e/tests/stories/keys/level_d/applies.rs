//! Which scenarios real programs can play, and the daemon's policy for them.

use std::time::Duration;

use cascade_keys::{Auto, CdsPolicy, Home, KeyPolicy, KskRoll, RolePolicy, ZskRoll};
use cascade_sim::scenario::{Deed, Order, Scenario, Trigger, What, When};
use cascade_sim::{Config, DAY, Led};

/// A change of signers goes through the zone in this time, whatever the scenario says: it has a
/// handful of records.
const KEY_ROLL_TIME: &str = "20m";

/// Others break the chain on purpose there; the simulator sees who is to blame, Unbound does not.
const BROKEN_BY_OTHERS: [&str; 9] = [
    "s07",
    "s34-digests-that",
    "s37",
    "s38-new-ds-alone",
    "s40-ds-of",
    "s69-emergency-fast",
    "s32",
    "m-ds",
    "s56",
];

/// Why this one is not for real programs.
pub fn not(s: &Scenario) -> Option<&'static str> {
    if BROKEN_BY_OTHERS.iter().any(|n| s.name.starts_with(n)) {
        return Some("others break the chain, or take months to follow");
    }
    if s.name == "s18-zsk-validity-too-short" {
        return Some("the linter refuses its policy");
    }
    if s.run > 130 * DAY {
        return Some("too long");
    }
    of_world(&s.config)
        .or_else(|| of_policy(&s.policy))
        .or_else(|| {
            s.lines.iter().find_map(|l| match (&l.what, &l.when) {
                (What::Do(deed), _) if not_done(deed).is_some() => not_done(deed),
                (
                    _,
                    When::After {
                        trigger: Trigger::KeyGenerated(_),
                        ..
                    },
                ) => Some("the moment cannot be met"),
                _ => None,
            })
        })
}

fn of_world(c: &Config) -> Option<&'static str> {
    let d = Config::default();
    let servers = [
        &c.v6_only,
        &c.rewrites,
        &c.child_side,
        &c.hidden,
        &c.parent_v6_only,
    ];
    if servers.iter().any(|s| !s.is_empty()) || !c.has_ipv6 {
        return Some("a server with manners of its own");
    }
    if c.signed_before || c.hidden_primary || c.led == Led::Elsewhere {
        return Some("another signer, or a primary that nobody sees");
    }
    if c.spoofed > 0 || c.remove_first > 0 || c.digests != d.digests {
        return Some("a parent or a network with faults");
    }
    if c.costs != d.costs || c.instances != d.instances || !c.proofs || !c.verify_after_sign {
        return Some("a token with faults");
    }
    None
}

fn of_policy(p: &KeyPolicy) -> Option<&'static str> {
    let files = p.ksk_home == Home::File && p.zsk_home == Home::File;
    (!files).then_some("keys in an HSM")
}

/// Why this cannot be done to real programs.
pub fn not_done(deed: &Deed) -> Option<&'static str> {
    Some(match deed {
        Deed::Order(Order::Import | Order::ConfirmClock, _) => "another signer, or a stepped clock",
        Deed::Policy(pairs) => {
            let home = |p: &(String, String)| p.0.ends_with("-home");
            return pairs.iter().any(home).then_some("keys in an HSM");
        }
        Deed::Led(_) | Deed::Remove | Deed::TakeBack | Deed::Upgrade | Deed::Truncated(_) => {
            "a change of the zone's place"
        }
        Deed::ParentRemoveFirst(_)
        | Deed::ParentDigests(_)
        | Deed::ParentDown(..)
        | Deed::ParentMoves(_)
        | Deed::ParentChildSide(_)
        | Deed::ParentCopy(_) => "a parent with faults, or several servers",
        Deed::ParentApply(list) => {
            let plain = |d: &cascade_sim::scenario::ApplyDs| {
                d.key.is_some() && !d.wrong && d.digest.is_none()
            };
            return (list.is_empty() || !list.iter().all(plain))
                .then_some("others break the chain");
        }
        Deed::SecondaryLag(..)
        | Deed::SecondaryRewind(..)
        | Deed::SecondaryFlip(..)
        | Deed::SecondaryRefuse(..)
        | Deed::SecondaryForge(..) => "a secondary with faults",
        Deed::TokenDown(_)
        | Deed::TokenInstanceLost(_)
        | Deed::TokenLies(..)
        | Deed::TokenLoses(_)
        | Deed::TokenRestores(_)
        | Deed::TokenCollides(_)
        | Deed::TokenUnsynchronised(_)
        | Deed::TokenKeeps(_)
        | Deed::LoseSignature(_) => "a token with faults",
        Deed::DiskFull(_) | Deed::NetworkDown(_) | Deed::ClockStep(_) => {
            "a full disk, no network, or a stepped clock"
        }
        // Without the daemon nobody keeps the time.
        Deed::Kill | Deed::Restart(_) => "the daemon is away for a while",
        Deed::Order(..)
        | Deed::DataTtl(_)
        | Deed::Denial(_)
        | Deed::Source(_)
        | Deed::ParentDsTtl(_)
        | Deed::ParentBy(_)
        | Deed::ParentKeepOld(_)
        | Deed::ParentRegister(_)
        | Deed::SecondaryDown(..) => return None,
    })
}

/// A policy file with `{servers}` and `{parent}` in place of addresses.
pub fn policy_text(p: &KeyPolicy, c: &Config, hook: Option<&str>, nsec3: bool) -> String {
    let span = |d: Duration| format!("\"{}s\"", d.as_secs());
    let role = |name: &str, r: &RolePolicy, roll: &str| {
        let validity = r.validity.map_or("\"forever\"".to_string(), span);
        format!(
            "[key-manager.{name}]\nvalidity = {validity}\n{roll}{}",
            steps(r.auto)
        )
    };
    let ksk = match p.ksk_roll {
        KskRoll::DoubleSignature => "roll-type = \"double-signature\"\n",
        KskRoll::DoubleDs => "roll-type = \"double-ds\"\n",
    };
    let zsk = match p.zsk_roll {
        ZskRoll::PrePublish => "roll-type = \"pre-publish\"\n",
        ZskRoll::DoubleSignature => "roll-type = \"double-signature\"\n",
    };
    let cds = match p.cds {
        CdsPolicy::WhenNeeded => "when-needed",
        CdsPolicy::Always => "always",
        CdsPolicy::Never => "never",
        CdsPolicy::Delete => "delete",
    };
    let digests: Vec<&str> = p.digests.iter().map(|d| digest(*d)).collect();
    let ignored = p.ignore_unreachable_after;
    let (lifetime, remain) = (p.apex_signatures.lifetime, p.apex_signatures.remain);
    let apex = |name: &str| {
        format!(
            "[key-manager.records.{name}]\nsignature-lifetime = {}\nsignature-remain-time = {}\n",
            span(lifetime),
            span(remain)
        )
    };
    [
        "[server.outbound]\nprovide-xfr-to = [\"127.0.0.1\"]\nsend-notify-to = [{servers}]\n".into(),
        format!(
            "[signer]\nkey-roll-time = \"{KEY_ROLL_TIME}\"\nmode = \"{}\"\nsignature-lifetime = \"{}s\"\n\
             signature-remain-time = \"{}s\"\n[signer.denial]\ntype = \"{}\"\n",
            if p.unsigned { "unsigned" } else { "sign" },
            c.data_lifetime,
            c.data_remain,
            if nsec3 { "nsec3" } else { "nsec" }
        ),
        format!(
            "[key-manager]\npublication-nameservers = [{{servers}}]\nds-algorithm = [{}]\n\
             auto-remove = {}\nauto-remove-delay = {}\n",
            digests.join(", "),
            p.auto_remove,
            span(p.auto_remove_delay)
        ),
        role("ksk", &p.ksk, ksk),
        role("zsk", &p.zsk, zsk),
        role("csk", &p.csk, ""),
        format!("[key-manager.algorithm]\n{}", steps(p.algorithm_auto)),
        format!(
            "[key-manager.observe]\nmargin = {}\nundelegated = \"{}\"\nignore-unreachable-after = {}\n",
            span(p.margin),
            if p.undelegated_own { "own" } else { "wait" },
            ignored.map_or("\"off\"".to_string(), span)
        ),
        format!("[key-manager.records]\nttl = \"{}s\"\n", p.ttl),
        apex("dnskey"),
        apex("cds"),
        format!(
            "[key-manager.ds]\ncds = \"{cds}\"\ncdnskey = {}\nparent-nameservers = [{{parent}}]\n\
             remind-after = {}\n{}",
            p.cdnskey,
            span(p.remind_after),
            hook.map_or(String::new(), |h| format!("hook = \"{h}\"\n"))
        ),
        format!(
            "[key-manager.generation]\nuse-csk = {}\nalgorithm = \"{}\"\nstandby-ksk = {}\n\
             standby-zsk = {}\nrequire-backup = {}\n",
            p.use_csk,
            algorithm(p.algorithm),
            p.standby_ksk,
            p.standby_zsk,
            p.require_backup
        ),
    ]
    .concat()
}

fn steps(a: Auto) -> String {
    format!(
        "auto-start = {}\nauto-report = {}\nauto-expire = {}\nauto-done = {}\n",
        a.start, a.report, a.expire, a.done
    )
}

fn digest(number: u8) -> &'static str {
    match number {
        4 => "\"SHA-384\"",
        _ => "\"SHA-256\"",
    }
}

fn algorithm(number: u8) -> &'static str {
    match number {
        8 => "RSASHA256",
        10 => "RSASHA512",
        14 => "ECDSAP384SHA384",
        15 => "ED25519",
        _ => "ECDSAP256SHA256",
    }
}
