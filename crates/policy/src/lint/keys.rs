//! Lints about keys: where they live, when they roll, when they go.

use std::collections::BTreeSet;

use super::{DAY, LintContext, Lints, USUAL_TTL};
use crate::diag::Level;
use crate::keys::CdsMode;
use crate::keytypes::KeyAlgorithm;
use crate::value::{Validity, show_span};

/// P04, P05.
pub(super) fn hsms(l: &mut Lints<'_>, context: &LintContext<'_>) {
    let Some(known) = context.hsms else { return };
    let g = &l.file.policy.key_manager.generation;
    let whole = "key-manager.generation.hsm-server-id";
    let mut homes = vec![(
        ["key-manager.generation.ksk-hsm-server-id", whole],
        g.ksk_home(),
    )];
    if !g.use_csk {
        homes.push((
            ["key-manager.generation.zsk-hsm-server-id", whole],
            g.zsk_home(),
        ));
    }
    let mut seen = BTreeSet::new();
    for (keys, home) in homes {
        let Some(id) = home else { continue };
        if !seen.insert(id) {
            continue;
        }
        let keys: Vec<&str> = keys.into_iter().filter(|k| l.file.places.has(k)).collect();
        let Some(hsm) = known.iter().find(|h| h.id == id) else {
            let detail =
                format!("no HSM '{id}' is registered; zones wait for their keys until it is");
            l.add(
                "P04",
                Level::Warning,
                &keys,
                detail,
                format!("add it with: cascade hsm add {id} <address>"),
            );
            continue;
        };
        let Some(able) = &hsm.algorithms else {
            continue;
        };
        if !able.contains(&g.algorithm.number()) {
            let names: Vec<String> = able.iter().map(|n| algorithm_name(*n)).collect();
            let names = if names.is_empty() {
                "none".to_string()
            } else {
                names.join(", ")
            };
            l.add(
                "P05",
                Level::Error,
                &[
                    "key-manager.generation.algorithm",
                    keys.first().copied().unwrap_or(whole),
                ],
                format!("HSM '{id}' cannot do {}", g.algorithm.name()),
                format!("it can do: {names}"),
            );
        }
    }
}

fn algorithm_name(number: u8) -> String {
    match number {
        8 => "RSASHA256".into(),
        10 => "RSASHA512".into(),
        13 => "ECDSAP256SHA256".into(),
        14 => "ECDSAP384SHA384".into(),
        15 => "ED25519".into(),
        16 => "ED448".into(),
        n => format!("algorithm {n}"),
    }
}

/// P15 to P17, P27.
pub(super) fn rolls(l: &mut Lints<'_>, context: &LintContext<'_>) {
    let (k, s) = (&l.file.policy.key_manager, &l.file.policy.signer);
    let csk = ("key-manager.csk.validity", k.csk.validity, k.csk.auto_start);
    let ksk = ("key-manager.ksk.validity", k.ksk.validity, k.ksk.auto_start);
    let zsk = ("key-manager.zsk.validity", k.zsk.validity, k.zsk.auto_start);
    let (with_parent, all) = if k.generation.use_csk {
        (csk, vec![csk])
    } else {
        (ksk, vec![ksk, zsk])
    };
    let signing = if k.generation.use_csk { csk } else { zsk };

    if let (key, Validity::After(validity), _) = signing {
        let ttl = s.max_ttl.map_or(USUAL_TTL, |m| m.min(USUAL_TTL));
        let margin = k.observe.margin;
        let least =
            k.records.ttl + ttl + s.key_roll_time + s.signature_refresh_interval + 2 * margin;
        if validity <= least {
            l.add(
                "P15",
                Level::Error,
                &[key],
                format!(
                    "validity {} does not exceed records.ttl {} + longest TTL {} + key-roll-time \
                     {} + refresh-interval {} + twice observe.margin {}: a roll could never end",
                    show_span(validity),
                    show_span(k.records.ttl),
                    show_span(ttl),
                    show_span(s.key_roll_time),
                    show_span(s.signature_refresh_interval),
                    show_span(margin)
                ),
                format!("write more than \"{}\"", show_span(least)),
            );
        } else if s.key_roll_time > validity / 2 {
            l.add(
                "P17",
                Level::Warning,
                &["signer.key-roll-time", key],
                format!(
                    "key-roll-time {} is more than half of validity {}: the zone is always between \
                     two keys",
                    show_span(s.key_roll_time),
                    show_span(validity)
                ),
                format!("write at most \"{}\"", show_span(validity / 2)),
            );
        }
    }
    if let (key, Validity::After(validity), true) = with_parent
        && validity < 90 * DAY
        && k.ds.hook.is_none()
        && k.ds.push.is_none()
        && !context.parent_follows_cds
    {
        l.add(
            "P16",
            Level::Warning,
            &[key],
            format!(
                "validity {} is below 90d and nothing but a person tells the parent: each roll \
                 waits for someone",
                show_span(validity)
            ),
            "write at least \"90d\", or set key-manager.ds.hook or push",
        );
    }
    for (key, validity, start) in all {
        let explicit = l.file.places.has(key);
        if validity == Validity::Forever && start && explicit {
            let detail = "with \"forever\" no roll is ever due, so auto-start has nothing to start";
            l.add(
                "P27",
                Level::Note,
                &[key],
                detail,
                "start rolls with: cascade keyset <zone> …",
            );
        }
    }
}

/// P19, P20.
pub(super) fn algorithm(l: &mut Lints<'_>) {
    let a = l.file.policy.key_manager.generation.algorithm;
    let key = ["key-manager.generation.algorithm"];
    if let Some(bits) = a.rsa_bits() {
        if !(1024..=4096).contains(&bits) || bits % 8 != 0 {
            let detail = format!("{bits} bits: RSA keys have 1024 to 4096, a multiple of 8");
            l.add(
                "P19",
                Level::Error,
                &key,
                detail,
                format!("write \"{}:2048\"", a.name()),
            );
        } else if bits < 2048 {
            let detail = format!("{bits} bits: below 2048 RSA is not safe for long");
            l.add(
                "P19",
                Level::Warning,
                &key,
                detail,
                format!("write \"{}:2048\"", a.name()),
            );
        }
    }
    if matches!(a, KeyAlgorithm::RsaSha512 { .. }) {
        let detail = format!("{} is not recommended for signing (RFC 9904)", a.name());
        l.add(
            "P20",
            Level::Warning,
            &key,
            detail,
            "write \"ECDSAP256SHA256\"",
        );
    }
}

/// P26, P30.
pub(super) fn removal(l: &mut Lints<'_>, context: &LintContext<'_>) {
    let (k, s) = (&l.file.policy.key_manager, &l.file.policy.signer);
    let ttl = s.max_ttl.map_or(USUAL_TTL, |m| m.min(USUAL_TTL));
    let least = ttl + k.records.ttl;
    if k.auto_remove && k.auto_remove_delay < least {
        l.add(
            "P26",
            Level::Warning,
            &["key-manager.auto-remove-delay"],
            format!(
                "delay {} is below longest TTL {} + records.ttl {}: a key that caches still need \
                 could not be brought back",
                show_span(k.auto_remove_delay),
                show_span(ttl),
                show_span(k.records.ttl)
            ),
            format!("write at least \"{}\"", show_span(least)),
        );
    }
    if k.auto_remove {
        let homes = [k.generation.ksk_home(), k.generation.zsk_home()];
        let cannot = context
            .hsms
            .unwrap_or_default()
            .iter()
            .find(|h| h.can_destroy == Some(false) && homes.contains(&Some(h.id.as_str())));
        if let Some(hsm) = cannot {
            l.add(
                "P26",
                Level::Warning,
                &[
                    "key-manager.auto-remove",
                    "key-manager.generation.hsm-server-id",
                ],
                format!(
                    "HSM '{}' cannot destroy keys, so dead ones stay in it",
                    hsm.id
                ),
                "write false, and remove keys with the vendor's tools",
            );
        }
    }
    if k.ds.cds == CdsMode::Never && k.ds.hook.is_none() && k.ds.push.is_none() {
        l.add(
            "P30",
            Level::Warning,
            &["key-manager.ds.cds"],
            "with neither CDS, hook nor push only a person can tell the parent",
            "write \"when-needed\", or set key-manager.ds.hook or push",
        );
    }
    if k.ds.cds == CdsMode::Never && k.ds.notify {
        l.add(
            "P30",
            Level::Warning,
            &["key-manager.ds.notify", "key-manager.ds.cds"],
            "NOTIFY(CDS) tells the parent to look at CDS, and there is none",
            "write cds = \"when-needed\", or leave notify out",
        );
    }
}
