//! Making key pairs.
//!
//! Tokens differ in what a template may contain. What is asked for first is what ought to be:
//! private, sensitive, not extractable. What a token rejects is left out, and that is remembered.

use std::collections::HashMap;

use cryptoki::mechanism::Mechanism as CkMechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};

use crate::error::{Class, Fault, HsmError, Trouble};
use crate::id::{Half, IdForm, KeyId};
use crate::key::{KeyKind, PublicKey};
use crate::objects::{self, MAX_LABEL};
use crate::point;
use crate::session::Live;
use crate::worker::explain;

/// A key pair to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPair {
    pub kind: KeyKind,
    /// From a random source; becomes the id wherever the token lets us choose it.
    pub random: [u8; KeyId::OCTETS],
    pub naming: Naming,
}

/// Labels of a new pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Naming {
    /// None: they come later or never.
    Plain,
    /// Set after the pair was made where the token allows it, left out otherwise. The id is random
    /// on every token.
    Auto { private: String, public: String },
    /// In any case. On a token whose labels cannot be changed, `name` takes the place of the random
    /// id, for there the id is what people see. It must not be in use.
    AtCreation {
        private: String,
        public: String,
        name: String,
    },
}

/// What was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// As the token gave it.
    pub id: KeyId,
    pub public: PublicKey,
    /// The labels are those that were asked for.
    pub labelled: bool,
    /// What the token says of the private key; `None` if it does not say.
    pub sensitive: Option<bool>,
    pub extractable: Option<bool>,
}

/// What is known of a token from what it took and refused. Kept as long as the token is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Habits {
    /// Family of keys to the shape of template that worked.
    shapes: HashMap<Family, Shape>,
    pub can_rename: Option<bool>,
    /// On tokens that cannot rename: how a name is made the id.
    name_as: Option<NameAs>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Family {
    Rsa,
    Ecdsa,
    Ed25519,
    Ed448,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shape {
    guards: Guards,
    /// Index into [`point::params`].
    params: usize,
}

/// Attributes of the private key that keep it on the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Guards {
    All,
    WithoutExtractable,
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NameAs {
    Label,
    Id,
}

const GUARDS: [Guards; 3] = [Guards::All, Guards::WithoutExtractable, Guards::None];

/// The identifying attributes of a template.
#[derive(Clone)]
struct Names {
    id: Option<Vec<u8>>,
    label: Option<String>,
}

/// Makes a pair and reads it back. An error leaves nothing on the token.
pub(crate) fn generate(
    live: &mut Live,
    habits: &mut Habits,
    want: &NewPair,
    form: IdForm,
) -> Result<Made, Trouble> {
    check(want)?;
    let id = KeyId::new(want.random);
    if let Naming::AtCreation { name, .. } = &want.naming
        && habits.can_rename == Some(false)
    {
        return named(live, habits, want.kind, name);
    }
    // Some tokens take a second object with the same id.
    if !objects::is_free(live, &id)? {
        return Err(HsmError::IdTaken(id).into());
    }
    let names = Names {
        id: Some(id.cka_id(form)),
        label: None,
    };
    let handles = make(live, habits, want.kind, &names)?;
    let labels = match &want.naming {
        Naming::Plain => None,
        Naming::Auto { private, public } => Some((private, public)),
        Naming::AtCreation {
            private, public, ..
        } => Some((private, public)),
    };
    let labelled = match labels {
        None => Ok(false),
        Some(labels) => label(live, habits, handles, labels),
    };
    let labelled = match (labelled, &want.naming) {
        (Ok(false), Naming::AtCreation { name, .. }) => {
            discard(live, handles);
            return named(live, habits, want.kind, name);
        }
        (Ok(labelled), _) => labelled,
        (Err(error), _) => {
            discard(live, handles);
            return Err(error);
        }
    };
    read_back(live, handles, want.kind, labelled).inspect_err(|_| discard(live, handles))
}

fn check(want: &NewPair) -> Result<(), HsmError> {
    if let KeyKind::Rsa { bits } = want.kind
        && (!(1024..=4096).contains(&bits) || bits % 8 != 0)
    {
        return Err(HsmError::BadInput(format!(
            "RSA keys are made with 1024 to 4096 bits in whole octets, not {bits}"
        )));
    }
    let (labels, name) = match &want.naming {
        Naming::Plain => (vec![], None),
        Naming::Auto { private, public } => (vec![private, public], None),
        Naming::AtCreation {
            private,
            public,
            name,
        } => (vec![private, public], Some(name)),
    };
    if labels.iter().any(|label| label.len() > MAX_LABEL) {
        return Err(HsmError::BadInput(format!(
            "a label is longer than {MAX_LABEL} octets"
        )));
    }
    let good = |name: &&String| {
        (1..=KeyId::MAX_OCTETS).contains(&name.len()) && name.bytes().all(|o| o.is_ascii_graphic())
    };
    match name {
        Some(name) if !good(&name) => Err(HsmError::BadInput(format!(
            "a name that takes the place of an id has 1 to {} visible ASCII characters",
            KeyId::MAX_OCTETS
        ))),
        _ => Ok(()),
    }
}

/// A pair whose id is a name. Some tokens take it as the label, others as the id.
fn named(live: &mut Live, habits: &mut Habits, kind: KeyKind, name: &str) -> Result<Made, Trouble> {
    let id = KeyId::from_cka_id(name.as_bytes())
        .ok_or_else(|| HsmError::BadInput("an empty name is no id".into()))?;
    if !objects::is_free(live, &id)? {
        return Err(HsmError::IdTaken(id).into());
    }
    let ways = match habits.name_as {
        Some(way) => vec![way],
        None => vec![NameAs::Label, NameAs::Id],
    };
    let mut last = None;
    for way in ways {
        let names = match way {
            NameAs::Label => Names {
                id: None,
                label: Some(name.to_owned()),
            },
            NameAs::Id => Names {
                id: Some(name.as_bytes().to_vec()),
                label: None,
            },
        };
        let handles = match make(live, habits, kind, &names) {
            Ok(handles) => handles,
            Err(Trouble::Fault(fault)) if fault.class == Class::Template => {
                last = Some(fault);
                continue;
            }
            Err(error) => return Err(error),
        };
        match read_back(live, handles, kind, true) {
            Ok(made) if made.id == id => {
                habits.name_as = Some(way);
                return Ok(made);
            }
            // It has another id, or none.
            Ok(_) | Err(Trouble::Final(_)) => discard(live, handles),
            Err(error) => {
                discard(live, handles);
                return Err(error);
            }
        }
    }
    let why = last.map_or_else(
        || "the name did not become the id".into(),
        |fault| fault.why,
    );
    Err(HsmError::Unsupported(format!("naming a key when it is made ({why})")).into())
}

/// Generates with the first shape of template that the token takes.
fn make(
    live: &mut Live,
    habits: &mut Habits,
    kind: KeyKind,
    names: &Names,
) -> Result<(ObjectHandle, ObjectHandle), Trouble> {
    let family = Family::of(kind);
    let mut shapes = Vec::new();
    shapes.extend(habits.shapes.get(&family).copied());
    for guards in GUARDS {
        for params in 0..point::params(kind).len().max(1) {
            let shape = Shape { guards, params };
            if !shapes.contains(&shape) {
                shapes.push(shape);
            }
        }
    }
    let mut last = None;
    for shape in shapes {
        live.beat();
        match attempt(live, kind, names, shape) {
            Ok(handles) => {
                habits.shapes.insert(family, shape);
                return Ok(handles);
            }
            Err(fault) if fault.class == Class::Template => {
                // The first refusal is of what we want; the later ones only of what we tried.
                last.get_or_insert(fault);
            }
            Err(fault) => return Err(explain("to generate a key", live, fault).into()),
        }
    }
    let fault = last.unwrap_or_else(|| Fault::new(Class::Template, "no template was taken"));
    Err(fault.into())
}

/// The public handle, then the private one.
fn attempt(
    live: &Live,
    kind: KeyKind,
    names: &Names,
    shape: Shape,
) -> Result<(ObjectHandle, ObjectHandle), Fault> {
    let mut shared = vec![Attribute::Token(true)];
    shared.extend(names.id.clone().map(Attribute::Id));
    shared.extend(
        names
            .label
            .clone()
            .map(|label| Attribute::Label(label.into())),
    );

    let mut public = shared.clone();
    public.push(Attribute::Verify(true));
    let mechanism = match kind {
        KeyKind::Rsa { bits } => {
            public.push(Attribute::ModulusBits(u64::from(bits).into()));
            public.push(Attribute::PublicExponent(vec![1, 0, 1]));
            CkMechanism::RsaPkcsKeyPairGen
        }
        curve => {
            let params = point::params(curve).get(shape.params).copied();
            public.push(Attribute::EcParams(params.unwrap_or_default().to_vec()));
            match curve {
                KeyKind::P256 | KeyKind::P384 => CkMechanism::EccKeyPairGen,
                _ => CkMechanism::EccEdwardsKeyPairGen,
            }
        }
    };
    let mut private = shared;
    private.push(Attribute::Sign(true));
    if shape.guards != Guards::None {
        private.push(Attribute::Private(true));
        private.push(Attribute::Sensitive(true));
    }
    if shape.guards == Guards::All {
        private.push(Attribute::Extractable(false));
    }
    Ok(live
        .session
        .generate_key_pair(&mechanism, &public, &private)?)
}

/// True if both labels are set; false if the token does not change labels.
fn label(
    live: &mut Live,
    habits: &mut Habits,
    (public, private): (ObjectHandle, ObjectHandle),
    (private_label, public_label): (&String, &String),
) -> Result<bool, Trouble> {
    if habits.can_rename == Some(false) {
        return Ok(false);
    }
    for (handle, text) in [(private, private_label), (public, public_label)] {
        match objects::set_label(live, handle, text) {
            Ok(()) => habits.can_rename = Some(true),
            Err(Trouble::Fault(fault)) if objects::is_fixed(fault.class) => {
                habits.can_rename = Some(false);
                return Ok(false);
            }
            // Perhaps another time; the key is good without it.
            Err(Trouble::Fault(fault)) if fault.class == Class::Refused => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn read_back(
    live: &mut Live,
    (public, private): (ObjectHandle, ObjectHandle),
    kind: KeyKind,
    labelled: bool,
) -> Result<Made, Trouble> {
    let (id, _) = objects::names(live, private)?;
    let id = id.ok_or_else(|| HsmError::Refused("to give the new key an id".into()))?;
    let key = objects::read_public(live, public)?
        .map_err(|why| HsmError::Unsupported(format!("the new key is unusable: {why}")))?;
    if key.kind() != kind {
        let (made, wanted) = (key.kind().name(), kind.name());
        return Err(
            HsmError::Refused(format!("made a {made} key where {wanted} was asked for")).into(),
        );
    }
    let (mut sensitive, mut extractable) = (None, None);
    let wanted = [AttributeType::Sensitive, AttributeType::Extractable];
    for attribute in live.session.get_attributes(private, &wanted)? {
        match attribute {
            Attribute::Sensitive(yes) => sensitive = Some(yes),
            Attribute::Extractable(yes) => extractable = Some(yes),
            _ => {}
        }
    }
    live.remember(&id, Half::Public, public);
    live.remember(&id, Half::Private, private);
    Ok(Made {
        id,
        public: key,
        labelled,
        sensitive,
        extractable,
    })
}

/// Removes what was made in vain. What cannot be removed now shows up as an orphan in inventories.
fn discard(live: &mut Live, (public, private): (ObjectHandle, ObjectHandle)) {
    live.forget_all();
    for handle in [private, public] {
        let _ = live.session.destroy_object(handle);
    }
}

impl Family {
    fn of(kind: KeyKind) -> Family {
        match kind {
            KeyKind::Rsa { .. } => Family::Rsa,
            KeyKind::P256 | KeyKind::P384 => Family::Ecdsa,
            KeyKind::Ed25519 => Family::Ed25519,
            KeyKind::Ed448 => Family::Ed448,
        }
    }
}
