//! The functions that the module exports: pointers in, values to [`Device`], values out.
#![allow(
    unsafe_code,
    clippy::missing_safety_doc,
    non_snake_case,
    reason = "this is the C interface of PKCS#11; each function is as safe as the standard makes it \
              for its caller"
)]

use std::ffi::c_void;
use std::sync::Arc;

use cryptoki_sys::*;
use parking_lot::RwLock;

use crate::attributes::{NoValue, Template};
use crate::device::Device;

static DEVICE: RwLock<Option<Arc<Device>>> = RwLock::new(None);

type Result<T> = std::result::Result<T, CK_RV>;

/// The only symbol that is exported, as the standard demands.
///
/// # Safety
/// `list` points to room for one pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: see above. Callers do not write to the list.
    unsafe { list.write(std::ptr::addr_of!(LIST).cast_mut()) };
    CKR_OK
}

static LIST: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
    version: CK_VERSION {
        major: 2,
        minor: 40,
    },
    C_Initialize: Some(initialize),
    C_Finalize: Some(finalize),
    C_GetInfo: Some(get_info),
    C_GetFunctionList: Some(C_GetFunctionList),
    C_GetSlotList: Some(get_slot_list),
    C_GetSlotInfo: Some(get_slot_info),
    C_GetTokenInfo: Some(get_token_info),
    C_GetMechanismList: Some(get_mechanism_list),
    C_GetMechanismInfo: Some(get_mechanism_info),
    C_InitToken: None,
    C_InitPIN: None,
    C_SetPIN: None,
    C_OpenSession: Some(open_session),
    C_CloseSession: Some(close_session),
    C_CloseAllSessions: Some(close_all_sessions),
    C_GetSessionInfo: Some(get_session_info),
    C_GetOperationState: None,
    C_SetOperationState: None,
    C_Login: Some(login),
    C_Logout: Some(logout),
    C_CreateObject: None,
    C_CopyObject: None,
    C_DestroyObject: Some(destroy_object),
    C_GetObjectSize: None,
    C_GetAttributeValue: Some(get_attribute_value),
    C_SetAttributeValue: Some(set_attribute_value),
    C_FindObjectsInit: Some(find_objects_init),
    C_FindObjects: Some(find_objects),
    C_FindObjectsFinal: Some(find_objects_final),
    C_EncryptInit: None,
    C_Encrypt: None,
    C_EncryptUpdate: None,
    C_EncryptFinal: None,
    C_DecryptInit: None,
    C_Decrypt: None,
    C_DecryptUpdate: None,
    C_DecryptFinal: None,
    C_DigestInit: None,
    C_Digest: None,
    C_DigestUpdate: None,
    C_DigestKey: None,
    C_DigestFinal: None,
    C_SignInit: Some(sign_init),
    C_Sign: Some(sign),
    C_SignUpdate: None,
    C_SignFinal: None,
    C_SignRecoverInit: None,
    C_SignRecover: None,
    C_VerifyInit: None,
    C_Verify: None,
    C_VerifyUpdate: None,
    C_VerifyFinal: None,
    C_VerifyRecoverInit: None,
    C_VerifyRecover: None,
    C_DigestEncryptUpdate: None,
    C_DecryptDigestUpdate: None,
    C_SignEncryptUpdate: None,
    C_DecryptVerifyUpdate: None,
    C_GenerateKey: None,
    C_GenerateKeyPair: Some(generate_key_pair),
    C_WrapKey: None,
    C_UnwrapKey: None,
    C_DeriveKey: None,
    C_SeedRandom: None,
    C_GenerateRandom: None,
    C_GetFunctionStatus: None,
    C_CancelFunction: None,
    C_WaitForSlotEvent: None,
};

fn device() -> Result<Arc<Device>> {
    DEVICE.read().clone().ok_or(CKR_CRYPTOKI_NOT_INITIALIZED)
}

fn rv(result: Result<()>) -> CK_RV {
    result.err().unwrap_or(CKR_OK)
}

/// SAFETY: `data` points to `len` values, or `len` is 0.
unsafe fn slice<'a, T>(data: *const T, len: CK_ULONG) -> &'a [T] {
    match len {
        0 => &[],
        _ if data.is_null() => &[],
        // SAFETY: the caller's promise.
        len => unsafe { std::slice::from_raw_parts(data, len as usize) },
    }
}

/// SAFETY: as [`slice`], and so for each of the attributes.
unsafe fn template(attributes: *const CK_ATTRIBUTE, count: CK_ULONG) -> Template {
    // SAFETY: the caller's promise.
    let attributes = unsafe { slice(attributes, count) };
    let octets = |a: &CK_ATTRIBUTE| {
        // SAFETY: the caller's promise.
        unsafe { slice(a.pValue.cast::<u8>(), a.ulValueLen) }.to_vec()
    };
    attributes.iter().map(|a| (a.type_, octets(a))).collect()
}

/// PKCS#11's way to give a list: its length alone if there is no room at all.
///
/// SAFETY: `len` points to the room that is at `out`, unless `out` is null.
unsafe fn give<T: Copy>(values: &[T], out: *mut T, len: *mut CK_ULONG) -> Result<()> {
    if len.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: the caller's promise.
    unsafe {
        let room = len.read();
        len.write(values.len() as CK_ULONG);
        if out.is_null() {
            return Ok(());
        }
        if (room as usize) < values.len() {
            return Err(CKR_BUFFER_TOO_SMALL);
        }
        std::ptr::copy_nonoverlapping(values.as_ptr(), out, values.len());
    }
    Ok(())
}

/// SAFETY: `out` points to room for a `T`, or is null.
unsafe fn put<T>(value: T, out: *mut T) -> Result<()> {
    if out.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: the caller's promise.
    unsafe { out.write(value) };
    Ok(())
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut octets = [b' '; N];
    for (to, from) in octets.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    octets
}

unsafe extern "C" fn initialize(_: *mut c_void) -> CK_RV {
    let mut device = DEVICE.write();
    if device.is_some() {
        return CKR_CRYPTOKI_ALREADY_INITIALIZED;
    }
    match Device::start() {
        Ok(started) => {
            *device = Some(Arc::new(started));
            CKR_OK
        }
        Err(why) => {
            eprintln!("netlike: {why}");
            CKR_FUNCTION_FAILED
        }
    }
}

unsafe extern "C" fn finalize(_: *mut c_void) -> CK_RV {
    match DEVICE.write().take() {
        Some(_) => CKR_OK,
        None => CKR_CRYPTOKI_NOT_INITIALIZED,
    }
}

unsafe extern "C" fn get_info(info: *mut CK_INFO) -> CK_RV {
    let about = CK_INFO {
        cryptokiVersion: LIST.version,
        manufacturerID: padded("Cascade tests"),
        flags: 0,
        libraryDescription: padded("netlike"),
        libraryVersion: CK_VERSION { major: 1, minor: 7 },
    };
    // SAFETY: C_GetInfo's contract.
    rv(unsafe { put(about, info) })
}

unsafe extern "C" fn get_slot_list(
    _: CK_BBOOL,
    list: *mut CK_SLOT_ID,
    len: *mut CK_ULONG,
) -> CK_RV {
    rv(device().and_then(|device| {
        let ids: Vec<CK_SLOT_ID> = (0..device.config.slot.len() as CK_SLOT_ID).collect();
        // SAFETY: C_GetSlotList's contract.
        unsafe { give(&ids, list, len) }
    }))
}

unsafe extern "C" fn get_slot_info(slot: CK_SLOT_ID, info: *mut CK_SLOT_INFO) -> CK_RV {
    rv(device().and_then(|device| {
        let about = CK_SLOT_INFO {
            slotDescription: padded(&device.slot(slot)?.description),
            manufacturerID: padded("Cascade tests"),
            flags: CKF_TOKEN_PRESENT | CKF_HW_SLOT,
            ..CK_SLOT_INFO::default()
        };
        // SAFETY: C_GetSlotInfo's contract.
        unsafe { put(about, info) }
    }))
}

unsafe extern "C" fn get_token_info(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    rv(device().and_then(|device| {
        let (config, manners, sessions) = device.token(slot)?;
        let most = match manners.max_sessions {
            0 => CK_EFFECTIVELY_INFINITE as CK_ULONG,
            n => n as CK_ULONG,
        };
        let about = CK_TOKEN_INFO {
            label: padded(&config.label),
            manufacturerID: padded("Cascade tests"),
            model: padded("netlike"),
            serialNumber: padded(&config.serial),
            flags: CKF_RNG
                | CKF_USER_PIN_INITIALIZED
                | CKF_TOKEN_INITIALIZED
                | if manners.login_required {
                    CKF_LOGIN_REQUIRED
                } else {
                    0
                },
            ulMaxSessionCount: most,
            ulSessionCount: sessions as CK_ULONG,
            ulMaxRwSessionCount: most,
            ulRwSessionCount: sessions as CK_ULONG,
            ulMaxPinLen: 256,
            ulMinPinLen: 4,
            ..CK_TOKEN_INFO::default()
        };
        // SAFETY: C_GetTokenInfo's contract.
        unsafe { put(about, info) }
    }))
}

const MECHANISMS: [(CK_MECHANISM_TYPE, CK_ULONG, CK_ULONG, CK_FLAGS); 6] = [
    (CKM_RSA_PKCS_KEY_PAIR_GEN, 2048, 4096, CKF_GENERATE_KEY_PAIR),
    (CKM_RSA_PKCS, 2048, 4096, CKF_SIGN),
    (CKM_EC_KEY_PAIR_GEN, 256, 384, CKF_GENERATE_KEY_PAIR),
    (CKM_ECDSA, 256, 384, CKF_SIGN),
    (CKM_EC_EDWARDS_KEY_PAIR_GEN, 256, 256, CKF_GENERATE_KEY_PAIR),
    (CKM_EDDSA, 256, 256, CKF_SIGN),
];

unsafe extern "C" fn get_mechanism_list(
    slot: CK_SLOT_ID,
    list: *mut CK_MECHANISM_TYPE,
    len: *mut CK_ULONG,
) -> CK_RV {
    rv(device().and_then(|device| {
        device.token(slot)?;
        let all = MECHANISMS.map(|(mechanism, ..)| mechanism);
        // SAFETY: C_GetMechanismList's contract.
        unsafe { give(&all, list, len) }
    }))
}

unsafe extern "C" fn get_mechanism_info(
    slot: CK_SLOT_ID,
    mechanism: CK_MECHANISM_TYPE,
    info: *mut CK_MECHANISM_INFO,
) -> CK_RV {
    rv(device().and_then(|device| {
        device.slot(slot)?;
        let found = MECHANISMS.iter().find(|(known, ..)| *known == mechanism);
        let (_, least, most, flags) = *found.ok_or(CKR_MECHANISM_INVALID)?;
        let about = CK_MECHANISM_INFO {
            ulMinKeySize: least,
            ulMaxKeySize: most,
            flags: flags | CKF_HW,
        };
        // SAFETY: C_GetMechanismInfo's contract.
        unsafe { put(about, info) }
    }))
}

unsafe extern "C" fn open_session(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    _: *mut c_void,
    _: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    rv(device().and_then(|device| {
        let handle = device.open(slot, flags & CKF_RW_SESSION != 0)?;
        // SAFETY: C_OpenSession's contract.
        unsafe { put(handle, session) }
    }))
}

unsafe extern "C" fn close_session(session: CK_SESSION_HANDLE) -> CK_RV {
    rv(device().and_then(|device| device.close(session)))
}

unsafe extern "C" fn close_all_sessions(_: CK_SLOT_ID) -> CK_RV {
    rv(device().map(|device| device.close_all()))
}

unsafe extern "C" fn get_session_info(
    session: CK_SESSION_HANDLE,
    info: *mut CK_SESSION_INFO,
) -> CK_RV {
    rv(device().and_then(|device| {
        let about = device.session_info(session)?;
        // SAFETY: C_GetSessionInfo's contract.
        unsafe { put(about, info) }
    }))
}

unsafe extern "C" fn login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    len: CK_ULONG,
) -> CK_RV {
    rv(device().and_then(|device| {
        if user != CKU_USER {
            return Err(CKR_USER_TYPE_INVALID);
        }
        // SAFETY: C_Login's contract.
        device.login(session, unsafe { slice(pin, len) })
    }))
}

unsafe extern "C" fn logout(_: CK_SESSION_HANDLE) -> CK_RV {
    rv(device().map(|device| device.logout()))
}

unsafe extern "C" fn destroy_object(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> CK_RV {
    rv(device().and_then(|device| device.destroy(session, object)))
}

unsafe extern "C" fn get_attribute_value(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    attributes: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    if attributes.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: C_GetAttributeValue's contract.
    let attributes = unsafe { std::slice::from_raw_parts_mut(attributes, count as usize) };
    let wanted: Vec<_> = attributes.iter().map(|a| a.type_).collect();
    let values = match device().and_then(|device| device.attributes(session, object, &wanted)) {
        Ok(values) => values,
        Err(rv) => return rv,
    };
    let mut result = CKR_OK;
    for (attribute, value) in attributes.iter_mut().zip(values) {
        let mut len = attribute.ulValueLen;
        let out = attribute.pValue.cast::<u8>();
        let given = match value {
            // SAFETY: C_GetAttributeValue's contract for each attribute.
            Ok(value) => unsafe { give(&value, out, &mut len) },
            Err(NoValue::Sensitive) => Err(CKR_ATTRIBUTE_SENSITIVE),
            Err(NoValue::Unknown) => Err(CKR_ATTRIBUTE_TYPE_INVALID),
            Err(NoValue::NoKey) => Err(CKR_OBJECT_HANDLE_INVALID),
        };
        attribute.ulValueLen = match given {
            Ok(()) => len,
            Err(rv) => {
                result = rv;
                CK_UNAVAILABLE_INFORMATION
            }
        };
    }
    result
}

unsafe extern "C" fn set_attribute_value(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    attributes: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    // SAFETY: C_SetAttributeValue's contract.
    let template = unsafe { template(attributes, count) };
    rv(device().and_then(|device| device.set_labels(session, object, &template)))
}

unsafe extern "C" fn find_objects_init(
    session: CK_SESSION_HANDLE,
    attributes: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    // SAFETY: C_FindObjectsInit's contract.
    let template = unsafe { template(attributes, count) };
    rv(device().and_then(|device| device.find(session, &template)))
}

unsafe extern "C" fn find_objects(
    session: CK_SESSION_HANDLE,
    objects: *mut CK_OBJECT_HANDLE,
    most: CK_ULONG,
    count: *mut CK_ULONG,
) -> CK_RV {
    rv(device().and_then(|device| {
        let found = device.found(session, most as usize)?;
        let mut room = most;
        // SAFETY: C_FindObjects' contract.
        unsafe {
            give(&found, objects, &mut room)?;
            put(found.len() as CK_ULONG, count)
        }
    }))
}

unsafe extern "C" fn find_objects_final(session: CK_SESSION_HANDLE) -> CK_RV {
    rv(device().and_then(|device| device.find_final(session)))
}

unsafe extern "C" fn generate_key_pair(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    public: *mut CK_ATTRIBUTE,
    public_count: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    private_count: CK_ULONG,
    public_out: *mut CK_OBJECT_HANDLE,
    private_out: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    if mechanism.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    rv(device().and_then(|device| {
        // SAFETY: C_GenerateKeyPair's contract.
        unsafe {
            let (public, private) = (
                template(public, public_count),
                template(private, private_count),
            );
            let kind = (*mechanism).mechanism;
            let (public, private) = device.generate(session, kind, &public, &private)?;
            put(public, public_out)?;
            put(private, private_out)
        }
    }))
}

unsafe extern "C" fn sign_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    if mechanism.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: C_SignInit's contract.
    let kind = unsafe { (*mechanism).mechanism };
    rv(device().and_then(|device| device.sign_init(session, kind, key)))
}

unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    len: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) -> CK_RV {
    if signature_len.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    rv(device().and_then(|device| {
        // SAFETY: C_Sign's contract.
        unsafe {
            let room = (!signature.is_null()).then(|| signature_len.read() as usize);
            let made = device.sign(session, slice(data, len), room)?;
            give(&made, signature, signature_len)
        }
    }))
}
