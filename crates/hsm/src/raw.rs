//! The one call that is made without the safe wrapper: C_Sign with a buffer of known size.
//!
//! `cryptoki::Session::sign` asks for the size first. That is a second round trip to a network HSM
//! for each signature, and some modules give the wrong size (62 for the 64 octets of Ed25519).
#![allow(unsafe_code)] // Two calls through pointers that the module itself has handed out.

use std::ffi::OsStr;

use cryptoki::error::{Rv, RvError};
use cryptoki::session::Session;
use cryptoki_sys::{CK_BYTE, CK_FUNCTION_LIST, CK_SESSION_HANDLE, CK_ULONG};

use crate::error::{Class, Fault};

type SignFn = unsafe extern "C" fn(
    CK_SESSION_HANDLE,
    *mut CK_BYTE,
    CK_ULONG,
    *mut CK_BYTE,
    *mut CK_ULONG,
) -> cryptoki_sys::CK_RV;

/// C_Sign of a loaded module.
#[derive(Clone, Copy)]
pub(crate) struct RawSign(SignFn);

impl RawSign {
    /// The module must have been loaded before: this takes another reference to the same library,
    /// which is never given back.
    ///
    /// # Errors
    /// What the loader says, in words.
    pub fn of(path: &OsStr) -> Result<RawSign, String> {
        // SAFETY: loading runs the library's initialisers. They have run already, when `cryptoki`
        // loaded the same file for the same purpose.
        let library = unsafe { cryptoki_sys::Pkcs11::new(path) }.map_err(|e| e.to_string())?;
        // Function pointers of the library are used until the process ends.
        let library: &'static cryptoki_sys::Pkcs11 = Box::leak(Box::new(library));
        let get = library
            .C_GetFunctionList
            .as_ref()
            .map_err(|e| e.to_string())?;
        let mut list: *mut CK_FUNCTION_LIST = std::ptr::null_mut();
        // SAFETY: C_GetFunctionList (PKCS#11 v2.40 §5.4) stores one pointer in `list`, which lives
        // throughout the call; it may be called before C_Initialize.
        let rv = unsafe { get(&mut list) };
        if rv != cryptoki_sys::CKR_OK || list.is_null() {
            return Err(format!("C_GetFunctionList returned {rv:#x}"));
        }
        // SAFETY: the module owns the list, never frees it, and it has at least the members of
        // v2.40; it is packed on some platforms, so it is copied and not referred to.
        let sign = unsafe { std::ptr::addr_of!((*list).C_Sign).read_unaligned() };
        sign.map(RawSign)
            .ok_or_else(|| "the module has no C_Sign".to_owned())
    }

    /// Ends the operation that `session.sign_init` began. The signature has at most `room` octets.
    ///
    /// # Errors
    /// Unless it is CKR_BUFFER_TOO_SMALL, the operation has ended.
    pub fn sign(self, session: &Session, data: &mut [u8], room: usize) -> Result<Vec<u8>, Fault> {
        let mut signature = vec![0u8; room];
        let mut len = room as CK_ULONG;
        // SAFETY: both buffers live throughout the call and their lengths are given; the module
        // writes at most `len` octets (PKCS#11 v2.40 §5.2). `Session` is not `Sync`, so no other
        // thread uses this session meanwhile. `data` is mutable only because the type demands it.
        let rv = unsafe {
            (self.0)(
                session.handle(),
                data.as_mut_ptr(),
                data.len() as CK_ULONG,
                signature.as_mut_ptr(),
                &mut len,
            )
        };
        match Rv::from(rv) {
            Rv::Ok => {}
            // The operation goes on after this one (§5.2), so the session cannot be used again.
            Rv::Error(RvError::BufferTooSmall) => {
                return Err(Fault::new(
                    Class::Stuck,
                    format!(
                        "C_Sign: a signature of {len} octets where at most {room} were expected"
                    ),
                ));
            }
            Rv::Error(rv) => return Err(Fault::from_rv(rv, "Sign")),
        }
        match usize::try_from(len) {
            Ok(len) if len <= room => {
                signature.truncate(len);
                Ok(signature)
            }
            _ => Err(Fault::new(
                Class::Refused,
                "C_Sign: claims to have written too much",
            )),
        }
    }
}
