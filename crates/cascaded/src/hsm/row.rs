//! A registered HSM as it is kept. Its secrets are in the state, which nobody else can read, and in
//! nothing that is shown or logged.

use std::time::Duration;

use cascade_api::hsm::{HsmAdd, HsmManaged, HsmTls, TlsVerify};
use cascade_kmip::Credential;
use cascade_kmip::link::{
    Endpoint, Identity, LinkSettings, Local, Timeouts, Trust, certificate_digest, show_digest,
};
use cascade_time::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::label::LabelRule;

const ENDPOINTS_MAX: usize = 16;
const ENVIRONMENT_MAX: usize = 32;
/// What a managed bridge is called where others have an address.
pub const MANAGED: &str = "managed bridge";
const PERIOD_MAX: u64 = 600;
const RESPONSE: std::ops::RangeInclusive<u64> = 1024..=1 << 20;
const CONNECTIONS_MAX: u32 = 64;
/// Shortest label that still tells role and tag.
const LABEL: std::ops::RangeInclusive<u16> = 24..=255;
const LABEL_DEFAULT: u16 = 32;
const CONNECTIONS_DEFAULT: u32 = 4;
const RESPONSE_DEFAULT: u64 = 8192;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HsmRow {
    /// What was asked for; its `Debug` shows no secret.
    pub add: HsmAdd,
    pub vendor: Option<String>,
    /// What it says that it can do.
    #[serde(default)]
    pub algorithms: Option<Vec<String>>,
    /// SHA-256 of the TLS key seen first, in hexadecimal; for servers that are not verified.
    #[serde(default)]
    pub first_seen: Option<String>,
    /// Objects that should be gone and are not.
    #[serde(default)]
    pub undestroyed: Vec<String>,
    pub added_at: Timestamp,
}

/// An option that cannot be taken, and what could be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct BadOption {
    pub what: String,
    pub action: String,
}

fn bad(what: impl Into<String>, action: impl Into<String>) -> BadOption {
    BadOption {
        what: what.into(),
        action: action.into(),
    }
}

impl HsmRow {
    /// Checks everything that can be checked without the server.
    pub fn new(add: HsmAdd, now: Timestamp) -> Result<HsmRow, BadOption> {
        check_id(&add.hsm)?;
        match &add.managed {
            Some(managed) => check_managed(&add, managed)?,
            None => check_endpoints(&add)?,
        }
        check_numbers(&add)?;
        check_tls(&add.tls)?;
        let row = HsmRow {
            add,
            vendor: None,
            algorithms: None,
            first_seen: None,
            undestroyed: Vec::new(),
            added_at: now,
        };
        row.settings(None)?;
        Ok(row)
    }

    /// `local`: the way to the managed bridge, if it is one.
    pub fn settings(&self, local: Option<Local>) -> Result<LinkSettings, BadOption> {
        let a = &self.add;
        let secs = |n: Option<u64>, default: Duration| n.map_or(default, Duration::from_secs);
        let usual = Timeouts::default();
        let named = a.endpoints.iter().map(|e| Endpoint {
            host: e.host.clone(),
            port: e.port,
        });
        let managed = a.managed.iter().map(|_| Endpoint {
            host: MANAGED.into(),
            port: 0,
        });
        let credential = a.username.as_ref().or(a.password.as_ref().map(|p| &p.0));
        let secret = |s: &cascade_api::hsm::Secret| Zeroizing::new(s.0.clone());
        Ok(LinkSettings {
            endpoints: named.chain(managed).collect(),
            local,
            trust: self.trust()?,
            identity: match (&a.tls.client_pem, &a.tls.client_key_pem) {
                (Some(certificate), Some(key)) => Some(Identity {
                    certificate: certificate.clone(),
                    key: secret(key),
                }),
                _ => None,
            },
            credential: credential.map(|_| Credential {
                username: a.username.clone().unwrap_or_default(),
                password: a.password.as_ref().map(secret),
            }),
            timeouts: Timeouts {
                connect: secs(a.connect_timeout_secs, usual.connect),
                read: secs(a.read_timeout_secs, usual.read),
                write: secs(a.write_timeout_secs, usual.write),
            },
            max_response: usize::try_from(a.max_response_bytes.unwrap_or(RESPONSE_DEFAULT))
                .unwrap_or(8192),
            connections: a.connections.unwrap_or(CONNECTIONS_DEFAULT) as usize,
            max_in_flight: a.in_flight.map(|n| n as usize),
        })
    }

    pub fn labels(&self) -> LabelRule {
        let label = self.add.label.clone().unwrap_or_default();
        let max = match label.max_bytes {
            0 => LABEL_DEFAULT,
            n => n,
        };
        LabelRule {
            prefix: label.prefix,
            max: usize::from(max),
        }
    }

    /// How its TLS is judged, in a word.
    pub fn tls_word(&self) -> &'static str {
        if self.add.managed.is_some() {
            return "none";
        }
        match self.add.tls.verify {
            TlsVerify::Full => "verified",
            TlsVerify::Pinned => "pinned",
            TlsVerify::None => "unverified",
        }
    }

    pub fn set_first_seen(&mut self, key: [u8; 32]) {
        self.first_seen = Some(data_encoding::HEXLOWER.encode(&key));
    }

    fn trust(&self) -> Result<Trust, BadOption> {
        let tls = &self.add.tls;
        Ok(match tls.verify {
            TlsVerify::Full => Trust::Authorities(tls.ca_pem.clone()),
            TlsVerify::None => Trust::FirstSeen(self.first_seen.as_deref().and_then(digest)),
            TlsVerify::Pinned => match (&tls.fingerprint, &tls.server_pem) {
                (Some(text), _) => {
                    Trust::Certificate(fingerprint(text).ok_or_else(|| bad_fingerprint(text))?)
                }
                (None, Some(pem)) => Trust::Certificate(
                    certificate_digest(pem)
                        .map_err(|e| bad(e.to_string(), "give the server's certificate in PEM"))?,
                ),
                (None, None) => {
                    return Err(bad(
                        "pinned TLS needs the server's certificate or its fingerprint",
                        "--server-cert <FILE> or --fingerprint sha256:<HEX>",
                    ));
                }
            },
        })
    }
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE
        .decode(hex.as_bytes())
        .ok()?;
    bytes.try_into().ok()
}

/// 64 hexadecimal digits, with or without `sha256:` in front and colons between octets: programs
/// print it either way.
fn fingerprint(text: &str) -> Option<[u8; 32]> {
    digest(
        &text
            .strip_prefix("sha256:")
            .unwrap_or(text)
            .replace(':', ""),
    )
}

fn bad_fingerprint(text: &str) -> BadOption {
    bad(
        format!("'{text}' is no fingerprint"),
        format!("write it as {}", show_digest(&[0xab; 32])),
    )
}

fn check_id(id: &str) -> Result<(), BadOption> {
    let mut chars = id.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = chars.all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if first && rest && id.len() <= 63 && id != "none" {
        return Ok(());
    }
    Err(bad(
        format!("'{id}' cannot be the id of an HSM"),
        "use up to 63 letters, digits, '.', '_' and '-', beginning with a letter or digit; 'none' means files",
    ))
}

fn check_managed(add: &HsmAdd, managed: &HsmManaged) -> Result<(), BadOption> {
    if !add.endpoints.is_empty() || add.tls != HsmTls::default() {
        return Err(bad(
            "a managed bridge has neither addresses nor TLS",
            "give either a PKCS#11 module or a host",
        ));
    }
    if !managed.module.starts_with('/') || managed.module.contains(char::is_control) {
        return Err(bad(
            format!(
                "'{}' is no absolute path of a PKCS#11 module",
                managed.module.escape_debug()
            ),
            "write for example /usr/lib/softhsm/libsofthsm2.so",
        ));
    }
    if add.username.is_none() {
        return Err(bad(
            "which token of the module is meant?",
            "--token <LABEL>, or the id or index of its slot",
        ));
    }
    if managed.env.len() > ENVIRONMENT_MAX {
        return Err(bad(
            "the module's environment is too large",
            format!("set at most {ENVIRONMENT_MAX} variables"),
        ));
    }
    match managed.env.iter().find(|(n, v)| !is_variable(n, v)) {
        Some((name, _)) => Err(bad(
            format!("the variable '{}' cannot be set", name.escape_debug()),
            "use letters, digits and '_'; variables of the dynamic linker stay as they are",
        )),
        None => Ok(()),
    }
}

/// What loads code into a process is not a module's setting.
fn is_variable(name: &str, value: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let linker = name.starts_with("LD_") || name == "GLIBC_TUNABLES" || name == "GCONV_PATH";
    first && plain && !linker && !value.contains('\0') && name.len() + value.len() <= 4096
}

fn check_endpoints(add: &HsmAdd) -> Result<(), BadOption> {
    let n = add.endpoints.len();
    if !(1..=ENDPOINTS_MAX).contains(&n) {
        return Err(bad(
            format!("{n} endpoints were given"),
            format!("give 1 to {ENDPOINTS_MAX}"),
        ));
    }
    for e in &add.endpoints {
        let plain = !e.host.is_empty() && e.host.len() <= 255;
        let clean = e
            .host
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control());
        if !plain || !clean || e.port == 0 {
            return Err(bad(
                format!("'{}' port {} is no address", e.host, e.port),
                "write for example 127.0.0.1 and 5696",
            ));
        }
    }
    Ok(())
}

fn check_numbers(add: &HsmAdd) -> Result<(), BadOption> {
    for (name, value) in [
        ("connect-timeout", add.connect_timeout_secs),
        ("read-timeout", add.read_timeout_secs),
        ("write-timeout", add.write_timeout_secs),
    ] {
        if value.is_some_and(|v| !(1..=PERIOD_MAX).contains(&v)) {
            return Err(bad(
                format!("{name} is out of range"),
                format!("choose 1s to {PERIOD_MAX}s"),
            ));
        }
    }
    if add
        .max_response_bytes
        .is_some_and(|v| !RESPONSE.contains(&v))
    {
        return Err(bad(
            "max-response-bytes is out of range",
            "choose 1024 to 1048576",
        ));
    }
    for (name, value) in [
        ("connections", add.connections),
        ("in-flight", add.in_flight),
    ] {
        if value.is_some_and(|v| !(1..=CONNECTIONS_MAX).contains(&v)) {
            return Err(bad(
                format!("{name} is out of range"),
                format!("choose 1 to {CONNECTIONS_MAX}"),
            ));
        }
    }
    let label = add.label.clone().unwrap_or_default();
    if label.max_bytes != 0 && !LABEL.contains(&label.max_bytes) {
        return Err(bad(
            "key-label-max-bytes is out of range",
            format!("choose {} to {}", LABEL.start(), LABEL.end()),
        ));
    }
    if !label.prefix.chars().all(|c| c.is_ascii_graphic()) || label.prefix.len() > 64 {
        return Err(bad(
            "the prefix of labels has characters that not every token takes",
            "use up to 64 visible ASCII characters",
        ));
    }
    Ok(())
}

fn check_tls(tls: &HsmTls) -> Result<(), BadOption> {
    if tls.client_pem.is_some() != tls.client_key_pem.is_some() {
        return Err(bad(
            "a client certificate needs its key, and the key its certificate",
            "give both --hsm-client-cert and --hsm-client-key",
        ));
    }
    match &tls.fingerprint {
        Some(text) if fingerprint(text).is_none() => Err(bad_fingerprint(text)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn add(json: serde_json::Value) -> HsmAdd {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn secrets_do_not_show() {
        let add = add(serde_json::json!({
            "hsm": "h", "endpoints": [{"host": "127.0.0.1", "port": 5696}],
            "username": "0", "password": "123456",
            "tls": {"verify": "none"}
        }));
        let row = HsmRow::new(add, Timestamp::EPOCH).unwrap();
        assert!(!format!("{row:?} {:?}", row.settings(None)).contains("123456"));
        assert_eq!(row.tls_word(), "unverified");
        let stored: HsmRow = serde_json::from_str(&serde_json::to_string(&row).unwrap()).unwrap();
        assert_eq!(stored, row);
        let settings = stored.settings(None).unwrap();
        assert_eq!(settings.connections, 4);
        let password = settings.credential.unwrap().password.unwrap();
        assert_eq!(password.as_str(), "123456");
    }

    #[test]
    fn what_cannot_be_taken() {
        let good = serde_json::json!({
            "hsm": "h", "endpoints": [{"host": "127.0.0.1", "port": 5696}]
        });
        for (key, value) in [
            ("hsm", serde_json::json!("none")),
            ("hsm", serde_json::json!("a b")),
            ("endpoints", serde_json::json!([])),
            ("endpoints", serde_json::json!([{"host": "", "port": 5696}])),
            ("endpoints", serde_json::json!([{"host": "h", "port": 0}])),
            ("read_timeout_secs", serde_json::json!(0)),
            ("connections", serde_json::json!(65)),
            ("max_response_bytes", serde_json::json!(100)),
            ("label", serde_json::json!({"prefix": "ä", "max_bytes": 32})),
            ("label", serde_json::json!({"prefix": "", "max_bytes": 3})),
            ("tls", serde_json::json!({"verify": "pinned"})),
            (
                "tls",
                serde_json::json!({"verify": "pinned", "fingerprint": "sha256:00"}),
            ),
            (
                "tls",
                serde_json::json!({"verify": "none", "client_pem": "x"}),
            ),
        ] {
            let mut changed = good.clone();
            changed[key] = value.clone();
            let row = HsmRow::new(add(changed), Timestamp::EPOCH);
            assert!(row.is_err(), "{key} {value}");
        }
        assert!(HsmRow::new(add(good), Timestamp::EPOCH).is_ok());
    }

    #[test]
    fn managed_bridges() {
        let good = serde_json::json!({
            "hsm": "h", "username": "LocalHSM", "password": "123456",
            "managed": {"module": "/usr/lib/m.so", "env": {"SOFTHSM2_CONF": "/etc/s.conf"}}
        });
        let row = HsmRow::new(add(good.clone()), Timestamp::EPOCH).unwrap();
        assert_eq!(row.tls_word(), "none");
        let settings = row.settings(None).unwrap();
        let names: Vec<String> = settings.endpoints.iter().map(|e| e.to_string()).collect();
        assert_eq!(names, [MANAGED]);
        let end = serde_json::json!([{"host": "127.0.0.1", "port": 5696}]);
        for (key, value) in [
            ("endpoints", end),
            ("username", serde_json::Value::Null),
            ("tls", serde_json::json!({"verify": "none"})),
            ("managed", serde_json::json!({"module": "m.so"})),
            (
                "managed",
                serde_json::json!({"module": "/m.so", "env": {"LD_PRELOAD": "/x.so"}}),
            ),
            (
                "managed",
                serde_json::json!({"module": "/m.so", "env": {"A=B": "x"}}),
            ),
        ] {
            let mut changed = good.clone();
            changed[key] = value.clone();
            let row = HsmRow::new(add(changed), Timestamp::EPOCH);
            assert!(row.is_err(), "{key} {value}");
        }
    }
}
