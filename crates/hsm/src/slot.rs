//! Slots and their tokens, and which of them a name means.

use cryptoki::slot::{Limit, Slot};

use crate::error::{Fault, HsmError};
use crate::module::Module;

/// A slot as the module reports it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotEntry {
    /// Position in the module's list, from 0.
    pub index: usize,
    pub id: u64,
    pub description: String,
    /// The token in it, `None` if it is empty; or why it cannot be told.
    pub token: Result<Option<TokenEntry>, String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenEntry {
    pub label: String,
    pub serial: String,
    pub manufacturer: String,
    pub model: String,
    pub initialised: bool,
    pub login_required: bool,
    /// The next wrong PIN locks it, or it is locked already.
    pub pin_at_risk: bool,
    /// Sessions that one application may have open; `None` if there is no limit.
    pub max_sessions: Option<usize>,
}

/// All slots, with or without a token: asking for those with one fails as a whole in some modules
/// when one of them is away.
pub(crate) fn list(module: &Module) -> Result<Vec<Slot>, Fault> {
    let _calls = module.enter();
    Ok(module.p11.get_all_slots()?)
}

pub(crate) fn read(module: &Module, index: usize, slot: Slot) -> SlotEntry {
    let _calls = module.enter();
    let (description, present) = match module.p11.get_slot_info(slot) {
        Ok(info) => (clean(info.slot_description()), Ok(info.token_present())),
        Err(error) => (String::new(), Err(Fault::from(error).why)),
    };
    let token = match present {
        Ok(true) => token(module, slot).map(Some).map_err(|fault| fault.why),
        Ok(false) => Ok(None),
        Err(why) => Err(why),
    };
    SlotEntry {
        index,
        id: slot.id(),
        description,
        token,
    }
}

pub(crate) fn token(module: &Module, slot: Slot) -> Result<TokenEntry, Fault> {
    let info = module.p11.get_token_info(slot)?;
    let limit = |limit: Limit| match limit {
        Limit::Max(n) => usize::try_from(n).ok(),
        Limit::Unavailable | Limit::Infinite => None,
    };
    let (all, writing) = (info.max_session_count(), info.max_rw_session_count());
    let max_sessions = match (limit(all), limit(writing)) {
        (Some(all), Some(writing)) => Some(all.min(writing)),
        (all, writing) => all.or(writing),
    };
    Ok(TokenEntry {
        label: clean(info.label()),
        serial: clean(info.serial_number()),
        manufacturer: clean(info.manufacturer_id()),
        model: clean(info.model()),
        initialised: info.token_initialized(),
        login_required: info.login_required(),
        pin_at_risk: info.user_pin_final_try() || info.user_pin_locked(),
        max_sessions,
    })
}

/// Texts of a module go to logs and terminals: padding goes, control characters become '?'.
fn clean(text: &str) -> String {
    text.trim_end_matches([' ', '\0'])
        .replace(char::is_control, "?")
}

/// The slot that `name` means: the one whose token has this label, else the one with this id, else
/// the one at this position. Several tokens of one label are one token if their serial numbers
/// are equal (a module that lists its slots twice); the lowest slot is meant then.
///
/// # Errors
/// [`HsmError::NoToken`] with the list of slots; [`HsmError::Unavailable`] if the token may be in
/// a slot that does not answer.
pub fn choose<'a>(slots: &'a [SlotEntry], name: &str) -> Result<&'a SlotEntry, HsmError> {
    let labelled: Vec<_> = slots
        .iter()
        .filter_map(|slot| Some((slot, usable(slot)?)))
        .filter(|(_, token)| token.label == name)
        .collect();
    if let Some((first, token)) = labelled.iter().min_by_key(|(slot, _)| slot.id) {
        if labelled
            .iter()
            .all(|(_, other)| other.serial == token.serial)
        {
            return Ok(first);
        }
        return Err(HsmError::NoToken(format!(
            "the label '{name}' belongs to several different tokens; use the slot id. {}",
            describe(slots)
        )));
    }
    let number: Option<u64> = name.parse().ok();
    let by_id = number.and_then(|id| slots.iter().find(|slot| slot.id == id));
    let by_index = || number.and_then(|at| slots.iter().find(|slot| slot.index as u64 == at));
    let Some(slot) = by_id.or_else(by_index) else {
        if let Some(silent) = slots.iter().find(|slot| slot.token.is_err()) {
            let why = silent.token.as_ref().err().cloned().unwrap_or_default();
            return Err(HsmError::away(format!(
                "no token is labelled '{name}', but the one in slot {} does not answer ({why})",
                silent.id
            )));
        }
        return Err(HsmError::NoToken(format!(
            "no token has the label '{name}', and it is neither id nor index of a slot. {}",
            describe(slots)
        )));
    };
    match &slot.token {
        Ok(_) if usable(slot).is_some() => Ok(slot),
        Ok(_) => Err(HsmError::NoToken(format!(
            "slot {} has no initialised token. {} If one is missing here, the module may not be \
             allowed to read its own files: check the user and groups of this process",
            slot.id,
            describe(slots)
        ))),
        Err(why) => Err(HsmError::away(format!(
            "slot {} does not answer ({why})",
            slot.id
        ))),
    }
}

fn usable(slot: &SlotEntry) -> Option<&TokenEntry> {
    let token = slot.token.as_ref().ok()?.as_ref()?;
    token.initialised.then_some(token)
}

/// The slots in a sentence.
pub fn describe(slots: &[SlotEntry]) -> String {
    if slots.is_empty() {
        return "The module has no slots.".into();
    }
    let list: Vec<String> = slots
        .iter()
        .map(|slot| {
            let what = match &slot.token {
                Ok(Some(token)) if token.initialised => {
                    format!("token '{}', serial {}", token.label, token.serial)
                }
                Ok(Some(_)) => "token not initialised".into(),
                Ok(None) => "empty".into(),
                Err(why) => format!("does not answer: {why}"),
            };
            format!("{} ({what})", slot.id)
        })
        .collect();
    format!("Slots: {}.", list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(index: usize, id: u64, label: &str, serial: &str) -> SlotEntry {
        SlotEntry {
            index,
            id,
            description: "d".into(),
            token: Ok(Some(TokenEntry {
                label: label.into(),
                serial: serial.into(),
                manufacturer: String::new(),
                model: String::new(),
                initialised: true,
                login_required: true,
                pin_at_risk: false,
                max_sessions: None,
            })),
        }
    }

    fn id(slots: &[SlotEntry], name: &str) -> Option<u64> {
        choose(slots, name).ok().map(|slot| slot.id)
    }

    #[test]
    fn label_then_id_then_index() {
        let slots = [
            slot(0, 700, "1", "a"),
            slot(1, 1, "b", "b"),
            slot(2, 9, "c", "c"),
        ];
        assert_eq!(id(&slots, "1"), Some(700), "a label wins");
        assert_eq!(id(&slots, "9"), Some(9));
        assert_eq!(id(&slots, "0"), Some(700), "index, as no slot has this id");
        assert_eq!(id(&slots, "2"), Some(9));
        assert_eq!(id(&slots, "7"), None);
        assert_eq!(id(&slots, "-1"), None);
    }

    #[test]
    fn one_label_on_two_slots() {
        let twice = [slot(0, 0, "LocalHSM", "x"), slot(1, 1, "LocalHSM", "x")];
        assert_eq!(id(&twice, "LocalHSM"), Some(0));
        assert_eq!(id(&twice, "0"), Some(0));
        let two = [slot(0, 0, "LocalHSM", "x"), slot(1, 1, "LocalHSM", "y")];
        let error = choose(&two, "LocalHSM")
            .expect_err("two tokens")
            .to_string();
        assert!(
            error.contains("0 (token 'LocalHSM', serial x), 1 (token"),
            "{error}"
        );
        assert_eq!(id(&two, "1"), Some(1));
    }

    #[test]
    fn a_slot_that_does_not_answer_hides_no_other() {
        let mut slots = [slot(0, 0, "a", "a"), slot(1, 1, "b", "b")];
        slots[0].token = Err("C_GetTokenInfo: CKR_DEVICE_REMOVED".into());
        assert_eq!(id(&slots, "b"), Some(1));
        for name in ["a", "0"] {
            let error = choose(&slots, name).expect_err("away");
            assert!(error.is_transient(), "{error}");
        }
        slots[0].token = Ok(None);
        assert!(matches!(choose(&slots, "0"), Err(HsmError::NoToken(_))));
        assert!(matches!(choose(&slots, "a"), Err(HsmError::NoToken(_))));
    }
}
