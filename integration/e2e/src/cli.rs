//! What a command said.

use std::process::Output;

/// The end of a command: exit code and both streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// What was run, for messages.
    pub command: String,
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    pub fn new(command: String, output: &Output) -> Said {
        Said {
            command,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// # Panics
    /// When the exit code is another one; says everything that the command said.
    #[track_caller]
    pub fn expect(self, code: i32) -> Said {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// # Panics
    /// When standard error lacks one of the words.
    #[track_caller]
    pub fn complains(self, words: &[&str]) -> Said {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no `{word}` in what was said: {self}"
            );
        }
        // A message for people, not for us.
        for leak in ["panicked at", "RUST_BACKTRACE", "called `Result"] {
            assert!(!self.stderr.contains(leak), "{self}");
        }
        self
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Said {
            command,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "`{command}` ended with {code:?}\n-- stdout\n{stdout}\n-- stderr\n{stderr}"
        )
    }
}

/// Replaces what differs from run to run by words: times by `TIME`, ages by `AGE`, serials made
/// from the date or clock by `SERIAL`, numbers of threads by `N`, addresses' ports by `PORT`.
pub fn mask_times(text: &str) -> String {
    text.split_inclusive('\n').map(mask_line).collect()
}

fn mask_line(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut in_age = false;
    for word in line.split(' ') {
        let bare = word.trim_end_matches(['\n', ',', '.', ')', ':']);
        let tail = &word[bare.len()..];
        if in_age {
            if word.trim_end().ends_with(')') {
                in_age = false;
                words.push(format!(
                    "(AGE){}",
                    word.trim_start_matches(|c| c != ')')
                        .trim_start_matches(')')
                ));
            }
            continue;
        }
        if word.starts_with('(') && words.last().is_some_and(|w| w == "TIME") {
            in_age = true;
            continue;
        }
        if is_time(bare) {
            words.push(format!("TIME{tail}"));
        } else if bare.len() == 10 && bare.bytes().all(|b| b.is_ascii_digit()) {
            words.push(format!("SERIAL{tail}"));
        } else if let Some(port) = bare.strip_prefix("127.0.0.1:")
            && !port.is_empty()
            && port.bytes().all(|b| b.is_ascii_digit())
        {
            words.push(format!("127.0.0.1:PORT{tail}"));
        } else if tail.is_empty()
            && words.last().is_some_and(|w| w == "using")
            && bare.parse::<u32>().is_ok()
        {
            words.push("N".into());
        } else {
            words.push(word.to_owned());
        }
    }
    words.join(" ")
}

/// `2025-11-22T14:42:20+00:00`
fn is_time(word: &str) -> bool {
    let octets = word.as_bytes();
    octets.len() == 25
        && octets.iter().enumerate().all(|(at, octet)| match at {
            4 | 7 => *octet == b'-',
            10 => *octet == b'T',
            13 | 16 | 22 => *octet == b':',
            19 => *octet == b'+',
            _ => octet.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_masked_and_nothing_else() {
        let line = "  Loaded at 2025-11-22T14:42:20+00:00 (1h 11m 36s ago)\n";
        assert_eq!(mask_times(line), "  Loaded at TIME (AGE)\n");
        let line = "✔ Signed version 3 as version 1763826146\n";
        assert_eq!(mask_times(line), "✔ Signed version 3 as version SERIAL\n");
        let line = "  Took 0s in total, using 2 threads\n";
        assert_eq!(mask_times(line), "  Took 0s in total, using N threads\n");
        let line = "  Published zone available on 127.0.0.1:4543\n";
        assert_eq!(
            mask_times(line),
            "  Published zone available on 127.0.0.1:PORT\n"
        );
        let line = "  Loaded 196 B and 3 records from the filesystem in 0 seconds\n";
        assert_eq!(mask_times(line), line);
    }
}
