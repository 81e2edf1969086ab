//! TLS of the DNS side (RFC 9103): our certificate for secondaries, and who is believed to be a
//! primary. Files are read here, at the start, at a reload, and for each transfer's authorities.

use std::path::Path;
use std::sync::{Arc, Mutex};

use cascade_policy::Config;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use sha2::{Digest, Sha256};

/// RFC 9103 §7.1: transfers over TLS use the ALPN token of DNS over TLS.
pub const ALPN: &[u8] = b"dot";
/// Where Debian and its relatives keep the authorities that the system trusts.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What `server.tls` asks for; `None` without a certificate.
///
/// # Errors
/// Names the key of the configuration, the file, and what is wrong with it.
pub fn server(config: &Config) -> Result<Option<Arc<ServerConfig>>, String> {
    let tls = &config.server.tls;
    let (Some(cert), Some(key)) = (&tls.cert_path, &tls.key_path) else {
        return Ok(None);
    };
    let chain = certificates("server.tls.cert-path", cert.as_std_path())?;
    let key_error = |e: String| format!("server.tls.key-path: {key}: {e}");
    private(key.as_std_path()).map_err(key_error)?;
    let key_der = PrivateKeyDer::from_pem_file(key.as_std_path())
        .map_err(|e| key_error(format!("no private key can be read from it: {e}")))?;
    let provider = provider();
    let library = |e: Error| format!("server.tls: {e}");
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(library)?;
    let builder = match &tls.client_ca_path {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = roots("server.tls.client-ca-path", path.as_std_path())?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    // One without a certificate is judged by its address and key.
                    .allow_unauthenticated()
                    .build()
                    .map_err(|e| format!("server.tls.client-ca-path: {path}: {e}"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut made = builder.with_single_cert(chain, key_der).map_err(|e| {
        format!("server.tls: certificate {cert} and key {key} cannot be used together: {e}")
    })?;
    made.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Some(Arc::new(made)))
}

/// Who a primary must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Its certificate names it, and an authority stands for that.
    Name(String),
    /// SHA-256 of its public key (RFC 7858 §4.2).
    Pin([u8; 32]),
    /// Anybody.
    Any,
}

impl Auth {
    /// The part after `#`.
    ///
    /// # Errors
    /// Says what can be written there.
    pub fn parse(text: &str) -> Result<Auth, String> {
        if text == "any" {
            return Ok(Auth::Any);
        }
        if let Some(pin) = text.strip_prefix("pin-sha256=") {
            let octets = data_encoding::BASE64.decode(pin.as_bytes()).ok();
            let octets = octets.and_then(|o| <[u8; 32]>::try_from(o).ok());
            return octets.map(Auth::Pin).ok_or_else(|| {
                format!("'{pin}' is not the base64 of 32 octets; write pin-sha256=<base64 of the SHA-256 of the server's public key>")
            });
        }
        match ServerName::try_from(text) {
            Ok(ServerName::DnsName(_)) => Ok(Auth::Name(text.into())),
            _ => Err(format!(
                "'{text}' is not a name that a certificate can have; write #ns1.example, #pin-sha256=<base64> or #any"
            )),
        }
    }
}

/// The settings of one connection to a primary. What refused the server, in words, is in the second
/// value.
///
/// # Errors
/// The authorities cannot be read. `ca`: `loader.tls.ca-path`; absent: the system's.
pub fn client(auth: &Auth, ca: Option<&Path>) -> Result<(ClientConfig, Refusal), String> {
    let provider = provider();
    let rule = match auth {
        Auth::Any => Rule::Any,
        Auth::Pin(pin) => Rule::Pin(*pin),
        Auth::Name(_) => {
            let roots = match ca {
                Some(path) => roots("loader.tls.ca-path", path)?,
                None => roots("the system's authorities", Path::new(SYSTEM_ROOTS))?,
            };
            let built =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            Rule::Chain(built.build().map_err(|e| e.to_string())?)
        }
    };
    let refusal = Refusal::default();
    let verifier = Arc::new(Verifier {
        rule,
        provider: provider.clone(),
        refusal: refusal.clone(),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Nothing of one transfer is remembered for the next: each proves its server anew.
    config.resumption = rustls::client::Resumption::disabled();
    Ok((config, refusal))
}

/// Why a certificate was not believed.
#[derive(Debug, Clone, Default)]
pub struct Refusal(Arc<Mutex<Option<String>>>);

impl Refusal {
    pub fn take(&self) -> Option<String> {
        self.0.lock().ok()?.take()
    }

    fn set(&self, text: String) {
        if let Ok(mut slot) = self.0.lock() {
            *slot = Some(text);
        }
    }
}

#[derive(Debug)]
enum Rule {
    Chain(Arc<WebPkiServerVerifier>),
    Pin([u8; 32]),
    Any,
}

/// Judges the server's certificate. That the server has the certificate's key is checked in every
/// case.
#[derive(Debug)]
struct Verifier {
    rule: Rule,
    provider: Arc<CryptoProvider>,
    refusal: Refusal,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.rule {
            Rule::Any => Ok(ServerCertVerified::assertion()),
            Rule::Chain(chain) => chain
                .verify_server_cert(end_entity, intermediates, name, ocsp, now)
                .inspect_err(|e| self.refusal.set(chain_text(e, name))),
            Rule::Pin(pin) => match public_key_pin(end_entity) {
                Some(shown) if shown == *pin => Ok(ServerCertVerified::assertion()),
                shown => {
                    self.refusal.set(pin_text(shown));
                    Err(Error::InvalidCertificate(
                        CertificateError::ApplicationVerificationFailure,
                    ))
                }
            },
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

fn chain_text(e: &Error, name: &ServerName<'_>) -> String {
    let name = name.to_str();
    match e {
        Error::InvalidCertificate(c) => match c {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("its certificate is not for the name {name}: {c}")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("its certificate has expired: {c}")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("its certificate is not valid yet: {c}; see the clock of this host")
            }
            CertificateError::UnknownIssuer => {
                "no authority that is trusted stands for its certificate; set loader.tls.ca-path, or use #pin-sha256".into()
            }
            c => format!("its certificate is not good: {c}"),
        },
        e => e.to_string(),
    }
}

fn pin_text(shown: Option<[u8; 32]>) -> String {
    match shown {
        Some(pin) => format!(
            "its key has pin-sha256={}, which is not the pin given",
            data_encoding::BASE64.encode(&pin)
        ),
        None => "its certificate cannot be read".into(),
    }
}

fn public_key_pin(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(Sha256::digest(parsed.subject_public_key_info()).into())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let at = |e: String| format!("{key}: {}: {e}", path.display());
    let text = std::fs::read(path).map_err(|e| at(e.to_string()))?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| at(format!("{e}; write certificates in PEM")))?;
    match chain.is_empty() {
        true => Err(at("it holds no certificate in PEM".into())),
        false => Ok(chain),
    }
}

fn roots(key: &str, path: &Path) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates(key, path)?);
    match store.is_empty() {
        true => Err(format!(
            "{key}: {}: none of its certificates can be used",
            path.display()
        )),
        false => Ok(store),
    }
}

/// A private key that others can read is none.
fn private(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path)
        .map_err(|e| e.to_string())?
        .permissions()
        .mode();
    match mode & 0o007 {
        0 => Ok(()),
        _ => Err(format!(
            "others can read it (mode {:04o}); chmod o-rwx",
            mode & 0o7777
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_primary_must_be() {
        assert_eq!(
            Auth::parse("ns1.example"),
            Ok(Auth::Name("ns1.example".into()))
        );
        assert_eq!(Auth::parse("any"), Ok(Auth::Any));
        let pin = data_encoding::BASE64.encode(&[7; 32]);
        assert_eq!(
            Auth::parse(&format!("pin-sha256={pin}")),
            Ok(Auth::Pin([7; 32]))
        );
        assert!(
            Auth::parse("pin-sha256=AAAA")
                .unwrap_err()
                .contains("32 octets")
        );
        assert!(Auth::parse("192.0.2.1").unwrap_err().contains("#any"));
        assert!(Auth::parse("a b").is_err());
    }

    fn config(text: &str) -> Config {
        let text = format!("version = \"v1\"\n[server.tls]\n{text}");
        cascade_policy::parse_config("config.toml", text.as_bytes())
            .unwrap()
            .config
    }

    #[test]
    fn files_are_named_that_cannot_be_used() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (cert, key) = (path("crt"), path("key"));
        let c = config(&format!("cert-path = {cert:?}\nkey-path = {key:?}\n"));
        let why = || server(&c).map(|made| made.is_some()).unwrap_err();
        assert!(
            why().starts_with(&format!("server.tls.cert-path: {cert}: ")),
            "{}",
            why()
        );
        std::fs::write(&cert, "nothing").unwrap();
        assert!(why().contains("no certificate in PEM"), "{}", why());
        let one = rcgen::generate_simple_self_signed(vec!["ns1.example".into()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["ns1.example".into()]).unwrap();
        std::fs::write(&cert, one.cert.pem()).unwrap();
        std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o604)).unwrap();
        assert!(
            why().contains("others can read it (mode 0604)"),
            "{}",
            why()
        );
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(why().contains("cannot be used together"), "{}", why());
        std::fs::write(&key, one.signing_key.serialize_pem()).unwrap();
        assert!(server(&c).unwrap().is_some());
        assert!(server(&config("")).unwrap().is_none());
    }
}
