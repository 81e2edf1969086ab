//! The table that a run prints and docs/performance.md holds.

use std::fmt;

/// One measured thing, what it is held against, and whether it holds.
#[derive(Clone, Debug)]
pub struct Row {
    pub what: &'static str,
    pub measured: f64,
    pub unit: &'static str,
    pub limit: Limit,
    pub note: String,
}

#[derive(Clone, Copy, Debug)]
pub enum Limit {
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    pub fn new(
        what: &'static str,
        measured: f64,
        unit: &'static str,
        limit: Limit,
        note: String,
    ) -> Row {
        Row {
            what,
            measured,
            unit,
            limit,
            note,
        }
    }

    pub fn holds(&self) -> bool {
        match self.limit {
            Limit::None => true,
            Limit::AtMost(limit) => self.measured <= limit,
            Limit::AtLeast(limit) => self.measured >= limit,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, verdict) = match self.limit {
            Limit::None => (String::new(), ""),
            Limit::AtMost(limit) => (
                format!("<= {limit}"),
                if self.holds() { "holds" } else { "MISSED" },
            ),
            Limit::AtLeast(limit) => (
                format!(">= {limit}"),
                if self.holds() { "holds" } else { "MISSED" },
            ),
        };
        let Row {
            what,
            measured,
            unit,
            note,
            ..
        } = self;
        write!(
            f,
            "| {what} | {measured:.3} {unit} | {limit} | {verdict} | {note} |"
        )
    }
}

/// Prints the rows as a Markdown table.
pub fn print(rows: &[Row]) {
    println!("| what | measured | limit | verdict | how |\n|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
}
