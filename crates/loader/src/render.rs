//! Diagnostics as text, in the form that compilers made familiar.

use std::fmt::{self, Write};

use crate::diag::{Diagnostic, Diagnostics, Place};

/// Writes one diagnostic, several lines, with a final newline.
pub fn render(d: &Diagnostic, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "{}[{}]: {}", d.severity, d.code, d.message)?;
    let width = d
        .place
        .iter()
        .chain(&d.related)
        .map(|p| p.line.to_string().len())
        .max()
        .unwrap_or(1);
    if let Some(place) = &d.place {
        writeln!(
            out,
            "{:width$}--> {}:{}:{}",
            "", place.file, place.line, place.column
        )?;
        for line in &d.included_from {
            writeln!(
                out,
                "{:width$} |  included from {}:{}",
                "", line.file, line.line
            )?;
        }
        writeln!(out, "{:width$} |", "")?;
        source(place, '^', width, out)?;
    }
    for place in &d.related {
        writeln!(out, "{:width$} |", "")?;
        writeln!(
            out,
            "{:width$}::: {}:{}:{}",
            "", place.file, place.line, place.column
        )?;
        source(place, '-', width, out)?;
    }
    if let Some(rule) = &d.rule {
        writeln!(out, "{:width$} = rule: {rule}", "")?;
    }
    if let Some(help) = &d.help {
        writeln!(out, "{:width$} = help: {help}", "")?;
    }
    Ok(())
}

/// All kept diagnostics and a line that counts all.
pub fn render_all(all: &Diagnostics) -> String {
    let mut out = String::new();
    for d in &all.kept {
        // Writing to a String cannot fail.
        let _ = render(d, &mut out);
        out.push('\n');
    }
    let plural = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let _ = writeln!(
        out,
        "{}, {}, {}",
        plural(all.errors, "error"),
        plural(all.warnings, "warning"),
        plural(all.notes, "note")
    );
    out
}

fn source(place: &Place, mark: char, width: usize, out: &mut impl Write) -> fmt::Result {
    let s = &place.snippet;
    writeln!(out, "{:>width$} | {}", place.line, s.text.trim_end())?;
    write!(
        out,
        "{:width$} | {:indent$}",
        "",
        "",
        indent = s.start as usize
    )?;
    (0..s.len).try_for_each(|_| out.write_char(mark))?;
    if !place.label.is_empty() {
        write!(out, " {}", place.label)?;
    }
    writeln!(out)
}
