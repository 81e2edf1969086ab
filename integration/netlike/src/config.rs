//! Configuration and manners.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub const VARIABLE: &str = "NETLIKE_CONFIG";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Folder of the keys; made if it does not exist.
    pub store: PathBuf,
    #[serde(default = "default_pin")]
    pub pin: String,
    /// Each call of C_Login adds a line here.
    pub login_log: Option<PathBuf>,
    pub slot: Vec<SlotConfig>,
    #[serde(default)]
    pub manners: Manners,
}

/// All slots show the same device, as two lookup places of one configuration do, unless their
/// serial numbers differ.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotConfig {
    #[serde(default = "default_label")]
    pub label: String,
    #[serde(default = "default_description")]
    pub description: String,
    #[serde(default = "default_serial")]
    pub serial: String,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manners {
    /// Sessions are in the user state without C_Login; another PIN than the configured one poisons
    /// the session that tries it.
    pub logged_in: bool,
    /// Whether the token wants a login at all.
    pub login_required: bool,
    /// The id is the label: a template's CKA_ID, in hexadecimal if it has more than letters and
    /// digits, else its CKA_LABEL as it is.
    pub label_is_id: bool,
    pub labels_read_only: bool,
    /// Whether CKA_KEY_GEN_MECHANISM exists.
    pub key_gen_mechanism: bool,
    /// A size query for Ed25519 says 62.
    pub eddsa_size_bug: bool,
    /// Destroying one half removes both, and destroying the other fails then.
    pub halves_go_together: bool,
    /// Whether the administrator is configured, without whom no key is made.
    pub admin: bool,
    /// CKA_EXTRACTABLE in a template is refused.
    pub refuses_extractable: bool,
    /// Making an RSA key is answered with CKR_DEVICE_ERROR.
    pub odd_about_rsa: bool,
    /// The curve of Ed25519 is taken as a name only.
    pub curve_by_name: bool,
    /// Of each call that goes to the device.
    pub latency_us: u64,
    /// Each call goes to the next one in turn.
    pub instances: usize,
    pub split: Split,
    /// One signature in so many is wrong; 0 for none.
    pub lie_every: u64,
    /// Each call to the device takes this long.
    pub hang_ms: u64,
    /// Calls to the device fail after `away_after_ms`.
    pub away: bool,
    pub away_after_ms: u64,
    /// Slots whose device is away, when not all are.
    pub away_slots: Vec<u64>,
    /// Signatures are zeros of the right length.
    pub null_token: bool,
    /// Sessions that may be open; 0 for any number.
    pub max_sessions: u64,
    /// After so many signatures a session says CKR_OPERATION_ACTIVE until it is closed; 0 for never.
    pub stuck_after: u64,
    /// When it changes, all sessions end.
    pub session_epoch: u64,
    /// When it changes, logins are forgotten.
    pub login_epoch: u64,
    /// When it changes, keys whose files are gone are gone.
    pub store_epoch: u64,
}

/// What instances have that do not know of each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// A key exists on one of them.
    Missing,
    /// Each has a key of its own under the same id.
    Different,
}

impl Default for Manners {
    fn default() -> Manners {
        Manners {
            logged_in: true,
            login_required: true,
            label_is_id: true,
            labels_read_only: true,
            key_gen_mechanism: false,
            eddsa_size_bug: true,
            halves_go_together: true,
            admin: true,
            refuses_extractable: false,
            odd_about_rsa: false,
            curve_by_name: false,
            latency_us: 0,
            instances: 1,
            split: Split::Missing,
            lie_every: 0,
            hang_ms: 0,
            away: false,
            away_after_ms: 0,
            away_slots: Vec::new(),
            null_token: false,
            max_sessions: 0,
            stuck_after: 0,
            session_epoch: 0,
            login_epoch: 0,
            store_epoch: 0,
        }
    }
}

impl Manners {
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us)
    }
}

/// The manners as they are now.
pub struct Current {
    control: PathBuf,
    base: Manners,
    seen: Mutex<(Stamp, Arc<Manners>)>,
}

/// Device, inode, length and time of change; a file that is renamed into place has another inode.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl Config {
    /// # Errors
    /// A sentence for standard error: PKCS#11 has no way to say what is wrong.
    pub fn read() -> Result<(Config, Current), String> {
        let path = std::env::var_os(VARIABLE)
            .map(PathBuf::from)
            .ok_or_else(|| format!("{VARIABLE} does not name a configuration"))?;
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let config: Config =
            toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut control = path.into_os_string();
        control.push(".control");
        let current = Current {
            control: control.into(),
            base: config.manners.clone(),
            seen: Mutex::new((None, Arc::new(config.manners.clone()))),
        };
        Ok((config, current))
    }
}

impl Current {
    pub fn get(&self) -> Arc<Manners> {
        let stamp = fs::metadata(&self.control)
            .map(|m| (m.dev(), m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
            .ok();
        let mut seen = self.seen.lock();
        if seen.0 != stamp {
            let now = match stamp {
                None => Ok(self.base.clone()),
                Some(_) => fs::read_to_string(&self.control)
                    .map_err(|e| e.to_string())
                    .and_then(|text| self.over_base(&text)),
            };
            match now {
                Ok(manners) => *seen = (stamp, Arc::new(manners)),
                Err(why) => eprintln!("netlike: {}: {why}", self.control.display()),
            }
        }
        Arc::clone(&seen.1)
    }

    /// What the control file leaves out is as in the configuration.
    fn over_base(&self, text: &str) -> Result<Manners, String> {
        let mut base = toml::Table::try_from(&self.base).map_err(|e| e.to_string())?;
        let over: toml::Table = toml::from_str(text).map_err(|e| e.to_string())?;
        base.extend(over);
        base.try_into().map_err(|e: toml::de::Error| e.to_string())
    }
}

fn default_pin() -> String {
    "123456".into()
}

fn default_label() -> String {
    "LocalHSM".into()
}

fn default_description() -> String {
    "NetHSM".into()
}

fn default_serial() -> String {
    "unknown".into()
}
