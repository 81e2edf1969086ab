//! Sessions and what is under way in them.

use std::collections::HashMap;

use cryptoki_sys::{CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_SLOT_ID};

#[derive(Default)]
pub struct Sessions {
    open: HashMap<CK_SESSION_HANDLE, Session>,
    last: CK_SESSION_HANDLE,
    pub session_epoch: u64,
    pub login_epoch: u64,
    /// By C_Login.
    pub logged_in: bool,
}

pub struct Session {
    pub slot: CK_SLOT_ID,
    pub read_write: bool,
    pub poisoned: bool,
    pub signing: Option<(CK_MECHANISM_TYPE, CK_OBJECT_HANDLE)>,
    pub found: Option<Vec<CK_OBJECT_HANDLE>>,
    pub signatures: u64,
}

impl Sessions {
    pub fn new(session_epoch: u64, login_epoch: u64) -> Sessions {
        Sessions {
            session_epoch,
            login_epoch,
            ..Sessions::default()
        }
    }

    pub fn open(&mut self, slot: CK_SLOT_ID, read_write: bool) -> CK_SESSION_HANDLE {
        self.last += 1;
        let session = Session {
            slot,
            read_write,
            poisoned: false,
            signing: None,
            found: None,
            signatures: 0,
        };
        self.open.insert(self.last, session);
        self.last
    }

    pub fn get(&mut self, handle: CK_SESSION_HANDLE) -> Option<&mut Session> {
        self.open.get_mut(&handle)
    }

    pub fn close(&mut self, handle: CK_SESSION_HANDLE) -> bool {
        let was = self.open.remove(&handle).is_some();
        if self.open.is_empty() {
            // PKCS#11 v2.40 §5.6: the last session takes the login with it.
            self.logged_in = false;
        }
        was
    }

    pub fn close_all(&mut self) {
        self.open.clear();
        self.logged_in = false;
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }
}
