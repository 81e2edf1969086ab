//! Definitions: each key is written once, with its type, default, range, reason and example, and
//! template, manual text, effective values and error texts all come from that one place.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::diag::{Diagnostic, Level};
use crate::effects::Effect;
use crate::tree::{Entry, Node, Table, Val, parse_value};
use crate::value::Value;

/// What the table of keys says about one key.
#[derive(Clone, Copy, Debug)]
pub struct Def {
    pub name: &'static str,
    pub doc: &'static str,
    pub kind: Kind,
    /// Describes the type for people.
    pub type_text: fn() -> String,
    /// Bounds in the unit of the type: seconds, octets, pieces.
    pub min: Option<u64>,
    pub max: Option<u64>,
    /// Prints a bound in the unit of the type.
    pub show_bound: fn(u64) -> String,
    /// Reason of the default.
    pub why: &'static str,
    /// An example in TOML, for keys without default.
    pub example: &'static str,
    /// Exists in this section only, where one definition serves several.
    pub only: Option<&'static str>,
    /// Accepted, and not offered.
    pub hidden: bool,
    /// Configuration: taken over by SIGHUP.
    pub reload: bool,
    /// Policies: what a change does to existing zones (policy.md §8).
    pub effect: Effect,
    /// Policies: a change waits for the operator's consent.
    pub confirm: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Must be in the file.
    Required(&'static str),
    /// Has this default, in TOML.
    Default(&'static str),
    /// Absent unless set.
    Optional,
    /// A table with keys of its own, and what it is about.
    Section(&'static [Def], &'static str),
}

impl Def {
    pub(crate) const fn new(
        name: &'static str,
        kind: Kind,
        doc: &'static str,
        (type_text, show_bound): (fn() -> String, fn(u64) -> String),
    ) -> Self {
        Def {
            name,
            doc,
            kind,
            type_text,
            min: None,
            max: None,
            show_bound,
            why: "",
            example: "",
            only: None,
            hidden: false,
            reload: false,
            effect: Effect::None,
            confirm: false,
        }
    }

    pub(crate) const fn range(mut self, min: u64, max: u64) -> Self {
        self.min = Some(min);
        self.max = Some(max);
        self
    }

    pub(crate) const fn min(mut self, min: u64) -> Self {
        self.min = Some(min);
        self
    }

    pub(crate) const fn why(mut self, text: &'static str) -> Self {
        self.why = text;
        self
    }

    pub(crate) const fn eg(mut self, text: &'static str) -> Self {
        self.example = text;
        self
    }

    pub(crate) const fn only(mut self, section: &'static str) -> Self {
        self.only = Some(section);
        self
    }

    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    pub(crate) const fn reload(mut self) -> Self {
        self.reload = true;
        self
    }

    pub(crate) const fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    pub(crate) const fn confirm(mut self) -> Self {
        self.confirm = true;
        self
    }

    /// The default in TOML, if there is one.
    pub fn default(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Required(text) | Kind::Default(text) => Some(text),
            Kind::Optional | Kind::Section(..) => None,
        }
    }

    /// "at least 1m, at most 1h", or nothing.
    pub fn range_text(&self) -> Option<String> {
        let show = self.show_bound;
        match (self.min, self.max) {
            (Some(a), Some(b)) => Some(format!("{} to {}", show(a), show(b))),
            (Some(a), None) => Some(format!("at least {}", show(a))),
            (None, Some(b)) => Some(format!("at most {}", show(b))),
            (None, None) => None,
        }
    }

    /// Whether the key exists in the section with this dotted name.
    pub fn applies(&self, section: &str) -> bool {
        self.only.is_none_or(|only| only == section)
    }
}

/// A struct whose fields are defined by a table of keys.
pub(crate) trait Section: Sized {
    const DEFS: &'static [Def];
    const DOC: &'static str;

    /// Reads what is there, takes defaults for the rest and for what is wrong.
    fn read(cx: &mut Cx, table: Option<&Table>) -> Self;

    /// Every set or defaulted key in the order of the definitions, sections after values.
    fn write(&self, out: &mut Vec<Setting>, path: &str);
}

/// One effective value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Dotted name of the section, empty at the top.
    pub section: String,
    pub name: &'static str,
    /// In TOML.
    pub value: String,
    /// Equal to the default.
    pub is_default: bool,
}

impl Setting {
    pub fn key(&self) -> String {
        join(&self.section, self.name)
    }
}

/// Writes one value for [`Section::write`].
pub(crate) fn put<T: Value + PartialEq>(
    out: &mut Vec<Setting>,
    path: &str,
    name: &'static str,
    value: &T,
    def: &'static Def,
) {
    if !def.applies(path) {
        return;
    }
    let is_default = def
        .default()
        .is_some_and(|text| default_value::<T>(def, text) == *value);
    out.push(Setting {
        section: path.to_string(),
        name,
        value: value.write(),
        is_default,
    });
}

pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_string()
    } else {
        format!("{path}.{name}")
    }
}

/// The default of a definition as a value.
fn default_value<T: Value>(def: &'static Def, text: &'static str) -> T {
    let mut cx = Cx::new(false);
    cx.def = Some(def);
    parse_value(text)
        .and_then(|node| T::read(&node, &mut cx))
        .expect("every default is valid: a test reads them all")
}

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
    /// Port 0 is for tests only (config.md §2.9).
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
        .map(|k| (strsim::damerau_levenshtein(&plain, k), *k))
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

/// Defines a struct together with its keys.
///
/// A line is `kind "name" => field: Type = default in TOML [properties];` where kind is `req`
/// (must be in the file), `key` (has a default), `opt` (may be absent) or `sub` (a section).
macro_rules! section {
    (
        $(#[doc = $sdoc:literal])*
        pub struct $Name:ident {
            $(
                $(#[doc = $doc:literal])*
                $kind:ident $key:literal => $field:ident : $ty:ty
                    $(= $default:literal)? $([ $($m:ident ( $($arg:expr),* )),* $(,)? ])? ;
            )*
        }
    ) => {
        $(#[doc = $sdoc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $Name {
            $( $(#[doc = $doc])* pub $field: $crate::def::field_type!($kind, $ty), )*
        }

        impl $crate::def::Section for $Name {
            const DOC: &'static str = concat!($($sdoc, "\n"),*);
            const DEFS: &'static [$crate::def::Def] = &[
                $(
                    $crate::def::Def::new(
                        $key,
                        $crate::def::field_kind!($kind, $ty $(, $default)?),
                        concat!($($doc, "\n"),*),
                        $crate::def::field_text!($kind, $ty),
                    )
                    $( $( .$m($($arg),*) )* )?,
                )*
            ];

            fn read(cx: &mut $crate::def::Cx, table: Option<&$crate::tree::Table>) -> Self {
                let mut defs = Self::DEFS.iter();
                let mut next = || defs.next().expect("one definition for each field");
                $( let $field = $crate::def::field_read!($kind, $ty, cx, table, next()); )*
                $Name { $($field),* }
            }

            fn write(&self, out: &mut Vec<$crate::def::Setting>, path: &str) {
                let mut defs = Self::DEFS.iter();
                let mut next = || defs.next().expect("one definition for each field");
                $( $crate::def::field_write!($kind, self.$field, out, path, $key, next()); )*
                $( $crate::def::field_below!($kind, self.$field, out, path, $key); )*
            }
        }

        impl Default for $Name {
            fn default() -> Self {
                let mut cx = $crate::def::Cx::new(false);
                <Self as $crate::def::Section>::read(&mut cx, None)
            }
        }
    };
}

macro_rules! field_type {
    (opt, $ty:ty) => { Option<$ty> };
    ($kind:ident, $ty:ty) => { $ty };
}

macro_rules! field_kind {
    (req, $ty:ty, $default:literal) => {
        $crate::def::Kind::Required($default)
    };
    (key, $ty:ty, $default:literal) => {
        $crate::def::Kind::Default($default)
    };
    (opt, $ty:ty) => {
        $crate::def::Kind::Optional
    };
    (sub, $ty:ty) => {
        $crate::def::Kind::Section(
            <$ty as $crate::def::Section>::DEFS,
            <$ty as $crate::def::Section>::DOC,
        )
    };
}

macro_rules! field_text {
    (sub, $ty:ty) => {
        (
            String::new as fn() -> String,
            $crate::value::show_count as fn(u64) -> String,
        )
    };
    ($kind:ident, $ty:ty) => {
        (
            <$ty as $crate::value::Value>::type_text as fn() -> String,
            <$ty as $crate::value::Value>::show_bound as fn(u64) -> String,
        )
    };
}

macro_rules! field_read {
    (opt, $ty:ty, $cx:expr, $table:expr, $def:expr) => {
        $cx.optional::<$ty>($table, $def)
    };
    (sub, $ty:ty, $cx:expr, $table:expr, $def:expr) => {
        $cx.section::<$ty>($table, $def)
    };
    ($kind:ident, $ty:ty, $cx:expr, $table:expr, $def:expr) => {
        $cx.value::<$ty>($table, $def)
    };
}

macro_rules! field_write {
    (opt, $value:expr, $out:expr, $path:expr, $key:expr, $def:expr) => {{
        let def = $def;
        if let Some(value) = &$value {
            $crate::def::put($out, $path, $key, value, def);
        }
    }};
    (sub, $value:expr, $out:expr, $path:expr, $key:expr, $def:expr) => {{
        let _ = $def;
    }};
    ($kind:ident, $value:expr, $out:expr, $path:expr, $key:expr, $def:expr) => {
        $crate::def::put($out, $path, $key, &$value, $def)
    };
}

macro_rules! field_below {
    (sub, $value:expr, $out:expr, $path:expr, $key:expr) => {
        $crate::def::Section::write(&$value, $out, &$crate::def::join($path, $key))
    };
    ($kind:ident, $value:expr, $out:expr, $path:expr, $key:expr) => {};
}

pub(crate) use {
    field_below, field_kind, field_read, field_text, field_type, field_write, section,
};
