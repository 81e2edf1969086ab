//! From the octets of a file to validated types.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bridge::{self, BridgeConfig, LIB_PATH_PLACEHOLDER};
use crate::config::Config;
use crate::def::{Section, Setting};
use crate::diag::{Diagnostic, Level, finish};
use crate::policy::Policy;
use crate::reader::Cx;
use crate::set::is_name;
use crate::tree::{self, MAX_FILE, Table};
use crate::{bridge_dialect, crosscheck, dialect};

/// Places of values in a file, by dotted key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places(BTreeMap<String, Range<usize>>);

impl Places {
    /// The place of the first of these keys that the file sets.
    pub fn of(&self, keys: &[&str]) -> Option<Range<usize>> {
        keys.iter().find_map(|k| self.0.get(*k).cloned())
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

/// A policy together with the text it came from.
///
/// Serialises as name and text; deserialising parses again, so that stored policies follow the
/// rules of the program that reads them.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    pub name: String,
    /// As shown in findings.
    pub file: String,
    pub text: String,
    pub policy: Policy,
    /// Warnings of reading; those of lints come from [`PolicyFile::lint`].
    pub warnings: Vec<Diagnostic>,
    pub(crate) places: Places,
}

/// The configuration together with the text it came from.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    pub file: String,
    pub text: String,
    pub config: Config,
    pub warnings: Vec<Diagnostic>,
    places: Places,
}

impl ConfigFile {
    /// True if the file sets the key (dotted name); false if its default holds.
    pub fn sets(&self, key: &str) -> bool {
        self.places.has(key)
    }

    /// An error at the place of a key, for what only the host can tell: a user that does not exist.
    pub fn refuse(
        &self,
        key: &str,
        detail: impl Into<String>,
        suggestion: impl Into<String>,
    ) -> Diagnostic {
        refusal(&self.places, &self.file, &self.text, key)(detail.into(), suggestion.into())
    }
}

fn refusal<'a>(
    places: &'a Places,
    file: &'a str,
    text: &'a str,
    key: &'a str,
) -> impl Fn(String, String) -> Diagnostic + 'a {
    move |detail, suggestion| {
        Diagnostic::new("C02", Level::Error, detail)
            .key(key)
            .suggest(suggestion)
            .at(places.of(&[key]))
            .placed(file, text)
    }
}

/// Reads one policy file: types, ranges, unknown keys, the older dialect.
///
/// # Errors
/// Every error of the file, and its warnings, in order of place. Nothing of it can be used.
pub fn parse_policy(name: &str, file: &str, bytes: &[u8]) -> Result<PolicyFile, Vec<Diagnostic>> {
    let named = |mut found: Vec<Diagnostic>| {
        for d in &mut found {
            d.policy = Some(name.to_string());
        }
        found
    };
    if !is_name(name) {
        let d = Diagnostic::new(
            "P02",
            Level::Error,
            format!("'{name}' is not a name of a policy"),
        )
        .suggest("use letters, digits, '.', '_' and '-', at most 63, the first a letter or digit");
        return Err(named(finish(vec![d], file, "")));
    }
    let mut cx = Cx::new(false);
    let (text, mut table) = read(file, bytes, &mut cx).map_err(named)?;
    dialect::modernise(&mut table, &mut cx.found);
    let policy: Policy = cx.root(&table);
    let found = named(close(cx.found, file, text));
    if found.iter().any(Diagnostic::is_error) {
        return Err(found);
    }
    Ok(PolicyFile {
        name: name.to_string(),
        file: file.to_string(),
        text: text.to_string(),
        policy,
        warnings: found,
        places: Places(cx.places),
    })
}

/// Reads the daemon's configuration, with the rules across keys that need
/// nothing but the file.
///
/// # Errors
/// Every error of the file, and its warnings, in order of place.
pub fn parse_config(file: &str, bytes: &[u8]) -> Result<ConfigFile, Vec<Diagnostic>> {
    parse_config_with(file, bytes, false)
}

/// As [`parse_config`]; tests may let the system choose ports.
///
/// # Errors
/// As [`parse_config`].
pub fn parse_config_with(
    file: &str,
    bytes: &[u8],
    allow_port_zero: bool,
) -> Result<ConfigFile, Vec<Diagnostic>> {
    let mut cx = Cx::new(allow_port_zero);
    cx.code = "C01";
    let (text, table) = read(file, bytes, &mut cx)?;
    let mut config: Config = cx.root(&table);
    let places = Places(std::mem::take(&mut cx.places));
    if !cx.found.iter().any(Diagnostic::is_error) {
        crosscheck::config(&mut config, &places, &mut cx.found);
    }
    let found = close(cx.found, file, text);
    if found.iter().any(Diagnostic::is_error) {
        return Err(found);
    }
    Ok(ConfigFile {
        file: file.to_string(),
        text: text.to_string(),
        config,
        warnings: found,
        places,
    })
}

/// The bridge's configuration together with the text it came from.
#[derive(Clone, Debug)]
pub struct BridgeFile {
    pub file: String,
    pub text: String,
    pub config: BridgeConfig,
    pub warnings: Vec<Diagnostic>,
    places: Places,
}

impl BridgeFile {
    /// An error at the place of a key, for what only the host can tell: a file that does not exist.
    pub fn refuse(
        &self,
        key: &str,
        detail: impl Into<String>,
        suggestion: impl Into<String>,
    ) -> Diagnostic {
        refusal(&self.places, &self.file, &self.text, key)(detail.into(), suggestion.into())
    }

    /// The finding about a `lib_path` that nobody has set yet.
    pub fn placeholder(&self) -> Option<Diagnostic> {
        (self.config.lib_path == LIB_PATH_PLACEHOLDER).then(|| {
            self.refuse(
                "lib_path",
                "still the placeholder of the packaged file",
                format!(
                    "name the PKCS#11 module of your HSM, for example: sed -i -e \
                     's|^lib_path = .\\+|lib_path = \"/usr/lib/softhsm/libsofthsm2.so\"|' {}",
                    self.file
                ),
            )
        })
    }
}

/// Reads the bridge's configuration, with the rules across keys that need nothing but the file.
///
/// # Errors
/// Every error of the file, and its warnings, in order of place.
pub fn parse_bridge(file: &str, bytes: &[u8]) -> Result<BridgeFile, Vec<Diagnostic>> {
    let mut cx = Cx::new(false);
    cx.code = "C01";
    let (text, mut table) = read(file, bytes, &mut cx)?;
    bridge_dialect::modernise(&mut table, &mut cx.found);
    let config: BridgeConfig = cx.root(&table);
    let places = Places(std::mem::take(&mut cx.places));
    if !cx.found.iter().any(Diagnostic::is_error) {
        bridge::crosscheck(&config, &places, &mut cx.found);
    }
    let found = close(cx.found, file, text);
    if found.iter().any(Diagnostic::is_error) {
        return Err(found);
    }
    Ok(BridgeFile {
        file: file.to_string(),
        text: text.to_string(),
        config,
        warnings: found,
        places,
    })
}

fn read<'b>(file: &str, bytes: &'b [u8], cx: &mut Cx) -> Result<(&'b str, Table), Vec<Diagnostic>> {
    let code = cx.code;
    let fail = |detail: String, at: Option<(usize, &str)>| {
        let d = Diagnostic::new(code, Level::Error, detail);
        match at {
            Some((offset, text)) => finish(vec![d.at(Some(offset..offset))], file, text),
            None => finish(vec![d], file, ""),
        }
    };
    if bytes.len() > MAX_FILE {
        let detail = format!(
            "the file has {} octets; at most {MAX_FILE} are read",
            bytes.len()
        );
        return Err(fail(detail, None));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let good = bytes.get(..e.valid_up_to()).unwrap_or_default();
            let before = std::str::from_utf8(good).unwrap_or_default();
            return Err(fail(
                "not UTF-8 from here on".into(),
                Some((before.len(), before)),
            ));
        }
    };
    let (table, errors) = tree::parse(text);
    for e in errors {
        cx.found
            .push(Diagnostic::new(code, Level::Error, e.message).at(Some(e.span)));
    }
    Ok((text, table))
}

/// Leaves out what follows from a syntax error: values of lines that could not be read, and
/// required keys that may be missing for that reason only.
fn close(found: Vec<Diagnostic>, file: &str, text: &str) -> Vec<Diagnostic> {
    let line = |d: &Diagnostic| d.span.as_ref().map(|s| tree::position(text, s.start).0);
    let broken: Vec<_> = found
        .iter()
        .filter(|d| d.key.is_none() && d.is_error())
        .filter_map(line)
        .collect();
    let kept = found
        .into_iter()
        .filter(|d| {
            d.key.is_none()
                || broken.is_empty()
                || (d.detail != crate::reader::REQUIRED
                    && line(d).is_none_or(|l| !broken.contains(&l)))
        })
        .collect();
    finish(kept, file, text)
}

/// The effective value of every key, set or default, in the order of the definitions.
pub fn effective_policy(policy: &Policy) -> Vec<Setting> {
    let mut out = Vec::new();
    policy.write(&mut out, "");
    out
}

impl PolicyFile {
    /// The effective values, those that the file sets as written there.
    pub fn effective(&self) -> Vec<Setting> {
        let plain = effective_policy(&self.policy);
        let mut shown = plain.clone();
        for s in &mut shown {
            let written = self
                .places
                .of(&[&s.key()])
                .and_then(|span| self.text.get(span));
            // Strings and numbers only: what a table or an older key says is clearer anew.
            let scalar = |t: &&str| t.starts_with(|c: char| c == '"' || c.is_ascii_digit());
            if let Some(text) = written.filter(scalar)
                && !text.contains('\n')
            {
                s.value = text.to_string();
            }
        }
        let text = print_effective(&shown, false);
        match parse_policy(&self.name, &self.file, text.as_bytes()) {
            Ok(again) if again.policy == self.policy => shown,
            _ => plain,
        }
    }
}

/// As [`effective_policy`], for the configuration.
pub fn effective_config(config: &Config) -> Vec<Setting> {
    let mut out = Vec::new();
    config.write(&mut out, "");
    out
}

/// As [`effective_policy`], for the configuration of the bridge.
pub fn effective_bridge(config: &BridgeConfig) -> Vec<Setting> {
    let mut out = Vec::new();
    config.write(&mut out, "");
    out
}

/// A file with these values; `marks` adds `# default` where a value is not set otherwise.
pub fn print_effective(settings: &[Setting], marks: bool) -> String {
    let mut out = String::new();
    let mut section = "";
    for s in settings {
        if s.section != section {
            section = &s.section;
            out.push_str(&format!("\n[{section}]\n"));
        }
        let mark = if marks && s.is_default {
            "  # default"
        } else {
            ""
        };
        out.push_str(&format!("{} = {}{mark}\n", s.name, s.value));
    }
    out
}

#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    file: String,
    text: String,
}

impl Serialize for PolicyFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = Stored {
            name: self.name.clone(),
            file: self.file.clone(),
            text: self.text.clone(),
        };
        stored.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PolicyFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let s = Stored::deserialize(deserializer)?;
        parse_policy(&s.name, &s.file, s.text.as_bytes()).map_err(|found| {
            let lines: Vec<String> = found
                .iter()
                .filter(|d| d.is_error())
                .map(Diagnostic::one_line)
                .collect();
            D::Error::custom(lines.join("; "))
        })
    }
}
