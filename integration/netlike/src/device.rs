//! The device behind the module: what calls do when their pointers have become values.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cryptoki_sys::*;
use parking_lot::{Mutex, RwLock};

use crate::attributes::{self, Half, NoValue, Template};
use crate::config::{Config, Current, Manners, SlotConfig, Split};
use crate::keys::{self, Kind, Pair, Private};
use crate::sessions::{Session, Sessions};

pub struct Device {
    pub config: Config,
    current: Current,
    sessions: Mutex<Sessions>,
    pairs: RwLock<Vec<Option<Arc<Pair>>>>,
    /// Calls to the device, for taking the instances in turn.
    turn: AtomicU64,
    signatures: AtomicU64,
    store_epoch: AtomicU64,
}

type Result<T> = std::result::Result<T, CK_RV>;

impl Device {
    pub fn start() -> std::result::Result<Device, String> {
        let (config, current) = Config::read()?;
        let pairs = keys::load(&config.store)
            .into_iter()
            .map(|pair| Some(Arc::new(pair)));
        let manners = current.get();
        let sessions = Sessions::new(manners.session_epoch, manners.login_epoch);
        Ok(Device {
            pairs: RwLock::new(pairs.collect()),
            sessions: Mutex::new(sessions),
            turn: AtomicU64::new(0),
            signatures: AtomicU64::new(0),
            store_epoch: AtomicU64::new(manners.store_epoch),
            config,
            current,
        })
    }

    fn manners(&self) -> Arc<Manners> {
        self.current.get()
    }

    /// A call that goes to the device; the instance that answers it.
    fn travel(&self, slot: CK_SLOT_ID) -> Result<(Arc<Manners>, usize)> {
        let manners = self.manners();
        if manners.hang_ms > 0 {
            std::thread::sleep(Duration::from_millis(manners.hang_ms));
        }
        if manners.away || manners.away_slots.contains(&slot) {
            std::thread::sleep(Duration::from_millis(manners.away_after_ms));
            return Err(CKR_DEVICE_REMOVED);
        }
        if manners.latency_us > 0 {
            std::thread::sleep(manners.latency());
        }
        if self
            .store_epoch
            .swap(manners.store_epoch, Ordering::Relaxed)
            != manners.store_epoch
        {
            for slot in self.pairs.write().iter_mut() {
                let stays = |pair: &Arc<Pair>| keys::exists(&self.config.store, &pair.id);
                *slot = slot.take().filter(stays);
            }
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let instance = turn % manners.instances.max(1) as u64;
        Ok((manners, instance as usize))
    }

    pub fn slot(&self, id: CK_SLOT_ID) -> Result<&SlotConfig> {
        let index = usize::try_from(id).map_err(|_| CKR_SLOT_ID_INVALID)?;
        self.config.slot.get(index).ok_or(CKR_SLOT_ID_INVALID)
    }

    /// Goes to the device: a module has no other way to know the token.
    pub fn token(&self, id: CK_SLOT_ID) -> Result<(&SlotConfig, Arc<Manners>, usize)> {
        let slot = self.slot(id)?;
        let (manners, _) = self.travel(id)?;
        Ok((slot, manners, self.sessions.lock().len()))
    }

    pub fn open(&self, slot: CK_SLOT_ID, read_write: bool) -> Result<CK_SESSION_HANDLE> {
        self.slot(slot)?;
        let manners = self.manners();
        let mut sessions = self.sessions.lock();
        expire(&mut sessions, &manners);
        if manners.max_sessions > 0 && sessions.len() as u64 >= manners.max_sessions {
            return Err(CKR_SESSION_COUNT);
        }
        Ok(sessions.open(slot, read_write))
    }

    pub fn close(&self, session: CK_SESSION_HANDLE) -> Result<()> {
        match self.sessions.lock().close(session) {
            true => Ok(()),
            false => Err(CKR_SESSION_HANDLE_INVALID),
        }
    }

    pub fn close_all(&self) {
        self.sessions.lock().close_all();
    }

    fn with<T>(
        &self,
        session: CK_SESSION_HANDLE,
        f: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let mut sessions = self.sessions.lock();
        expire(&mut sessions, &self.manners());
        f(sessions.get(session).ok_or(CKR_SESSION_HANDLE_INVALID)?)
    }

    /// The session's slot, if its user is logged in or need not be.
    fn user(&self, session: CK_SESSION_HANDLE) -> Result<CK_SLOT_ID> {
        match self.state(session)? {
            (slot, true) => Ok(slot),
            (slot, false) if !self.manners().login_required => Ok(slot),
            _ => Err(CKR_USER_NOT_LOGGED_IN),
        }
    }

    /// The session's slot, and whether its user is logged in.
    fn state(&self, session: CK_SESSION_HANDLE) -> Result<(CK_SLOT_ID, bool)> {
        let manners = self.manners();
        let mut sessions = self.sessions.lock();
        expire(&mut sessions, &manners);
        let open = manners.logged_in || sessions.logged_in;
        let session = sessions.get(session).ok_or(CKR_SESSION_HANDLE_INVALID)?;
        Ok((session.slot, open && !session.poisoned))
    }

    /// Slot, state and flags.
    pub fn session_info(&self, session: CK_SESSION_HANDLE) -> Result<CK_SESSION_INFO> {
        let (_, user) = self.state(session)?;
        let (slot, read_write) = self.with(session, |s| Ok((s.slot, s.read_write)))?;
        Ok(CK_SESSION_INFO {
            slotID: slot,
            state: match (read_write, user) {
                (true, true) => CKS_RW_USER_FUNCTIONS,
                (true, false) => CKS_RW_PUBLIC_SESSION,
                (false, true) => CKS_RO_USER_FUNCTIONS,
                (false, false) => CKS_RO_PUBLIC_SESSION,
            },
            flags: CKF_SERIAL_SESSION | if read_write { CKF_RW_SESSION } else { 0 },
            ulDeviceError: 0,
        })
    }

    pub fn login(&self, session: CK_SESSION_HANDLE, pin: &[u8]) -> Result<()> {
        let slot = self.with(session, |s| Ok(s.slot))?;
        let (manners, _) = self.travel(slot)?;
        let good = pin == self.config.pin.as_bytes();
        if let Some(path) = &self.config.login_log {
            let log = OpenOptions::new().append(true).create(true).open(path);
            let word = if good { "good" } else { "bad" };
            let _ = log.and_then(|mut log| writeln!(log, "{word}"));
        }
        let mut sessions = self.sessions.lock();
        let already = sessions.logged_in || manners.logged_in;
        if !good {
            if let Some(session) = sessions.get(session) {
                session.poisoned = manners.logged_in;
            }
            return Err(CKR_PIN_INCORRECT);
        }
        if already {
            return Err(CKR_USER_ALREADY_LOGGED_IN);
        }
        sessions.logged_in = true;
        Ok(())
    }

    pub fn logout(&self) {
        self.sessions.lock().logged_in = false;
    }

    /// The values of one object, in the order of `wanted`.
    pub fn attributes(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        wanted: &[CK_ATTRIBUTE_TYPE],
    ) -> Result<Vec<std::result::Result<Vec<u8>, NoValue>>> {
        let slot = self.user(session)?;
        let (pair, half) = self.object(object)?;
        let (manners, instance) = self.travel(slot)?;
        let value = |wanted| attributes::value(&pair, half, wanted, instance, &manners);
        Ok(wanted.iter().map(|wanted| value(*wanted)).collect())
    }

    pub fn set_labels(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<()> {
        let slot = self.user(session)?;
        self.object(object)?;
        let (manners, _) = self.travel(slot)?;
        if manners.labels_read_only {
            return Err(CKR_ATTRIBUTE_READ_ONLY);
        }
        let [(CKA_LABEL, label)] = template.as_slice() else {
            return Err(CKR_ATTRIBUTE_READ_ONLY);
        };
        self.change(object, |pair, half| match half {
            Half::Public => pair.public_label.clone_from(label),
            Half::Private => pair.private_label.clone_from(label),
        })
    }

    pub fn destroy(&self, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> Result<()> {
        let slot = self.user(session)?;
        let (_, half) = self.object(object)?;
        let (manners, _) = self.travel(slot)?;
        if !manners.admin {
            return Err(CKR_FUNCTION_FAILED);
        }
        self.change(object, |pair, _| {
            let both = manners.halves_go_together;
            pair.has_private &= half == Half::Public && !both;
            pair.has_public &= half == Half::Private && !both;
        })
    }

    pub fn find(&self, session: CK_SESSION_HANDLE, template: &Template) -> Result<()> {
        let slot = self.user(session)?;
        self.with(session, |s| match s.found {
            Some(_) => Err(CKR_OPERATION_ACTIVE),
            None => Ok(()),
        })?;
        let (manners, _) = self.travel(slot)?;
        let mut found = Vec::new();
        for (at, pair) in self.pairs.read().iter().enumerate() {
            let Some(pair) = pair else { continue };
            for (half, there) in [
                (Half::Public, pair.has_public),
                (Half::Private, pair.has_private),
            ] {
                if there && attributes::matches(pair, half, template, &manners) {
                    found.push(handle(at, half));
                }
            }
        }
        found.reverse();
        self.with(session, |s| {
            s.found = Some(found);
            Ok(())
        })
    }

    pub fn found(&self, session: CK_SESSION_HANDLE, most: usize) -> Result<Vec<CK_OBJECT_HANDLE>> {
        self.with(session, |s| {
            let found = s.found.as_mut().ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
            let from = found.len() - most.min(found.len());
            let mut some = found.split_off(from);
            some.reverse();
            Ok(some)
        })
    }

    pub fn find_final(&self, session: CK_SESSION_HANDLE) -> Result<()> {
        self.with(session, |s| {
            s.found
                .take()
                .map(drop)
                .ok_or(CKR_OPERATION_NOT_INITIALIZED)
        })
    }

    pub fn generate(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        public: &Template,
        private: &Template,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)> {
        let slot = self.user(session)?;
        let (manners, instance) = self.travel(slot)?;
        let wanted = attributes::read_templates(mechanism, public, private, &manners)?;
        if !manners.admin {
            return Err(CKR_FUNCTION_FAILED);
        }
        let instances = match (manners.instances, manners.split) {
            (0 | 1, _) => vec![0],
            (_, Split::Missing) => vec![instance],
            (n, Split::Different) => (0..n).collect(),
        };
        let mut keys = BTreeMap::new();
        for instance in instances {
            let key = Private::make(wanted.kind).ok_or(CKR_FUNCTION_FAILED)?;
            keys.insert(instance, key);
        }
        let pair = Pair {
            kind: wanted.kind,
            id: wanted.id,
            public_label: wanted.public_label,
            private_label: wanted.private_label,
            private: Arc::new(keys),
            has_public: true,
            has_private: true,
        };
        let mut pairs = self.pairs.write();
        if pairs.iter().flatten().any(|other| other.id == pair.id) {
            return Err(CKR_FUNCTION_FAILED);
        }
        keys::save(&self.config.store, &pair);
        pairs.push(Some(Arc::new(pair)));
        let at = pairs.len() - 1;
        Ok((handle(at, Half::Public), handle(at, Half::Private)))
    }

    pub fn sign_init(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        object: CK_OBJECT_HANDLE,
    ) -> Result<()> {
        self.user(session)?;
        let (pair, half) = self.object(object).map_err(|_| CKR_KEY_HANDLE_INVALID)?;
        let stuck_after = self.manners().stuck_after;
        let fits = match pair.kind {
            Kind::P256 | Kind::P384 => mechanism == CKM_ECDSA,
            Kind::Ed25519 => mechanism == CKM_EDDSA,
            Kind::Rsa(_) => mechanism == CKM_RSA_PKCS,
        };
        if half != Half::Private || !fits {
            return Err(CKR_KEY_TYPE_INCONSISTENT);
        }
        self.with(session, |s| {
            let stuck = stuck_after > 0 && s.signatures >= stuck_after;
            if s.signing.is_some() || stuck {
                return Err(CKR_OPERATION_ACTIVE);
            }
            s.signing = Some((mechanism, object));
            Ok(())
        })
    }

    /// `room` is `None` for a question about the size, which is answered with zeros of that many.
    pub fn sign(
        &self,
        session: CK_SESSION_HANDLE,
        data: &[u8],
        room: Option<usize>,
    ) -> Result<Vec<u8>> {
        let slot = self.user(session)?;
        let (_, object) = self.with(session, |s| s.signing.ok_or(CKR_OPERATION_NOT_INITIALIZED))?;
        let (pair, _) = self.object(object).inspect_err(|_| {
            let _ = self.with(session, |s| Ok(s.signing.take()));
        })?;
        let len = pair.kind.signature_len();
        match room {
            None if pair.kind == Kind::Ed25519 && self.manners().eddsa_size_bug => {
                return Ok(vec![0; 62]);
            }
            None => return Ok(vec![0; len]),
            Some(room) if room < len => return Err(CKR_BUFFER_TOO_SMALL),
            Some(_) => {}
        }
        let signature = self.sign_on(slot, &pair, data);
        self.with(session, |s| {
            s.signing = None;
            s.signatures += 1;
            Ok(())
        })?;
        signature
    }

    fn sign_on(&self, slot: CK_SLOT_ID, pair: &Pair, data: &[u8]) -> Result<Vec<u8>> {
        let (manners, instance) = self.travel(slot)?;
        if manners.null_token {
            return Ok(vec![0; pair.kind.signature_len()]);
        }
        let key = pair.private.get(&instance).ok_or(CKR_KEY_HANDLE_INVALID)?;
        let mut signature = key.sign(pair.kind, data).ok_or(CKR_DATA_LEN_RANGE)?;
        let count = self.signatures.fetch_add(1, Ordering::Relaxed) + 1;
        if manners.lie_every > 0
            && count.is_multiple_of(manners.lie_every)
            && let Some(last) = signature.last_mut()
        {
            *last ^= 1;
        }
        Ok(signature)
    }

    fn object(&self, object: CK_OBJECT_HANDLE) -> Result<(Arc<Pair>, Half)> {
        let (at, half) = place(object).ok_or(CKR_OBJECT_HANDLE_INVALID)?;
        let pairs = self.pairs.read();
        let pair = pairs.get(at).and_then(Option::as_ref);
        let there = |pair: &&Arc<Pair>| match half {
            Half::Public => pair.has_public,
            Half::Private => pair.has_private,
        };
        let pair = pair.filter(there).ok_or(CKR_OBJECT_HANDLE_INVALID)?;
        Ok((Arc::clone(pair), half))
    }

    /// Changes a pair, in its file, too.
    fn change(&self, object: CK_OBJECT_HANDLE, f: impl FnOnce(&mut Pair, Half)) -> Result<()> {
        let (at, half) = place(object).ok_or(CKR_OBJECT_HANDLE_INVALID)?;
        let mut pairs = self.pairs.write();
        let slot = pairs.get_mut(at).ok_or(CKR_OBJECT_HANDLE_INVALID)?;
        let mut own = Pair::clone(slot.as_ref().ok_or(CKR_OBJECT_HANDLE_INVALID)?);
        f(&mut own, half);
        keys::save(&self.config.store, &own);
        *slot = (own.has_public || own.has_private).then(|| Arc::new(own));
        Ok(())
    }
}

fn expire(sessions: &mut Sessions, manners: &Manners) {
    if sessions.session_epoch != manners.session_epoch {
        sessions.session_epoch = manners.session_epoch;
        sessions.close_all();
    }
    if sessions.login_epoch != manners.login_epoch {
        sessions.login_epoch = manners.login_epoch;
        sessions.logged_in = false;
    }
}

fn handle(at: usize, half: Half) -> CK_OBJECT_HANDLE {
    let number = (at as CK_OBJECT_HANDLE + 1) << 1;
    number | CK_OBJECT_HANDLE::from(half == Half::Private)
}

fn place(object: CK_OBJECT_HANDLE) -> Option<(usize, Half)> {
    let at = usize::try_from(object >> 1).ok()?.checked_sub(1)?;
    let half = if object & 1 == 1 {
        Half::Private
    } else {
        Half::Public
    };
    Some((at, half))
}
