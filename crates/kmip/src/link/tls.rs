//! TLS towards the server: who is believed, and what was seen.

use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::settings::{Identity, LinkSettings, Trust};
use crate::der;

/// Where Debian and its relatives keep the authorities that the system trusts.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Settings of TLS that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum BadTls {
    #[error(
        "the system's certificate authorities ({SYSTEM_ROOTS}) cannot be read: {0}; install the package ca-certificates"
    )]
    NoSystemRoots(String),
    #[error("no certificate of an authority was given that can be used; write it in PEM")]
    NoRoots,
    #[error("the certificate cannot be read: {0}; write it in PEM")]
    Certificate(String),
    #[error("our own certificate or its key cannot be used: {0}")]
    Identity(String),
    #[error("TLS cannot be set up: {0}")]
    Library(String),
}

/// What a server showed of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// SHA-256 of the certificate.
    pub certificate: [u8; 32],
    /// SHA-256 of its key: stays the same when the certificate is renewed for it.
    pub key: [u8; 32],
    /// Common name of the subject, if it has one.
    pub subject: Option<String>,
    /// It was refused because another key was remembered.
    pub changed: bool,
}

/// The digest of a certificate in PEM.
///
/// # Errors
/// It holds no certificate.
pub fn certificate_digest(pem: &str) -> Result<[u8; 32], BadTls> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| BadTls::Certificate(e.to_string()))?;
    Ok(Sha256::digest(&der).into())
}

/// `sha256:` and hexadecimal digits.
pub fn show_digest(digest: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold("sha256:".to_string(), |mut out, octet| {
        let _ = write!(out, "{octet:02x}");
        out
    })
}

/// The configuration of one connection; what its server showed is found in the second value.
pub(super) fn config(
    settings: &LinkSettings,
) -> Result<(ClientConfig, Arc<Mutex<Option<Seen>>>), BadTls> {
    let library = |e: Error| BadTls::Library(e.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let seen = Arc::new(Mutex::new(None));
    let rule = match &settings.trust {
        Trust::Authorities(pem) => {
            let roots = Arc::new(roots(pem.as_deref())?);
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            Rule::Chain(verifier.map_err(|e| BadTls::Library(e.to_string()))?)
        }
        Trust::Certificate(digest) => Rule::Certificate(*digest),
        Trust::FirstSeen(key) => Rule::Key(*key),
    };
    let verifier = Arc::new(Verifier {
        rule,
        provider: provider.clone(),
        seen: seen.clone(),
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(library)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let failed = |e: String| BadTls::Identity(e);
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| failed(e.to_string()))?;
            let key =
                PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| failed(e.to_string()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| failed(e.to_string()))?
        }
    };
    Ok((config, seen))
}

fn roots(pem: Option<&str>) -> Result<RootCertStore, BadTls> {
    let text = match pem {
        Some(pem) => pem.as_bytes().to_vec(),
        None => std::fs::read(SYSTEM_ROOTS).map_err(|e| BadTls::NoSystemRoots(e.to_string()))?,
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
    match store.is_empty() {
        true => Err(BadTls::NoRoots),
        false => Ok(store),
    }
}

#[derive(Debug)]
enum Rule {
    Chain(Arc<WebPkiServerVerifier>),
    Certificate([u8; 32]),
    Key(Option<[u8; 32]>),
}

/// Notes what the server shows, then judges it. That the server has the certificate's key is
/// checked in every case.
#[derive(Debug)]
struct Verifier {
    rule: Rule,
    provider: Arc<CryptoProvider>,
    seen: Arc<Mutex<Option<Seen>>>,
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
        let certificate: [u8; 32] = Sha256::digest(end_entity).into();
        let key = match ParsedCertificate::try_from(end_entity) {
            Ok(parsed) => Sha256::digest(parsed.subject_public_key_info()).into(),
            // Certificates of version 1 have no other identity here than themselves.
            Err(_) => certificate,
        };
        let changed = matches!(self.rule, Rule::Key(Some(known)) if known != key);
        if let Ok(mut seen) = self.seen.lock() {
            *seen = Some(Seen {
                certificate,
                key,
                subject: common_name(end_entity),
                changed,
            });
        }
        let refuse = || Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        match &self.rule {
            Rule::Chain(chain) => {
                chain.verify_server_cert(end_entity, intermediates, name, ocsp, now)
            }
            Rule::Certificate(pinned) if *pinned != certificate => Err(refuse()),
            Rule::Key(_) if changed => Err(refuse()),
            Rule::Certificate(_) | Rule::Key(_) => Ok(ServerCertVerified::assertion()),
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

/// The common name in a certificate's subject (RFC 5280 §4.1.2.6), for people only.
fn common_name(certificate: &[u8]) -> Option<String> {
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    const VERSION: u8 = 0xA0;
    const INTEGER: u8 = 0x02;
    const SET: u8 = 0x31;
    let mut rest = certificate;
    let mut whole = der::take(&mut rest, der::SEQUENCE)?;
    let mut tbs = der::take(&mut whole, der::SEQUENCE)?;
    let _ = der::take(&mut tbs, VERSION);
    der::take(&mut tbs, INTEGER)?;
    // Signature algorithm, issuer, validity.
    for _ in 0..3 {
        der::take(&mut tbs, der::SEQUENCE)?;
    }
    let mut subject = der::take(&mut tbs, der::SEQUENCE)?;
    while !subject.is_empty() {
        let mut set = der::take(&mut subject, SET)?;
        let mut pair = der::take(&mut set, der::SEQUENCE)?;
        if der::take(&mut pair, der::OID)? == COMMON_NAME {
            // A string of whichever kind: tag and length, then the text.
            let kind = *pair.first()?;
            let text = der::take(&mut pair, kind)?;
            let text = std::str::from_utf8(text).ok()?;
            return Some(text.replace(char::is_control, "?"));
        }
    }
    None
}
