//! One token: everything that is asked of it. Calls block until it has answered, and may come from
//! many threads.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use secrecy::SecretString;

use crate::algorithm::{KeyAlgorithm, from_mechanisms};
use crate::breaker::Open;
use crate::error::{HsmError, Trouble};
use crate::generate::{self, Habits, Made, Naming, NewPair};
use crate::hsm::Event;
use crate::id::{Half, KeyId};
use crate::job::{Done, Kind};
use crate::key::{KeyKind, Mechanism, PublicKey, SignInput};
use crate::login::Verdict;
use crate::objects::{self, ObjectInfo};
use crate::pool::{Pool, SessionStats};
use crate::session::Login;
use crate::sign::{self, Chunk};
use crate::slot::TokenEntry;

/// A token that was opened. While its device is away, every call fails with
/// [`HsmError::Unavailable`] at once, except for one now and then that finds out whether it is back.
pub struct Token {
    pool: Arc<Pool>,
    slot_description: String,
    habits: Arc<Mutex<Habits>>,
    algorithms: Mutex<Option<Vec<KeyAlgorithm>>>,
    /// Held by the one who asks the token for a PIN.
    asking: Mutex<()>,
}

/// Signatures that one session makes before others have their turn.
const MAX_CHUNK: usize = 8;
/// Signatures that can be asked for at once.
pub const MAX_BATCH: usize = 65_536;

impl Token {
    pub(crate) fn new(pool: Arc<Pool>, slot_description: String) -> Token {
        Token {
            pool,
            slot_description,
            habits: Arc::new(Mutex::new(Habits::default())),
            algorithms: Mutex::new(None),
            asking: Mutex::new(()),
        }
    }

    /// Label, serial number and the rest, as they were when the token was opened.
    pub fn info(&self) -> &TokenEntry {
        &self.pool.token
    }

    pub fn slot_id(&self) -> u64 {
        self.pool.slot_id()
    }

    pub fn slot_description(&self) -> &str {
        &self.slot_description
    }

    /// Lets a client in who presents this PIN. Asks the token only if nobody was let in before.
    ///
    /// # Errors
    /// [`HsmError::LoginRefused`], [`HsmError::Unavailable`].
    pub fn admit(&self, pin: &SecretString) -> Result<(), HsmError> {
        if let Some(known) = self.judge(pin) {
            return known;
        }
        // Those who wait here most likely have the same PIN.
        let Some(_one) = self.asking.try_lock_for(self.pool.settings.call_timeout) else {
            return Err(HsmError::away("a login does not come to its end"));
        };
        if let Some(known) = self.judge(pin) {
            return known;
        }
        self.ask(pin)
    }

    fn judge(&self, pin: &SecretString) -> Option<Result<(), HsmError>> {
        let refused = |why: &str| Some(Err(HsmError::LoginRefused(why.into())));
        match self
            .pool
            .access
            .lock()
            .judge(pin, self.pool.clock.monotonic())
        {
            Verdict::Good => Some(Ok(())),
            Verdict::Wrong => refused("the PIN is not the one that opened this token"),
            Verdict::RefusedBefore => refused(
                "the token refused this PIN a moment ago; it is not tried again for a minute, \
                 because tokens lock themselves after a few wrong ones",
            ),
            Verdict::Ask => None,
        }
    }

    fn ask(&self, pin: &SecretString) -> Result<(), HsmError> {
        let (own, slot) = (pin.clone(), self.slot_id());
        let login_required = self.pool.token.login_required;
        let pool = Arc::downgrade(&self.pool);
        let login = self.pool.call(Kind::PUBLIC, move |live| {
            if live.ask_user()? || !login_required {
                return Ok(Login::Already);
            }
            let slot = pool.upgrade().map(|pool| pool.slot());
            if let Some(Ok(slot)) = slot
                && crate::slot::token(&live.module, slot)?.pin_at_risk
            {
                let text = "the token's PIN is locked, or locks at the next wrong attempt: it is \
                            not tried from here. Log in with the vendor's tool first";
                return Err(HsmError::LoginRefused(text.into()).into());
            }
            live.login(&own).map_err(Trouble::from)
        });
        let mut access = self.pool.access.lock();
        match login {
            Ok(Login::Done) => access.accepted(pin),
            Ok(Login::Already) => access.by_itself(),
            Err(HsmError::LoginRefused(why)) => {
                access.refused(pin, self.pool.clock.monotonic());
                drop(access);
                self.pool.tell(Event::LoginRefused {
                    slot,
                    why: why.clone(),
                });
                return Err(HsmError::LoginRefused(why));
            }
            Err(error) => return Err(error),
        }
        drop(access);
        let by_module = matches!(login, Ok(Login::Already));
        self.pool.tell(Event::Opened { slot, by_module });
        Ok(())
    }

    /// Algorithms for which the token can make keys and sign.
    pub fn algorithms(&self) -> Result<Vec<KeyAlgorithm>, HsmError> {
        if let Some(known) = self.algorithms.lock().clone() {
            return Ok(known);
        }
        let pool = Arc::downgrade(&self.pool);
        let found = self.pool.call(Kind::REPEAT, move |live| {
            let Some(slot) = pool.upgrade().map(|pool| pool.slot()).transpose()? else {
                return Ok(Vec::new());
            };
            let p11 = &live.module.p11;
            let list = p11.get_mechanism_list(slot)?;
            let most_bits = |mechanism| match p11.get_mechanism_info(slot, mechanism) {
                Ok(info) => info.max_key_size(),
                Err(_) => 0,
            };
            Ok(from_mechanisms(&list, &most_bits))
        })?;
        *self.algorithms.lock() = Some(found.clone());
        Ok(found)
    }

    /// False once the token has refused to change a label, or if labels are not to be changed.
    pub fn can_rename(&self) -> bool {
        self.pool.settings.set_labels && self.habits.lock().can_rename != Some(false)
    }

    /// Makes a key pair, of which the private half signs and does nothing else.
    ///
    /// # Errors
    /// Leave nothing on the token, unless the device went away in the middle: what it made then
    /// shows up in inventories as nobody's. [`HsmError::IdTaken`] asks for other random octets.
    pub fn generate(&self, want: &NewPair) -> Result<Made, HsmError> {
        let (mut want, form) = (want.clone(), self.pool.settings.id_form);
        if !self.pool.settings.set_labels {
            want.naming = Naming::Plain;
        }
        let habits = Arc::clone(&self.habits);
        let made = self.pool.call(Kind::LONG, move |live| {
            // Not locked meanwhile: making a key takes long.
            let mut own = habits.lock().clone();
            let made = generate::generate(live, &mut own, &want, form);
            *habits.lock() = own;
            made
        })?;
        self.pool.known.insert(&made.id, &made.public);
        Ok(made)
    }

    /// From memory if it was read before.
    pub fn public_key(&self, key: &KeyId) -> Result<PublicKey, HsmError> {
        if let Some(known) = self.pool.known.get(key) {
            return Ok(known);
        }
        let own = key.clone();
        let read = self
            .pool
            .call(Kind::REPEAT, move |live| objects::public_key(live, &own))?;
        self.pool.known.insert(key, &read);
        Ok(read)
    }

    /// From memory if the public key was read before.
    pub fn kind(&self, key: &KeyId) -> Result<KeyKind, HsmError> {
        match self.pool.known.kind(key) {
            Some(kind) => Ok(kind),
            None => self.public_key(key).map(|public| public.kind()),
        }
    }

    pub fn object(&self, key: &KeyId, half: Half) -> Result<ObjectInfo, HsmError> {
        let key = key.clone();
        self.pool
            .call(Kind::REPEAT, move |live| objects::one(live, &key, half))
    }

    /// All key objects that have an id; only those with `label` if one is given.
    pub fn objects(&self, label: Option<&str>) -> Result<Vec<ObjectInfo>, HsmError> {
        let label = label.map(str::to_owned);
        self.pool.call(Kind::REPEAT, move |live| {
            objects::list(live, label.as_deref())
        })
    }

    /// Sets the label of one half.
    ///
    /// # Errors
    /// [`HsmError::LabelFixed`]; without asking the token if it refused before.
    pub fn rename(&self, key: &KeyId, half: Half, label: &str) -> Result<(), HsmError> {
        if !self.can_rename() {
            let why = match self.pool.settings.set_labels {
                true => "it refused before",
                false => "labels are not to be changed",
            };
            let (id, why) = (key.clone(), why.to_owned());
            return Err(HsmError::LabelFixed { id, why });
        }
        let (own, label) = (key.clone(), label.to_owned());
        let result = self.pool.call(Kind::REPEAT, move |live| {
            objects::rename(live, &own, half, &label)
        });
        match &result {
            Ok(()) => self.habits.lock().can_rename = Some(true),
            // A single object may be fixed where others are not.
            Err(HsmError::LabelFixed { .. }) => {
                self.habits.lock().can_rename.get_or_insert(false);
            }
            Err(_) => {}
        }
        result
    }

    /// Signs once. The signature has the length that is right for the key, and is not verified.
    pub fn sign(
        &self,
        key: &KeyId,
        mechanism: Mechanism,
        input: &SignInput,
    ) -> Result<Vec<u8>, HsmError> {
        let kind = self.fitting(key, mechanism)?;
        let (key, mut data) = (key.clone(), mechanism.prepare(input)?);
        self.pool.call(Kind::REPEAT, move |live| {
            sign::sign(live, &key, kind, mechanism, &mut data)
        })
    }

    /// Signs once and calls `done`, perhaps from another thread. Blocks only to read the key when
    /// it signs for the first time; refuses if too much is waiting already.
    pub fn sign_then(
        &self,
        key: &KeyId,
        mechanism: Mechanism,
        input: &SignInput,
        done: impl FnOnce(Result<Vec<u8>, HsmError>) + Send + 'static,
    ) {
        let done: Done<Vec<u8>> = Box::new(done);
        let ready = self
            .fitting(key, mechanism)
            .and_then(|kind| Ok((kind, mechanism.prepare(input)?)));
        let (kind, mut data) = match ready {
            Ok(ready) => ready,
            Err(error) => return done(Err(error)),
        };
        let key = key.clone();
        let work = move |live: &mut _| sign::sign(live, &key, kind, mechanism, &mut data);
        self.pool.submit(Kind::REPEAT, work, done, false);
    }

    /// Signs all, spread over the sessions. Results are in the order of `inputs`.
    pub fn sign_batch(
        &self,
        key: &KeyId,
        mechanism: Mechanism,
        inputs: &[SignInput],
    ) -> Vec<Result<Vec<u8>, HsmError>> {
        let all = |error: HsmError| inputs.iter().map(|_| Err(error.clone())).collect();
        if inputs.len() > MAX_BATCH {
            return all(HsmError::BadInput(format!(
                "more than {MAX_BATCH} signatures at once"
            )));
        }
        let kind = match self.fitting(key, mechanism) {
            Ok(kind) => kind,
            Err(error) => return all(error),
        };
        let mut results: Vec<Option<Result<Vec<u8>, HsmError>>> = Vec::new();
        let mut good = Vec::new();
        for (at, input) in inputs.iter().enumerate() {
            match mechanism.prepare(input) {
                Ok(data) => {
                    good.push((at, data));
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        let width = self.pool.width();
        let size = chunk_size(good.len(), self.pool.spare());
        let (tell, answers) = std::sync::mpsc::channel();
        let mut good = good.into_iter().peekable();
        let mut under_way = 0;
        loop {
            // Work for all sessions is in the queue, but no more: it is there for others, too, and
            // what waits in it for long is refused.
            while under_way < 2 * width && good.peek().is_some() {
                let (places, inputs): (Vec<_>, Vec<_>) = good.by_ref().take(size).unzip();
                let mut chunk = Chunk {
                    key: key.clone(),
                    kind,
                    mechanism,
                    inputs,
                    done: Vec::new(),
                };
                let tell = tell.clone();
                let done = Box::new(move |result| drop(tell.send((places, result))));
                let work = move |live: &mut _| chunk.go_on(live);
                self.pool.submit(Kind::REPEAT, work, done, true);
                under_way += 1;
            }
            if under_way == 0 {
                break;
            }
            let Ok((places, result)) = answers.recv() else {
                break;
            };
            under_way -= 1;
            place(&mut results, places, result);
        }
        let missing = || Err(HsmError::away("the module is being shut down"));
        let results = results.into_iter();
        results
            .map(|result| result.unwrap_or_else(missing))
            .collect()
    }

    fn fitting(&self, key: &KeyId, mechanism: Mechanism) -> Result<KeyKind, HsmError> {
        let kind = self.kind(key)?;
        match mechanism.fits(kind) {
            true => Ok(kind),
            false => Err(HsmError::BadInput(format!(
                "{} key {key} does not sign with {mechanism:?}",
                kind.name()
            ))),
        }
    }

    /// Destroys one half. Success also if it is gone already. True if this call did it.
    pub fn destroy(&self, key: &KeyId, half: Half) -> Result<bool, HsmError> {
        let own = key.clone();
        // That it is not found from now on is no surprise.
        self.pool.known.remove(key);
        let result = self
            .pool
            .call(Kind::REPEAT, move |live| objects::destroy(live, &own, half));
        self.pool.known.remove(key);
        result
    }

    /// Destroys the private half, then the public one.
    ///
    /// # Errors
    /// The first one; the other half was tried all the same.
    pub fn destroy_pair(&self, key: &KeyId) -> Result<(), HsmError> {
        let private = self.destroy(key, Half::Private);
        let public = self.destroy(key, Half::Public);
        private.and(public).map(drop)
    }

    /// Asks the device for a sign of life; the way to notice early that it is back.
    pub fn probe(&self) -> Result<(), HsmError> {
        self.pool
            .call(Kind::REPEAT, |live| Ok(objects::touch(live)?))
    }

    /// Since when (by the monotonic clock) and why the device is away, if it is.
    pub fn away(&self) -> Option<Open> {
        self.pool.away()
    }

    /// How long it has been away.
    pub fn away_for(&self) -> Option<Duration> {
        let now = self.pool.clock.monotonic();
        self.away().map(|open| now.saturating_sub(open.since))
    }

    /// What each session has done so far.
    pub fn stats(&self) -> Vec<SessionStats> {
        self.pool.stats()
    }

    pub(crate) fn hangs_in_a_row(&self) -> u32 {
        self.pool.hangs_in_a_row()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.pool.is_lost()
    }

    pub(crate) fn close(&self) {
        self.pool.close();
    }

    pub(crate) fn running(&self) -> usize {
        self.pool.running()
    }
}

/// Signatures in one piece of work, where `spare` sessions have nothing to do: small enough that none of them idles
/// while another has a long tail. When all have work, the tail is other people's work, and what counts is that a piece
/// costs two threads a turn.
fn chunk_size(signatures: usize, spare: usize) -> usize {
    match spare {
        0 => MAX_CHUNK,
        _ => (signatures / (2 * spare)).clamp(1, MAX_CHUNK),
    }
}

/// Puts the signatures of a chunk where they belong.
fn place(
    results: &mut [Option<Result<Vec<u8>, HsmError>>],
    places: Vec<usize>,
    result: Result<Vec<Result<Vec<u8>, HsmError>>, HsmError>,
) {
    let mut signatures = result.map(Vec::into_iter);
    for at in places {
        let one = match &mut signatures {
            Ok(signatures) => signatures
                .next()
                .unwrap_or_else(|| Err(HsmError::away("a signature is missing"))),
            Err(error) => Err(error.clone()),
        };
        if let Some(result) = results.get_mut(at) {
            *result = Some(one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_small_while_sessions_idle() {
        assert_eq!(chunk_size(8, 4), 1);
        assert_eq!(chunk_size(32, 32), 1);
        assert_eq!(chunk_size(64, 4), MAX_CHUNK);
        assert_eq!(chunk_size(8, 1), 4);
        assert_eq!(chunk_size(8, 0), MAX_CHUNK);
        assert_eq!(chunk_size(0, 3), 1);
    }
}
