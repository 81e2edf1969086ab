//! What a change of policy does to the zones that use it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::config::Config;
use crate::def::{Def, Kind, Section, Setting, join};
use crate::file::{effective_config, effective_policy};
use crate::keys::CdsMode;
use crate::policy::Policy;

/// From harmless to final; the class of a plan is its largest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Taken over at once or at the next decision.
    None,
    /// Signatures take the new values as they are refreshed.
    Refresh,
    /// The next version is signed anew, in whole or in large part.
    Resign,
    /// Keys are replaced without the parent's help.
    Roll,
    /// What the parent has, or is told, changes.
    Parent,
    /// Something goes that cannot come back.
    Destroy,
}

/// One key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    pub key: String,
    /// In TOML; `None` where the key is not set.
    pub old: Option<String>,
    pub new: Option<String>,
    pub effect: Effect,
    /// Waits for the operator's consent.
    pub confirm: bool,
}

/// Every difference with what it does, in the order of keys.
pub fn effects(old: &Policy, new: &Policy) -> Vec<KeyChange> {
    differences(effective_policy(old), effective_policy(new))
        .into_iter()
        .map(|(key, before, after)| {
            let (effect, confirm) = classify(&key, old, new);
            KeyChange {
                key,
                old: before,
                new: after,
                effect,
                confirm,
            }
        })
        .collect()
}

/// One key of the configuration whose value differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigChange {
    pub key: String,
    pub old: Option<String>,
    pub new: Option<String>,
    /// Taken over by SIGHUP; the others wait for the next start.
    pub reload: bool,
}

/// Every difference between two configurations, in the order of keys.
pub fn config_changes(old: &Config, new: &Config) -> Vec<ConfigChange> {
    differences(effective_config(old), effective_config(new))
        .into_iter()
        .map(|(key, old, new)| {
            let reload = find("", Config::DEFS, &key).is_some_and(|def| def.reload);
            ConfigChange {
                key,
                old,
                new,
                reload,
            }
        })
        .collect()
}

fn differences(
    old: Vec<Setting>,
    new: Vec<Setting>,
) -> Vec<(String, Option<String>, Option<String>)> {
    let values = |list: Vec<Setting>| -> BTreeMap<String, String> {
        list.into_iter().map(|s| (s.key(), s.value)).collect()
    };
    let (a, b) = (values(old), values(new));
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    keys.into_iter()
        .filter(|key| a.get(*key) != b.get(*key))
        .map(|key| (key.clone(), a.get(key).cloned(), b.get(key).cloned()))
        .collect()
}

/// The definition's class, and what depends on the values.
fn classify(key: &str, old: &Policy, new: &Policy) -> (Effect, bool) {
    let (a, b) = (&old.key_manager, &new.key_manager);
    match key {
        // What counts is where keys live, not which of the three keys says so.
        "key-manager.generation.hsm-server-id"
        | "key-manager.generation.ksk-hsm-server-id"
        | "key-manager.generation.zsk-hsm-server-id" => {
            if a.generation.ksk_home() != b.generation.ksk_home() {
                (Effect::Parent, true)
            } else if a.generation.zsk_home() != b.generation.zsk_home() && !b.generation.use_csk {
                (Effect::Roll, true)
            } else {
                (Effect::None, false)
            }
        }
        "key-manager.ds.cds" => (Effect::Parent, b.ds.cds == CdsMode::Delete),
        "key-manager.auto-remove" if !b.auto_remove => (Effect::None, false),
        "key-manager.auto-remove-delay" if b.auto_remove_delay >= a.auto_remove_delay => {
            (Effect::None, false)
        }
        _ => match find("", Policy::DEFS, key) {
            Some(def) => (def.effect, def.confirm),
            None => (Effect::None, false),
        },
    }
}

fn find(path: &str, defs: &'static [Def], key: &str) -> Option<&'static Def> {
    defs.iter().find_map(|def| {
        let name = join(path, def.name);
        match def.kind {
            Kind::Section(below, _) => key
                .strip_prefix(&name)
                .filter(|rest| rest.starts_with('.'))
                .and_then(|_| find(&name, below, key)),
            _ => (name == key).then_some(def),
        }
    })
}
