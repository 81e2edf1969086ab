//! Which key signs in which slot.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use cascade_crypto::SigningKey;
use cascade_zone::Rtype;
use cascade_zone::slots::{KeySlot, KeyTable};
use cascade_zone::version::ZoneVersion;
use sha2::{Digest, Sha256};

use crate::piece::{Keys, SlotKey, slots_of};
use crate::plan::{PlanError, SigningPlan};
use crate::scope::{Masks, WhyFull};
use crate::sign::SignError;

/// A slot for every key, and the keys of each group in slot order.
/// `table`: slots that stay as they are.
pub(crate) fn assign_slots(
    plan: &SigningPlan,
    mut table: KeyTable,
) -> Result<(Keys, KeyTable), SignError> {
    let mut group = |keys: &[Arc<dyn SigningKey>]| -> Result<Vec<SlotKey>, SignError> {
        let mut out: Vec<SlotKey> = Vec::with_capacity(keys.len());
        for key in keys {
            let tag = key.dnskey().key_tag();
            let slot = table
                .assign(key_slot(key.as_ref(), tag))
                // `check` has counted them.
                .map_err(|_| PlanError::TooManyKeys(keys.len()))?;
            if out.iter().all(|k| k.slot != slot) {
                let zero = AtomicU64::default;
                let key = key.clone();
                out.push(SlotKey {
                    slot,
                    tag,
                    key,
                    made: zero(),
                    retries: zero(),
                    waited: zero(),
                });
            }
        }
        out.sort_by_key(|k| k.slot);
        Ok(out)
    };
    let zone = group(&plan.apex.zone_signers)?;
    let dnskey = group(&plan.apex.dnskey_signers)?;
    let cds = group(&plan.apex.cds_signers)?;
    Ok(([zone, dnskey, cds], table))
}

fn key_slot(key: &dyn SigningKey, tag: u16) -> KeySlot {
    KeySlot {
        id: key.id(),
        algorithm: key.algorithm().number(),
        tag,
        sig_len: key.sig_len() as u16,
        dnskey_sha256: Sha256::digest(key.dnskey().rdata()).into(),
    }
}

/// Slots of a job that starts from a signed version.
pub(crate) struct Slots {
    pub keys: Keys,
    pub table: KeyTable,
    pub masks: Masks,
    /// For each algorithm that enters the DNSKEY RRset with this version: the slots of its keys.
    pub new_algorithms: Vec<u16>,
}

impl Slots {
    /// Keys of the version before keep their slots while they have signatures.
    pub fn new(prev: &ZoneVersion, plan: &SigningPlan) -> Result<Slots, WhyFull> {
        let mut table = prev.key_table().clone();
        let blocks = prev.chain().map_or(0, |c| c.tree().sums().any_mask);
        let of_data = blocks | prev.leaf_sums().any_mask;
        let (mut in_use, mut stale) = (prev.sums().any_mask, 0u16);
        for key in plan.apex.signers() {
            let Some(slot) = table.slot_of(key.id()) else {
                continue;
            };
            let now = key_slot(key.as_ref(), key.dnskey().key_tag());
            in_use |= 1 << slot;
            if table.get(slot).is_some_and(|was| *was != now) {
                // Its old signatures would be shown with the new tag; those at the apex are made
                // anew at no cost.
                if of_data >> slot & 1 == 1 {
                    return Err(WhyFull::KeyFace);
                }
                stale |= 1 << slot;
            }
        }
        table.retain(in_use);
        let before = table.clone();
        // The one thing that can be wrong here is that there are too many.
        let (keys, table) = assign_slots(plan, table).map_err(|_| WhyFull::Slots)?;
        let [zone, dnskey, cds] = keys.each_ref().map(|k| slots_of(k));
        let masks = Masks {
            zone,
            dnskey,
            cds,
            gone: stale | unpublished(plan, &before, zone | dnskey | cds),
        };
        Ok(Slots {
            new_algorithms: new_algorithms(prev, plan, &table, &masks),
            keys,
            table,
            masks,
        })
    }
}

/// Slots of keys that neither sign nor stand in the DNSKEY RRset.
fn unpublished(plan: &SigningPlan, before: &KeyTable, signing: u16) -> u16 {
    let rdatas = plan.apex.dnskey.iter();
    let published: Vec<[u8; 32]> = rdatas.map(|r| Sha256::digest(r).into()).collect();
    before
        .iter()
        .filter(|(slot, key)| signing >> slot & 1 == 0 && !published.contains(&key.dnskey_sha256))
        .fold(0, |mask, (slot, _)| mask | 1 << slot)
}

fn new_algorithms(
    prev: &ZoneVersion,
    plan: &SigningPlan,
    table: &KeyTable,
    masks: &Masks,
) -> Vec<u16> {
    let before: Vec<u8> = prev
        .apex_owner()
        .set(Rtype::DNSKEY)
        .into_iter()
        .flat_map(|s| s.rdatas())
        .filter_map(|r| r.get(3).copied())
        .collect();
    let algorithms = plan.apex.algorithms();
    let new = algorithms.iter().filter(|a| !before.contains(a));
    new.map(|a| {
        let of = table.iter().filter(|(_, k)| k.algorithm == *a);
        of.fold(0, |mask, (slot, _)| mask | 1 << slot) & !masks.gone
    })
    .collect()
}
