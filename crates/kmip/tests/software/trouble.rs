//! A token in memory that can be made slow, absent or wrong, behind a server over TLS that can be
//! stopped and started again at the same address. The including file has `software` beside this.

// Each user of this module uses its part; a slow token sleeps.
#![allow(dead_code, clippy::disallowed_methods)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cascade_kmip::server::Server;
use cascade_kmip::token::{About, NewPair, ObjectInfo, Revocation, Token, TokenError, Tokens};
use cascade_kmip::ttlv::Framer;
use cascade_kmip::{Credential, KeyId, KeyKind, Mechanism, ObjectId, PublicKey, SignInput, tags};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::software::SoftwareTokens;

/// The token with its troubles.
pub struct Troubled {
    tokens: SoftwareTokens,
    pub away: AtomicBool,
    pub delay_ms: AtomicU64,
    /// Every n-th signature is wrong; 0: none.
    pub lie_every: AtomicUsize,
    pub signed: AtomicUsize,
    pub lies: AtomicUsize,
}

struct Opened(Arc<Troubled>, Arc<dyn Token>);

/// So that a token can hand itself out.
pub struct Shared(pub Arc<Troubled>);

impl Troubled {
    pub fn new() -> Arc<Troubled> {
        Arc::new(Troubled {
            tokens: SoftwareTokens::new(),
            away: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            lie_every: AtomicUsize::new(0),
            signed: AtomicUsize::new(0),
            lies: AtomicUsize::new(0),
        })
    }

    pub fn objects_left(&self) -> usize {
        self.tokens.token.objects_left()
    }

    fn check(&self) -> Result<(), TokenError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(TokenError::Unavailable("the test took it away".into())),
            false => Ok(()),
        }
    }
}

impl Tokens for Shared {
    fn open(&self, credential: Option<&Credential>) -> Result<Arc<dyn Token>, TokenError> {
        let inner = self.0.tokens.open(credential)?;
        Ok(Arc::new(Opened(self.0.clone(), inner)))
    }
}

impl Token for Opened {
    fn about(&self) -> Result<About, TokenError> {
        self.0.check()?;
        self.1.about()
    }
    fn generate(&self, want: &NewPair) -> Result<KeyId, TokenError> {
        self.0.check()?;
        self.1.generate(want)
    }
    fn kind(&self, key: &KeyId) -> Result<KeyKind, TokenError> {
        self.0.check()?;
        self.1.kind(key)
    }
    fn public_key(&self, key: &KeyId) -> Result<PublicKey, TokenError> {
        self.0.check()?;
        self.1.public_key(key)
    }
    fn object(&self, id: &ObjectId) -> Result<ObjectInfo, TokenError> {
        self.0.check()?;
        self.1.object(id)
    }
    fn objects(&self, label: Option<&str>) -> Result<Vec<ObjectInfo>, TokenError> {
        self.0.check()?;
        self.1.objects(label)
    }
    fn rename(&self, id: &ObjectId, label: &str) -> Result<(), TokenError> {
        self.0.check()?;
        self.1.rename(id, label)
    }
    fn sign(
        &self,
        key: &KeyId,
        mechanism: Mechanism,
        input: &SignInput,
    ) -> Result<Vec<u8>, TokenError> {
        self.0.check()?;
        let delay = self.0.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            std::thread::sleep(Duration::from_millis(delay));
        }
        let mut signature = self.1.sign(key, mechanism, input)?;
        let nth = self.0.signed.fetch_add(1, Ordering::Relaxed) + 1;
        let every = self.0.lie_every.load(Ordering::Relaxed);
        if every > 0 && nth.is_multiple_of(every) {
            self.0.lies.fetch_add(1, Ordering::Relaxed);
            if let Some(last) = signature.last_mut() {
                *last ^= 1;
            }
        }
        Ok(signature)
    }
    fn verify(
        &self,
        key: &KeyId,
        mechanism: Mechanism,
        input: &SignInput,
        signature: &[u8],
    ) -> Result<bool, TokenError> {
        self.0.check()?;
        self.1.verify(key, mechanism, input, signature)
    }
    fn activate(&self, id: &ObjectId) -> Result<(), TokenError> {
        self.0.check()?;
        self.1.activate(id)
    }
    fn revoke(&self, id: &ObjectId, why: &Revocation) -> Result<(), TokenError> {
        self.0.check()?;
        self.1.revoke(id, why)
    }
    fn destroy(&self, id: &ObjectId) -> Result<(), TokenError> {
        self.0.check()?;
        self.1.destroy(id)
    }
}

/// A server at an address that stays the same over [`Host::stop`] and [`Host::start`].
pub struct Host {
    pub token: Arc<Troubled>,
    pub certificate: String,
    key: String,
    pub address: SocketAddr,
    running: Option<Runtime>,
}

impl Host {
    pub fn new() -> Host {
        let mut host = Host {
            token: Troubled::new(),
            certificate: String::new(),
            key: String::new(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            running: None,
        };
        host.new_certificate();
        host.start();
        host
    }

    /// Another key for TLS; takes effect at the next start.
    pub fn new_certificate(&mut self) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into(), "localhost".into()])
            .expect("certificates can be made");
        self.certificate = made.cert.pem();
        self.key = made.signing_key.serialize_pem();
    }

    pub fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let chain =
            vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("ours")];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("ours");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("our own certificate");
        let listener = runtime
            .block_on(TcpListener::bind(self.address))
            .expect("the port is free");
        self.address = listener.local_addr().expect("bound");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let token = self.token.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, acceptor.clone(), token.clone()));
            }
        });
        self.running = Some(runtime);
    }

    /// Cuts every connection.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(stream: TcpStream, acceptor: TlsAcceptor, token: Arc<Troubled>) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    let server = Arc::new(Server::default());
    let mut framer = Framer::new(tags::REQUEST_MESSAGE, server.limits().request.max_octets);
    let mut buffer = vec![0; 4096];
    loop {
        let request = framer.next_message().ok()?.map(<[u8]>::to_vec);
        match request {
            Some(request) => {
                let (server, token) = (server.clone(), Shared(token.clone()));
                let response =
                    tokio::task::spawn_blocking(move || server.respond(&request, &token, 0));
                stream.write_all(&response.await.ok()?).await.ok()?;
                stream.flush().await.ok()?;
            }
            None => match stream.read(&mut buffer).await.ok()? {
                0 => return None,
                n => framer.push(&buffer[..n]),
            },
        }
    }
}
