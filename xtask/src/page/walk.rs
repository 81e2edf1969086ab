//! Numbered steps, and how a difference is told.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cascade_e2e::{Said, within};

use super::machine::Machine;

pub struct Walk {
    pub machine: Machine,
    /// The bridge is part of this build: the walk goes over it.
    pub hsm: bool,
    /// A vendor's module takes the place of SoftHSM.
    pub foreign_module: bool,
    /// Packages of a former release lie in /root/previous.
    pub previous: bool,
    /// On the host.
    pub packages: Vec<PathBuf>,
    passed: usize,
}

pub type Step = Result<(), String>;

impl Walk {
    pub fn new(machine: Machine) -> Walk {
        Walk {
            machine,
            hsm: false,
            foreign_module: false,
            previous: false,
            packages: Vec::new(),
            passed: 0,
        }
    }

    /// One row of the table: done and told, or the end of the walk.
    pub fn row(
        &mut self,
        number: &str,
        title: &str,
        step: impl FnOnce(&mut Machine) -> Step,
    ) -> Step {
        let begun = Instant::now();
        let result = step(&mut self.machine);
        let took = begun.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("✔ {number:>4}  {title} ({took:.1} s)");
                Ok(())
            }
            Err(difference) => {
                println!("x {number:>4}  {title} ({took:.1} s)");
                Err(format!("step {number}, {title}:\n{difference}"))
            }
        }
    }

    /// Counts, and the journal's end when something went wrong.
    pub fn end(&mut self, result: &Step) -> (usize, usize) {
        if result.is_err() {
            let journal = self
                .machine
                .sh("journalctl --no-pager -n 40 -u cascaded -u kmip2pkcs11");
            println!("-- end of the journal\n{}", journal.stdout);
        }
        self.machine.power_off();
        (self.passed, usize::from(result.is_err()))
    }
}

/// Exit code 0.
pub fn done(said: Said) -> Result<Said, String> {
    code(said, 0)
}

pub fn code(said: Said, code: i32) -> Result<Said, String> {
    if said.code == Some(code) {
        Ok(said)
    } else {
        Err(format!("exit code {code} expected\n{said}"))
    }
}

/// Exactly this on standard output, nothing on standard error, exit code 0.
pub fn says(said: Said, stdout: &str) -> Step {
    let said = done(said)?;
    if said.stderr.is_empty() {
        equal(&said.stdout, stdout)
    } else {
        Err(format!("nothing expected on standard error\n{said}"))
    }
}

pub fn equal(found: &str, expected: &str) -> Step {
    if found == expected {
        return Ok(());
    }
    let mut text = String::from("expected (-) and found (+):\n");
    let (mut e, mut f) = (expected.lines(), found.lines());
    loop {
        match (e.next(), f.next()) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b => text.push_str(&format!("  {a}\n")),
            (a, b) => {
                text.extend(a.map(|a| format!("- {a}\n")));
                text.extend(b.map(|b| format!("+ {b}\n")));
            }
        }
    }
    Err(text)
}

/// Each of these words stands in the text.
pub fn names(text: &str, words: &[&str]) -> Step {
    match words.iter().find(|w| !text.contains(**w)) {
        None => Ok(()),
        Some(word) => Err(format!("`{word}` is not in:\n{text}")),
    }
}

pub fn check(good: bool, what: impl FnOnce() -> String) -> Step {
    if good { Ok(()) } else { Err(what()) }
}

/// Asks until the answer is right; the last difference when it does not come.
pub fn until(limit_secs: u64, mut ask: impl FnMut() -> Step) -> Step {
    let mut last = Ok(());
    within(Duration::from_secs(limit_secs), || {
        last = ask();
        last.is_ok().then_some(())
    });
    last.map_err(|e| format!("not within {limit_secs} s: {e}"))
}
