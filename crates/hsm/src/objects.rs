//! Key objects of a token: finding, reading, naming and destroying them.

use std::num::NonZeroUsize;

use cryptoki::error::Error as CkError;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};

use crate::error::{Class, Fault, HsmError, Trouble};
use crate::id::{Half, IdForm, KeyId};
use crate::key::{KeyKind, PublicKey};
use crate::point;
use crate::session::Live;
use crate::worker::explain;

/// Handles that are asked for at once.
const FIND_BATCH: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Looks at an object that gives no sound answer; one that is being made is whole within some.
const DESCRIBE_ATTEMPTS: u32 = 8;
/// Objects of one class that are looked at.
pub const MAX_OBJECTS: usize = 200_000;
/// Longest label that is written, in octets.
pub const MAX_LABEL: usize = 255;

/// One half of a key pair as it is on the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectInfo {
    pub id: KeyId,
    pub half: Half,
    /// `None` if it is a kind of key that cannot be used here.
    pub kind: Option<KeyKind>,
    pub label: Option<String>,
}

/// Attributes of one object, as far as it has them.
#[derive(Default)]
struct Read {
    id: Option<Vec<u8>>,
    label: Option<Vec<u8>>,
    key_type: Option<KeyType>,
    params: Option<Vec<u8>>,
    point: Option<Vec<u8>>,
    modulus: Option<Vec<u8>>,
    exponent: Option<Vec<u8>>,
}

/// The object's handle, from memory or by asking for each form of the id.
///
/// # Errors
/// [`HsmError::NotFound`].
pub(crate) fn find(live: &mut Live, key: &KeyId, half: Half) -> Result<ObjectHandle, Trouble> {
    if let Some(handle) = live.handle(key, half) {
        return Ok(handle);
    }
    for cka_id in key.cka_ids() {
        let template = [class(half), Attribute::Id(cka_id)];
        if let Some(handle) = first(live, &template)? {
            live.remember(key, half, handle);
            return Ok(handle);
        }
    }
    if let Some(handle) = by_label(live, key, half)? {
        live.remember(key, half, handle);
        return Ok(handle);
    }
    if half == Half::Private && live.known.contains(key) {
        doubt(live, key)?;
    }
    let id = key.clone();
    Err(HsmError::NotFound { id, half }.into())
}

/// NetHSM finds ids of letters and digits by CKA_ID, and others only by the label that equals them.
fn by_label(live: &Live, key: &KeyId, half: Half) -> Result<Option<ObjectHandle>, CkError> {
    let octets = key.octets();
    let plain = |o: &u8| o.is_ascii_alphanumeric();
    if !octets.iter().all(u8::is_ascii_graphic) || octets.iter().all(plain) {
        return Ok(None);
    }
    for handle in all(live, &[class(half), Attribute::Label(octets)])? {
        if names(live, handle)?.0.as_ref() == Some(key) {
            return Ok(Some(handle));
        }
    }
    Ok(None)
}

/// Asks for a key that does not exist: goes to the device and changes nothing.
pub(crate) fn touch(live: &Live) -> Result<(), Fault> {
    let nothing = KeyId::new([0; KeyId::OCTETS]).cka_id(IdForm::AsciiHex);
    match first(live, &[class(Half::Private), Attribute::Id(nothing)]).map_err(Fault::from) {
        Err(fault) if fault.class != Class::Refused => Err(fault),
        _ => Ok(()),
    }
}

/// A private key that was there is not found: it is hidden from those who are not logged in, and
/// gone for a module whose token was replaced under it.
fn doubt(live: &mut Live, key: &KeyId) -> Result<(), Fault> {
    if !live.anonymous && !live.ask_user()? {
        return Err(Fault::new(
            Class::Login,
            "the login is gone, and the keys with it",
        ));
    }
    match live.known.doubt(key, live.now()) {
        true => Err(Fault::new(
            Class::Module,
            format!("key {key} was there and is not found; the token may have been replaced"),
        )),
        false => Ok(()),
    }
}

fn first(live: &Live, template: &[Attribute]) -> Result<Option<ObjectHandle>, CkError> {
    live.session.iter_objects(template)?.next().transpose()
}

/// All objects of a class, at most [`MAX_OBJECTS`].
fn all(live: &Live, template: &[Attribute]) -> Result<Vec<ObjectHandle>, CkError> {
    live.session
        .iter_objects_with_cache_size(template, FIND_BATCH)?
        .take(MAX_OBJECTS)
        .collect()
}

fn class(half: Half) -> Attribute {
    Attribute::Class(match half {
        Half::Public => ObjectClass::PUBLIC_KEY,
        Half::Private => ObjectClass::PRIVATE_KEY,
    })
}

/// True if no key object has this id in any form.
pub(crate) fn is_free(live: &mut Live, key: &KeyId) -> Result<bool, Trouble> {
    for half in [Half::Private, Half::Public] {
        match find(live, key, half) {
            Ok(_) => return Ok(false),
            Err(Trouble::Final(HsmError::NotFound { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Never asks for CKA_KEY_GEN_MECHANISM, which NetHSM does not have, nor for anything secret.
fn read(live: &Live, handle: ObjectHandle, wanted: &[AttributeType]) -> Result<Read, CkError> {
    let mut read = Read::default();
    for attribute in live.session.get_attributes(handle, wanted)? {
        match attribute {
            Attribute::Id(octets) => read.id = Some(octets),
            Attribute::Label(octets) => read.label = Some(octets),
            Attribute::KeyType(key_type) => read.key_type = Some(key_type),
            Attribute::EcParams(octets) => read.params = Some(octets),
            Attribute::EcPoint(octets) => read.point = Some(octets),
            Attribute::Modulus(octets) => read.modulus = Some(octets),
            Attribute::PublicExponent(octets) => read.exponent = Some(octets),
            _ => {}
        }
    }
    Ok(read)
}

/// The public key, from the public object or, where there is none, from what the private object
/// says of itself.
pub(crate) fn public_key(live: &mut Live, key: &KeyId) -> Result<PublicKey, Trouble> {
    let mut unusable = None;
    for half in [Half::Public, Half::Private] {
        let handle = match find(live, key, half) {
            Ok(handle) => handle,
            Err(Trouble::Final(HsmError::NotFound { .. })) => continue,
            Err(error) => return Err(error),
        };
        match read_public(live, handle)? {
            Ok(public) => return Ok(public),
            Err(why) => unusable = Some(why),
        }
    }
    Err(match unusable {
        Some(why) => HsmError::Unsupported(format!("the public key of {key} is unusable: {why}")),
        None => HsmError::NotFound {
            id: key.clone(),
            half: Half::Public,
        },
    }
    .into())
}

/// The inner error says why the object makes no public key.
pub(crate) fn read_public(
    live: &Live,
    handle: ObjectHandle,
) -> Result<Result<PublicKey, String>, CkError> {
    let key_type = read(live, handle, &[AttributeType::KeyType])?.key_type;
    Ok(match key_type {
        Some(KeyType::RSA) => {
            let wanted = [AttributeType::Modulus, AttributeType::PublicExponent];
            let it = read(live, handle, &wanted)?;
            let (modulus, exponent) = (it.modulus.unwrap_or_default(), it.exponent);
            PublicKey::rsa(&modulus, &exponent.unwrap_or_default())
                .ok_or_else(|| "RSA modulus or exponent is missing or has a size not used".into())
        }
        Some(KeyType::EC | KeyType::EC_EDWARDS) => {
            let it = read(
                live,
                handle,
                &[AttributeType::EcParams, AttributeType::EcPoint],
            )?;
            let params = it.params.unwrap_or_default();
            match point::kind_of(&params) {
                None => Err("its curve is not used in DNSSEC".into()),
                Some(kind) => point::read(kind, &it.point.unwrap_or_default())
                    .map(|octets| PublicKey::Point { kind, octets })
                    .ok_or_else(|| format!("its point is in no known form of {}", kind.name())),
            }
        }
        Some(other) => Err(format!("key type {other} is not used in DNSSEC")),
        None => Err("it has no key type".into()),
    })
}

/// `CKA_ID` and label of an object.
pub(crate) fn names(
    live: &Live,
    handle: ObjectHandle,
) -> Result<(Option<KeyId>, Option<String>), CkError> {
    let it = read(live, handle, &[AttributeType::Id, AttributeType::Label])?;
    Ok((
        it.id.as_deref().and_then(KeyId::from_cka_id),
        it.label.and_then(text),
    ))
}

fn text(octets: Vec<u8>) -> Option<String> {
    let text = String::from_utf8_lossy(&octets);
    (!text.is_empty()).then(|| text.into_owned())
}

/// All private and public keys that have an id; those with `label` only, if one is given.
pub(crate) fn list(live: &mut Live, label: Option<&str>) -> Result<Vec<ObjectInfo>, Trouble> {
    let mut found = Vec::new();
    for half in [Half::Private, Half::Public] {
        let mut template = vec![class(half)];
        if let Some(label) = label {
            template.push(Attribute::Label(label.as_bytes().to_vec()));
        }
        for handle in all(live, &template)? {
            live.beat();
            let object = describe_changing(live, handle, half, &template)?;
            // NetHSM takes a label in a template for an id, or does not look at it.
            found.extend(object.filter(|object| {
                label.is_none_or(|wanted| object.label.as_deref() == Some(wanted))
            }));
        }
    }
    Ok(found)
}

/// As [`describe`], of an object that somebody else may be making or destroying: SoftHSM says of
/// either no more than that something went wrong. `None` also if it is gone.
fn describe_changing(
    live: &mut Live,
    handle: ObjectHandle,
    half: Half,
    template: &[Attribute],
) -> Result<Option<ObjectInfo>, Trouble> {
    let mut attempts = 0;
    loop {
        match describe(live, handle, half) {
            Ok(object) => return Ok(object),
            Err(fault) if fault.class == Class::Handle => return Ok(None),
            Err(fault) => {
                if !all(live, template)?.contains(&handle) {
                    return Ok(None);
                }
                attempts += 1;
                if attempts == DESCRIBE_ATTEMPTS {
                    return Err(fault.into());
                }
            }
        }
    }
}

/// `None` if the object has no id that could name it.
fn describe(
    live: &mut Live,
    handle: ObjectHandle,
    half: Half,
) -> Result<Option<ObjectInfo>, Fault> {
    let (id, label) = names(live, handle)?;
    let Some(id) = id else {
        return Ok(None);
    };
    let kind = match kind_of(live, handle).map_err(Fault::from) {
        // A kind of key that this crate has no word for hides no other.
        Err(fault) if matches!(fault.class, Class::Refused | Class::Unsupported) => None,
        other => other?,
    };
    live.remember(&id, half, handle);
    Ok(Some(ObjectInfo {
        id,
        half,
        kind,
        label,
    }))
}

fn kind_of(live: &Live, handle: ObjectHandle) -> Result<Option<KeyKind>, CkError> {
    Ok(
        match read(live, handle, &[AttributeType::KeyType])?.key_type {
            Some(KeyType::RSA) => {
                let it = read(live, handle, &[AttributeType::Modulus])?;
                let modulus = it.modulus.unwrap_or_default();
                PublicKey::rsa(&modulus, &[3]).map(|public| public.kind())
            }
            Some(KeyType::EC | KeyType::EC_EDWARDS) => {
                let it = read(live, handle, &[AttributeType::EcParams])?;
                it.params.as_deref().and_then(point::kind_of)
            }
            _ => None,
        },
    )
}

/// One object by id.
pub(crate) fn one(live: &mut Live, key: &KeyId, half: Half) -> Result<ObjectInfo, Trouble> {
    let handle = find(live, key, half)?;
    let object = describe(live, handle, half)?;
    object.ok_or_else(|| {
        let id = key.clone();
        HsmError::NotFound { id, half }.into()
    })
}

/// Sets the label.
///
/// # Errors
/// [`HsmError::LabelFixed`] if the token says no, or says yes and does nothing.
pub(crate) fn rename(live: &mut Live, key: &KeyId, half: Half, label: &str) -> Result<(), Trouble> {
    if label.len() > MAX_LABEL {
        let len = label.len();
        return Err(HsmError::BadInput(format!(
            "a label of {len} octets is longer than {MAX_LABEL}"
        ))
        .into());
    }
    let handle = find(live, key, half)?;
    set_label(live, handle, label).map_err(|trouble| match trouble {
        Trouble::Fault(fault) if is_fixed(fault.class) => {
            let (id, why) = (key.clone(), fault.why);
            HsmError::LabelFixed { id, why }.into()
        }
        other => other,
    })
}

pub(crate) fn set_label(live: &Live, handle: ObjectHandle, label: &str) -> Result<(), Trouble> {
    let wanted = Attribute::Label(label.as_bytes().to_vec());
    live.session.update_attributes(handle, &[wanted])?;
    let (_, now) = names(live, handle)?;
    match now.as_deref() == Some(label) {
        true => Ok(()),
        false => Err(Fault::new(Class::Unsupported, "the label stays as it was").into()),
    }
}

/// Answers to a change of label that mean: never here.
pub(crate) fn is_fixed(class: Class) -> bool {
    matches!(class, Class::Template | Class::Unsupported)
}

/// Destroys one half. Success also if it is gone already. True if this call did it.
pub(crate) fn destroy(live: &mut Live, key: &KeyId, half: Half) -> Result<bool, Trouble> {
    let handle = match find(live, key, half) {
        Ok(handle) => handle,
        Err(Trouble::Final(HsmError::NotFound { .. })) => return Ok(false),
        Err(error) => return Err(error),
    };
    live.forget(key, half);
    match live.session.destroy_object(handle).map_err(Fault::from) {
        Ok(()) => Ok(true),
        Err(fault) if fault.class == Class::Handle => gone(live, key, half),
        // NetHSM removes both halves together and refuses the second with words of its own.
        Err(fault) => match gone(live, key, half) {
            Ok(_) => Ok(false),
            Err(_) => Err(explain("to destroy a key", live, fault).into()),
        },
    }
}

/// Succeeds with `false` if the object does not exist.
fn gone(live: &mut Live, key: &KeyId, half: Half) -> Result<bool, Trouble> {
    match find(live, key, half) {
        Ok(_) => {
            let left = format!("C_DestroyObject: the {half} key {key} is still there");
            Err(Fault::new(Class::Refused, left).into())
        }
        Err(Trouble::Final(HsmError::NotFound { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}
