//! The clock of a daemon that was built with the feature `test-clock`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::Site;

impl Site {
    /// What the daemon takes for the time, in seconds.
    pub fn now(&self) -> i64 {
        self.clock("now")
    }

    /// Time passes.
    pub fn advance(&self, by: Duration) -> i64 {
        let to = self.now() + by.as_secs() as i64;
        self.clock(&format!("advance-to {to}"))
    }

    /// Somebody sets the clock; no time passes.
    pub fn step(&self, secs: i64) -> i64 {
        self.clock(&format!("step {secs}"))
    }

    /// What the kernel says of the clock from now on: `yes`, `no`, `unknown`.
    pub fn synchronised(&self, word: &str) {
        self.clock(&format!("synchronised {word}"));
    }

    /// Lets the daemon's clock go on to a later time.
    pub fn advance_to(&self, to: i64) -> i64 {
        let now = self.now();
        if to <= now {
            return now;
        }
        self.clock(&format!("advance-to {to}"))
    }

    #[track_caller]
    fn clock(&self, order: &str) -> i64 {
        let path = self.path("state/test-clock.sock");
        let mut stream = UnixStream::connect(&path)
            .unwrap_or_else(|e| panic!("{}: {e}\n{}", path.display(), self.log()));
        writeln!(stream, "{order}").expect("the clock listens");
        let mut line = String::new();
        BufReader::new(&stream)
            .read_line(&mut line)
            .expect("the clock answers");
        line.trim()
            .parse()
            .unwrap_or_else(|_| panic!("the clock said '{line}'"))
    }
}
