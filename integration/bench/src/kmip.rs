//! The KMIP hop: TLS, messages and the server's shell around a token that signs at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cascade_kmip::client::{Client, ClientSettings, ask};
use cascade_kmip::enums::BatchErrorContinuation;
use cascade_kmip::payload::ResponsePayload;
use cascade_kmip::serve::{Bounds, Door, End, Service, listen};
use cascade_kmip::server::ServerLimits;
use cascade_kmip::token::{About, NewPair, ObjectInfo, Revocation, Token, TokenError, Tokens};
use cascade_kmip::{
    Credential, Hash, KeyId, KeyKind, Mechanism, ObjectId, PublicKey, SignInput, Version,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use tokio::sync::{Semaphore, watch};

use crate::table::{Limit, Row};

/// Connections of a client, as the daemon has them.
const CONNECTIONS: usize = 4;
/// Signatures asked for at once.
const BATCH: usize = 64;

/// Measures for about `span` each.
///
/// # Errors
/// No sockets, or an answer that is none.
pub fn measure(span: Duration) -> Result<Vec<Row>, String> {
    let server = NullServer::start()?;
    let mut one = server.connect()?;
    one.signatures(1)?;
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < span {
        let start = Instant::now();
        one.signatures(1)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |part: usize| {
        let time = times.get(times.len() * part / 100).copied();
        time.unwrap_or_default().as_secs_f64() * 1e6
    };
    let hop = Row {
        what: "KMIP hop",
        measured: at(50),
        unit: "us",
        limit: Limit::AtMost(100.0),
        note: format!(
            "one signature, there and back over TLS on loopback, null token; 99 % within {:.0} us",
            at(99)
        ),
    };
    let rate = throughput(&server, span)?;
    let many = Row {
        what: "signatures through the bridge's shell",
        measured: rate,
        unit: "/s",
        limit: Limit::AtLeast(20_000.0),
        note: format!("{CONNECTIONS} connections, batches of {BATCH}, client on the same machine"),
    };
    Ok(vec![hop, many])
}

fn throughput(server: &NullServer, span: Duration) -> Result<f64, String> {
    let mut peers = Vec::new();
    for _ in 0..CONNECTIONS {
        peers.push(server.connect()?);
    }
    let begun = Instant::now();
    let threads: Vec<_> = peers
        .into_iter()
        .map(|mut peer| {
            std::thread::spawn(move || {
                let mut done = 0;
                while begun.elapsed() < span {
                    peer.signatures(BATCH)?;
                    done += BATCH;
                }
                Ok::<_, String>(done)
            })
        })
        .collect();
    let mut all = 0;
    for thread in threads {
        all += thread.join().map_err(|_| "a client ended badly")??;
    }
    Ok(all as f64 / begun.elapsed().as_secs_f64())
}

struct NullServer {
    addr: SocketAddr,
    roots: Arc<RootCertStore>,
    /// Ends the server when dropped.
    _runtime: tokio::runtime::Runtime,
    _stop: watch::Sender<bool>,
}

impl NullServer {
    fn start() -> Result<NullServer, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let made =
            rcgen::generate_simple_self_signed(vec!["localhost".into()]).map_err(|e| text(&e))?;
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).map_err(|e| text(&e))?;
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(|e| text(&e))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|e| text(&e))?;
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .map_err(|e| text(&e))?;
        let addr = listener.local_addr().map_err(|e| text(&e))?;
        let service = Service::new(
            ServerLimits::default(),
            Bounds::default(),
            Arc::new(NullTokens(Arc::new(NullToken))),
            || 0,
        );
        let (stop, stopped) = watch::channel(false);
        let door = Arc::new(OpenDoor(Arc::new(tls)));
        let places = Arc::new(Semaphore::new(2 * CONNECTIONS));
        runtime.spawn(listen(listener, Arc::new(service), places, door, stopped));
        Ok(NullServer {
            addr,
            roots: Arc::new(roots),
            _runtime: runtime,
            _stop: stop,
        })
    }

    fn connect(&self) -> Result<Peer, String> {
        let config = ClientConfig::builder()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").map_err(|e| e.to_string())?;
        let tls = ClientConnection::new(Arc::new(config), name).map_err(|e| e.to_string())?;
        let tcp = TcpStream::connect(self.addr).map_err(|e| e.to_string())?;
        tcp.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(Peer {
            stream: StreamOwned::new(tls, tcp),
            client: Client::new(ClientSettings {
                version: Version::V1_4,
                credential: Some(Credential::new("null", "1234")),
                max_response: 1 << 20,
                ..ClientSettings::default()
            }),
            key: KeyId::new([7; KeyId::OCTETS]).private().to_string(),
        })
    }
}

struct Peer {
    stream: StreamOwned<ClientConnection, TcpStream>,
    client: Client,
    key: String,
}

impl Peer {
    fn signatures(&mut self, n: usize) -> Result<(), String> {
        let one = || {
            let digest = SignInput::Digest(vec![9; 32]);
            ask::sign(&self.key, Mechanism::Ecdsa(Hash::Sha256), digest)
        };
        let batch = (0..n).map(|_| one()).collect();
        self.client
            .send(batch, BatchErrorContinuation::Continue)
            .map_err(|e| e.to_string())?;
        while let Some(octets) = self.client.take_output() {
            self.stream.write_all(&octets).map_err(|e| e.to_string())?;
        }
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(done) = self.client.next_completion() {
                let is = |a: &_| matches!(a, Ok(ResponsePayload::Sign { signature, .. }) if signature.len() == 64);
                return match done.results.iter().all(is) {
                    true => Ok(()),
                    false => Err(format!("no signature: {:?}", done.results.first())),
                };
            }
            let read = self.stream.read(&mut buffer).map_err(|e| e.to_string())?;
            let octets = buffer.get(..read).unwrap_or_default();
            self.client.receive(octets).map_err(|e| e.to_string())?;
        }
    }
}

struct OpenDoor(Arc<ServerConfig>);

impl Door for OpenDoor {
    fn tls(&self) -> Arc<ServerConfig> {
        self.0.clone()
    }

    fn admit(&self, _: SocketAddr, _: SocketAddr) -> Result<(), String> {
        Ok(())
    }

    fn ended(&self, _: SocketAddr, _: &End) {}
}

struct NullTokens(Arc<NullToken>);

impl Tokens for NullTokens {
    fn open(&self, _: Option<&Credential>) -> Result<Arc<dyn Token>, TokenError> {
        Ok(self.0.clone())
    }
}

/// Signs with zeros, and can do nothing else.
struct NullToken;

fn cannot<T>() -> Result<T, TokenError> {
    Err(TokenError::Unsupported("this token only signs".into()))
}

impl Token for NullToken {
    fn about(&self) -> Result<About, TokenError> {
        cannot()
    }

    fn generate(&self, _: &NewPair) -> Result<KeyId, TokenError> {
        cannot()
    }

    fn kind(&self, _: &KeyId) -> Result<KeyKind, TokenError> {
        Ok(KeyKind::P256)
    }

    fn public_key(&self, _: &KeyId) -> Result<PublicKey, TokenError> {
        cannot()
    }

    fn object(&self, _: &ObjectId) -> Result<ObjectInfo, TokenError> {
        cannot()
    }

    fn objects(&self, _: Option<&str>) -> Result<Vec<ObjectInfo>, TokenError> {
        cannot()
    }

    fn rename(&self, _: &ObjectId, _: &str) -> Result<(), TokenError> {
        cannot()
    }

    fn sign(&self, _: &KeyId, _: Mechanism, _: &SignInput) -> Result<Vec<u8>, TokenError> {
        Ok(vec![0; 64])
    }

    fn verify(&self, _: &KeyId, _: Mechanism, _: &SignInput, _: &[u8]) -> Result<bool, TokenError> {
        cannot()
    }

    fn activate(&self, _: &ObjectId) -> Result<(), TokenError> {
        cannot()
    }

    fn revoke(&self, _: &ObjectId, _: &Revocation) -> Result<(), TokenError> {
        cannot()
    }

    fn destroy(&self, _: &ObjectId) -> Result<(), TokenError> {
        cannot()
    }
}
