//! What goes to the terminal: escaping, colours, tables, times.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use cascade_time::{Timestamp, format_span};

/// Makes data from zones, peers and tokens harmless for a terminal: control characters and those
/// that turn the writing direction are written as escapes. Line ends go too.
pub fn clean(text: &str) -> String {
    escape(text, false)
}

/// The same for texts of several lines.
pub fn clean_lines(text: &str) -> String {
    escape(text, true)
}

fn escape(text: &str, lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let directs = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match c {
            '\n' | '\t' if lines => out.push(c),
            c if c.is_ascii_control() => out.push_str(&format!("\\{:03}", c as u32)),
            c if c.is_control() || directs => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// Colours, if they are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    pub fn green(self, text: &str) -> String {
        self.with(AnsiColor::Green, text)
    }
    pub fn yellow(self, text: &str) -> String {
        self.with(AnsiColor::Yellow, text)
    }
    pub fn red(self, text: &str) -> String {
        self.with(AnsiColor::Red, text)
    }

    fn with(self, color: AnsiColor, text: &str) -> String {
        if !self.0 {
            return text.to_string();
        }
        let style = Style::new().fg_color(Some(color.into()));
        format!("{style}{text}{style:#}")
    }
}

/// Rows under a header, columns padded with two blanks, never cut. Empty without rows.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|r| r.iter().map(|c| clean(c)).collect())
        .collect();
    let mut widths: Vec<usize> = header.iter().map(|h| h.len()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (cell, width) in cells.zip(&widths) {
            out.push_str(&format!("{cell:<width$}  "));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    };
    let mut out = line(&mut header.iter().copied());
    for row in &rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    out
}

/// `2025-11-22T14:42:20+00:00 (1h 11m 36s ago)`, or `(in 2d)`.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let secs = at.secs_until(now);
    let span = format_span(Duration::from_secs(secs.unsigned_abs()));
    if secs >= 0 {
        format!("{} ({span} ago)", at.to_human())
    } else {
        format!("{} (in {span})", at.to_human())
    }
}

/// A span that may be over.
pub fn signed_span(secs: i64) -> String {
    let span = format_span(Duration::from_secs(secs.unsigned_abs()));
    if secs < 0 { format!("-{span}") } else { span }
}

pub fn span_secs(secs: f64) -> String {
    // Times of steps are never negative; a nonsensical value shows as nothing.
    format_span(Duration::try_from_secs_f64(secs).unwrap_or_default())
}

/// Writes to stdout. The reader may be gone, which ends the program quietly.
pub fn stdout(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    out.flush()
}

/// Notes, warnings, progress: lost if nobody reads them.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Asks on the terminal; `None` when there is none.
pub fn ask(question: &str) -> Option<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return None;
    }
    let _ = write!(io::stderr().lock(), "{question} [y/N] ");
    let mut line = String::new();
    io::stdin().read_line(&mut line).ok()?;
    Some(matches!(
        line.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_not_driven_by_data() {
        assert_eq!(
            clean("a\u{1b}[31mb\r\n\u{9b}c\u{202e}d"),
            "a\\027[31mb\\013\\010\\u{9b}c\\u{202e}d"
        );
        assert_eq!(clean_lines("a\n\tb\u{7}"), "a\n\tb\\007");
        assert_eq!(clean("grün ✔"), "grün ✔");
    }

    #[test]
    fn tables() {
        let rows = vec![
            vec!["a".into(), "long cell".into()],
            vec!["example.net".into(), String::new()],
        ];
        assert_eq!(
            table(&["ZONE", "B"], &rows),
            "ZONE         B\na            long cell\nexample.net\n"
        );
        assert_eq!(table(&["ZONE"], &[]), "");
    }

    #[test]
    fn times() {
        let t = Timestamp::from_secs(1_763_822_540);
        assert_eq!(
            ago(t, Timestamp::from_secs(1_763_826_836)),
            "2025-11-22T14:42:20+00:00 (1h 11m 36s ago)"
        );
        assert_eq!(
            ago(t, Timestamp::from_secs(1_763_822_510)),
            "2025-11-22T14:42:20+00:00 (in 30s)"
        );
        assert_eq!(signed_span(-60), "-1m");
        assert_eq!(span_secs(0.9), "0s");
        assert_eq!(span_secs(f64::NAN), "0s");
    }
}
