//! Certificates of ours that end: told two weeks before, by the health check `tls-expiry`, a metric
//! and the log.
//!
//! What is in service is what was read at the start or at the last reload, so that is what is
//! judged; files that are read for each use are looked at every hour.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cascade_policy::Config;
use cascade_time::Timestamp;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::daemon::Daemon;

/// With less left a certificate is told of.
pub const SOON: Duration = Duration::from_secs(14 * 86_400);
const EVERY: Duration = Duration::from_secs(3600);
/// The same thing is logged once a day.
const AGAIN: Duration = Duration::from_secs(86_400);

/// When the certificates of one file can no longer be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Key of the configuration, or which HSM's.
    pub usage: String,
    /// Path; empty where it is kept in the state.
    pub file: String,
    pub ends: Timestamp,
    /// What to do once there is another.
    pub action: String,
}

impl Certificate {
    /// What is left, in words; `None` while there is time.
    pub fn trouble(&self, now: Timestamp) -> Option<String> {
        let left = now.secs_until(self.ends);
        if left > SOON.as_secs() as i64 {
            return None;
        }
        let file = match self.file.as_str() {
            "" => String::new(),
            file => format!(" ({file})"),
        };
        let at = self.ends.to_human();
        Some(match self.is_over(now) {
            true => format!("the certificate of {}{file} ended at {at}", self.usage),
            false => format!(
                "the certificate of {}{file} ends in {} days, at {at}",
                self.usage,
                left / 86_400
            ),
        })
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        self.ends <= now
    }
}

/// What is known of them.
#[derive(Debug, Default)]
pub struct Certificates {
    /// In service since the start or the last reload.
    served: Mutex<Vec<Certificate>>,
    /// Read for each use.
    used: Mutex<Vec<Certificate>>,
}

impl Certificates {
    /// With this configuration the servers run from now on. Reads files.
    pub fn serve(&self, config: &Config) {
        *self.served.lock() = of_servers(config);
    }

    pub fn all(&self) -> Vec<Certificate> {
        let mut all = self.served.lock().clone();
        all.extend(self.used.lock().iter().cloned());
        all
    }
}

/// Looks every hour, and logs what ends soon.
pub async fn watch(d: Arc<Daemon>) {
    let mut told: BTreeMap<String, Timestamp> = BTreeMap::new();
    loop {
        let d2 = d.clone();
        // A file that cannot be read is found by whoever uses it.
        let _ = tokio::task::spawn_blocking(move || {
            *d2.certificates.used.lock() = of_clients(&d2);
        })
        .await;
        let now = d.now();
        for c in d.certificates.all() {
            let Some(text) = c.trouble(now) else { continue };
            let due = told.get(&c.usage).is_none_or(|at| *at + AGAIN <= now);
            if due {
                told.insert(c.usage.clone(), now);
                tracing::warn!("{text}; {}", c.action);
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Of `--check-config` and a reload, which refuse a certificate that has ended: errors and warnings.
pub fn judge(config: &Config, now: Timestamp) -> (Vec<String>, Vec<String>) {
    let mut out = (Vec::new(), Vec::new());
    let clients = ca(
        "loader.tls.ca-path",
        config.loader.tls.ca_path.as_deref(),
        USE,
    );
    for c in of_servers(config).into_iter().chain(clients) {
        match (c.trouble(now), c.is_over(now)) {
            (Some(text), true) => out.0.push(text),
            (Some(text), false) => out.1.push(text),
            (None, _) => {}
        }
    }
    out
}

const RELOAD: &str = "renew the file; then: systemctl reload cascaded";
const USE: &str = "renew the file; it is read at the next transfer";

fn of_servers(config: &Config) -> Vec<Certificate> {
    let tls = &config.server.tls;
    let own = tls.cert_path.as_deref().and_then(|path| {
        // Whoever checks needs all of the chain.
        let ends = ends_of_file(path.as_std_path())?.into_iter().min()?;
        Some(Certificate {
            usage: "server.tls.cert-path".into(),
            file: path.to_string(),
            ends,
            action: RELOAD.into(),
        })
    });
    let clients = tls.client_ca_path.as_deref();
    let clients = ca("server.tls.client-ca-path", clients, RELOAD);
    own.into_iter().chain(clients).collect()
}

/// Authorities come and go within their file: it is of use until the last of them ends.
fn ca(usage: &str, path: Option<&camino::Utf8Path>, action: &str) -> Option<Certificate> {
    let path = path?;
    Some(Certificate {
        usage: usage.into(),
        file: path.to_string(),
        ends: ends_of_file(path.as_std_path())?.into_iter().max()?,
        action: action.into(),
    })
}

fn of_clients(d: &Daemon) -> Vec<Certificate> {
    let config = d.conf();
    let ca_path = config.config.loader.tls.ca_path.as_deref();
    let mut out: Vec<Certificate> = ca("loader.tls.ca-path", ca_path, USE).into_iter().collect();
    for device in d.hsms.devices() {
        let Some(row) = d.hsms.row(&device.id) else {
            continue;
        };
        let tls = &row.add.tls;
        let mut add = |what: &str, pem: &Option<String>, whole: bool, option: &str| {
            let ends = ends_of(pem.as_deref().unwrap_or_default().as_bytes());
            let ends = match whole {
                true => ends.into_iter().min(),
                false => ends.into_iter().max(),
            };
            out.extend(ends.map(|ends| Certificate {
                usage: format!("{what} HSM '{}'", device.id),
                file: String::new(),
                ends,
                action: format!("cascade hsm edit {} {option} <FILE>", device.id),
            }));
        };
        add("our client at", &tls.client_pem, true, "--hsm-client-cert");
        add("the authority of", &tls.ca_pem, false, "--hsm-ca-cert");
        add("the server of", &tls.server_pem, false, "--server-cert");
    }
    out
}

/// `None`: it cannot be read.
fn ends_of_file(path: &Path) -> Option<Vec<Timestamp>> {
    Some(ends_of(&std::fs::read(path).ok()?))
}

/// The end of each certificate in this PEM text.
fn ends_of(pem: &[u8]) -> Vec<Timestamp> {
    let all = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    all.filter_map(|c| not_after(&c)).collect()
}

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Context tag 0, constructed: the version.
const VERSION: u8 = 0xa0;

/// The end of a certificate's validity (RFC 5280 §4.1.2.5). `None`: it is none.
fn not_after(der: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = any_element(fields)?.2;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        fields = any_element(fields)?.2;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_, _, rest) = any_element(validity)?;
    let (tag, text, _) = any_element(rest)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    match tag {
        // RFC 5280 §4.1.2.5.1: years from 50 on are of the last century.
        UTC_TIME => {
            let century = match text.get(..2)?.parse::<u8>().ok()? {
                50.. => "19",
                _ => "20",
            };
            Timestamp::parse_dns(&format!("{century}{text}"))
        }
        GENERALIZED_TIME => match Timestamp::parse_dns(text) {
            // RFC 5280 §4.1.2.5: 99991231235959Z means that there is no end.
            None if text.len() == 14 => Some(Timestamp::from_secs(i64::MAX / 2_000_000_000)),
            end => end,
        },
        _ => None,
    }
}

/// Contents of an element with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, contents, rest) = any_element(der)?;
    (found == tag).then_some((contents, rest))
}

/// Tag, contents and rest (X.690 §8.1; tags of one octet, lengths that are given).
fn any_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut len = usize::from(first);
    if first & 0x80 != 0 {
        let octets = usize::from(first & 0x7f);
        if octets == 0 || octets > 4 {
            return None;
        }
        let (long, after) = rest.split_at_checked(octets)?;
        len = long.iter().fold(0, |n, o| n << 8 | usize::from(*o));
        rest = after;
    }
    let (contents, rest) = rest.split_at_checked(len)?;
    Some((tag, contents, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(year: i32, month: u8, day: u8) -> (String, Vec<u8>) {
        let mut params = rcgen::CertificateParams::new(vec!["ns1.example".into()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        (cert.pem(), cert.der().to_vec())
    }

    #[test]
    fn ends_are_read() {
        for (year, month, day) in [(2027, 3, 1), (2049, 12, 31), (2050, 1, 1), (2120, 6, 15)] {
            let (_, der) = made(year, month, day);
            let end = not_after(&der).unwrap();
            assert_eq!(end.to_dns(), format!("{year}{month:02}{day:02}000000"));
            // Whatever is cut off or changed: no panic, and no time out of nothing.
            for cut in 0..der.len().min(200) {
                let _ = not_after(&der[..cut]);
            }
            for i in 0..der.len().min(200) {
                for bit in 0..8 {
                    let mut other = der.clone();
                    other[i] ^= 1 << bit;
                    let _ = not_after(&other);
                }
            }
        }
        assert_eq!(not_after(b""), None);
        assert_eq!(not_after(&[0x30, 0x80, 0, 0]), None);
    }

    #[test]
    fn a_certificate_without_end_is_no_trouble() {
        let far = rcgen::date_time_ymd(9999, 12, 31);
        let mut params = rcgen::CertificateParams::new(vec!["ns1.example".into()]).unwrap();
        params.not_after = far;
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let ends = not_after(&der).unwrap();
        assert!(ends > Timestamp::parse_dns("21000101000000").unwrap());
    }

    #[test]
    fn trouble_begins_two_weeks_before() {
        let c = Certificate {
            usage: "server.tls.cert-path".into(),
            file: "/etc/x.pem".into(),
            ends: Timestamp::parse_dns("20270115000000").unwrap(),
            action: RELOAD.into(),
        };
        let at = |t| Timestamp::parse_dns(t).unwrap();
        assert_eq!(c.trouble(at("20261231235959")), None);
        let text = c.trouble(at("20270101000001")).unwrap();
        assert!(
            text.contains("/etc/x.pem") && text.contains("13 days"),
            "{text}"
        );
        let text = c.trouble(at("20270115000000")).unwrap();
        assert!(text.contains("ended at 2027-01-15T00:00:00"), "{text}");
    }

    #[test]
    fn a_chain_ends_with_its_first_and_authorities_with_their_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pem");
        std::fs::write(&path, made(2030, 1, 1).0 + &made(2029, 1, 1).0).unwrap();
        let text = format!(
            "version = \"v1\"\n[server.tls]\ncert-path = {path:?}\nkey-path = {path:?}\nclient-ca-path = {path:?}\n\
             [loader.tls]\nca-path = {path:?}\n"
        );
        let parsed = cascade_policy::parse_config("config.toml", text.as_bytes()).unwrap();
        let ends: Vec<String> = of_servers(&parsed.config)
            .iter()
            .map(|c| c.ends.to_dns()[..4].to_string())
            .collect();
        assert_eq!(ends, ["2029", "2030"]);
        let at = |t| judge(&parsed.config, Timestamp::parse_dns(t).unwrap());
        assert_eq!(at("20281201000000"), (vec![], vec![]));
        let (errors, warnings) = at("20281225000000");
        assert_eq!((errors.len(), warnings.len()), (0, 1));
        let (errors, warnings) = at("20291225000000");
        assert_eq!((errors.len(), warnings.len()), (1, 2));
    }
}
