//! The server's shell on real sockets: what one client does must not matter to another.

mod software;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cascade_kmip::client::{Answer, Client, ClientSettings, ask};
use cascade_kmip::enums::{BatchErrorContinuation, ObjectType};
use cascade_kmip::payload::{RequestPayload, ResponsePayload};
use cascade_kmip::serve::{Bounds, Door, End, Service, listen};
use cascade_kmip::server::ServerLimits;
use cascade_kmip::ttlv::Limits;
use cascade_kmip::{Credential, Hash, KeyKind, Mechanism, PublicKey, SignInput};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use software::SoftwareTokens;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsConnector;

const MAX_REQUEST: usize = 8192;

/// A server on a port of its own.
struct Setup {
    addr: SocketAddr,
    service: Arc<Service>,
    tokens: Arc<SoftwareTokens>,
    door: Arc<TestDoor>,
    roots: Arc<RootCertStore>,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

struct TestDoor {
    tls: Arc<ServerConfig>,
    refuse: Option<&'static str>,
    ends: Mutex<Vec<End>>,
}

impl Door for TestDoor {
    fn tls(&self) -> Arc<ServerConfig> {
        self.tls.clone()
    }

    fn admit(&self, _: SocketAddr, _: SocketAddr) -> Result<(), String> {
        self.refuse.map_or(Ok(()), |why| Err(why.into()))
    }

    fn ended(&self, _: SocketAddr, end: &End) {
        self.ends.lock().expect("lock").push(end.clone());
    }
}

impl Setup {
    async fn new(bounds: Bounds) -> Setup {
        Setup::with(bounds, None).await
    }

    async fn with(bounds: Bounds, refuse: Option<&'static str>) -> Setup {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("key");
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("certificate");
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("settings");
        let door = Arc::new(TestDoor {
            tls: Arc::new(tls),
            refuse,
            ends: Mutex::default(),
        });
        let tokens = Arc::new(SoftwareTokens::new());
        let limits = ServerLimits {
            request: Limits::new(MAX_REQUEST),
            ..ServerLimits::default()
        };
        let service = Arc::new(Service::new(limits, bounds, tokens.clone(), || {
            1_764_112_000
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let addr = listener.local_addr().expect("address");
        let (stop, stopped) = watch::channel(false);
        let places = Arc::new(Semaphore::new(bounds.max_connections));
        let running = tokio::spawn(listen(
            listener,
            service.clone(),
            places,
            door.clone(),
            stopped,
        ));
        Setup {
            addr,
            service,
            tokens,
            door,
            roots: Arc::new(roots),
            stop,
            running,
        }
    }

    async fn connect(&self) -> Peer {
        self.try_connect().await.expect("handshake")
    }

    async fn try_connect(&self) -> std::io::Result<Peer> {
        let config = ClientConfig::builder()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let stream = TcpStream::connect(self.addr).await?;
        let name = ServerName::try_from("localhost").expect("name");
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream);
        Ok(Peer {
            stream: tls.await?,
            client: Client::new(ClientSettings {
                credential: Some(Credential::new("LocalHSM", "1234")),
                ..ClientSettings::default()
            }),
        })
    }

    /// Waits until a connection has ended in this way.
    async fn ended(&self, is: impl Fn(&End) -> bool) -> bool {
        for _ in 0..200 {
            if self.door.ends.lock().expect("lock").iter().any(&is) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        eprintln!("{:?}", self.door.ends.lock().expect("lock"));
        false
    }
}

struct Peer {
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    client: Client,
}

impl Peer {
    async fn ask(&mut self, payloads: Vec<RequestPayload>) -> Vec<Answer> {
        self.client
            .send(payloads, BatchErrorContinuation::Continue)
            .expect("room");
        while let Some(octets) = self.client.take_output() {
            self.stream.write_all(&octets).await.expect("write");
        }
        loop {
            if let Some(done) = self.client.next_completion() {
                return done.results;
            }
            let mut buffer = [0; 4096];
            let n = self.stream.read(&mut buffer).await.expect("read");
            assert!(n > 0, "the server closed");
            self.client.receive(&buffer[..n]).expect("response");
        }
    }

    async fn query(&mut self) -> String {
        match self.ask(vec![ask::query()]).await.remove(0) {
            Ok(ResponsePayload::Query(query)) => query.vendor.expect("vendor"),
            other => panic!("{other:?}"),
        }
    }
}

fn quick() -> Bounds {
    Bounds {
        handshake: Duration::from_millis(300),
        idle: Duration::from_secs(5),
        transfer: Duration::from_millis(300),
        ..Bounds::default()
    }
}

#[tokio::test]
async fn a_key_signs_in_a_parallel_batch_and_each_item_has_its_own_result() {
    let setup = Setup::new(Bounds::default()).await;
    let mut peer = setup.connect().await;
    let made = peer
        .ask(vec![ask::create_key_pair(KeyKind::P256, "a", "b")])
        .await
        .remove(0);
    let Ok(ResponsePayload::CreateKeyPair { private, public }) = made else {
        panic!("{made:?}");
    };
    peer.ask(vec![ask::activate(&private)]).await;
    let Ok(ResponsePayload::Get { key, .. }) =
        peer.ask(vec![ask::public_key(&public)]).await.remove(0)
    else {
        panic!("no key");
    };
    let key = PublicKey::from_key_block(&key).expect("key");
    let mechanism = Mechanism::Ecdsa(Hash::Sha256);
    let message = |n: u8| vec![n; 40];
    let sign = |n, id: &str| ask::sign(id, mechanism, SignInput::Message(message(n)));
    let mut batch: Vec<_> = (0..10).map(|n| sign(n, &private)).collect();
    batch.insert(3, sign(99, "AB_priv"));
    batch.insert(7, ask::public_key(&public));
    let results = peer.ask(batch).await;
    assert_eq!(results.len(), 12);
    let mut n = 0;
    for (at, result) in results.into_iter().enumerate() {
        match (at, result) {
            (3, Err(error)) => assert!(error.is_gone(), "{error}"),
            (7, Ok(ResponsePayload::Get { .. })) => {}
            (_, Ok(ResponsePayload::Sign { signature, .. })) => {
                assert!(software::verify(&key, mechanism, &message(n), &signature));
                n += 1;
            }
            (at, other) => panic!("{at}: {other:?}"),
        }
    }
    let stats = setup.service.stats();
    use std::sync::atomic::Ordering::Relaxed;
    assert_eq!(stats.signatures.load(Relaxed), 10);
    assert_eq!(stats.failed_operations.load(Relaxed), 1);
}

#[tokio::test]
async fn silent_and_half_open_clients_delay_nobody_and_are_let_go() {
    let setup = Setup::new(Bounds {
        idle: Duration::from_secs(1),
        ..quick()
    })
    .await;
    // Connected and silent; a handshake begun; a request begun.
    let _silent = TcpStream::connect(setup.addr).await.expect("connect");
    let mut begun = TcpStream::connect(setup.addr).await.expect("connect");
    begun.write_all(&[22, 3, 1, 2]).await.expect("write");
    let mut half = setup.connect().await;
    half.stream
        .write_all(&[0x42, 0, 0x78, 1, 0])
        .await
        .expect("write");
    half.stream.flush().await.expect("flush");
    let mut idle = setup.connect().await;
    idle.query().await;

    let mut good = setup.connect().await;
    let answered = tokio::time::timeout(Duration::from_millis(250), good.query()).await;
    assert!(answered.expect("at once").starts_with("kmip2pkcs11 "));

    assert!(setup.ended(|e| matches!(e, End::SlowHandshake(_))).await);
    assert!(setup.ended(|e| matches!(e, End::SlowRequest(_))).await);
    assert!(setup.ended(|e| matches!(e, End::Idle(_))).await);
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed_at_once() {
    let setup = Setup::new(Bounds {
        max_connections: 2,
        ..quick()
    })
    .await;
    let mut first = setup.connect().await;
    let second = setup.connect().await;
    assert!(setup.try_connect().await.is_err());
    assert!(setup.ended(|e| *e == End::Full(2)).await);
    first.query().await;
    drop(second);
    assert!(setup.ended(|e| *e == End::Closed).await);
    setup.connect().await.query().await;
}

#[tokio::test]
async fn what_is_no_request_is_answered_and_the_connection_closed() {
    let setup = Setup::new(quick()).await;
    let too_large = {
        let mut octets = vec![0x42, 0x00, 0x78, 0x01];
        octets.extend_from_slice(&(MAX_REQUEST as u32).to_be_bytes());
        octets
    };
    for (octets, word) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "does not speak KMIP"),
        (too_large, "exceeds the limit"),
    ] {
        let mut peer = setup.connect().await;
        peer.stream.write_all(&octets).await.expect("write");
        let mut answer = Vec::new();
        peer.stream.read_to_end(&mut answer).await.expect("closed");
        assert!(
            String::from_utf8_lossy(&answer).contains(word),
            "{word}: {answer:?}"
        );
    }
    // Well framed nonsense costs the request and not the connection.
    let mut peer = setup.connect().await;
    let nonsense = [0x42, 0, 0x78, 1, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    peer.stream.write_all(&nonsense).await.expect("write");
    let mut answer = [0; 4096];
    let n = peer.stream.read(&mut answer).await.expect("answer");
    assert!(n > 8 && answer.starts_with(&[0x42, 0, 0x7B, 1]));
    peer.query().await;
}

#[tokio::test]
async fn who_is_not_admitted_gets_no_handshake() {
    let setup = Setup::with(quick(), Some("user 1000 is not in allowed_users")).await;
    assert!(setup.try_connect().await.is_err());
    assert!(setup.ended(|e| matches!(e, End::NotAdmitted(_))).await);
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_the_listener() {
    let setup = Setup::new(Bounds::default()).await;
    let mut peer = setup.connect().await;
    peer.query().await;
    // Neither a handshake nor a request that was begun holds it up.
    let _silent = TcpStream::connect(setup.addr).await.expect("connect");
    let mut half = setup.connect().await;
    half.stream.write_all(&[0x42, 0]).await.expect("write");
    half.stream.flush().await.expect("flush");
    setup.stop.send(true).expect("listening");
    tokio::time::timeout(Duration::from_secs(2), setup.running)
        .await
        .expect("ends")
        .expect("no panic");
    let mut rest = Vec::new();
    assert_eq!(peer.stream.read_to_end(&mut rest).await.ok(), Some(0));
    assert!(TcpStream::connect(setup.addr).await.is_err());
}

#[tokio::test]
async fn a_token_that_is_away_fails_the_request_only() {
    let setup = Setup::new(Bounds::default()).await;
    let mut peer = setup.connect().await;
    setup.tokens.token.set_away(true);
    let locate = ask::locate(ObjectType::PublicKey, None);
    let error = peer.ask(vec![locate]).await.remove(0).expect_err("away");
    assert!(error.to_string().contains("HSM unavailable"), "{error}");
    setup.tokens.token.set_away(false);
    peer.query().await;
}
