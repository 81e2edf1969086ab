//! Diagnostics: what was found, where, and what to do; bounded in number, exact in count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::code::{Code, Severity};

/// Diagnostics kept in full for each severity; all are counted.
pub const KEPT: usize = 100;
/// Columns of a source line that are kept around the span.
const SNIPPET: usize = 160;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    pub code: Code,
    pub severity: Severity,
    pub message: String,
    /// Where; absent for findings about the zone as a whole.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The lines that included the file, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included_from: Vec<Line>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub rtype: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Place>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub file: String,
    pub line: u32,
}

/// A span within one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub file: String,
    pub line: u32,
    /// Characters from 1, a tab counting as one.
    pub column: u32,
    /// The column after the last.
    pub end_column: u32,
    /// What the span is, in few words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    pub snippet: Snippet,
}

/// A piece of the source line, control characters escaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snippet {
    pub text: String,
    /// First character of the span in `text`, and its length.
    pub start: u32,
    pub len: u32,
}

impl Place {
    /// `span` is in octets of `line`, which is the whole line without its end.
    pub fn new(file: &str, number: u32, line: &[u8], span: std::ops::Range<usize>) -> Place {
        let start = span.start.min(line.len());
        let end = span.end.clamp(start, line.len());
        let column = 1 + chars(&line[..start]);
        Place {
            file: file.to_string(),
            line: number,
            column,
            end_column: column + chars(&line[start..end]).max(1),
            label: String::new(),
            snippet: Snippet::new(line, start, end),
        }
    }

    pub fn labelled(mut self, label: impl Into<String>) -> Place {
        self.label = label.into();
        self
    }
}

impl Snippet {
    fn new(line: &[u8], start: usize, end: usize) -> Snippet {
        // Far from the span nothing is kept: a line can be as long as the file.
        let (from, cut) = if end > SNIPPET {
            (start.saturating_sub(SNIPPET / 2), true)
        } else {
            (0, false)
        };
        let to = line.len().min(from + SNIPPET);
        let lead = if cut && from > 0 { "…" } else { "" };
        let before = visible(&line[from..start]);
        let inside = visible(&line[start..end.min(to).max(start)]);
        let after = visible(&line[end.min(to).max(start)..to.max(start)]);
        let tail = if to < line.len() { "…" } else { "" };
        let count = |s: &str| s.chars().count() as u32;
        Snippet {
            start: count(lead) + count(&before),
            len: count(&inside).max(1),
            text: format!("{lead}{before}{inside}{after}{tail}"),
        }
    }
}

/// Characters of UTF-8 text; octets that are no UTF-8 count one each.
fn chars(text: &[u8]) -> u32 {
    let n: usize = text
        .utf8_chunks()
        .map(|c| c.valid().chars().count() + c.invalid().len())
        .sum();
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Printable text: tabs as one space, other control characters and stray octets escaped.
fn visible(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\t' => out.push(' '),
                c if c.is_control() => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
        chunk
            .invalid()
            .iter()
            .for_each(|b| out.push_str(&format!("\\x{b:02x}")));
    }
    out
}

/// Findings in order: the first [`KEPT`] of each severity, and counts of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics {
    pub errors: u64,
    pub warnings: u64,
    pub notes: u64,
    /// Exact counts by code.
    pub by_code: BTreeMap<String, u64>,
    pub kept: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Counts a finding; true if it is to be kept in full.
    pub fn count(&mut self, code: Code, severity: Severity) -> bool {
        let n = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
            Severity::Note => &mut self.notes,
        };
        *n += 1;
        let keep = *n <= KEPT as u64;
        *self.by_code.entry(code.to_string()).or_default() += 1;
        keep
    }

    /// Adds a finding; `make` is called only if it is to be kept.
    pub fn add(&mut self, code: Code, severity: Severity, make: impl FnOnce() -> Diagnostic) {
        if self.count(code, severity) {
            self.kept.push(make());
        }
    }

    /// Appends the findings of a later part of the input.
    pub fn append(&mut self, later: Diagnostics) {
        let room = |had: u64| (KEPT as u64).saturating_sub(had);
        let mut left = [room(self.errors), room(self.warnings), room(self.notes)];
        for d in later.kept {
            let l = &mut left[d.severity as usize];
            if *l > 0 {
                *l -= 1;
                self.kept.push(d);
            }
        }
        self.errors += later.errors;
        self.warnings += later.warnings;
        self.notes += later.notes;
        for (code, n) in later.by_code {
            *self.by_code.entry(code).or_default() += n;
        }
    }

    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    pub fn total(&self) -> u64 {
        self.errors + self.warnings + self.notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(n: u32) -> Diagnostic {
        Diagnostic {
            code: Code::DUPLICATE,
            severity: Severity::Note,
            message: n.to_string(),
            place: None,
            included_from: vec![],
            owner: None,
            rtype: None,
            related: vec![],
            rule: None,
            help: None,
        }
    }

    #[test]
    fn counts_are_exact_and_the_first_hundred_stay() {
        let part = |from: u32| {
            let mut d = Diagnostics::default();
            (from..from + 150).for_each(|n| d.add(Code::DUPLICATE, Severity::Note, || note(n)));
            d
        };
        let mut all = part(0);
        all.append(part(150));
        assert_eq!(
            (all.notes, all.kept.len(), all.by_code["Z119"]),
            (300, 100, 300)
        );
        assert_eq!(all.kept[99].message, "99");
    }

    #[test]
    fn columns_count_characters() {
        let line = "\tä\u{1}x\u{7f}".as_bytes();
        let p = Place::new("f", 3, line, 4..5);
        assert_eq!((p.column, p.end_column), (4, 5));
        assert_eq!(p.snippet.text, " ä\\u{1}x\\u{7f}");
        assert_eq!((p.snippet.start, p.snippet.len), (7, 1));
        // Octets that are no text, and spans beyond the line, do no harm.
        let p = Place::new("f", 3, b"\xff\xfe", 1..9);
        assert_eq!((p.column, p.end_column), (2, 3));
        Place::new("f", 3, b"", 5..7);
    }

    #[test]
    fn long_lines_are_cut() {
        let line = vec![b'a'; 1_000_000];
        let p = Place::new("f", 1, &line, 500_000..500_003);
        assert!(p.snippet.text.chars().count() <= SNIPPET + 2);
        assert_eq!((p.snippet.start, p.snippet.len), (81, 3));
        let p = Place::new("f", 1, &line, 0..1_000_000);
        assert!(p.snippet.text.chars().count() <= SNIPPET + 2);
    }

    #[test]
    fn json_has_the_agreed_names_and_reads_back() {
        let mut d = note(1);
        d.place = Some(Place::new("f", 1, b"a A", 0..1));
        let json = serde_json::to_value(&d).unwrap();
        for (field, value) in [("code", "Z119"), ("severity", "note"), ("file", "f")] {
            assert_eq!(json[field], value);
        }
        assert_eq!(
            (&json["line"], &json["column"], &json["end_column"]),
            (&1.into(), &1.into(), &2.into())
        );
        assert_eq!(serde_json::from_value::<Diagnostic>(json).unwrap(), d);
        let bare = serde_json::to_value(note(1)).unwrap();
        assert_eq!(serde_json::from_value::<Diagnostic>(bare).unwrap(), note(1));
    }
}
