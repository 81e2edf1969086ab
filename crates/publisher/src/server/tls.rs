//! TLS on accepted connections (RFC 7858, RFC 9103): handshakes, bounded in number and time.

use std::io;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Handshakes at the same time: each costs a signature.
const HANDSHAKES: usize = 64;
/// Longest handshake, the wait for a place included.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What the TLS listeners of one role share.
pub(super) struct Tls {
    pub config: ArcSwapOption<rustls::ServerConfig>,
    places: Semaphore,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            config: ArcSwapOption::empty(),
            places: Semaphore::new(HANDSHAKES),
        }
    }
}

impl Tls {
    /// The connection, and the name that a verified client certificate has.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<String>)> {
        let Some(config) = self.config.load_full() else {
            return Err(io::Error::other("no certificate is configured"));
        };
        let handshake = async {
            // Closed never: the semaphore lives as long as the server.
            let _place = self.places.acquire().await.map_err(io::Error::other)?;
            TlsAcceptor::from(config).accept(stream).await
        };
        let stream = timeout(HANDSHAKE, handshake).await.map_err(|_| {
            let text = format!("not done within {} s", HANDSHAKE.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, text)
        })??;
        let shown = stream.get_ref().1.peer_certificates();
        let name = shown.and_then(<[_]>::first).and_then(name);
        Ok((stream, name))
    }
}

/// The first DNS name of a certificate, in lower case; access lists compare with it. Certificates
/// were verified in the handshake.
fn name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut names = parsed.valid_dns_names();
    names.next().map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_certificate_nothing_is_accepted() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let client = tokio::spawn(async move { TcpStream::connect(addr).await });
        let (stream, _) = listener.accept().await.unwrap();
        let tls = Tls::default();
        let error = tls.accept(stream).await.unwrap_err();
        assert_eq!(error.to_string(), "no certificate is configured");
        drop(client.await);
    }

    #[test]
    fn names_of_certificates() {
        let made = rcgen::generate_simple_self_signed(vec!["NS2.example".into(), "b".into()]);
        let made = made.unwrap();
        assert_eq!(name(made.cert.der()).as_deref(), Some("ns2.example"));
        assert_eq!(name(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
