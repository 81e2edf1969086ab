//! One event, its forms, and the merging of repeats.

use std::fmt::{self, Write as _};
use std::time::Duration;

use cascade_policy::LogLevel;
use cascade_time::{Timestamp, format_span};
use serde_json::{Map, Number, Value};
use tracing::field::{Field, Visit};

/// Most octets of a message, and of a field: what a syslog daemon takes in one piece.
const MESSAGE_MAX: usize = 6 * 1024;
const FIELD_MAX: usize = 1024;
/// tracing allows 32 as well.
const FIELDS_MAX: usize = 32;
/// Repeats are told at least this often.
const REPEATS_TOLD: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub at: Timestamp,
    pub level: LogLevel,
    /// Module path.
    pub target: &'static str,
    pub message: String,
    pub fields: Vec<(&'static str, Value)>,
}

impl Record {
    pub fn new(at: Timestamp, event: &tracing::Event<'_>) -> Record {
        let mut visitor = Fields::default();
        event.record(&mut visitor);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR if visitor.critical => LogLevel::Critical,
            tracing::Level::ERROR => LogLevel::Error,
            tracing::Level::WARN => LogLevel::Warning,
            tracing::Level::INFO => LogLevel::Info,
            tracing::Level::DEBUG => LogLevel::Debug,
            tracing::Level::TRACE => LogLevel::Trace,
        };
        Record {
            at,
            level,
            target: event.metadata().target(),
            message: visitor.message,
            fields: visitor.fields,
        }
    }

    /// A line of the logging itself.
    pub fn own(at: Timestamp, level: LogLevel, message: String) -> Record {
        Record {
            at,
            level,
            target: module_path!(),
            message,
            fields: Vec::new(),
        }
    }

    /// `message field=value ...`, one line, control characters escaped.
    pub fn body(&self) -> String {
        let mut out = String::with_capacity(self.message.len() + 32 * self.fields.len());
        escape(&self.message, false, &mut out);
        for (name, value) in &self.fields {
            // Writing to a string cannot fail.
            let _ = write!(out, " {name}=");
            match value {
                Value::String(s) => word(s, &mut out),
                other => _ = write!(out, "{other}"),
            }
        }
        out
    }

    /// `time level message field=value ...`
    pub fn text(&self) -> String {
        format!(
            "{} {} {}",
            self.at.to_human(),
            level_word(self.level),
            self.body()
        )
    }

    /// One JSON object on one line.
    pub fn json(&self) -> String {
        let mut map = Map::new();
        map.insert("time".into(), self.at.to_rfc3339().into());
        map.insert("level".into(), level_word(self.level).into());
        map.insert("message".into(), self.message.as_str().into());
        map.insert("target".into(), self.target.into());
        for (name, value) in &self.fields {
            let name = match map.contains_key(*name) {
                true => format!("{name}_"),
                false => (*name).to_string(),
            };
            map.insert(name, value.clone());
        }
        Value::Object(map).to_string()
    }

    fn same(&self, other: &Record) -> bool {
        self.level == other.level
            && self.target == other.target
            && self.message == other.message
            && self.fields == other.fields
    }
}

/// As configuration writes it.
pub fn level_word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warning",
        LogLevel::Error => "error",
        LogLevel::Critical => "critical",
    }
}

/// RFC 5424 §6.2.1, table 2.
pub fn severity(level: LogLevel) -> u8 {
    match level {
        LogLevel::Critical => 2,
        LogLevel::Error => 3,
        LogLevel::Warning => 4,
        LogLevel::Info => 6,
        LogLevel::Debug | LogLevel::Trace => 7,
    }
}

/// Merges a record that follows an equal one: the first is written at once, the others are counted
/// and told when something else is logged, or after five minutes.
#[derive(Debug, Default)]
pub struct Repeats {
    last: Option<Record>,
    count: u64,
    /// Time of the newest counted record.
    newest: Timestamp,
}

impl Repeats {
    /// What to write now: a summary of earlier repeats, then the record, or one, or neither.
    pub fn offer(&mut self, record: Record) -> (Option<Record>, Option<Record>) {
        if self.last.as_ref().is_some_and(|l| l.same(&record)) {
            self.count = self.count.saturating_add(1);
            self.newest = record.at;
            return (self.due(record.at), None);
        }
        let summary = self.flush();
        self.last = Some(record.clone());
        (summary, Some(record))
    }

    /// A summary whose time has come.
    pub fn due(&mut self, now: Timestamp) -> Option<Record> {
        let since = self.last.as_ref()?.at;
        // A clock set back must not hold the summary for longer.
        match self.count > 0 && (now < since || now.since(since) >= REPEATS_TOLD) {
            true => self.flush(),
            false => None,
        }
    }

    pub fn flush(&mut self) -> Option<Record> {
        let count = std::mem::take(&mut self.count);
        let last = self.last.as_mut()?;
        if count == 0 {
            return None;
        }
        let span = Duration::from_secs(self.newest.since(last.at).as_secs().max(1));
        last.at = self.newest;
        let mut summary = last.clone();
        if count > 1 {
            let _ = write!(
                summary.message,
                " (repeated {count} times in {})",
                format_span(span)
            );
        }
        Some(summary)
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    critical: bool,
    fields: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        if self.fields.len() < FIELDS_MAX {
            self.fields.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "critical" => self.critical = value,
            _ => self.put(field, value.into()),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let value = Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number);
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = bounded(MESSAGE_MAX, format_args!("{value}")),
            name => {
                let text = bounded(FIELD_MAX, format_args!("{value}"));
                self.put(field, number_or_text(name, text));
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = bounded(MESSAGE_MAX, format_args!("{value:?}")),
            name => {
                let text = bounded(FIELD_MAX, format_args!("{value:?}"));
                if let Some(value) = plain(name, text) {
                    self.put(field, value);
                }
            }
        }
    }
}

/// Optional values, as call sites record them with `?`: `Some(3)` is 3, `None` is no field. A zone
/// may be called "None".
fn plain(name: &str, text: String) -> Option<Value> {
    if text == "None" && name != "zone" {
        return None;
    }
    match text.strip_prefix("Some(").and_then(|t| t.strip_suffix(')')) {
        Some(inner) => Some(match serde_json::from_str::<Value>(inner) {
            Ok(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => value,
            _ => number_or_text(name, inner.to_string()),
        }),
        None => Some(number_or_text(name, text)),
    }
}

/// One type for each well-known field, however the call site wrote it.
fn number_or_text(name: &str, text: String) -> Value {
    match (name, text.parse::<u64>()) {
        ("version" | "serial", Ok(n)) => n.into(),
        _ => text.into(),
    }
}

/// At most `max` octets; what was cut is marked.
fn bounded(max: usize, args: fmt::Arguments<'_>) -> String {
    let mut out = Bounded {
        text: String::new(),
        max,
        cut: false,
    };
    // The writer never fails; a value whose own formatting fails leaves what it wrote.
    let _ = out.write_fmt(args);
    if out.cut {
        out.text.push_str(" [cut]");
    }
    out.text
}

struct Bounded {
    text: String,
    max: usize,
    cut: bool,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.cut {
            return Ok(());
        }
        let room = self.max.saturating_sub(self.text.len());
        let end = boundary(s, room);
        self.text.push_str(s.get(..end).unwrap_or_default());
        self.cut = end < s.len();
        Ok(())
    }
}

/// The last boundary of a character at or before `at`.
fn boundary(s: &str, at: usize) -> usize {
    let mut end = at.min(s.len());
    while !s.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// A value as one word, in quotes where it would not be one.
fn word(text: &str, out: &mut String) {
    let bare = !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c == '"' || c == '=' || hidden(c));
    if bare {
        return out.push_str(text);
    }
    out.push('"');
    escape(text, true, out);
    out.push('"');
}

fn escape(text: &str, quoted: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' | '\\' if quoted => out.extend(['\\', c]),
            c if hidden(c) => _ = write!(out, "\\u{{{:x}}}", c as u32),
            c => out.push(c),
        }
    }
}

/// Characters that would break a line, steer a terminal or reorder what is read: controls, line
/// separators, bidirectional marks. Peers and files choose parts of messages.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{feff}'
        )
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_764_108_062 + secs)
    }

    fn record(secs: i64, message: &str) -> Record {
        Record::own(at(secs), LogLevel::Warning, message.into())
    }

    #[test]
    fn text_is_one_line_with_quoted_values() {
        let mut r = record(0, "load failed:\nforged line\u{1b}[2J\u{202e}");
        r.fields = vec![
            ("zone", "example.net".into()),
            ("serial", 7u64.into()),
            ("reason", "no \"keys\"".into()),
            ("empty", "".into()),
        ];
        assert_eq!(
            r.text(),
            "2025-11-25T22:01:02+00:00 warning load failed:\\nforged line\\u{1b}[2J\\u{202e} \
             zone=example.net serial=7 reason=\"no \\\"keys\\\"\" empty=\"\""
        );
    }

    #[test]
    fn json_is_one_line_and_reads_back() {
        let mut r = record(0, "a\nb \"c\"");
        r.fields = vec![
            ("zone", "x\r\ny".into()),
            ("serial", 7u64.into()),
            ("level", "9".into()),
        ];
        let line = r.json();
        assert!(!line.contains(['\n', '\r']), "{line}");
        let back: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(back["message"], "a\nb \"c\"");
        assert_eq!(back["zone"], "x\r\ny");
        assert_eq!(back["serial"], 7);
        assert_eq!(back["level"], "warning");
        assert_eq!(back["level_"], "9");
    }

    #[test]
    fn optional_values_are_plain() {
        let v = |name, text: &str| plain(name, text.to_string());
        assert_eq!(v("version", "Some(3)"), Some(3u64.into()));
        assert_eq!(v("version", "12"), Some(12u64.into()));
        assert_eq!(v("version", "None"), None);
        assert_eq!(v("reason", "Some(\"a b\")"), Some("a b".into()));
        assert_eq!(v("reason", "Some(Upkeep)"), Some("Upkeep".into()));
        assert_eq!(v("zone", "None"), Some("None".into()));
        assert_eq!(v("peer", "12"), Some("12".into()));
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let text = bounded(5, format_args!("{}{}", "äö", "üß"));
        assert_eq!(text, "äö [cut]");
        assert_eq!(bounded(4, format_args!("äö")), "äö");
    }

    #[test]
    fn repeats_are_counted_and_told() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.offer(record(0, "a")), (None, Some(record(0, "a"))));
        for s in 1..=40 {
            assert_eq!(repeats.offer(record(s, "a")), (None, None));
        }
        let summary = record(40, "a (repeated 40 times in 40s)");
        assert_eq!(
            repeats.offer(record(41, "b")),
            (Some(summary), Some(record(41, "b")))
        );
        // A single repeat is the line itself.
        assert_eq!(repeats.offer(record(42, "b")), (None, None));
        assert_eq!(repeats.due(at(43)), None);
        assert_eq!(repeats.due(at(41 + 300)), Some(record(42, "b")));
        assert_eq!(repeats.due(at(9000)), None);
        assert_eq!(repeats.flush(), None);
    }

    #[test]
    fn a_clock_set_back_does_not_hold_a_summary() {
        let mut repeats = Repeats::default();
        repeats.offer(record(1000, "a"));
        repeats.offer(record(1001, "a"));
        assert_eq!(repeats.due(at(10)), Some(record(1001, "a")));
    }
}
