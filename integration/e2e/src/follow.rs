//! A secondary that believes nothing: it follows a zone by incremental transfers and checks each
//! record that they take away or add. `dig` fetches them.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

/// What a secondary holds of a zone: records as lines, spelled in one way, the SOA apart.
#[derive(Clone, Debug)]
pub struct Follower {
    zone: String,
    pub serial: u32,
    records: BTreeSet<String>,
}

/// How a transfer went on from what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There was nothing newer.
    Current,
    /// By so many differences.
    Incremental(usize),
    /// The whole zone, where a difference was asked for.
    Whole,
}

/// Why a copy did not follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No complete transfer: the server is not there, or went away.
    NoTransfer(String),
    /// A transfer that does not fit what is held.
    Wrong(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::NoTransfer(what) | Trouble::Wrong(what) => f.write_str(what),
        }
    }
}

impl Follower {
    /// Begins with the whole zone.
    ///
    /// # Errors
    /// What `dig` said, or what is wrong with the transfer.
    pub fn new(port: u16, zone: &str) -> Result<Follower, String> {
        let lines = ask(port, zone, "AXFR")?;
        let (serial, records) = whole(&lines)?;
        Ok(Follower {
            zone: zone.into(),
            serial,
            records,
        })
    }

    /// Follows to what the server has now.
    ///
    /// # Errors
    /// The transfer failed, or it does not follow from what is held.
    pub fn follow(&mut self, port: u16) -> Result<Step, Trouble> {
        let what = format!("IXFR={}", self.serial);
        let lines = ask(port, &self.zone, &what).map_err(Trouble::NoTransfer)?;
        self.take(&lines).map_err(Trouble::Wrong)
    }

    fn take(&mut self, lines: &[String]) -> Result<Step, String> {
        let newest = lines.first().and_then(|l| soa_serial(l));
        let newest = newest.ok_or("the transfer does not begin with an SOA")?;
        let Some(second) = lines.get(1) else {
            // RFC 1995 §2: one SOA says that there is nothing newer.
            return match newest == self.serial {
                true => Ok(Step::Current),
                false => Err(format!(
                    "only the SOA {newest}, to one who has {}",
                    self.serial
                )),
            };
        };
        if soa_serial(second).is_none() {
            (self.serial, self.records) = whole(lines)?;
            return Ok(Step::Whole);
        }
        self.differences(&lines[1..], newest)
    }

    /// RFC 1995 §4: (old SOA, removed records, new SOA, added records)*, then the newest SOA.
    fn differences(&mut self, lines: &[String], newest: u32) -> Result<Step, String> {
        let mut next = self.clone();
        let (mut soas, mut steps) = (0, 0);
        for line in lines {
            if let Some(serial) = soa_serial(line) {
                soas += 1;
                if soas % 2 == 0 {
                    (next.serial, steps) = (serial, steps + 1);
                } else if serial != next.serial {
                    return Err(format!("a difference from {serial}, at {}", next.serial));
                }
                continue;
            }
            if soas % 2 == 1 && !next.records.remove(line) {
                return Err(format!("removed but never there: {line}"));
            }
            if soas % 2 == 0 && !next.records.insert(line.clone()) {
                return Err(format!("added but there already: {line}"));
            }
        }
        if soas % 2 == 0 || next.serial != newest {
            return Err(format!(
                "the differences end at {}, not {newest}",
                next.serial
            ));
        }
        *self = next;
        Ok(Step::Incremental(steps))
    }

    /// Compares with the whole zone as the server has it now.
    ///
    /// # Errors
    /// Names some of the records that differ.
    pub fn compare(&self, port: u16) -> Result<(), String> {
        let theirs = Follower::new(port, &self.zone)?;
        let less: Vec<_> = theirs.records.difference(&self.records).take(3).collect();
        let more: Vec<_> = self.records.difference(&theirs.records).take(3).collect();
        if theirs.serial == self.serial && less.is_empty() && more.is_empty() {
            return Ok(());
        }
        Err(format!(
            "serial {} here, {} there; missing {less:?}; too much {more:?}",
            self.serial, theirs.serial
        ))
    }

    /// RDATA of the records of one owner and type.
    pub fn rdata(&self, owner: &str, rtype: &str) -> Vec<&str> {
        let of = |line: &'_ &String| {
            let mut words = line.split(' ');
            words.next() == Some(owner) && words.nth(2) == Some(rtype)
        };
        let found = self.records.iter().filter(of);
        found.filter_map(|l| l.splitn(5, ' ').nth(4)).collect()
    }
}

/// Serial and records of a complete transfer of the whole zone.
fn whole(lines: &[String]) -> Result<(u32, BTreeSet<String>), String> {
    let (first, rest) = lines.split_first().ok_or("an empty transfer")?;
    let serial = soa_serial(first).ok_or("the transfer does not begin with an SOA")?;
    match rest.split_last() {
        Some((last, inner)) if soa_serial(last) == Some(serial) => {
            Ok((serial, inner.iter().cloned().collect()))
        }
        _ => Err("the transfer does not end with its SOA".into()),
    }
}

/// The serial, if the line is an SOA record.
fn soa_serial(line: &str) -> Option<u32> {
    let words: Vec<&str> = line.split(' ').collect();
    (words.get(3) == Some(&"SOA")).then(|| words.get(6)?.parse().ok())?
}

fn ask(port: u16, zone: &str, what: &str) -> Result<Vec<String>, String> {
    let output = Command::new("dig")
        .args([
            "-r",
            "@127.0.0.1",
            "-p",
            &port.to_string(),
            "+tcp",
            zone,
            what,
        ])
        .args(["+time=20", "+tries=1", "+noall", "+answer", "+nosplit"])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("dig cannot be started (Debian: bind9-dnsutils): {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("; Transfer failed") {
        return Err(format!("{what} of {zone}: {}", text.trim()));
    }
    let lines = text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with(';'))
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(|l| l.trim().to_owned()).collect()
    }

    fn soa(serial: u32) -> String {
        format!("z. 60 IN SOA a. b. {serial} 1 2 3 4")
    }

    fn at(serial: u32, records: &[&str]) -> Follower {
        Follower {
            zone: "z".into(),
            serial,
            records: records.iter().map(|r| (*r).to_owned()).collect(),
        }
    }

    #[test]
    fn differences_must_fit() {
        let text = [
            soa(3),
            soa(1),
            "x.z. 60 IN A 1.1.1.1".into(),
            soa(2),
            "y.z. 60 IN A 1.1.1.2".into(),
            soa(2),
            soa(3),
            soa(3),
        ];
        let good = lines(&text.join("\n"));
        let start = at(1, &["x.z. 60 IN A 1.1.1.1"]);
        let mut follower = start.clone();
        assert_eq!(
            follower.differences(&good[1..], 3),
            Ok(Step::Incremental(2))
        );
        assert_eq!(follower.serial, 3);
        assert_eq!(follower.rdata("y.z.", "A"), ["1.1.1.2"]);
        // What is taken away was there; what is added was not; the end is the newest; none is skipped.
        assert!(at(1, &[]).differences(&good[1..], 3).is_err());
        let both = ["x.z. 60 IN A 1.1.1.1", "y.z. 60 IN A 1.1.1.2"];
        assert!(at(1, &both).differences(&good[1..], 3).is_err());
        assert!(start.clone().differences(&good[1..], 4).is_err());
        assert!(start.clone().differences(&good[1..7], 3).is_err());
        assert!(at(2, &both[..1]).differences(&good[1..], 3).is_err());
    }

    #[test]
    fn a_whole_zone_ends_with_its_soa() {
        let text = [soa(3), "x.z. 60 IN A 1.1.1.1".into(), soa(3)];
        let good = lines(&text.join("\n"));
        assert_eq!(whole(&good).map(|(s, r)| (s, r.len())), Ok((3, 1)));
        assert!(whole(&good[..2]).is_err());
        assert!(whole(&good[1..]).is_err());
    }
}
