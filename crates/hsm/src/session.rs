//! One session of a worker: how it is opened and logged in, and the handles that it knows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cascade_time::Clock;
use cryptoki::error::{Error as CkError, RvError};
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;
use secrecy::SecretString;

use crate::error::Fault;
use crate::id::{Half, KeyId};
use crate::known::Known;
use crate::module::Module;

/// Handles that a session remembers; all are forgotten when there are more.
const MAX_HANDLES: usize = 4096;

/// An open session. Owned by one thread.
pub(crate) struct Live {
    pub session: Session,
    pub module: Arc<Module>,
    pub known: Arc<Known>,
    /// Known to be in the user state.
    pub user: bool,
    /// Of a token that wants no login.
    pub anonymous: bool,
    /// Of no use any more, though it exists.
    pub poisoned: bool,
    generation: u64,
    handles: HashMap<(KeyId, Half), ObjectHandle>,
    pulse: Pulse,
}

/// When the work of a thread last got on, for whoever decides that it hangs.
#[derive(Clone)]
pub(crate) struct Pulse {
    at: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
}

/// What became of a login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Login {
    /// With this PIN.
    Done,
    /// The token was open already; nobody looked at the PIN.
    Already,
}

impl Pulse {
    pub fn new(clock: Arc<dyn Clock>) -> Pulse {
        let at = Arc::new(AtomicU64::new(0));
        let pulse = Pulse { at, clock };
        pulse.beat();
        pulse
    }

    pub fn beat(&self) {
        let now = u64::try_from(self.clock.monotonic().as_nanos()).unwrap_or(u64::MAX);
        self.at.store(now, Ordering::Relaxed);
    }

    pub fn last(&self) -> Duration {
        Duration::from_nanos(self.at.load(Ordering::Relaxed))
    }
}

impl Live {
    /// The module's generation must not change meanwhile: hold [`Module::enter`].
    pub fn open(
        module: &Arc<Module>,
        slot: Slot,
        known: &Arc<Known>,
        pulse: &Pulse,
    ) -> Result<Live, Fault> {
        // Sessions are closed by hand: after the module was initialised again, the number of an
        // old one may be that of another's new one.
        let session = match module.p11.open_rw_session_no_drop(slot) {
            Err(CkError::Pkcs11(RvError::TokenWriteProtected, _)) => {
                module.p11.open_ro_session_no_drop(slot)?
            }
            other => other?,
        };
        Ok(Live {
            session,
            module: Arc::clone(module),
            known: Arc::clone(known),
            user: false,
            anonymous: false,
            poisoned: false,
            generation: module.generation(),
            handles: HashMap::new(),
            pulse: pulse.clone(),
        })
    }

    /// False after the module was initialised again.
    pub fn is_current(&self) -> bool {
        self.generation == self.module.generation()
    }

    /// Asks the module whether the session exists and is in the user state.
    pub fn ask_user(&mut self) -> Result<bool, Fault> {
        let state = self.session.get_session_info()?.session_state();
        self.user = matches!(state, SessionState::RwUser | SessionState::RoUser);
        Ok(self.user)
    }

    /// C_Login. Only to be called when [`Live::ask_user`] said no: a module that is logged in by
    /// its own configuration takes it amiss.
    pub fn login(&mut self, pin: &SecretString) -> Result<Login, Fault> {
        let done = match self.session.login(UserType::User, Some(pin)) {
            Ok(()) => Login::Done,
            Err(CkError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Login::Already,
            Err(error) => {
                self.poisoned = true;
                return Err(error.into());
            }
        };
        self.user = true;
        Ok(done)
    }

    pub fn beat(&self) {
        self.pulse.beat();
    }

    pub fn now(&self) -> Duration {
        self.pulse.clock.monotonic()
    }

    pub fn handle(&self, key: &KeyId, half: Half) -> Option<ObjectHandle> {
        self.handles.get(&(key.clone(), half)).copied()
    }

    pub fn remember(&mut self, key: &KeyId, half: Half, handle: ObjectHandle) {
        if self.handles.len() >= MAX_HANDLES {
            self.handles.clear();
        }
        self.handles.insert((key.clone(), half), handle);
    }

    pub fn forget(&mut self, key: &KeyId, half: Half) {
        self.handles.remove(&(key.clone(), half));
    }

    pub fn forget_all(&mut self) {
        self.handles.clear();
    }

    /// Gives the session back to the token, if it is still that one's.
    pub fn close(self) {
        let _calls = self.module.enter();
        if self.is_current() {
            let _ = self.session.close();
        }
    }
}
