//! Where lines go. Nothing here blocks on another process, except a pipe or terminal given as
//! standard output.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use cascade_policy::{LogFormat, LogLevel};
use cascade_time::Timestamp;
use nix::fcntl::OFlag;

use super::Who;
use super::record::{Record, level_word, severity};

/// Lines, and their octets, kept for a syslog or journal that does not take them.
pub const QUEUE_MAX: usize = 4096;
const QUEUE_OCTETS_MAX: usize = 4 * 1024 * 1024;
/// Field names of the journal: upper case, at most 64 octets.
const JOURNAL_NAME_MAX: usize = 64;

#[derive(Debug)]
pub enum Sink {
    Stdout,
    Stderr,
    /// Whatever was opened elsewhere, such as a duplicate of standard error.
    Stream(File),
    Syslog(Datagrams),
    Journal(Datagrams),
    File(LogFile),
}

impl Sink {
    /// Number of lines lost by this one.
    pub fn write(&mut self, record: &Record, format: LogFormat) -> u64 {
        let line = || match format {
            LogFormat::Text => record.text() + "\n",
            LogFormat::Json => record.json() + "\n",
        };
        match self {
            Sink::Stdout => lost(io::stdout().lock().write_all(line().as_bytes())),
            Sink::Stderr => lost(io::stderr().lock().write_all(line().as_bytes())),
            Sink::Stream(to) => lost(to.write_all(line().as_bytes())),
            Sink::File(file) => lost(file.write(line().as_bytes())),
            Sink::Syslog(to) => to.send(syslog(record, format, to.who), record.at),
            Sink::Journal(to) => to.send(journal(record, to.who), record.at),
        }
    }

    /// Tries again what waits; number of lines lost by it.
    pub fn pump(&mut self, now: Timestamp) -> u64 {
        match self {
            Sink::Syslog(to) | Sink::Journal(to) => to.pump(now),
            Sink::Stdout | Sink::Stderr | Sink::Stream(_) | Sink::File(_) => 0,
        }
    }

    /// # Errors
    /// The file cannot be opened; lines go to the former one.
    pub fn reopen(&mut self) -> Result<(), String> {
        match self {
            Sink::Stdout | Sink::Stderr | Sink::Stream(_) => Ok(()),
            Sink::Syslog(to) | Sink::Journal(to) => {
                to.socket = None;
                Ok(())
            }
            Sink::File(file) => file.reopen().map_err(|e| file_error(&file.path, &e)),
        }
    }
}

fn lost(written: io::Result<()>) -> u64 {
    u64::from(written.is_err())
}

pub fn file_error(path: &Path, error: &io::Error) -> String {
    format!(
        "log file {}: {error}; check that its directory exists and is writable for this program",
        path.display()
    )
}

/// A file that is opened again when it no longer is the one of its name.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// Device and inode of `file`.
    id: (u64, u64),
}

impl LogFile {
    /// # Errors
    /// As the system says.
    pub fn open(path: &Path) -> io::Result<LogFile> {
        let (file, id) = open(path)?;
        Ok(LogFile {
            path: path.to_path_buf(),
            file,
            id,
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.id) = open(&self.path)?;
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let here = std::fs::metadata(&self.path).map(|m| (m.dev(), m.ino()));
        if here.ok() != Some(self.id) {
            // When the name cannot be opened, the renamed file still takes the line.
            let _ = self.reopen();
        }
        self.file.write_all(line)
    }
}

fn open(path: &Path) -> io::Result<(File, (u64, u64))> {
    // O_NONBLOCK: opening a FIFO without a reader must fail rather than stop the daemon.
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)?;
    let meta = file.metadata()?;
    Ok((file, (meta.dev(), meta.ino())))
}

/// A datagram socket of a logging daemon. Sending never blocks: what is not taken waits in a
/// bounded queue, and what does not fit is counted and told once lines are taken again.
#[derive(Debug)]
pub struct Datagrams {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    queue: VecDeque<Vec<u8>>,
    /// Octets in the queue.
    octets: usize,
    /// Lost since the last report.
    lost: u64,
    report: fn(&Record, Who) -> Vec<u8>,
    who: Who,
}

impl Datagrams {
    pub fn syslog(path: &Path, who: Who) -> Datagrams {
        Datagrams::new(path, |r, who| syslog(r, LogFormat::Text, who), who)
    }

    pub fn journal(path: &Path, who: Who) -> Datagrams {
        Datagrams::new(path, journal, who)
    }

    fn new(path: &Path, report: fn(&Record, Who) -> Vec<u8>, who: Who) -> Datagrams {
        Datagrams {
            path: path.to_path_buf(),
            socket: None,
            queue: VecDeque::new(),
            octets: 0,
            lost: 0,
            report,
            who,
        }
    }

    /// # Errors
    /// Nobody listens there.
    pub fn connect(&mut self) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(&self.path)?;
        self.socket = Some(socket);
        Ok(())
    }

    fn send(&mut self, datagram: Vec<u8>, now: Timestamp) -> u64 {
        let mut lost = 0;
        if !self.has_room(&datagram) {
            lost += self.pump(now);
        }
        if !self.has_room(&datagram) {
            self.lost = self.lost.saturating_add(1);
            return lost + 1;
        }
        self.octets += datagram.len();
        self.queue.push_back(datagram);
        lost + self.pump(now)
    }

    fn has_room(&self, datagram: &[u8]) -> bool {
        self.queue.len() < QUEUE_MAX && self.octets + datagram.len() <= QUEUE_OCTETS_MAX
    }

    fn pump(&mut self, now: Timestamp) -> u64 {
        let mut lost = 0;
        while let Some(front) = self.queue.pop_front() {
            let octets = front.len();
            match self.try_send(&front) {
                Sent::Taken => {}
                Sent::Never => lost += 1,
                Sent::Later => {
                    self.queue.push_front(front);
                    break;
                }
            }
            self.octets = self.octets.saturating_sub(octets);
        }
        self.lost = self.lost.saturating_add(lost);
        if self.queue.is_empty() {
            self.tell_lost(now);
        }
        lost
    }

    fn tell_lost(&mut self, now: Timestamp) {
        if self.lost > 0 {
            let text = format!(
                "{} log lines were lost: {} did not take them",
                self.lost,
                self.path.display()
            );
            let record = Record::own(now, LogLevel::Warning, text);
            if let Sent::Taken = self.try_send(&(self.report)(&record, self.who)) {
                self.lost = 0;
            }
        }
    }

    /// A socket whose other end went away is connected once more at once: a restart of the
    /// logging daemon then loses nothing.
    fn try_send(&mut self, datagram: &[u8]) -> Sent {
        for _ in 0..2 {
            if self.socket.is_none() && self.connect().is_err() {
                return Sent::Later;
            }
            let Some(socket) = &self.socket else {
                return Sent::Later;
            };
            match socket.send(datagram) {
                Ok(_) => return Sent::Taken,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Sent::Later,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(nix::errno::Errno::EMSGSIZE as i32) => {
                    return Sent::Never;
                }
                Err(_) => self.socket = None,
            }
        }
        Sent::Later
    }
}

enum Sent {
    Taken,
    Later,
    /// Too large for this socket.
    Never,
}

/// The form of local syslog sockets (RFC 3164 §4.1, without time: the receiver's is right).
fn syslog(record: &Record, format: LogFormat, who: Who) -> Vec<u8> {
    let priority = u32::from(who.facility) * 8 + u32::from(severity(record.level));
    let pid = std::process::id();
    let body = match format {
        LogFormat::Text => record.body(),
        LogFormat::Json => record.json(),
    };
    format!("<{priority}>{}[{pid}]: {body}", who.name).into_bytes()
}

/// The native protocol of the journal: `NAME=value` lines, or the name, the length as 64 bits
/// little endian and the value where the value has several lines. The message repeats the fields,
/// because the usual listing shows nothing else.
fn journal(record: &Record, who: Who) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    put(&mut out, "MESSAGE", &record.body());
    put(&mut out, "PRIORITY", &severity(record.level).to_string());
    put(&mut out, "SYSLOG_IDENTIFIER", who.name);
    put(&mut out, "SYSLOG_FACILITY", &who.facility.to_string());
    put(&mut out, "CASCADE_LEVEL", level_word(record.level));
    put(&mut out, "CASCADE_TARGET", record.target);
    for (name, value) in &record.fields {
        let mut key = String::from("CASCADE_");
        key.extend(name.chars().map(|c| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_uppercase(),
            false => '_',
        }));
        key.truncate(JOURNAL_NAME_MAX);
        match value {
            serde_json::Value::String(text) => put(&mut out, &key, text),
            other => put(&mut out, &key, &other.to_string()),
        }
    }
    out
}

fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Who = Who {
        name: "cascaded",
        facility: 3,
    };

    fn record(message: &str) -> Record {
        let mut r = Record::own(Timestamp::from_secs(0), LogLevel::Critical, message.into());
        r.fields = vec![("zone", "example.net".into()), ("left-secs", 7u64.into())];
        r
    }

    fn receive(socket: &UnixDatagram) -> Vec<u8> {
        let mut buffer = [0u8; 4096];
        let n = socket.recv(&mut buffer).expect("datagram");
        buffer[..n].to_vec()
    }

    fn listen(path: &Path) -> UnixDatagram {
        let socket = UnixDatagram::bind(path).expect("bind");
        socket.set_nonblocking(true).expect("mode");
        socket
    }

    #[test]
    fn syslog_carries_facility_and_severity() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("log");
        let socket = listen(&path);
        let mut sink = Sink::Syslog(Datagrams::syslog(&path, WHO));
        assert_eq!(sink.write(&record("disk\nfull"), LogFormat::Text), 0);
        let expected = format!(
            "<26>cascaded[{}]: disk\\nfull zone=example.net left-secs=7",
            std::process::id()
        );
        assert_eq!(String::from_utf8(receive(&socket)).expect("text"), expected);
    }

    #[test]
    fn syslog_comes_back_without_loss() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("log");
        let mut sink = Sink::Syslog(Datagrams::syslog(&path, WHO));
        // Not there yet.
        sink.write(&record("one"), LogFormat::Text);
        let socket = listen(&path);
        sink.write(&record("two"), LogFormat::Text);
        for word in ["one", "two"] {
            let got = String::from_utf8(receive(&socket)).expect("text");
            assert!(got.contains(&format!(": {word} ")), "{got}");
        }
        // Restarted: a new socket of the same name.
        drop(socket);
        std::fs::remove_file(&path).expect("remove");
        sink.write(&record("three"), LogFormat::Text);
        let socket = listen(&path);
        sink.pump(Timestamp::from_secs(1));
        let got = String::from_utf8(receive(&socket)).expect("text");
        assert!(got.contains(": three "), "{got}");
    }

    #[test]
    fn a_stuck_syslog_blocks_nothing_and_drops_are_told() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("log");
        let socket = listen(&path);
        let mut sink = Sink::Syslog(Datagrams::syslog(&path, WHO));
        // Nobody reads: the socket's buffer fills first, then the queue.
        let mut lost = 0;
        let total = 2 * QUEUE_MAX as u64;
        for _ in 0..total {
            lost += sink.write(&record("line"), LogFormat::Text);
        }
        assert!(lost > 0 && lost < total, "{lost}");
        let Sink::Syslog(to) = &sink else {
            unreachable!()
        };
        assert_eq!(to.queue.len(), QUEUE_MAX);

        let mut buffer = [0u8; 4096];
        let (mut lines, mut report) = (0, String::new());
        loop {
            sink.pump(Timestamp::from_secs(1));
            let Ok(n) = socket.recv(&mut buffer) else {
                break;
            };
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            match text.contains("log lines were lost") {
                true => report = text,
                false => lines += 1,
            }
        }
        assert_eq!(lines, total - lost);
        assert!(
            report.contains(&format!(": {lost} log lines were lost")),
            "{report}"
        );
    }

    #[test]
    fn what_waits_is_bounded_in_octets_too() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("log");
        let mut to = Datagrams::syslog(&path, WHO);
        let large = vec![b'x'; 100_000];
        let now = Timestamp::from_secs(0);
        let lost: u64 = (0..100).map(|_| to.send(large.clone(), now)).sum();
        assert_eq!(
            (to.queue.len(), lost),
            (QUEUE_OCTETS_MAX / large.len(), 100 - 41)
        );

        // One that no socket takes is dropped and does not stop the others.
        let mut to = Datagrams::syslog(&path, WHO);
        assert_eq!(to.send(vec![b'x'; 2_000_000], now), 0);
        assert_eq!(to.send(b"small".to_vec(), now), 0);
        let socket = listen(&path);
        assert_eq!(to.pump(now), 1);
        assert_eq!(to.octets, 0);
        assert_eq!(receive(&socket), b"small");
        assert!(receive(&socket).starts_with(b"<28>cascaded["));
    }

    #[test]
    fn journal_gets_native_fields() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("socket");
        let socket = listen(&path);
        let mut sink = Sink::Journal(Datagrams::journal(&path, WHO));
        let mut r = record("gone");
        r.fields.push(("reason", "a\nb".into()));
        sink.write(&r, LogFormat::Json);
        let got = receive(&socket);
        let text = String::from_utf8_lossy(&got);
        assert!(
            text.starts_with(
                "MESSAGE=gone zone=example.net left-secs=7 reason=\"a\\nb\"\nPRIORITY=2\n"
            ),
            "{text}"
        );
        assert!(text.contains("\nCASCADE_ZONE=example.net\n"), "{text}");
        assert!(text.contains("\nCASCADE_LEFT_SECS=7\n"), "{text}");
        assert!(
            got.ends_with(b"CASCADE_REASON\n\x03\0\0\0\0\0\0\0a\nb\n"),
            "{text}"
        );
    }

    #[test]
    fn a_rotated_file_is_opened_again() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("cascade.log");
        let mut sink = Sink::File(LogFile::open(&path).expect("open"));
        let write =
            |sink: &mut Sink, text: &str| assert_eq!(sink.write(&record(text), LogFormat::Text), 0);
        let read = |path: &Path| std::fs::read_to_string(path).expect("file");
        write(&mut sink, "one");
        let mode = std::fs::metadata(&path).expect("file").mode();
        assert_eq!(mode & 0o137, 0, "no more than 0640: {mode:o}");

        let old = dir.path().join("cascade.log.1");
        std::fs::rename(&path, &old).expect("rename");
        write(&mut sink, "two");
        assert!(read(&old).contains("one") && !read(&old).contains("two"));
        assert!(read(&path).contains("two"));

        std::fs::remove_file(&path).expect("remove");
        write(&mut sink, "three");
        assert_eq!(read(&path).lines().count(), 1);

        std::fs::write(&path, "kept\n").expect("write");
        sink.reopen().expect("reopen");
        write(&mut sink, "four");
        assert_eq!(read(&path).lines().count(), 2, "appended");

        // Its directory is gone: the open file still takes lines, and reopening says why not.
        let away = dir.path().join("away");
        std::fs::create_dir(&away).expect("directory");
        let path = away.join("log");
        let mut sink = Sink::File(LogFile::open(&path).expect("open"));
        std::fs::remove_dir_all(&away).expect("remove");
        write(&mut sink, "five");
        let error = sink.reopen().expect_err("gone");
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
