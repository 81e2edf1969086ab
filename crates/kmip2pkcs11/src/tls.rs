//! The server's certificate and TLS settings.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use cascade_policy::BridgeConfig;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest, Sha256};

/// In `tls_dir`: the self-signed certificate and its key, so that they are never apart.
const OWN: &str = "server.pem";

/// TLS settings, and by what clients may recognise the server.
pub struct Tls {
    pub config: Arc<ServerConfig>,
    pub fingerprint: String,
    pub self_signed: bool,
}

/// Reads what the configuration names; without a certificate there, the self-signed one, which is
/// made if it does not exist.
///
/// # Errors
/// The file, what is wrong with it, what to do.
pub fn load(config: &BridgeConfig) -> Result<Tls, String> {
    let (certificate, key) = match (&config.cert_path, &config.key_path) {
        (Some(cert), Some(key)) => (cert.as_std_path().to_owned(), key.as_std_path().to_owned()),
        _ => {
            let own = config.tls_dir.as_std_path().join(OWN);
            make_if_absent(&own, config)?;
            (own.clone(), own)
        }
    };
    let (chain, own) = read_pair(&certificate, &key)?;
    let fingerprint = fingerprint(chain.first().map_or(&[][..], |c| c.as_ref()));
    let builder = ServerConfig::builder();
    let builder = match &config.client_ca_path {
        None => builder.with_no_client_auth(),
        Some(ca) => builder.with_client_cert_verifier(client_verifier(ca.as_std_path())?),
    };
    let config = builder.with_single_cert(chain, own).map_err(|e| {
        format!(
            "{} and {} do not make a certificate with its key: {e}",
            certificate.display(),
            key.display()
        )
    })?;
    Ok(Tls {
        config: Arc::new(config),
        fingerprint,
        self_signed: certificate == key,
    })
}

/// SHA-256 of a certificate in the form of other tools: `AB:CD:…`.
fn fingerprint(certificate: &[u8]) -> String {
    let octets = Sha256::digest(certificate);
    let parts: Vec<String> = octets.iter().map(|o| format!("{o:02X}")).collect();
    parts.join(":")
}

fn read_pair(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let at = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
        .map_err(|e| at(certificate, &e))?
        .collect();
    let chain = chain.map_err(|e| at(certificate, &e))?;
    if chain.is_empty() {
        return Err(at(
            certificate,
            &"there is no certificate in PEM form in it",
        ));
    }
    let meta = fs::metadata(key).map_err(|e| at(key, &e))?;
    if meta.mode() & 0o007 != 0 {
        return Err(at(
            key,
            &"others can read or write this private key; chmod o= it",
        ));
    }
    let own = PrivateKeyDer::from_pem_file(key).map_err(|e| at(key, &e))?;
    Ok((chain, own))
}

fn client_verifier(
    ca: &Path,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let at = |e: &dyn std::fmt::Display| format!("{}: {e}", ca.display());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|e| at(&e))? {
        roots
            .add(certificate.map_err(|e| at(&e))?)
            .map_err(|e| at(&e))?;
    }
    if roots.is_empty() {
        return Err(at(&"there is no certificate in PEM form in it"));
    }
    WebPkiClientVerifier::builder(Arc::new(roots))
        .build()
        .map_err(|e| at(&e))
}

/// Makes the self-signed certificate: complete or not at all, never readable by others.
fn make_if_absent(path: &Path, config: &BridgeConfig) -> Result<(), String> {
    let at = |e: &dyn std::fmt::Display| {
        format!(
            "{}: the self-signed certificate cannot be kept: {e}; tls_dir must exist and be \
             writable for the user of this program, or set cert_path and key_path",
            path.display()
        )
    };
    match fs::symlink_metadata(path) {
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(at(&e)),
    }
    let pem = self_signed(config).map_err(|e| at(&e))?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    // A name of its own: two starts at once must not write into one file.
    let temporary = dir.join(format!(".{OWN}.{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(|e| at(&e))?;
    let written = file
        .write_all(pem.as_bytes())
        .and_then(|()| file.sync_all())
        // Not a rename: whoever was first keeps what its clients have seen already.
        .and_then(|()| match fs::hard_link(&temporary, path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
    let _ = fs::remove_file(&temporary);
    written.map_err(|e| at(&e))?;
    // The name is durable when the directory is; failing that, the next start makes another one.
    let _ = fs::File::open(dir).and_then(|d| d.sync_all());
    Ok(())
}

fn self_signed(config: &BridgeConfig) -> Result<zeroize::Zeroizing<String>, rcgen::Error> {
    let mut params = CertificateParams::new(vec!["localhost".to_string()])?;
    params
        .distinguished_name
        .push(DnType::CommonName, "kmip2pkcs11");
    if let Some(host) = nix::unistd::gethostname()
        .ok()
        .and_then(|h| h.into_string().ok())
        && let Ok(name) = host.try_into()
    {
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    let loopback = [
        std::net::IpAddr::from([127, 0, 0, 1]),
        std::net::IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
    ];
    let listening = config.listen().into_iter().map(|a| a.ip());
    for ip in loopback.into_iter().chain(listening) {
        let san = SanType::IpAddress(ip);
        if !ip.is_unspecified() && !params.subject_alt_names.contains(&san) {
            params.subject_alt_names.push(san);
        }
    }
    // RFC 5280 §4.1.2.5: no well-defined expiration. Clients know it by its fingerprint.
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let mut pem = zeroize::Zeroizing::new(certificate.pem());
    let secret = zeroize::Zeroizing::new(key.serialize_pem());
    pem.push_str(&secret);
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path, more: &str) -> BridgeConfig {
        let text = format!("lib_path = \"/x\"\ntls_dir = \"{}\"\n{more}", dir.display());
        let read = cascade_policy::parse_bridge("c", text.as_bytes());
        read.expect("configuration").config
    }

    #[test]
    fn the_self_signed_certificate_is_made_once_and_kept() {
        let dir = tempfile::tempdir().expect("directory");
        let config = config(dir.path(), "");
        let first = load(&config).expect("made");
        let again = load(&config).expect("read");
        assert_eq!(first.fingerprint, again.fingerprint);
        assert_eq!(first.fingerprint.len(), 32 * 3 - 1);
        let mode = fs::metadata(dir.path().join(OWN)).expect("file").mode();
        assert_eq!(mode & 0o777, 0o600);
        let left = fs::read_dir(dir.path()).expect("list").count();
        assert_eq!(left, 1, "nothing temporary stays");
    }

    #[test]
    fn given_files_are_read_and_mistakes_named() {
        let dir = tempfile::tempdir().expect("directory");
        load(&config(dir.path(), "")).expect("made");
        let own = dir.path().join(OWN);
        let named = |key: &Path| {
            let text = format!(
                "cert_path = \"{}\"\nkey_path = \"{}\"\n",
                own.display(),
                key.display()
            );
            load(&config(dir.path(), &text)).map(|t| t.fingerprint)
        };
        assert!(named(&own).is_ok());
        let missing = named(&dir.path().join("none")).expect_err("missing");
        assert!(missing.contains("/none"), "{missing}");
        let open = dir.path().join("open.pem");
        fs::copy(&own, &open).expect("copy");
        fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .expect("mode");
        assert!(named(&open).expect_err("open").contains("chmod o="));
        let ca = format!("client_ca_path = \"{}/no-ca\"\n", dir.path().display());
        assert!(load(&config(dir.path(), &ca)).is_err());
    }

    #[test]
    fn a_directory_that_is_not_there_is_explained() {
        let dir = tempfile::tempdir().expect("directory");
        let gone = dir.path().join("gone");
        let error = load(&config(&gone, "")).err().expect("refused");
        assert!(
            error.contains("tls_dir") && error.contains("gone"),
            "{error}"
        );
    }
}
