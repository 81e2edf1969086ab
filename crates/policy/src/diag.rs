//! What is wrong with a file: where, which key, which value, and what to write instead.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level as Shown, Renderer, Snippet};
use serde::Serialize;

use crate::tree::position;

/// More than this many findings of one file are counted and not kept.
pub const MAX_DIAGNOSTICS: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Refuses the file.
    Error,
    Warning,
    /// Shown by `policy check` and `zone show` only.
    Note,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        })
    }
}

/// One finding. `line` and `column` count from 1 and are absent when no place of the file is to
/// blame (a default is involved, or the file as a whole).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub policy: Option<String>,
    /// `P01`..`P32` in policies, `C01`.. in the daemon's configuration.
    pub code: &'static str,
    pub level: Level,
    pub file: String,
    pub line: Option<u32>,
    pub column: Option<u32>,
    /// Dotted name of the key.
    pub key: Option<String>,
    /// The value as written.
    pub value: Option<String>,
    pub detail: String,
    /// A value that satisfies, or the next action.
    pub suggestion: Option<String>,
    #[serde(skip)]
    pub span: Option<Range<usize>>,
}

impl Diagnostic {
    pub fn new(code: &'static str, level: Level, detail: impl Into<String>) -> Self {
        Diagnostic {
            policy: None,
            code,
            level,
            file: String::new(),
            line: None,
            column: None,
            key: None,
            value: None,
            detail: detail.into(),
            suggestion: None,
            span: None,
        }
    }

    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }

    pub(crate) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(crate) fn suggest(mut self, text: impl Into<String>) -> Self {
        self.suggestion = Some(text.into());
        self
    }

    pub(crate) fn at(mut self, span: Option<Range<usize>>) -> Self {
        self.span = span;
        self
    }

    /// Fills in file name, line and column from the span.
    pub(crate) fn placed(mut self, file: &str, text: &str) -> Self {
        self.file = file.to_string();
        if let Some(span) = &self.span {
            let (line, column) = position(text, span.start);
            self.line = Some(line);
            self.column = Some(column);
        }
        self
    }

    /// Key, detail and suggestion in one line, without place.
    pub fn message(&self) -> String {
        let mut out = String::new();
        if let Some(key) = &self.key {
            out.push_str(key);
            if let Some(value) = &self.value {
                out.push_str(" = ");
                out.push_str(value);
            }
            out.push_str(": ");
        }
        out.push_str(&self.detail);
        if let Some(suggestion) = &self.suggestion {
            out.push_str("; ");
            out.push_str(suggestion);
        }
        out
    }

    /// `file:line:column: error P01: message`.
    pub fn one_line(&self) -> String {
        let place = match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", self.file),
            _ => self.file.clone(),
        };
        format!("{place}: {} {}: {}", self.level, self.code, self.message())
    }

    /// The finding with the lines of the file and a caret below the place.
    pub fn snippet(&self, text: &str, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let level = match self.level {
            Level::Error => Shown::ERROR,
            Level::Warning => Shown::WARNING,
            Level::Note => Shown::NOTE,
        };
        let title = match &self.key {
            Some(key) => format!("{key}: {}", self.detail),
            None => self.detail.clone(),
        };
        let span = self.span.clone().filter(|s| {
            s.start <= s.end
                && s.end <= text.len()
                && text.is_char_boundary(s.start)
                && text.is_char_boundary(s.end)
        });
        let mut report = Vec::new();
        let group = match span {
            Some(span) => Group::with_title(level.primary_title(title).id(self.code)).element(
                Snippet::source(text)
                    .path(self.file.as_str())
                    .annotation(AnnotationKind::Primary.span(span)),
            ),
            None => Group::with_title(
                level
                    .primary_title(format!("{}: {title}", self.file))
                    .id(self.code),
            ),
        };
        let group = match &self.suggestion {
            Some(suggestion) => group.element(Shown::HELP.message(suggestion.as_str())),
            None => group,
        };
        report.push(group);
        renderer.render(&report)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.one_line())
    }
}

/// Sorted by place, bounded, with the number of those left out in the last one.
pub(crate) fn finish(mut found: Vec<Diagnostic>, file: &str, text: &str) -> Vec<Diagnostic> {
    found.sort_by_key(|d| (d.span.as_ref().map_or(usize::MAX, |s| s.start), d.level));
    if found.len() > MAX_DIAGNOSTICS {
        // Errors first, so that cutting can never make a refused file look accepted.
        found.sort_by_key(|d| d.level);
        let more = found.len() - MAX_DIAGNOSTICS;
        let level = found[MAX_DIAGNOSTICS].level;
        let code = found[MAX_DIAGNOSTICS].code;
        found.truncate(MAX_DIAGNOSTICS);
        found.push(Diagnostic::new(
            code,
            level,
            format!("{more} more findings are not shown"),
        ));
    }
    found.into_iter().map(|d| d.placed(file, text)).collect()
}
