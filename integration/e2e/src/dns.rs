//! Questions over DNS, asked by `dig`, which is not ours.

use std::path::Path;
use std::process::{Command, Stdio};

/// What `dig` printed, taken apart as far as tests need it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub text: String,
    /// `NOERROR`, `SERVFAIL`, …; empty when nothing answered.
    pub status: String,
    /// `qr`, `aa`, …
    pub flags: Vec<String>,
    /// Record lines of the answer, authority and additional sections.
    pub answer: Vec<String>,
    pub authority: Vec<String>,
    pub additional: Vec<String>,
}

impl Answer {
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }

    /// RDATA texts of the answer's records of one type.
    pub fn rdata(&self, rtype: &str) -> Vec<String> {
        records_of(&self.answer, rtype)
    }

    /// The serial of the SOA in the answer section.
    pub fn serial(&self) -> Option<u32> {
        self.rdata("SOA").first()?.split(' ').nth(2)?.parse().ok()
    }

    fn parse(text: String) -> Answer {
        let mut answer = Answer {
            status: String::new(),
            flags: Vec::new(),
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            text: String::new(),
        };
        let mut section = None;
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once(", status: ") {
                answer.status = rest.split(',').next().unwrap_or_default().to_owned();
            } else if let Some(rest) = line.strip_prefix(";; flags: ") {
                let flags = rest.split(';').next().unwrap_or_default();
                answer.flags = flags.split_whitespace().map(str::to_owned).collect();
            } else if line.starts_with(";; ANSWER SECTION") {
                section = Some(0);
            } else if line.starts_with(";; AUTHORITY SECTION") {
                section = Some(1);
            } else if line.starts_with(";; ADDITIONAL SECTION") {
                section = Some(2);
            } else if line.is_empty() {
                section = None;
            } else if !line.starts_with(';') {
                let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
                match section {
                    Some(0) => answer.answer.push(line),
                    Some(1) => answer.authority.push(line),
                    Some(2) => answer.additional.push(line),
                    _ => {}
                }
            }
        }
        answer.text = text;
        answer
    }
}

/// Records look like `owner ttl class type rdata…`.
fn records_of(lines: &[String], rtype: &str) -> Vec<String> {
    lines
        .iter()
        .filter(|line| line.split(' ').nth(3) == Some(rtype))
        .map(|line| line.splitn(5, ' ').nth(4).unwrap_or_default().to_owned())
        .collect()
}

/// Asks a server on the loopback interface. `args` as on `dig`'s command line.
///
/// # Panics
/// When `dig` is not installed.
pub fn dig(port: u16, args: &[&str]) -> Answer {
    let output = Command::new("dig")
        .args([
            "-r",
            "@127.0.0.1",
            "-p",
            &port.to_string(),
            "+time=5",
            "+tries=1",
        ])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("dig is installed (Debian: bind9-dnsutils)");
    Answer::parse(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Transfers a zone and writes it as a zone file; the number of records without the closing SOA.
///
/// # Errors
/// What `dig` said when there was no complete transfer.
pub fn transfer(port: u16, zone: &str, to: &Path) -> Result<usize, String> {
    let output = Command::new("dig")
        .args(["-r", "@127.0.0.1", "-p", &port.to_string(), zone, "AXFR"])
        .args([
            "+time=30", "+tries=1", "+noall", "+answer", "+onesoa", "+nosplit",
        ])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("dig cannot be started (Debian: bind9-dnsutils): {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("; Transfer failed") || text.trim().is_empty() {
        return Err(format!("no transfer of {zone}: {}", text.trim()));
    }
    std::fs::write(to, text.as_bytes()).map_err(|e| format!("{}: {e}", to.display()))?;
    Ok(text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(';'))
        .count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = Answer::parse(
            "\n; <<>> DiG 9 <<>> …\n;; Got answer:\n\
             ;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 1\n\
             ;; flags: qr aa; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 0\n\n\
             ;; QUESTION SECTION:\n;example.net.\tIN\tSOA\n\n\
             ;; ANSWER SECTION:\nexample.net.\t3600\tIN\tSOA\tns.example.net. u. 7 1 2 3 4\n\n\
             ;; Query time: 0 msec\n"
                .into(),
        );
        assert_eq!(answer.status, "NOERROR");
        assert_eq!(answer.flags, ["qr", "aa"]);
        assert_eq!(answer.serial(), Some(7));
        assert!(answer.authority.is_empty());
    }
}
