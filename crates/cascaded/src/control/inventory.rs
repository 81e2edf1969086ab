//! What is in an HSM, and whose it is. Matched by public key and never by label.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cascade_api::common::{Confirm, SubjectKind};
use cascade_api::hsm::{HsmInventory, HsmObject};
use cascade_api::{Problem, ProblemType};
use cascade_crypto::Dnskey;
use cascade_kmip::{KeyKind, PublicKey};

use super::{Answer, bug, hsms, need_consent};
use crate::daemon::Daemon;
use crate::hsm::device::Device;
use crate::hsm::events::keys_in;
use crate::hsm::reference::Reference;
use crate::hsm::store::{self, Object};
use crate::keys::report;

/// A key that a zone has in this HSM.
struct Owned {
    zone: String,
    role: String,
    state: String,
    dnskey: Dnskey,
    reference: Reference,
}

impl Owned {
    fn of(d: &Daemon, hsm: &str) -> Vec<Owned> {
        let now = d.now();
        let mut all = Vec::new();
        for z in d.zone_list() {
            let row = &z.view().row.keys;
            for (k, stored) in keys_in(row, hsm) {
                let Some(reference) = Reference::parse(&stored.reference) else {
                    continue;
                };
                let shown = report::key(row, k, None, now);
                let state = shown.and_then(|k| serde_json::to_value(k.state).ok());
                all.push(Owned {
                    zone: z.name.clone(),
                    role: k.role.to_string().to_lowercase(),
                    state: state
                        .and_then(|s| s.as_str().map(str::to_string))
                        .unwrap_or_default(),
                    dnskey: stored.dnskey,
                    reference,
                });
            }
        }
        all
    }

    fn has(&self, key: &PublicKey) -> bool {
        crate::hsm::public_octets(key) == self.dnskey.public_key()
    }

    fn object(&self, id: &str, class: &str, label: Option<String>, found: &str) -> HsmObject {
        HsmObject {
            object: id.to_string(),
            label,
            class: class.into(),
            algorithm: Some(self.dnskey.algorithm_number()),
            zone: Some(self.zone.clone()),
            role: Some(self.role.clone()),
            tag: Some(self.dnskey.key_tag()),
            state: Some(self.state.clone()),
            found: found.into(),
        }
    }
}

pub async fn inventory(d: &Arc<Daemon>, id: &str) -> Answer<HsmInventory> {
    let device = d.hsms.device(id).ok_or_else(|| hsms::not_found(d, id))?;
    let objects = objects(device).await?;
    Ok(match_up(Owned::of(d, id), &objects))
}

async fn objects(device: Arc<Device>) -> Answer<Vec<Object>> {
    let id = device.id.clone();
    let found = tokio::task::spawn_blocking(move || store::objects(&device)).await;
    found.map_err(bug)?.map_err(|e| {
        Problem::new(
            ProblemType::HsmUnreachable,
            format!("HSM '{id}' did not list its objects: {e}"),
        )
        .subject(SubjectKind::Hsm, &id)
        .action(format!("cascade hsm test {id}"))
    })
}

fn match_up(owned: Vec<Owned>, objects: &[Object]) -> HsmInventory {
    let mut items = Vec::new();
    // Private halves follow their public ones, which have the octets.
    let mut pairs: BTreeMap<String, (usize, &'static str)> = BTreeMap::new();
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    for o in objects.iter().filter(|o| o.public) {
        let mine = o
            .key
            .as_ref()
            .and_then(|k| owned.iter().position(|w| w.has(k)));
        let named = owned.iter().position(|w| w.reference.public == o.id);
        match (mine, named) {
            (Some(i), _) => {
                seen.insert(i);
                // The pair that a zone uses, or a copy of its public half.
                if let Some(private) = twin(&o.id).or_else(|| {
                    (owned[i].reference.public == o.id).then(|| owned[i].reference.private.clone())
                }) {
                    pairs.insert(private, (i, "public-key"));
                }
                items.push(owned[i].object(&o.id, "public", o.label.clone(), "public-key"));
            }
            (None, Some(i)) => {
                pairs.insert(owned[i].reference.private.clone(), (i, "conflict"));
                items.push(owned[i].object(&o.id, "public", o.label.clone(), "conflict"));
            }
            (None, None) => items.push(orphan(o)),
        }
    }
    let mut private_seen: BTreeSet<&str> = BTreeSet::new();
    for o in objects.iter().filter(|o| !o.public) {
        private_seen.insert(&o.id);
        match pairs.get(&o.id) {
            Some((i, found)) => {
                items.push(owned[*i].object(&o.id, "private", o.label.clone(), found));
            }
            None => items.push(orphan(o)),
        }
    }
    let mut missing = 0;
    for (i, w) in owned.iter().enumerate() {
        if !seen.contains(&i) {
            items.push(w.object(&w.reference.public, "public", None, "missing"));
        }
        let gone = !private_seen.contains(w.reference.private.as_str());
        if gone {
            items.push(w.object(&w.reference.private, "private", None, "missing"));
        }
        missing += u64::from(gone || !seen.contains(&i));
    }
    let orphans = items.iter().filter(|i| i.found == "orphan").count() as u64;
    let order = |o: &HsmObject| (o.zone.is_none(), o.zone.clone(), o.object.clone());
    items.sort_by_key(order);
    HsmInventory {
        items,
        orphans,
        missing,
    }
}

fn twin(public: &str) -> Option<String> {
    Some(format!("{}_priv", public.strip_suffix("_pub")?))
}

fn orphan(o: &Object) -> HsmObject {
    let algorithm = o.key.as_ref().map(|k| match k.kind() {
        KeyKind::Rsa { .. } => 8,
        KeyKind::P256 => 13,
        KeyKind::P384 => 14,
        KeyKind::Ed25519 => 15,
        KeyKind::Ed448 => 16,
    });
    HsmObject {
        object: o.id.clone(),
        label: o.label.clone(),
        class: if o.public { "public" } else { "private" }.into(),
        algorithm,
        zone: None,
        role: None,
        tag: None,
        state: None,
        found: "orphan".into(),
    }
}

/// Destroys one object that is nobody's.
pub async fn destroy_orphan(
    d: &Arc<Daemon>,
    id: &str,
    object: &str,
    confirm: &Confirm,
) -> Answer<()> {
    let device = d.hsms.device(id).ok_or_else(|| hsms::not_found(d, id))?;
    let found = match_up(Owned::of(d, id), &objects(device.clone()).await?);
    let item = found.items.iter().find(|i| i.object == object);
    let item = item.ok_or_else(|| {
        Problem::new(
            ProblemType::KeyNotFound,
            format!("HSM '{id}' has no object '{object}'"),
        )
        .subject(SubjectKind::Key, object)
        .action(format!("cascade hsm inventory {id} --orphans"))
    })?;
    if item.found != "orphan" {
        let zone = item.zone.as_deref().unwrap_or("a zone");
        return Err(Problem::new(
            ProblemType::InUse,
            format!("object '{object}' is a key of {zone}"),
        )
        .subject(SubjectKind::Key, object)
        .action(format!("cascade keyset {zone} list")));
    }
    let label = item.label.as_deref().unwrap_or("none");
    let effect = format!(
        "{} object '{object}' (label {label}) is destroyed in HSM '{id}'; nothing brings it back",
        item.class
    );
    need_consent(confirm, &format!("orphan-{object}"), vec![effect])?;
    let object = object.to_string();
    let done = tokio::task::spawn_blocking(move || store::destroy_object(&device, &object)).await;
    done.map_err(bug)?.map_err(|e| {
        Problem::new(
            ProblemType::HsmUnreachable,
            format!("HSM '{id}' did not destroy it: {e}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cascade_crypto::Algorithm;

    fn object(id: &str, public: bool, octets: Option<u8>) -> Object {
        let key = |o: u8| PublicKey::point(KeyKind::Ed25519, &[o; 32]).unwrap();
        Object {
            id: id.into(),
            public,
            label: Some(format!("label of {id}")),
            key: octets.map(key),
        }
    }

    fn owned(id: &str, octet: u8) -> Owned {
        let dnskey = Dnskey::new(257, Algorithm::Ed25519, &[octet; 32]);
        let (public, private) = (format!("{id}_pub"), format!("{id}_priv"));
        Owned {
            zone: "example.net".into(),
            role: "ksk".into(),
            state: "active".into(),
            reference: Reference::new("h", &public, &private, &dnskey).unwrap(),
            dnskey,
        }
    }

    #[test]
    fn objects_are_told_by_their_octets() {
        let keys = vec![owned("A1", 1), owned("B2", 2), owned("C3", 3)];
        let objects = [
            object("A1_pub", true, Some(1)),
            object("A1_priv", false, None),
            // The name is a key's of ours, the octets are another's.
            object("B2_pub", true, Some(9)),
            object("B2_priv", false, None),
            object("D4_pub", true, Some(4)),
            object("D4_priv", false, None),
        ];
        let found = match_up(keys, &objects);
        let of = |id: &str| {
            let item = found.items.iter().find(|i| i.object == id);
            item.map(|i| (i.found.as_str(), i.zone.as_deref())).unwrap()
        };
        assert_eq!(of("A1_pub"), ("public-key", Some("example.net")));
        assert_eq!(of("A1_priv"), ("public-key", Some("example.net")));
        assert_eq!(of("B2_priv"), ("conflict", Some("example.net")));
        assert_eq!(of("C3_priv"), ("missing", Some("example.net")));
        assert_eq!(of("D4_priv"), ("orphan", None));
        assert_eq!((found.orphans, found.missing), (2, 2));
    }
}
