//! Foreign programs that say whether a signed zone is valid. None of them is ours.

use std::path::Path;
use std::process::{Command, Stdio};

/// A program that reads a signed zone file and judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judge {
    Ldns,
    Bind,
    Knot,
}

/// What a judge said.
#[derive(Clone, Debug)]
pub enum Verdict {
    Valid,
    /// With what it printed.
    Invalid(String),
    NotInstalled,
}

impl Judge {
    pub const ALL: [Judge; 3] = [Judge::Ldns, Judge::Bind, Judge::Knot];

    pub fn program(self) -> &'static str {
        match self {
            Judge::Ldns => "ldns-verify-zone",
            Judge::Bind => "dnssec-verify",
            Judge::Knot => "kzonecheck",
        }
    }

    /// Judges the signed zone in a file of one record per line.
    ///
    /// `single_key`: one key signs everything, so nobody should look for the split into KSK and ZSK.
    pub fn judge(self, zone: &str, file: &Path, single_key: bool) -> Verdict {
        let mut command = Command::new(self.program());
        match self {
            Judge::Ldns => {
                command.args(["-V", "1"]);
            }
            Judge::Bind => {
                // -x: the DNSKEY RRset is signed by the KSK only; -z: no such split at all.
                command.args([if single_key { "-z" } else { "-x" }, "-o", zone]);
            }
            Judge::Knot => {
                command.args(["-d", "on", "-o", zone]);
            }
        }
        // Some need a path that the zone's odd name cannot disturb, all take one.
        match command.arg(file).stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => Verdict::Valid,
            Ok(output) => {
                let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
                text.push_str(&String::from_utf8_lossy(&output.stdout));
                Verdict::Invalid(text.trim().to_owned())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Verdict::NotInstalled,
            Err(error) => Verdict::Invalid(format!("cannot be started: {error}")),
        }
    }
}
