//! The program against a daemon that answers from a table.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// What the daemon says to `METHOD /target`.
#[derive(Clone)]
pub struct Said {
    pub status: u16,
    pub body: String,
    pub api: &'static str,
}

pub fn said(status: u16, body: impl Into<String>) -> Said {
    Said {
        status,
        body: body.into(),
        api: "1.4",
    }
}

pub struct Daemon {
    pub socket: PathBuf,
    pub heard: Arc<Mutex<Vec<(String, String)>>>,
    _dir: tempfile::TempDir,
}

/// Answers each request with the first unused row for it; the last row of a kind stays.
pub fn daemon(rows: Vec<(&'static str, Said)>) -> Daemon {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("s");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    std::thread::spawn(move || {
        let mut rows = rows;
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().expect("clone"));
            let mut first = String::new();
            reader.read_line(&mut first).expect("request line");
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = n.trim().parse().expect("a length");
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("body");
            let request = first.trim_end().trim_end_matches(" HTTP/1.1").to_string();
            log.lock()
                .expect("log")
                .push((request.clone(), String::from_utf8(body).expect("UTF-8")));
            let index = rows.iter().position(|(r, _)| *r == request);
            let answer = match index {
                Some(i) if rows.iter().skip(i + 1).any(|(r, _)| *r == request) => rows.remove(i).1,
                Some(i) => rows[i].1.clone(),
                None => said(500, format!("{{\"unexpected\":{request:?}}}")),
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {} X\r\ncascade-api: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
                answer.status,
                answer.api,
                answer.body.len(),
                answer.body
            );
        }
    });
    Daemon {
        socket,
        heard,
        _dir: dir,
    }
}

#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn cascade(server: &str, args: &[&str], stdin: &str) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cascade"))
        .env_clear()
        .env("CASCADE_DAEMON", server)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(stdin.as_bytes())
        .expect("reads");
    let out = child.wait_with_output().expect("ends");
    Outcome {
        code: out.status.code().unwrap_or(-1),
        stdout: String::from_utf8(out.stdout).expect("UTF-8"),
        stderr: String::from_utf8(out.stderr).expect("UTF-8"),
    }
}

impl Daemon {
    pub fn run(&self, args: &[&str]) -> Outcome {
        cascade(&format!("unix:{}", self.socket.display()), args, "")
    }

    pub fn heard(&self) -> Vec<(String, String)> {
        self.heard.lock().expect("log").clone()
    }
}
