//! Values of keys: how each type is read from TOML and written back.

use std::time::Duration;

use camino::Utf8PathBuf;
use cascade_time::{format_span, parse_span};

use crate::reader::Cx;
use crate::tree::{Node, Val, quote};

/// A list holds at most this many entries, a string at most this many octets.
pub const MAX_LIST: usize = 10_000;
pub const MAX_STRING: usize = 4096;

const CENTURY: Duration = Duration::from_secs(36_500 * 86_400);

pub(crate) trait Value: Sized {
    /// The type in words, for template and manual.
    fn type_text() -> String;

    /// `None` after having reported what is wrong.
    fn read(node: &Node, cx: &mut Cx) -> Option<Self>;

    /// In TOML; [`read`](Self::read) gives the same value again.
    fn write(&self) -> String;

    /// What a range is about: seconds, octets, number of entries.
    fn measure(&self) -> Option<u64> {
        None
    }

    fn show_bound(n: u64) -> String {
        show_count(n)
    }

    /// One entry of a list may stand for several values.
    fn read_many(node: &Node, cx: &mut Cx) -> Option<Vec<Self>> {
        Self::read(node, cx).map(|v| vec![v])
    }
}

pub(crate) fn show_count(n: u64) -> String {
    n.to_string()
}

/// The string of a node, or a report that it is none.
pub(crate) fn string<'n>(node: &'n Node, cx: &mut Cx, wanted: &str) -> Option<&'n str> {
    match &node.value {
        Val::Str(s) if s.len() > MAX_STRING => {
            cx.bad(
                node,
                format!("a string of {} octets", s.len()),
                "at most 4096 are allowed",
            );
            None
        }
        Val::Str(s) => Some(s),
        _ => {
            cx.wrong_type(node, wanted);
            None
        }
    }
}

impl Value for bool {
    fn type_text() -> String {
        "true or false".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match node.value {
            Val::Bool(b) => Some(b),
            _ => {
                cx.wrong_type(node, "true or false");
                None
            }
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    fn type_text() -> String {
        "integer".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match node.value {
            Val::Int(Some(n)) if n >= 0 => Some(n as u64),
            Val::Int(_) => {
                cx.bad(node, "not a number this key can hold", "write 0 or more");
                None
            }
            _ => {
                cx.wrong_type(node, "an integer");
                None
            }
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }

    fn measure(&self) -> Option<u64> {
        Some(*self)
    }
}

impl Value for u32 {
    fn type_text() -> String {
        u64::type_text()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let n = u64::read(node, cx)?;
        let small = u32::try_from(n).ok();
        if small.is_none() {
            cx.bad(
                node,
                "not a number this key can hold",
                format!("at most {}", u32::MAX),
            );
        }
        small
    }

    fn write(&self) -> String {
        self.to_string()
    }

    fn measure(&self) -> Option<u64> {
        Some(u64::from(*self))
    }
}

impl Value for String {
    fn type_text() -> String {
        "string".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        string(node, cx, "a string").map(str::to_string)
    }

    fn write(&self) -> String {
        quote(self)
    }
}

impl<T: Value> Value for Vec<T> {
    fn type_text() -> String {
        format!("list of: {}", T::type_text())
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Val::List(nodes) = &node.value else {
            cx.wrong_type(node, "a list");
            return None;
        };
        if nodes.len() > MAX_LIST {
            cx.bad(
                node,
                format!("a list of {} entries", nodes.len()),
                "at most 10000 are allowed",
            );
            return None;
        }
        let mut out = Vec::new();
        let mut good = true;
        for node in nodes {
            match T::read_many(node, cx) {
                Some(values) => out.extend(values),
                None => good = false,
            }
        }
        good.then_some(out)
    }

    fn write(&self) -> String {
        let parts: Vec<String> = self.iter().map(Value::write).collect();
        format!("[{}]", parts.join(", "))
    }

    fn measure(&self) -> Option<u64> {
        Some(self.len() as u64)
    }
}

/// A span of time as `cascade_time` reads it: integer seconds or `1h30m`.
impl Value for Duration {
    fn type_text() -> String {
        "duration".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let span = match &node.value {
            Val::Int(Some(n)) if *n >= 0 => Duration::from_secs(*n as u64),
            Val::Str(s) => match parse_span(s) {
                Ok(span) => span,
                Err(e) => {
                    cx.bad(node, e.to_string(), "");
                    return None;
                }
            },
            Val::Int(_) => {
                cx.bad(
                    node,
                    "not a duration",
                    "write 0 or more seconds, or for example \"90s\"",
                );
                return None;
            }
            _ => {
                cx.wrong_type(node, "a duration");
                return None;
            }
        };
        // Times are signed 64-bit nanoseconds elsewhere, and sums of spans must not overflow.
        if span > CENTURY {
            cx.bad(
                node,
                "longer than a hundred years",
                "write at most \"36500d\"",
            );
            return None;
        }
        Some(span)
    }

    fn write(&self) -> String {
        quote(&show_span(*self))
    }

    fn measure(&self) -> Option<u64> {
        Some(self.as_secs())
    }

    fn show_bound(n: u64) -> String {
        show_span(Duration::from_secs(n))
    }
}

/// A span in the form of a file: `2w`, `30d`, `1h30m`.
pub fn show_span(span: Duration) -> String {
    const WEEK: u64 = 7 * 86_400;
    let secs = span.as_secs();
    match secs {
        0 => "0s".into(),
        s if s % WEEK == 0 => format!("{}w", s / WEEK),
        // No days above hours: a signature offset of 24 h reads as such only with `d`.
        _ => format_span(span).replace(' ', ""),
    }
}

macro_rules! word_or_span {
    ($(#[doc = $doc:literal])* $Name:ident, $Word:ident = $word:literal, $Span:ident) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $Name {
            $Word,
            $Span(Duration),
        }

        impl $Name {
            pub fn span(self) -> Option<Duration> {
                match self {
                    $Name::$Word => None,
                    $Name::$Span(span) => Some(span),
                }
            }
        }

        impl Value for $Name {
            fn type_text() -> String {
                concat!("duration or \"", $word, "\"").into()
            }

            fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
                match &node.value {
                    Val::Str(s) if s == $word => Some($Name::$Word),
                    _ => Duration::read(node, cx).map($Name::$Span),
                }
            }

            fn write(&self) -> String {
                match self {
                    $Name::$Word => quote($word),
                    $Name::$Span(span) => span.write(),
                }
            }

            fn measure(&self) -> Option<u64> {
                self.span().map(|s| s.as_secs())
            }

            fn show_bound(n: u64) -> String {
                Duration::show_bound(n)
            }
        }
    };
}

word_or_span!(
    /// How long a key is used; `"forever"` never starts a roll by age.
    Validity, Forever = "forever", After
);
word_or_span!(
    /// A wait that may be switched off.
    OffOr, Off = "off", After
);
word_or_span!(
    /// A span that may be derived from others.
    AutoOr, Auto = "auto", Fixed
);

/// Octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Size {
    pub(crate) fn parse(text: &str) -> Option<u64> {
        for (unit, factor) in UNITS {
            if let Some(n) = text.strip_suffix(unit) {
                let digits = n.bytes().all(|b| b.is_ascii_digit());
                return if digits {
                    n.parse::<u64>().ok()?.checked_mul(factor)
                } else {
                    None
                };
            }
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            text.parse().ok()
        } else {
            None
        }
    }

    pub(crate) fn show(n: u64) -> String {
        for (unit, factor) in UNITS {
            if n > 0 && n.is_multiple_of(factor) {
                return format!("{}{unit}", n / factor);
            }
        }
        n.to_string()
    }
}

impl Value for Size {
    fn type_text() -> String {
        "size in octets".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let size = match &node.value {
            Val::Int(Some(n)) => u64::try_from(*n).ok(),
            Val::Str(s) => Size::parse(s),
            Val::Int(None) => None,
            _ => {
                cx.wrong_type(node, "a size");
                return None;
            }
        };
        if size.is_none() {
            cx.bad(
                node,
                "not a size",
                "write octets or for example \"64KiB\", \"8MiB\", \"4GiB\"",
            );
        }
        size.map(Size)
    }

    fn write(&self) -> String {
        let text = Size::show(self.0);
        // Integers beyond 2^63 do not exist in TOML.
        if text.bytes().all(|b| b.is_ascii_digit()) && self.0 <= i64::MAX as u64 {
            text
        } else {
            quote(&text)
        }
    }

    fn measure(&self) -> Option<u64> {
        Some(self.0)
    }

    fn show_bound(n: u64) -> String {
        Size::show(n)
    }
}

impl Value for Utf8PathBuf {
    fn type_text() -> String {
        "absolute path".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = string(node, cx, "a path")?;
        if !text.starts_with('/') {
            cx.bad(node, "not an absolute path", "write the path from / on");
            return None;
        }
        if text.contains('\0') {
            cx.bad(node, "a path cannot contain NUL", "");
            return None;
        }
        Some(Utf8PathBuf::from(text))
    }

    fn write(&self) -> String {
        quote(self.as_str())
    }
}

/// A path, or `""` for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathOrNone(pub Option<Utf8PathBuf>);

impl Value for PathOrNone {
    fn type_text() -> String {
        "absolute path, or \"\" for none".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Val::Str(s) if s.is_empty() => Some(PathOrNone(None)),
            _ => Utf8PathBuf::read(node, cx).map(|p| PathOrNone(Some(p))),
        }
    }

    fn write(&self) -> String {
        quote(self.0.as_ref().map_or("", |p| p.as_str()))
    }
}

/// Permission bits, written in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Value for FileMode {
    fn type_text() -> String {
        "mode in octal".into()
    }

    fn read(node: &Node, cx: &mut Cx) -> Option<Self> {
        let text = string(node, cx, "a mode in octal")?;
        let mode = u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o777);
        if mode.is_none() || !text.bytes().all(|b| b.is_ascii_digit()) {
            cx.bad(node, "not a mode", "write for example \"0660\"");
            return None;
        }
        mode.map(FileMode)
    }

    fn write(&self) -> String {
        format!("\"{:04o}\"", self.0)
    }
}

/// Defines an enum of words.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident { $( $(#[$vmeta:meta])* $Variant:ident = $word:literal ),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        pub enum $Name { $( $(#[$vmeta])* #[serde(rename = $word)] $Variant ),+ }

        impl $Name {
            pub const ALL: &'static [$Name] = &[$($Name::$Variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $($Name::$Variant => $word),+ }
            }

            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.as_str() == word)
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::value::Value for $Name {
            fn type_text() -> String {
                $crate::value::words(&[$($word),+])
            }

            fn read(node: &$crate::tree::Node, cx: &mut $crate::reader::Cx) -> Option<Self> {
                let words = [$($word),+];
                let text = $crate::value::string(node, cx, &$crate::value::words(&words))?;
                let value = $Name::from_word(text);
                if value.is_none() {
                    $crate::value::not_a_word(node, cx, text, &words);
                }
                value
            }

            fn write(&self) -> String {
                $crate::tree::quote(self.as_str())
            }
        }
    };
}

pub(crate) use choice;

pub(crate) fn words(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| quote(w)).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

pub(crate) fn not_a_word(node: &Node, cx: &mut Cx, text: &str, known: &[&str]) {
    let suggestion = match crate::reader::nearest(text, known) {
        Some(word) => format!("did you mean \"{word}\"? It takes {}", words(known)),
        None => format!("write {}", words(known)),
    };
    cx.bad(node, "not a word this key takes", suggestion);
}
