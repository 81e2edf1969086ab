//! A module with its tokens: slots, opening, supervision, the end.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

use cascade_time::Clock;
use cryptoki::slot::Slot;
use parking_lot::{Condvar, Mutex, MutexGuard};
use secrecy::SecretString;

use crate::error::{HsmError, ModuleError};
use crate::id::IdForm;
use crate::module::Module;
use crate::pool::{HANGS_IN_A_ROW, Pool};
use crate::slot::{self, SlotEntry};
use crate::token::Token;

/// What a program decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A call of the module that takes longer fails, and its session is given up.
    pub call_timeout: Duration,
    /// Sessions per token; 0 for as many as the token allows, at most [`crate::MAX_SESSIONS`].
    pub max_sessions: usize,
    pub id_form: IdForm,
    /// Whether labels are changed at all.
    pub set_labels: bool,
    /// From a random source; salts the hashes by which PINs are compared.
    pub salt: [u8; 16],
}

impl Settings {
    pub fn new(salt: [u8; 16]) -> Settings {
        Settings {
            call_timeout: Duration::from_secs(30),
            max_sessions: 0,
            id_form: IdForm::AsciiHex,
            set_labels: true,
            salt,
        }
    }
}

/// What an operator may want to know, as it happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A token was opened, by us with a PIN or by the module itself.
    Opened {
        slot: u64,
        by_module: bool,
    },
    LoginRefused {
        slot: u64,
        why: String,
    },
    /// The device does not answer; callers are told at once until it does.
    Away {
        slot: u64,
        why: String,
    },
    /// It answers again.
    Back {
        slot: u64,
        after: Duration,
    },
    /// A call did not return in time. After [`Hsm::is_beyond_recovery`] the process should end.
    Hung {
        slot: u64,
        in_a_row: u32,
    },
    /// The module was initialised again as a last resort.
    InitialisedAgain {
        slot: u64,
        result: Result<(), String>,
    },
}

/// Called by threads of this crate; must not block.
pub type Observer = Arc<dyn Fn(Event) + Send + Sync>;

/// A module in use.
pub struct Hsm {
    module: Arc<Module>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    observer: Observer,
    tokens: Mutex<Tokens>,
    /// Held by the one who asks about slots.
    turn: Mutex<()>,
    /// Questions that the module has not answered yet.
    asking: Arc<Mutex<HashSet<Asking>>>,
    watcher: Arc<Watcher>,
}

#[derive(Default)]
struct Tokens {
    by_name: HashMap<String, Arc<Token>>,
    by_slot: HashMap<u64, Arc<Token>>,
}

/// What a thread asks the module besides the sessions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Asking {
    About,
    List,
    Slot(u64),
}

struct Watcher {
    pools: Mutex<Vec<Weak<Pool>>>,
    end: AtomicBool,
    tick: Condvar,
}

/// Names under which tokens were opened that are remembered.
const MAX_NAMES: usize = 256;
/// How long a slot is waited for when all are listed.
const SLOT_PATIENCE: Duration = Duration::from_secs(5);
/// Less is no time for any call.
const SHORTEST: Duration = Duration::from_millis(100);
const GRACE: Duration = Duration::from_millis(50);

impl Hsm {
    /// Loads the module. No token is asked for anything yet.
    ///
    /// # Errors
    /// The module cannot be used at all. A token that is away is no error here.
    pub fn load(
        path: &Path,
        settings: Settings,
        clock: Arc<dyn Clock>,
        observer: Observer,
    ) -> Result<Hsm, ModuleError> {
        let mut settings = settings;
        settings.call_timeout = settings.call_timeout.max(SHORTEST);
        let module = Arc::new(Module::load(path)?);
        let watcher = Arc::new(Watcher {
            pools: Mutex::new(Vec::new()),
            end: AtomicBool::new(false),
            tick: Condvar::new(),
        });
        let pause =
            (settings.call_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let own = Arc::clone(&watcher);
        std::thread::Builder::new()
            .name("hsm-watch".into())
            .spawn(move || own.run(pause))
            .map_err(|e| ModuleError::Refused {
                path: path.to_owned(),
                why: format!("no thread can be started: {e}"),
            })?;
        Ok(Hsm {
            module,
            clock,
            settings,
            observer,
            tokens: Mutex::new(Tokens::default()),
            turn: Mutex::new(()),
            asking: Arc::default(),
            watcher,
        })
    }

    /// File name of the module.
    pub fn file_name(&self) -> &str {
        self.module.file_name()
    }

    /// What the module says about itself.
    pub fn about_module(&self) -> Result<String, HsmError> {
        let _one = self.one_at_a_time()?;
        self.ask(Asking::About, Module::about)
    }

    /// All slots, those that do not answer with their error. Asked anew each time, all at once, so
    /// that one that is away delays the others by no more than a few seconds, and only once.
    pub fn slots(&self) -> Result<Vec<SlotEntry>, HsmError> {
        let _one = self.one_at_a_time()?;
        let slots = self.ask(Asking::List, slot::list)??;
        let under_way: Vec<_> = slots
            .into_iter()
            .enumerate()
            .map(|(index, slot)| {
                let read = move |module: &Module| slot::read(module, index, slot);
                (index, slot, self.aside(Asking::Slot(slot.id()), read))
            })
            .collect();
        let mut patience = self.settings.call_timeout.min(SLOT_PATIENCE);
        let entries = under_way.into_iter().map(|(index, slot, answer)| {
            let why = match answer.map(|answer| answer.recv_timeout(patience)) {
                Ok(Ok(entry)) => return entry,
                Ok(Err(_)) => {
                    let why = format!("it did not answer within {} s", patience.as_secs_f32());
                    // The others have had this time as well.
                    patience = GRACE;
                    why
                }
                Err(error) => error.to_string(),
            };
            SlotEntry {
                index,
                id: slot.id(),
                description: String::new(),
                token: Err(why),
            }
        });
        Ok(entries.collect())
    }

    /// Those who ask at the same time wait for each other.
    fn one_at_a_time(&self) -> Result<MutexGuard<'_, ()>, HsmError> {
        let turn = self.turn.try_lock_for(self.settings.call_timeout);
        turn.ok_or_else(|| HsmError::away("others wait for the module to list its slots"))
    }

    /// The token that `name` means: by label, else slot id, else slot index.
    ///
    /// Quick when it was opened under this name and with this PIN before. The token is not asked
    /// for the PIN when it is logged in by the module's own configuration, nor when another PIN
    /// was good already.
    ///
    /// # Errors
    /// [`HsmError::NoToken`], [`HsmError::LoginRefused`], [`HsmError::Unavailable`]; none of them
    /// is remembered, but for a PIN that the token refused within the last minute.
    pub fn open(&self, name: &str, pin: &SecretString) -> Result<Arc<Token>, HsmError> {
        let known = self.tokens.lock().by_name.get(name).cloned();
        if let Some(token) = known {
            // A token that the module has lost may have been replaced by a new one.
            let found = match token.is_lost() {
                true => self.resolve(name).unwrap_or_else(|_| Arc::clone(&token)),
                false => Arc::clone(&token),
            };
            if Arc::ptr_eq(&found, &token) {
                token.admit(pin)?;
                return Ok(token);
            }
        }
        let token = self.resolve(name)?;
        token.admit(pin)?;
        let mut tokens = self.tokens.lock();
        if tokens.by_name.len() >= MAX_NAMES {
            tokens.by_name.clear();
        }
        tokens.by_name.insert(name.to_owned(), Arc::clone(&token));
        Ok(token)
    }

    fn resolve(&self, name: &str) -> Result<Arc<Token>, HsmError> {
        let slots = self.slots()?;
        self.token_in(slot::choose(&slots, name)?)
    }

    /// One [`Token`] for a slot, however it was named.
    fn token_in(&self, entry: &SlotEntry) -> Result<Arc<Token>, HsmError> {
        let Ok(Some(info)) = &entry.token else {
            return Err(HsmError::NoToken(format!("slot {} has no token", entry.id)));
        };
        let mut tokens = self.tokens.lock();
        if let Some(token) = tokens.by_slot.get(&entry.id)
            && token.info().serial == info.serial
            && token.info().label == info.label
        {
            return Ok(Arc::clone(token));
        }
        let slot = Slot::try_from(entry.id)
            .map_err(|_| HsmError::NoToken(format!("slot id {} is too large", entry.id)))?;
        let pool = Pool::new(
            Arc::clone(&self.module),
            slot,
            info.clone(),
            Arc::clone(&self.clock),
            self.settings.clone(),
            Arc::clone(&self.observer),
        );
        self.watcher.pools.lock().push(Arc::downgrade(&pool));
        let token = Arc::new(Token::new(pool, entry.description.clone()));
        if let Some(old) = tokens.by_slot.insert(entry.id, Arc::clone(&token)) {
            tokens.by_name.retain(|_, named| !Arc::ptr_eq(named, &old));
        }
        Ok(token)
    }

    /// Tokens that were opened.
    pub fn tokens(&self) -> Vec<Arc<Token>> {
        self.tokens.lock().by_slot.values().cloned().collect()
    }

    /// Several calls in a row hung: no thread in this process will get the module to move.
    pub fn is_beyond_recovery(&self) -> bool {
        let tokens = self.tokens.lock();
        tokens
            .by_slot
            .values()
            .any(|token| token.hangs_in_a_row() >= HANGS_IN_A_ROW)
    }

    /// Lets calls under way come to their end, for at most `patience`, and finalises the module.
    pub fn finish(&self, patience: Duration) {
        let tokens = self.tokens();
        for token in &tokens {
            token.close();
        }
        let start = self.clock.monotonic();
        let mut pools = self.watcher.pools.lock();
        while tokens.iter().any(|token| token.running() > 0)
            && self.clock.monotonic().saturating_sub(start) < patience
        {
            let step = Duration::from_millis(10);
            let _ = self.watcher.tick.wait_for(&mut pools, step);
        }
        drop(pools);
        self.watcher.stop();
        self.module.finish();
    }

    /// Asks the module on a thread of its own, for it may not come back. Whoever asks the same
    /// meanwhile is told so at once.
    fn aside<T: Send + 'static>(
        &self,
        what: Asking,
        ask: impl FnOnce(&Module) -> T + Send + 'static,
    ) -> Result<mpsc::Receiver<T>, HsmError> {
        let asking = Arc::clone(&self.asking);
        if !asking.lock().insert(what) {
            return Err(HsmError::away(
                "an earlier question has not been answered yet",
            ));
        }
        let (tell, answer) = mpsc::sync_channel(1);
        let module = Arc::clone(&self.module);
        let thread = std::thread::Builder::new()
            .name("hsm-slots".into())
            .spawn(move || {
                let told = ask(&module);
                asking.lock().remove(&what);
                let _ = tell.send(told);
            });
        if thread.is_err() {
            self.asking.lock().remove(&what);
            return Err(HsmError::away("no thread can be started to ask the module"));
        }
        Ok(answer)
    }

    /// As [`Hsm::aside`], and waits.
    fn ask<T: Send + 'static>(
        &self,
        what: Asking,
        ask: impl FnOnce(&Module) -> T + Send + 'static,
    ) -> Result<T, HsmError> {
        let limit = self.settings.call_timeout;
        let answer = self.aside(what, ask)?;
        answer.recv_timeout(limit).map_err(|_| {
            HsmError::away(format!(
                "the module did not answer within {} s",
                limit.as_secs_f32()
            ))
        })
    }
}

impl Drop for Hsm {
    fn drop(&mut self) {
        for token in self.tokens() {
            token.close();
        }
        self.watcher.stop();
    }
}

impl Watcher {
    fn run(&self, pause: Duration) {
        while !self.end.load(Ordering::Acquire) {
            let mut pools = self.pools.lock();
            let _ = self.tick.wait_for(&mut pools, pause);
            pools.retain(|pool| pool.strong_count() > 0);
            let now: Vec<_> = pools.iter().filter_map(Weak::upgrade).collect();
            drop(pools);
            for pool in now {
                pool.watch();
            }
        }
    }

    fn stop(&self) {
        self.end.store(true, Ordering::Release);
        self.tick.notify_all();
    }
}
