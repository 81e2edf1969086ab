//! Name servers and resolvers that are not ours: NSD as parent and secondary, Unbound as
//! validating resolver.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use domain::base::iana::Rcode;
use tempfile::TempDir;

use crate::{Answer, Ports, dig, within};

/// A program that runs in the foreground until this goes away.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    ports: Ports,
    child: Child,
}

impl Server {
    /// NSD as secondary of these zones, transferred from `primary` on the loopback interface.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn nsd(zones: &[&str], primary: u16) -> Server {
        let (folder, ports) = place("nsd-");
        let dir = folder.path().display();
        let mut text = format!(
            "server:\n ip-address: 127.0.0.1@{}\n port: {}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{dir}\"\n \
             pidfile: \"{dir}/pid\"\n xfrdfile: \"{dir}/xfrd\"\n zonelistfile: \"{dir}/list\"\n xfrdir: \"{dir}\"\n \
             logfile: \"{dir}/log\"\n server-count: 1\n database: \"\"\n rrl-ratelimit: 0\n \
             xfrd-reload-timeout: 0\nremote-control:\n control-enable: no\n",
            ports.get(0),
            ports.get(0)
        );
        for zone in zones {
            text.push_str(&format!(
                "zone:\n name: \"{zone}\"\n zonefile: \"{zone}.zone\"\n allow-notify: 127.0.0.1 NOKEY\n \
                 request-xfr: AXFR 127.0.0.1@{primary} NOKEY\n min-retry-time: 1\n max-retry-time: 2\n"
            ));
        }
        let config = folder.path().join("nsd.conf");
        fs::write(&config, text).expect("our own directory is writable");
        let child = Command::new("/usr/sbin/nsd")
            .arg("-d")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nsd is installed (Debian: nsd)");
        Server {
            folder,
            ports,
            child,
        }
    }

    /// Unbound that validates from `anchor` (a DS or DNSKEY record), at this time of the world. It
    /// asks each zone's servers at their ports.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn unbound(zones: &[(&str, &[u16])], anchor: &str, unix_time: i64) -> Server {
        let (folder, ports) = place("unbound-");
        let dir = folder.path().display();
        let date = date(unix_time);
        let mut text = format!(
            "server:\n interface: 127.0.0.1\n port: {}\n username: \"\"\n chroot: \"\"\n directory: \"{dir}\"\n \
             pidfile: \"{dir}/pid\"\n use-syslog: no\n logfile: \"{dir}/log\"\n verbosity: 2\n val-log-level: 2\n \
             do-daemonize: no\n do-not-query-localhost: no\n access-control: 127.0.0.0/8 allow\n num-threads: 1\n \
             module-config: \"validator iterator\"\n val-override-date: \"{date}\"\n trust-anchor: \"{anchor}\"\n \
             harden-algo-downgrade: yes\n local-zone: \"test.\" nodefault\n qname-minimisation: no\n \
             minimal-responses: no\n rrset-roundrobin: no\n outgoing-range: 64\n num-queries-per-thread: 32\n\
             remote-control:\n control-enable: no\n",
            ports.get(0)
        );
        for (zone, servers) in zones {
            text.push_str(&format!("stub-zone:\n name: \"{zone}\"\n"));
            for port in *servers {
                text.push_str(&format!(" stub-addr: 127.0.0.1@{port}\n"));
            }
        }
        let config = folder.path().join("unbound.conf");
        fs::write(&config, text).expect("our own directory is writable");
        let child = Command::new("/usr/sbin/unbound")
            .arg("-d")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("unbound is installed (Debian: unbound)");
        let server = Server {
            folder,
            ports,
            child,
        };
        let up = within(crate::wait::PATIENCE, || {
            // Refused or not, who answers is up.
            crate::ask(server.port(), "nobody.invalid", "A").map(|_| ())
        });
        assert!(up.is_some(), "unbound did not start: {}", server.log());
        server
    }

    pub fn port(&self) -> u16 {
        self.ports.get(0)
    }

    pub fn ask(&self, args: &[&str]) -> Answer {
        dig(self.port(), args)
    }

    /// The serial that it has of a zone.
    pub fn serial(&self, zone: &str) -> Option<u32> {
        crate::serial(self.port(), zone)
    }

    /// Stops the program where it is, or lets it go on: it answers nothing meanwhile.
    pub fn freeze(&self, on: bool) {
        crate::wait::freeze(&self.child, on);
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Where its files are.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// Panics unless the answer is there and validates.
    #[track_caller]
    pub fn must_validate(&self, name: &str, rtype: &str, when: &str) {
        let heard = crate::ask(self.port(), name, rtype);
        if heard.is_some_and(|h| h.rcode == Rcode::NOERROR && h.ad && h.records > 0) {
            return;
        }
        // A resolver that knows silent servers takes its time; who asks it asks again.
        let asked = crate::within(std::time::Duration::from_secs(120), || {
            let answer = self.ask(&["+dnssec", name, rtype]);
            (!answer.status.is_empty()).then_some(answer)
        });
        let answer = asked.unwrap_or_else(|| self.ask(&["+dnssec", name, rtype]));
        let good = answer.status == "NOERROR" && answer.has_flag("ad") && !answer.answer.is_empty();
        assert!(
            good,
            "{when}: {name} {rtype} is {} with flags {:?}\n{}\n{}",
            answer.status,
            answer.flags,
            answer.text,
            self.log()
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        crate::wait::end(&mut self.child);
    }
}

fn place(prefix: &str) -> (TempDir, Ports) {
    let folder = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir()
        .expect("the temporary directory is writable");
    (folder, Ports::take(1))
}

/// `YYYYMMDDHHMMSS` in UTC.
fn date(unix: i64) -> String {
    let (days, secs) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    // Days to a date of the proleptic Gregorian calendar, years beginning in March.
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}{month:02}{day:02}{:02}{:02}{:02}",
        secs / 3600,
        secs / 60 % 60,
        secs % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "19700101000000");
        assert_eq!(date(951_782_400), "20000229000000");
        assert_eq!(date(1_900_000_000), "20300317174640");
    }
}
