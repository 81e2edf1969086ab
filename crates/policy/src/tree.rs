//! A TOML file as a tree whose every key and value knows its place in the text.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A file is at most this long (config.md, first paragraph).
pub const MAX_FILE: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub span: Range<usize>,
    pub value: Val,
}

#[derive(Clone, Debug)]
pub(crate) enum Val {
    Str(String),
    /// `None` when the number does not fit 64 bits.
    Int(Option<i64>),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
    /// Floats and dates: no key takes one.
    Other(&'static str),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub name: String,
    pub name_span: Range<usize>,
    pub node: Node,
}

#[derive(Clone, Debug)]
pub(crate) struct SyntaxError {
    pub span: Range<usize>,
    pub message: String,
}

impl Table {
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    pub fn take(&mut self, name: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|e| e.name == name)?;
        Some(self.entries.remove(at))
    }

    /// The table below a path of keys, if all of them are tables.
    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Table> {
        let mut table = self;
        for name in path {
            let entry = table.entries.iter_mut().find(|e| e.name == *name)?;
            let Val::Table(next) = &mut entry.node.value else {
                return None;
            };
            table = next;
        }
        Some(table)
    }
}

impl Node {
    pub fn type_name(&self) -> &'static str {
        match &self.value {
            Val::Str(_) => "a string",
            Val::Int(_) => "an integer",
            Val::Bool(_) => "a boolean",
            Val::List(_) => "a list",
            Val::Table(_) => "a table",
            Val::Other(name) => name,
        }
    }
}

/// Parses as far as possible: the tree of what could be read, and every syntax error.
pub(crate) fn parse(text: &str) -> (Table, Vec<SyntaxError>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let errors = errors
        .iter()
        .map(|e| SyntaxError {
            span: e.span().unwrap_or(0..0),
            message: e.message().replace('\n', ", "),
        })
        .collect();
    (table(root.get_ref()), errors)
}

/// The value of a definition's default or example, which are written in TOML.
pub(crate) fn parse_value(text: &str) -> Option<Node> {
    let (mut root, errors) = parse(&format!("x = {text}"));
    if !errors.is_empty() {
        return None;
    }
    root.take("x").map(|e| e.node)
}

fn table(from: &DeTable<'_>) -> Table {
    let mut entries: Vec<Entry> = from
        .iter()
        .map(|(key, value)| Entry {
            name: key.get_ref().to_string(),
            name_span: key.span(),
            node: node(value.get_ref(), value.span()),
        })
        .collect();
    entries.sort_by_key(|e| e.name_span.start);
    Table { entries }
}

fn node(value: &DeValue<'_>, span: Range<usize>) -> Node {
    let value = match value {
        DeValue::String(s) => Val::Str(s.to_string()),
        DeValue::Integer(n) => Val::Int(i64::from_str_radix(n.as_str(), n.radix()).ok()),
        DeValue::Boolean(b) => Val::Bool(*b),
        DeValue::Array(list) => {
            Val::List(list.iter().map(|v| node(v.get_ref(), v.span())).collect())
        }
        DeValue::Table(t) => Val::Table(table(t)),
        DeValue::Float(_) => Val::Other("a number with a fraction"),
        DeValue::Datetime(_) => Val::Other("a date"),
    };
    Node { span, value }
}

/// Line and column from 1, the column in characters.
pub(crate) fn position(text: &str, offset: usize) -> (u32, u32) {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |p| p + 1);
    (line as u32, before[start..].chars().count() as u32 + 1)
}

/// A TOML basic string.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
