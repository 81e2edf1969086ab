//! A validating resolver (Unbound) asks an authoritative server (NSD) that has the zone.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cascade_e2e::{Answer, Ports, dig, within};

use crate::questions::Question;
use crate::text;

/// Both servers, for one zone, until dropped.
#[derive(Debug)]
pub struct Resolver {
    children: Vec<Child>,
    ports: Ports,
    _folder: tempfile::TempDir,
}

const AUTHORITATIVE: usize = 0;
const RECURSIVE: usize = 1;

/// Why the zone could not be asked about.
#[derive(Debug)]
pub enum Trouble {
    NotInstalled(&'static str),
    /// The server said this and does not answer.
    NotServing(&'static str, String),
}

impl Resolver {
    /// Serves the zone file and trusts the given DNSKEY records, one per line.
    ///
    /// # Errors
    /// A program is missing, or one of them does not come to answer.
    pub fn new(zone: &str, file: &Path, anchors: &[String]) -> Result<Resolver, Trouble> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let ports = Ports::take(2);
        let mut resolver = Resolver {
            children: Vec::new(),
            ports,
            _folder: folder,
        };
        let folder = resolver._folder.path().to_path_buf();
        let authoritative = resolver.ports.get(AUTHORITATIVE);
        let recursive = resolver.ports.get(RECURSIVE);
        let quoted = quote(zone);
        fs::copy(file, folder.join("zone")).expect("the zone file can be copied");
        let place = folder.display();

        // No database, no control channel, no change of user, nothing outside of our directory.
        let nsd = format!(
            "server:\n  ip-address: 127.0.0.1@{authoritative}\n  username: \"\"\n  chroot: \"\"\n  \
             zonesdir: \"{place}\"\n  pidfile: \"{place}/nsd.pid\"\n  database: \"\"\n  \
             xfrdfile: \"{place}/xfrd\"\n  xfrdir: \"{place}\"\n  zonelistfile: \"{place}/zones\"\n  \
             server-count: 1\n  tcp-count: 20\n  rrl-ratelimit: 0\n\
             remote-control:\n  control-enable: no\n\
             zone:\n  name: \"{quoted}\"\n  zonefile: \"zone\"\n"
        );
        resolver.start("nsd", &["-d", "-c"], &nsd)?;
        // Nothing may be asked of the real Internet, and no name is special.
        let mut unbound = format!(
            "server:\n  interface: 127.0.0.1@{recursive}\n  port: {recursive}\n  username: \"\"\n  \
             chroot: \"\"\n  directory: \"{place}\"\n  pidfile: \"{place}/unbound.pid\"\n  \
             do-daemonize: no\n  use-syslog: no\n  do-ip6: no\n  num-threads: 1\n  \
             module-config: \"validator iterator\"\n  do-not-query-localhost: no\n  \
             target-fetch-policy: \"0 0 0 0 0\"\n  qname-minimisation: no\n  \
             harden-below-nxdomain: no\n  unblock-lan-zones: yes\n  insecure-lan-zones: yes\n  \
             aggressive-nsec: no\n  minimal-responses: no\n  verbosity: 1\n  val-log-level: 2\n  \
             edns-buffer-size: 1232\n  local-zone: \"test.\" nodefault\n"
        );
        if quoted != "." {
            unbound.push_str(&format!("  local-zone: \"{quoted}\" nodefault\n"));
        }
        for anchor in anchors {
            unbound.push_str(&format!("  trust-anchor: \"{anchor}\"\n"));
        }
        unbound.push_str(&format!(
            "remote-control:\n  control-enable: no\n\
             stub-zone:\n  name: \"{quoted}\"\n  stub-addr: 127.0.0.1@{authoritative}\n"
        ));
        resolver.start("unbound", &["-d", "-c"], &unbound)?;
        for (program, port) in [("nsd", authoritative), ("unbound", recursive)] {
            let answers = within(Duration::from_secs(20), || {
                let answer = dig(port, &[&quoted, "SOA", "+norec", "+time=1"]);
                (!answer.status.is_empty()).then_some(())
            });
            if answers.is_none() {
                return Err(Trouble::NotServing(program, resolver.said(program)));
            }
        }
        Ok(resolver)
    }

    /// Asks all questions; what was answered wrongly, in words.
    pub fn ask(&self, questions: &[Question]) -> Vec<String> {
        questions
            .iter()
            .filter_map(|question| self.ask_one(question))
            .collect()
    }

    fn ask_one(&self, question: &Question) -> Option<String> {
        let rtype = text::mnemonic(question.rtype);
        let args = ["-q", &question.name, "-t", &rtype, "+dnssec"];
        let answer = dig(self.ports.get(RECURSIVE), &args);
        let wrong = judge(question, &answer)?;
        // Not the same cause each time: the authoritative answer shows whose fault it is.
        let direct = dig(
            self.ports.get(AUTHORITATIVE),
            &[args.as_slice(), &["+norec"]].concat(),
        );
        let said = self.said(if direct.status == "SERVFAIL" {
            "nsd"
        } else {
            "unbound"
        });
        let last = said
            .lines()
            .rev()
            .find(|line| line.contains("error") || line.contains("valid"));
        Some(format!(
            "{} {rtype}: {wrong}; the authoritative server says {} with {} and {} records; {}",
            question.name,
            direct.status,
            direct.answer.len(),
            direct.authority.len(),
            last.unwrap_or("the log says nothing")
        ))
    }

    fn start(&mut self, program: &'static str, args: &[&str], config: &str) -> Result<(), Trouble> {
        let folder = self._folder.path();
        let path = folder.join(format!("{program}.conf"));
        fs::write(&path, config).expect("our own directory is writable");
        let log = File::create(folder.join(format!("{program}.log"))).expect("our own directory");
        let log_too = log.try_clone().expect("a file can be opened twice");
        // Debian keeps servers where an ordinary user's PATH does not look.
        let search = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("env")
            .arg(format!("PATH={search}:/usr/sbin:/sbin"))
            .arg(program)
            .args(args)
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .map_err(|_| Trouble::NotInstalled(program))?;
        self.children.push(child);
        Ok(())
    }

    fn said(&self, program: &str) -> String {
        fs::read_to_string(self._folder.path().join(format!("{program}.log"))).unwrap_or_default()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.children.iter_mut().for_each(cascade_e2e::end);
    }
}

/// What is wrong with the answer, if anything.
fn judge(question: &Question, answer: &Answer) -> Option<String> {
    let wanted = if question.nxdomain {
        "NXDOMAIN"
    } else {
        "NOERROR"
    };
    if answer.status != wanted {
        return Some(format!("{} instead of {wanted}", answer.status));
    }
    if question.data == answer.answer.is_empty() {
        return Some(format!("{} records in the answer", answer.answer.len()));
    }
    match question.secure {
        Some(secure) if answer.has_flag("ad") != secure => {
            Some(format!("{}secure", if secure { "not " } else { "" }))
        }
        _ => None,
    }
}

/// A zone's name as both configurations take it.
fn quote(zone: &str) -> String {
    if zone.ends_with('.') {
        zone.to_owned()
    } else {
        format!("{zone}.")
    }
}
