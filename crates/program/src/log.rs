//! Log lines: one [`Record`] for each event, merged with its repeats, to one of several places.

mod record;
mod sink;

use std::path::{Path, PathBuf};

use cascade_policy::{LogFormat, LogTarget};
use cascade_time::Timestamp;

pub use record::{Record, Repeats, level_word};
pub use sink::{Datagrams, LogFile, Sink};

/// Under what name a program logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who {
    pub name: &'static str,
    /// Code of RFC 5424 §6.2.1, table 1.
    pub facility: u8,
}

/// Sockets of the system's logging daemons.
#[derive(Debug, Clone)]
pub struct Places {
    pub syslog: PathBuf,
    pub journal: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Places {
            syslog: "/dev/log".into(),
            journal: "/run/systemd/journal/socket".into(),
        }
    }
}

/// Opens the target. The text, if there is one, is to be logged: the target is not the one that was
/// asked for.
///
/// # Errors
/// The target cannot be used: which, why, and what to do.
pub fn open(
    target: &LogTarget,
    places: &Places,
    who: Who,
) -> Result<(Sink, Option<String>), String> {
    Ok(match target {
        LogTarget::Stdout => (Sink::Stdout, None),
        LogTarget::Stderr => (Sink::Stderr, None),
        // It may start after the program: lines wait for it.
        LogTarget::Syslog => (Sink::Syslog(Datagrams::syslog(&places.syslog, who)), None),
        LogTarget::Journal => {
            let mut to = Datagrams::journal(&places.journal, who);
            match to.connect() {
                Ok(()) => (Sink::Journal(to), None),
                Err(e) => {
                    let path = places.journal.display();
                    let text = format!("No journal at {path}: {e}; log lines go to standard error");
                    (Sink::Stderr, Some(text))
                }
            }
        }
        LogTarget::File(path) => {
            let path = Path::new(path.as_str());
            if !path.is_absolute() {
                return Err(format!(
                    "log file {}: the path must be absolute; write it from / on",
                    path.display()
                ));
            }
            let file = LogFile::open(path).map_err(|e| sink::file_error(path, &e))?;
            (Sink::File(file), None)
        }
    })
}

/// One log: repeats are merged, lost lines are counted by the caller.
#[derive(Debug)]
pub struct Output {
    sink: Sink,
    pub format: LogFormat,
    repeats: Repeats,
}

impl Output {
    pub fn new(sink: Sink, format: LogFormat) -> Output {
        Output {
            sink,
            format,
            repeats: Repeats::default(),
        }
    }

    /// Number of lines lost by this one.
    pub fn write(&mut self, record: Record) -> u64 {
        let (summary, record) = self.repeats.offer(record);
        self.put(summary) + self.put(record)
    }

    /// To be called every second or so: sends what waits, tells repeats whose time has come.
    pub fn tick(&mut self, now: Timestamp) -> u64 {
        let summary = self.repeats.due(now);
        self.put(summary) + self.sink.pump(now)
    }

    /// Writes what is held back.
    pub fn flush(&mut self, now: Timestamp) -> u64 {
        let summary = self.repeats.flush();
        self.put(summary) + self.sink.pump(now)
    }

    /// Lines go there from now on; what was held back goes to the former place.
    pub fn replace(&mut self, sink: Sink, now: Timestamp) -> u64 {
        let lost = self.flush(now);
        self.sink = sink;
        lost
    }

    /// # Errors
    /// The file cannot be opened; lines go to the former one.
    pub fn reopen(&mut self) -> Result<(), String> {
        self.sink.reopen()
    }

    fn put(&mut self, record: Option<Record>) -> u64 {
        record.map_or(0, |r| self.sink.write(&r, self.format))
    }
}
