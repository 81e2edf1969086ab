//! Templates and the manual's key lists, made from the definitions.

use crate::bridge::BridgeConfig;
use crate::checks::{CHECKS, CheckLevel};
use crate::config::Config;
use crate::def::{Def, Kind, Section, join};
use crate::policy::Policy;

const WIDTH: usize = 80;

/// The commented policy template; uncommented lines carry the defaults.
pub fn template_policy() -> String {
    let mut out = String::from(
        "# A policy of Cascade. Zones use it by the name of this file without \".toml\".\n\
         # It takes effect with \"cascade policy reload\".\n",
    );
    notes(&mut out);
    section(&mut out, "", Policy::DEFS);
    out
}

/// The commented configuration template; uncommented lines carry the defaults.
pub fn template_config() -> String {
    let mut out =
        String::from("# Configuration of cascaded. Only the line \"version\" is needed.\n");
    out.push_str("# Keys marked (R) are taken over on SIGHUP, the others at the next start.\n");
    notes(&mut out);
    section(&mut out, "", Config::DEFS);
    out
}

/// The packaged configuration of the bridge. The line of `lib_path` is the one an operator changes.
pub fn template_bridge() -> String {
    let mut out = String::from(
        "# Configuration of kmip2pkcs11. Only \"lib_path\" is needed.\n\
         # Files of keys marked (R) are read again on SIGHUP.\n",
    );
    notes(&mut out);
    section(&mut out, "", BridgeConfig::DEFS);
    out
}

fn notes(out: &mut String) {
    prose(
        out,
        "Durations are seconds or sums such as \"1h30m\" of the units w, d, h, m, s; sizes are \
         octets or for example \"64KiB\", \"8MiB\", \"4GiB\". Lines that start with \"#\" and no \
         blank can be enabled; they show an example.",
    );
}

fn section(out: &mut String, path: &str, defs: &'static [Def]) {
    for def in defs
        .iter()
        .filter(|d| offered(d, path) && !is_checks(d, path))
    {
        key(out, def);
    }
    for def in defs.iter().filter(|d| d.applies(path)) {
        if let Kind::Section(below, about) = def.kind {
            let path = join(path, def.name);
            out.push('\n');
            prose(out, if def.doc.is_empty() { about } else { def.doc });
            out.push_str(&format!("[{path}]\n"));
            section(out, &path, below);
        }
    }
    if let Some(def) = defs.iter().find(|d| is_checks(d, path)) {
        checks(out, def);
    }
}

fn offered(def: &Def, path: &str) -> bool {
    def.applies(path) && !def.hidden && !matches!(def.kind, Kind::Section(..))
}

/// The one key whose value is a table with names of its own.
fn is_checks(def: &Def, path: &str) -> bool {
    path == "loader" && def.name == "checks"
}

fn key(out: &mut String, def: &Def) {
    out.push('\n');
    let mark = if def.reload { " (R)" } else { "" };
    prose(out, &format!("{}{mark}", words(def.doc)));
    prose(out, &facts(def));
    match def.kind {
        Kind::Required(value) | Kind::Default(value) => {
            let value = def.packaged.unwrap_or(value);
            out.push_str(&format!("{} = {value}\n", def.name));
        }
        Kind::Optional => out.push_str(&format!("#{} = {}\n", def.name, def.example)),
        Kind::Section(..) => {}
    }
}

/// Type, range, and the default with its reason.
fn facts(def: &Def) -> String {
    let mut text = capital(&(def.type_text)());
    if text.starts_with('"') {
        text.insert_str(0, "One of ");
    }
    if let Some(range) = def.range_text() {
        text.push_str(&format!(", {range}"));
    }
    match def.kind {
        Kind::Optional => text.push_str(". Not set by default."),
        Kind::Required(_) => text.push_str(". Required."),
        Kind::Default(value) if value.len() <= 24 => {
            text.push_str(&format!(". Default {value}: {}.", def.why));
        }
        _ => text.push_str(&format!(". Reason of the default: {}.", def.why)),
    }
    text
}

fn checks(out: &mut String, def: &Def) {
    out.push('\n');
    prose(out, def.doc);
    prose(
        out,
        "Each is \"error\" (refuses the load), \"warn\", \"note\" or \"off\".",
    );
    out.push_str("[loader.checks]\n");
    for check in CHECKS.iter().filter(|c| !c.name.is_empty()) {
        out.push('\n');
        let codes: Vec<String> = check.codes.iter().map(|c| format!("Z{c}")).collect();
        let fixed = if check.fixed {
            " Cannot be lowered."
        } else {
            ""
        };
        let both = if check.default.is_none() {
            " Not set: an error for transfers, a warning for files."
        } else {
            ""
        };
        prose(
            out,
            &format!(
                "{} ({}).{fixed}{both}",
                capital(check.doc),
                codes.join(", ")
            ),
        );
        match check.default {
            Some(level) => out.push_str(&format!("{} = \"{level}\"\n", check.name)),
            None => out.push_str(&format!("#{} = \"{}\"\n", check.name, CheckLevel::Error)),
        }
    }
}

fn words(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|c| c.to_uppercase().collect::<String>() + chars.as_str())
        .unwrap_or_default()
}

/// Comment lines of at most 80 columns, `# ` first so that they never look like settable lines.
fn prose(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    if line.len() > 1 {
        out.push_str(&line);
        out.push('\n');
    }
}

/// One key as the manual shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// Dotted name.
    pub key: String,
    pub type_text: String,
    pub range: Option<String>,
    pub default: Option<&'static str>,
    pub why: &'static str,
    pub example: &'static str,
    pub doc: String,
    pub reload: bool,
}

/// Every key of a policy, in the order of the template.
pub fn reference_policy() -> Vec<KeyDoc> {
    reference("", Policy::DEFS)
}

/// Every key of the configuration, in the order of the template.
pub fn reference_config() -> Vec<KeyDoc> {
    reference("", Config::DEFS)
}

/// Every key of the bridge's configuration, in the order of the template.
pub fn reference_bridge() -> Vec<KeyDoc> {
    let mut keys = reference("", BridgeConfig::DEFS);
    let offered = |k: &KeyDoc| {
        BridgeConfig::DEFS
            .iter()
            .any(|d| d.name == k.key && !d.hidden)
    };
    keys.retain(offered);
    keys
}

fn reference(path: &str, defs: &'static [Def]) -> Vec<KeyDoc> {
    let mut out: Vec<KeyDoc> = defs
        .iter()
        .filter(|d| d.applies(path) && !matches!(d.kind, Kind::Section(..)))
        .map(|d| KeyDoc {
            key: join(path, d.name),
            type_text: (d.type_text)(),
            range: d.range_text(),
            default: d.default(),
            why: d.why,
            example: d.example,
            doc: words(d.doc),
            reload: d.reload,
        })
        .collect();
    for d in defs {
        if let Kind::Section(below, _) = d.kind {
            out.extend(reference(&join(path, d.name), below));
        }
    }
    out
}

/// The list of keys in roff, for the manual pages in section 5.
pub fn manual(keys: &[KeyDoc]) -> String {
    let mut out = String::new();
    for k in keys {
        out.push_str(&format!(".TP\n.B {}\n", roff(&k.key)));
        out.push_str(&format!("{}\n", roff(&k.doc)));
        let range = k
            .range
            .as_ref()
            .map(|r| format!(", {r}"))
            .unwrap_or_default();
        out.push_str(&format!(
            "{}{}.\n",
            roff(&capital(&k.type_text)),
            roff(&range)
        ));
        match k.default {
            Some(value) => {
                let why = if k.why.is_empty() {
                    String::new()
                } else {
                    format!(": {}", k.why)
                };
                out.push_str(&format!("Default {}{}.\n", roff(value), roff(&why)));
            }
            None => out.push_str(&format!("Example: {}\n", roff(k.example))),
        }
        if k.reload {
            out.push_str("Taken over on SIGHUP.\n");
        }
    }
    out
}

/// Text that cannot be taken for a request or an escape.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}
