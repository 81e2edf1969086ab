//! Reads values by their definitions and says what is wrong with a file.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::def::{Def, Kind, Section, join};
use crate::diag::{Diagnostic, Level};
use crate::tree::{Entry, Node, Table, Val, parse_value};
use crate::value::Value;

/// Detail of the finding about a required key that is absent.
pub(crate) const REQUIRED: &str = "this key is required";

/// Where the reader is, and what it found so far.
#[derive(Debug)]
pub(crate) struct Cx {
    pub found: Vec<Diagnostic>,
    /// Dotted key -> place of its value, for findings made after reading.
    pub places: BTreeMap<String, Range<usize>>,
    /// Code of findings: P01, C01.
    pub code: &'static str,
    /// Port 0 is for tests only.
    pub allow_port_zero: bool,
    path: Vec<String>,
    def: Option<&'static Def>,
    roots: &'static [Def],
}

impl Cx {
    pub fn new(allow_port_zero: bool) -> Self {
        Cx {
            found: Vec::new(),
            places: BTreeMap::new(),
            code: "P01",
            allow_port_zero,
            path: Vec::new(),
            def: None,
            roots: &[],
        }
    }

    /// Reads a whole file's tree.
    pub fn root<S: Section>(&mut self, table: &Table) -> S {
        self.roots = S::DEFS;
        self.unknown(table, S::DEFS);
        S::read(self, Some(table))
    }

    /// A key with a default, or a required one.
    pub fn value<T: Value>(&mut self, table: Option<&Table>, def: &'static Def) -> T {
        let fallback = def.default().unwrap_or_default();
        match self.lookup(table, def) {
            Some(entry) => self.read(entry, def),
            None => {
                if let (Kind::Required(_), Some(_)) = (def.kind, table) {
                    let line = format!("write {} = {fallback}", def.name);
                    let key = join(&self.path.join("."), def.name);
                    let code = self.code;
                    self.found.push(
                        Diagnostic::new(code, Level::Error, REQUIRED)
                            .key(key)
                            .suggest(line)
                            .at(Some(0..0)),
                    );
                }
                None
            }
        }
        .unwrap_or_else(|| default_value(def, fallback))
    }

    /// A key that may be absent.
    pub fn optional<T: Value>(&mut self, table: Option<&Table>, def: &'static Def) -> Option<T> {
        let entry = self.lookup(table, def)?;
        self.read(entry, def)
    }

    /// A table of its own.
    pub fn section<S: Section>(&mut self, table: Option<&Table>, def: &'static Def) -> S {
        let below = self.lookup(table, def).and_then(|entry| {
            self.places
                .insert(self.key_of(def.name), entry.name_span.clone());
            match &entry.node.value {
                Val::Table(t) => Some(t),
                _ => {
                    self.path.push(def.name.to_string());
                    self.wrong_type(&entry.node, "a table");
                    self.path.pop();
                    None
                }
            }
        });
        self.path.push(def.name.to_string());
        if let Some(t) = below {
            self.unknown(t, S::DEFS);
        }
        let out = S::read(self, below);
        self.path.pop();
        out
    }

    fn lookup<'t>(&self, table: Option<&'t Table>, def: &Def) -> Option<&'t Entry> {
        if !def.applies(&self.path.join(".")) {
            return None;
        }
        table?.get(def.name)
    }

    fn key_of(&self, name: &str) -> String {
        join(&self.path.join("."), name)
    }

    fn read<T: Value>(&mut self, entry: &Entry, def: &'static Def) -> Option<T> {
        self.path.push(def.name.to_string());
        let outer = self.def.replace(def);
        self.places
            .insert(self.path.join("."), entry.node.span.clone());
        let value = T::read(&entry.node, self);
        if let Some(n) = value.as_ref().and_then(Value::measure)
            && (def.min.is_some_and(|min| n < min) || def.max.is_some_and(|max| n > max))
        {
            let range = format!("write {}", def.range_text().unwrap_or_default());
            self.bad(
                &entry.node,
                format!("{} is outside the range", (def.show_bound)(n)),
                range,
            );
        }
        self.def = outer;
        self.path.pop();
        value
    }

    /// The default of the key being read, for values that keep a part of it.
    pub fn default_node(&self) -> Option<Node> {
        parse_value(self.def?.default()?)
    }

    pub fn key(&self) -> String {
        self.path.join(".")
    }

    pub fn bad(&mut self, node: &Node, detail: impl Into<String>, suggestion: impl Into<String>) {
        self.say(Level::Error, node, detail, suggestion);
    }

    pub fn warn(&mut self, node: &Node, detail: impl Into<String>, suggestion: impl Into<String>) {
        self.say(Level::Warning, node, detail, suggestion);
    }

    fn say(
        &mut self,
        level: Level,
        node: &Node,
        detail: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        let suggestion = suggestion.into();
        let mut d = Diagnostic::new(self.code, level, detail)
            .key(self.key())
            .at(Some(node.span.clone()));
        d.value = shown(node);
        if !suggestion.is_empty() {
            d.suggestion = Some(suggestion);
        }
        self.found.push(d);
    }

    pub fn wrong_type(&mut self, node: &Node, wanted: &str) {
        let example = self
            .def
            .map(|def| def.default().unwrap_or(def.example))
            .filter(|text| !text.is_empty() && *text != "[]");
        let name = self.path.last().cloned().unwrap_or_default();
        let suggestion = example
            .map(|e| format!("for example {name} = {e}"))
            .unwrap_or_default();
        self.bad(
            node,
            format!("{} where {wanted} is expected", node.type_name()),
            suggestion,
        );
    }

    /// Reports keys that no definition has, with the nearest one that exists.
    fn unknown(&mut self, table: &Table, defs: &'static [Def]) {
        let section = self.path.join(".");
        let known: Vec<&str> = defs
            .iter()
            .filter(|d| d.applies(&section))
            .map(|d| d.name)
            .collect();
        for entry in &table.entries {
            if !known.contains(&entry.name.as_str()) {
                self.unknown_key(entry, &known);
            }
        }
    }

    /// Reports one unknown key; `known` are the keys of this table.
    pub fn unknown_key(&mut self, entry: &Entry, known: &[&str]) {
        let section = self.path.join(".");
        let suggestion = match superseded(&join(&section, &entry.name)) {
            Some(text) => Some(text.to_string()),
            None => match nearest(&entry.name, known) {
                Some(name) => Some(format!("did you mean '{name}'?")),
                None => elsewhere(&entry.name, self.roots, "")
                    .map(|place| format!("a key of this name exists in [{place}]")),
            },
        };
        let mut d = Diagnostic::new(self.code, Level::Error, "unknown key")
            .key(join(&section, &entry.name))
            .at(Some(entry.name_span.clone()));
        d.value = shown(&entry.node);
        d.suggestion = suggestion;
        self.found.push(d);
    }
}

/// Keys that earlier descriptions of the format had and this one says otherwise.
fn superseded(key: &str) -> Option<&'static str> {
    Some(match key {
        "loader.guard.max-removed" => "write owners-removed = { hold = \"30%\" }",
        "loader.guard.max-ds-removed" => "write ds-removed = { hold = \"30%\" }",
        "loader.guard.max-added" => "write records-added = { hold = \"200%\" }",
        "loader.guard.min-names" => {
            "each measure has its own floor: { hold = \"20%\", floor = 50 }"
        }
        "loader.guard.apex-change" => "write apex-ns-disjoint = \"warn\"",
        _ => return None,
    })
}

/// The known name an operator most likely meant, if one is near.
pub(crate) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = name.replace('_', "-").to_ascii_lowercase();
    known
        .iter()
        .map(|k| {
            (
                strsim::damerau_levenshtein(&plain, &k.replace('_', "-")),
                *k,
            )
        })
        .filter(|(distance, k)| *distance <= 1 + k.len() / 4)
        .min()
        .map(|(_, k)| k)
}

/// The first section that has a key of exactly this name.
fn elsewhere(name: &str, defs: &'static [Def], path: &str) -> Option<String> {
    let here = |d: &Def| {
        d.name == name && d.applies(path) && !d.hidden && !matches!(d.kind, Kind::Section(..))
    };
    if !path.is_empty() && defs.iter().any(here) {
        return Some(path.to_string());
    }
    defs.iter().find_map(|d| match d.kind {
        Kind::Section(below, _) => elsewhere(name, below, &join(path, d.name)),
        _ => None,
    })
}

/// A short value as it would be written; long ones, lists and tables are seen in the snippet.
fn shown(node: &Node) -> Option<String> {
    match &node.value {
        Val::Str(s) if s.chars().count() <= 60 => Some(crate::tree::quote(s)),
        Val::Int(Some(n)) => Some(n.to_string()),
        Val::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

/// The default of a definition as a value.
pub(crate) fn default_value<T: Value>(def: &'static Def, text: &'static str) -> T {
    let mut cx = Cx::new(false);
    cx.def = Some(def);
    parse_value(text)
        .and_then(|node| T::read(&node, &mut cx))
        .expect("every default is valid: a test reads them all")
}
