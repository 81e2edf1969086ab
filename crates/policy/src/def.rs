//! Definitions: each key is written once, with its type, default, range, reason and example, and
//! template, manual text, effective values and error texts all come from that one place.

use crate::effects::Effect;
use crate::reader::{Cx, default_value};
use crate::tree::Table;
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
    /// What the packaged file says instead of the default, in TOML.
    pub packaged: Option<&'static str>,
    /// Configuration: taken over by SIGHUP.
    pub reload: bool,
    /// Policies: what a change does to existing zones.
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
            packaged: None,
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

    pub(crate) const fn max(mut self, max: u64) -> Self {
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

    pub(crate) const fn packaged(mut self, value: &'static str) -> Self {
        self.packaged = Some(value);
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
    // A default is shown as its definition writes it: 24h, not 1d.
    let default = def
        .default()
        .filter(|text| default_value::<T>(def, text) == *value);
    out.push(Setting {
        section: path.to_string(),
        name,
        value: default.map_or_else(|| value.write(), str::to_string),
        is_default: default.is_some(),
    });
}

pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_string()
    } else {
        format!("{path}.{name}")
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

            fn read(cx: &mut $crate::reader::Cx, table: Option<&$crate::tree::Table>) -> Self {
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
                let mut cx = $crate::reader::Cx::new(false);
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
