//! What can go wrong with a token, and what a return value of a module means for what comes next.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cryptoki::error::{Error as CkError, RvError};
use thiserror::Error;

use crate::id::{Half, KeyId};

/// Why something was not done. The variant says who must act.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum HsmError {
    #[error("there is no {half} key with id {id} on the token")]
    NotFound { id: KeyId, half: Half },
    #[error("login refused: {0}")]
    LoginRefused(String),
    /// No slot, or more than one, is meant by the name that was given.
    #[error("{0}")]
    NoToken(String),
    #[error("the token cannot do this: {0}")]
    Unsupported(String),
    #[error("the label of key {id} cannot be changed on this token ({why})")]
    LabelFixed { id: KeyId, why: String },
    /// An object with this id is there already.
    #[error("a key with id {0} exists already on the token")]
    IdTaken(KeyId),
    /// The caller's mistake.
    #[error("{0}")]
    BadInput(String),
    /// The token answered, and its answer was no.
    #[error("the token refused: {0}")]
    Refused(String),
    #[error("HSM unavailable: {0}")]
    Unavailable(Unavailable),
}

/// The token cannot be reached now; it may work later without anybody changing anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unavailable {
    pub why: String,
    /// When the token is tried again at the earliest, if that is decided.
    pub retry_in: Option<Duration>,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        match self.retry_in {
            Some(left) => write!(f, "; tried again in {} s", left.as_secs_f32().ceil()),
            None => Ok(()),
        }
    }
}

impl HsmError {
    pub(crate) fn away(why: impl Into<String>) -> HsmError {
        HsmError::Unavailable(Unavailable {
            why: why.into(),
            retry_in: None,
        })
    }

    /// True if the same may work later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, HsmError::Unavailable(_))
    }
}

/// A module that cannot be used at all.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ModuleError {
    #[error("{0}: a PKCS#11 module is named by an absolute path", path.display())]
    NotAbsolute { path: PathBuf },
    #[error("{0}: there is no such file", path.display())]
    Missing { path: PathBuf },
    #[error("{0}: cannot be read by this process: {why}; check the modes and owners of the file and of the folders above it", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("{0}: not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{0}: others may write to this file, so anybody could put code into this process; chmod o-w it", path.display())]
    WritableByOthers { path: PathBuf },
    #[error("{0}: not a shared library (no ELF file)", path.display())]
    NotElf { path: PathBuf },
    #[error("{0}: built for {found}, this machine is {expected}; install the module for this architecture", path.display())]
    WrongArchitecture {
        path: PathBuf,
        found: String,
        expected: &'static str,
    },
    #[error("{0}: cannot be loaded: {why}", path.display())]
    NotLoadable { path: PathBuf, why: String },
    #[error("{0}: a library, but no PKCS#11 module: it does not export C_GetFunctionList", path.display())]
    NotPkcs11 { path: PathBuf },
    #[error("{0}: the module refused to start ({why}). It probably cannot read its own configuration, or finds a mistake there", path.display())]
    Refused { path: PathBuf, why: String },
}

/// What a failed call means for session, handle and slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// The object handle is stale: find the object again.
    Handle,
    /// The session is no more; the call was not made.
    Session,
    /// The session ended during the call, whose outcome is not known.
    Closed,
    /// The token has no session left for us.
    Full,
    /// The session has an operation that does not end: drop it.
    Stuck,
    /// Log in again; the call was not made.
    Login,
    /// Device or connection to it is away. The session may live on.
    Device,
    /// As [`Class::Device`], or this very call is not to the device's taste: asking something
    /// harmless tells.
    Odd,
    /// The module lost its state: as [`Class::Device`], and only initialising it again helps.
    Module,
    /// The template is not to this token's taste.
    Template,
    /// The token does not have this at all.
    Unsupported,
    /// The PIN or the account is not good.
    Pin,
    /// Anything else: the token's answer to this very call.
    Refused,
}

/// A failed call of the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub class: Class,
    pub why: String,
}

impl Fault {
    pub fn new(class: Class, why: impl Into<String>) -> Fault {
        Fault {
            class,
            why: why.into(),
        }
    }

    pub fn from_rv(rv: RvError, function: &str) -> Fault {
        Fault::new(classify(rv), format!("C_{function}: {}", rv_name(rv)))
    }
}

impl From<CkError> for Fault {
    fn from(error: CkError) -> Fault {
        match error {
            CkError::Pkcs11(rv, function) => Fault::from_rv(rv, &format!("{function:?}")),
            CkError::NullFunctionPointer | CkError::NotSupported => {
                Fault::new(Class::Unsupported, "the module lacks this function")
            }
            // The remaining ones are values that no standard defines.
            other => Fault::new(Class::Refused, format!("unexpected answer: {other}")),
        }
    }
}

/// Why a piece of work did not succeed: a call failed, or the answer is known.
#[derive(Debug)]
pub(crate) enum Trouble {
    Fault(Fault),
    Final(HsmError),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::Fault(fault)
    }
}

impl From<CkError> for Trouble {
    fn from(error: CkError) -> Trouble {
        Trouble::Fault(error.into())
    }
}

impl From<HsmError> for Trouble {
    fn from(error: HsmError) -> Trouble {
        Trouble::Final(error)
    }
}

impl From<Fault> for HsmError {
    /// For a fault that nothing was or could be done about.
    fn from(fault: Fault) -> HsmError {
        match fault.class {
            Class::Template | Class::Refused | Class::Handle => HsmError::Refused(fault.why),
            Class::Unsupported => HsmError::Unsupported(fault.why),
            Class::Pin | Class::Login => HsmError::LoginRefused(fault.why),
            Class::Session
            | Class::Closed
            | Class::Full
            | Class::Stuck
            | Class::Device
            | Class::Odd
            | Class::Module => HsmError::away(fault.why),
        }
    }
}

/// The table of error handling. What is not listed is the token's own answer.
pub(crate) fn classify(rv: RvError) -> Class {
    use RvError as E;
    match rv {
        E::ObjectHandleInvalid | E::KeyHandleInvalid => Class::Handle,
        E::SessionHandleInvalid => Class::Session,
        E::SessionClosed => Class::Closed,
        E::SessionCount => Class::Full,
        E::OperationActive => Class::Stuck,
        E::UserNotLoggedIn => Class::Login,
        E::DeviceRemoved | E::TokenNotPresent => Class::Device,
        E::DeviceError | E::GeneralError | E::HostMemory | E::DeviceMemory => Class::Odd,
        E::CryptokiNotInitialized | E::SlotIdInvalid | E::TokenNotRecognized => Class::Module,
        E::AttributeReadOnly
        | E::AttributeTypeInvalid
        | E::AttributeValueInvalid
        | E::AttributeSensitive
        | E::TemplateIncomplete
        | E::TemplateInconsistent
        | E::DomainParamsInvalid
        | E::CurveNotSupported
        | E::ActionProhibited => Class::Template,
        E::FunctionNotSupported | E::MechanismInvalid => Class::Unsupported,
        E::PinIncorrect
        | E::PinInvalid
        | E::PinLenRange
        | E::PinExpired
        | E::PinLocked
        | E::UserPinNotInitialized => Class::Pin,
        _ => Class::Refused,
    }
}

/// `CKR_DEVICE_REMOVED` for `DeviceRemoved`: what other tools and vendors' manuals print.
pub(crate) fn rv_name(rv: RvError) -> String {
    match rv {
        RvError::VendorDefined(code) => format!("CKR_VENDOR_DEFINED+{:#x}", code & 0x7fff_ffff),
        RvError::UnknownErrorCode(code) => format!("return value {code:#x}"),
        known => {
            let mut name = String::from("CKR");
            for c in format!("{known:?}").chars() {
                if c.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(c.to_ascii_uppercase());
            }
            name
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_classes() {
        assert_eq!(rv_name(RvError::DeviceRemoved), "CKR_DEVICE_REMOVED");
        assert_eq!(rv_name(RvError::UserNotLoggedIn), "CKR_USER_NOT_LOGGED_IN");
        assert_eq!(
            rv_name(RvError::VendorDefined(0x8000_0002)),
            "CKR_VENDOR_DEFINED+0x2"
        );
        assert_eq!(classify(RvError::GeneralError), Class::Odd);
        assert_eq!(classify(RvError::FunctionFailed), Class::Refused);
        let fault = Fault::from(CkError::Pkcs11(
            RvError::OperationActive,
            cryptoki::context::Function::SignInit,
        ));
        assert_eq!(
            fault,
            Fault::new(Class::Stuck, "C_SignInit: CKR_OPERATION_ACTIVE")
        );
    }
}
