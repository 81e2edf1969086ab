//! Listeners and the way of one request.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use cascade_api::problem::ProblemType;
use cascade_api::{MAX_BODY, Method, Problem, Route, RouteId};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::backend::{Backend, Caller};
use super::caller::{self, Admins};
use super::guard::{self, Transport};
use super::limit::AuthLimit;
use super::router::{self, Found};
use super::{answer, dispatch};

/// A head or body that does not come within this time ends the connection.
const READ_BOUND: Duration = Duration::from_secs(10);
/// Reads answer within this time.
const ANSWER_BOUND: Duration = Duration::from_secs(5);
/// `health --deep` asks outside.
const DEEP_BOUND: Duration = Duration::from_secs(30);
/// Running requests may finish for this long after a stop.
const DRAIN_BOUND: Duration = Duration::from_secs(5);

/// `[remote-control]` of the configuration, resolved.
#[derive(Debug, Clone)]
pub struct Settings {
    pub admins: Admins,
    pub anonymous_read: bool,
    pub allowed_hosts: Vec<String>,
    pub cors_origins: Vec<String>,
    pub max_connections: usize,
    pub max_body: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            admins: Admins {
                local_read: true,
                ..Admins::default()
            },
            anonymous_read: true,
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            max_connections: 256,
            max_body: MAX_BODY,
        }
    }
}

/// Serves the control API; cheap to clone.
pub struct Http<B> {
    inner: Arc<Inner<B>>,
}

impl<B> Clone for Http<B> {
    fn clone(&self) -> Self {
        Http {
            inner: Arc::clone(&self.inner),
        }
    }
}

struct Inner<B> {
    backend: Arc<B>,
    /// A reload of the configuration replaces it.
    settings: arc_swap::ArcSwap<Settings>,
    connections: Arc<Semaphore>,
    auth: Mutex<AuthLimit>,
    /// Request ids: which start of the daemon, then a number.
    boot: u64,
    next: AtomicU64,
    stop: watch::Receiver<bool>,
}

impl<B: Backend> Http<B> {
    /// `boot` tells this start of the daemon from others in request ids; `stop` turns true to end.
    pub fn new(
        backend: Arc<B>,
        settings: Settings,
        boot: u64,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let connections = Arc::new(Semaphore::new(settings.max_connections));
        let inner = Inner {
            backend,
            settings: arc_swap::ArcSwap::from_pointee(settings),
            connections,
            auth: Mutex::new(AuthLimit::default()),
            boot,
            next: AtomicU64::new(1),
            stop,
        };
        Http {
            inner: Arc::new(inner),
        }
    }

    /// Takes effect for the next request; the bound on connections stays as it was at the start.
    pub fn replace_settings(&self, settings: Settings) {
        self.inner.settings.store(Arc::new(settings));
    }

    /// Runs until stopped, then lets running requests finish.
    pub async fn serve_unix(self, listener: UnixListener) {
        self.accept_loop(listener).await;
    }

    /// Plain HTTP; the caller has made sure that the address is loopback.
    pub async fn serve_tcp(self, listener: TcpListener) {
        self.accept_loop(listener).await;
    }

    async fn accept_loop<L: Listen>(self, listener: L) {
        let stop = stopped(self.inner.stop.clone());
        tokio::pin!(stop);
        let mut running = tokio::task::JoinSet::new();
        loop {
            let stream = tokio::select! {
                () = &mut stop => break,
                Some(_) = running.join_next(), if !running.is_empty() => continue,
                accepted = listener.next() => accepted,
            };
            match stream {
                Ok(stream) => match Arc::clone(&self.inner.connections).try_acquire_owned() {
                    Ok(permit) => {
                        let this = self.clone();
                        running.spawn(async move {
                            this.connection(stream).await;
                            drop(permit);
                        });
                    }
                    Err(_) => stream.turn_away(),
                },
                // Out of descriptors, or the peer is gone again: try later, do not spin.
                Err(e) => {
                    tracing::warn!("control API: cannot accept a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        let drain = async { while running.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN_BOUND, drain).await;
    }

    async fn connection<S: Peer>(self, stream: S) {
        let settings = self.inner.settings.load_full();
        let stop = self.inner.stop.clone();
        let Some((transport, local_caller)) = stream.identify(&settings.admins).await else {
            return;
        };
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let this = self.clone();
            let caller = local_caller.clone();
            async move {
                Ok::<_, std::convert::Infallible>(this.handle(request, transport, caller).await)
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(READ_BOUND);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(32)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(READ_BOUND);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // A connection that breaks is the peer's affair: there is nobody to tell.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = stopped(stop) => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    /// The way of one request, from the guards to the headers of the answer.
    async fn handle(
        &self,
        request: Request<Incoming>,
        transport: Transport,
        local_caller: Option<Caller>,
    ) -> Response<Body> {
        let started = Instant::now();
        let n = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let request_id = format!("{:x}-{n:x}", self.inner.boot);
        let settings = self.inner.settings.load_full();
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_string();
        let found = router::find(parts.method.as_str(), &path);
        let route = match &found {
            Found::Route(route, _) => Some(*route),
            _ => None,
        };
        let result = self
            .admitted(
                &parts,
                body,
                transport,
                local_caller,
                found,
                &settings,
                &request_id,
            )
            .await;
        let mut response = match result {
            Ok(response) => response,
            Err(mut problem) => {
                problem.instance.get_or_insert(path);
                answer::problem(&problem)
            }
        };
        if let Some(origin) = parts.headers.get(header::ORIGIN)
            && settings
                .cors_origins
                .iter()
                .any(|o| o.as_bytes() == origin.as_bytes())
        {
            response
                .headers_mut()
                .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            answer::set(&mut response, header::VARY, "Origin");
        }
        answer::finish(&mut response, &request_id);
        self.inner
            .backend
            .answered(route, response.status().as_u16(), started.elapsed());
        response
    }

    async fn admitted(
        &self,
        parts: &Parts,
        body: Incoming,
        transport: Transport,
        local_caller: Option<Caller>,
        found: Found,
        settings: &Settings,
        request_id: &str,
    ) -> Result<Response<Body>, Problem> {
        guard::check_host(parts, transport, &settings.allowed_hosts)?;
        guard::check_origin(parts, &settings.cors_origins)?;
        let (route, params) = match found {
            Found::Route(route, params) => (route, params),
            Found::OtherMethods(methods) => return other_method(parts, &methods),
            Found::Nothing => return Err(router::not_found(parts.uri.path())),
        };
        let caller = match local_caller {
            Some(caller) => caller,
            None => self.tcp_caller(parts, transport).await?,
        };
        let open = transport != Transport::Unix && settings.anonymous_read;
        let checked = guard::check_role(route, &caller, transport, open)
            .and_then(|()| guard::check_content_type(parts, route.method));
        let checked = match checked {
            Ok(()) => self.check_zone(route, &params, &caller).await,
            refused => refused,
        };
        if let Err(problem) = checked {
            if route.method.changes() {
                let backend = &self.inner.backend;
                backend
                    .refused(&caller, route, parts.uri.path(), &problem)
                    .await;
            }
            return Err(problem);
        }
        let body = read_body(body, route.method, settings.max_body).await?;
        let call = dispatch::Request {
            route,
            params,
            uri: parts.uri.clone(),
            body,
            caller,
        };
        self.perform(call, request_id).await
    }

    /// A token for some zones opens those only.
    async fn check_zone(
        &self,
        route: &Route,
        params: &router::Params,
        caller: &Caller,
    ) -> Result<(), Problem> {
        let Some(pattern) = &caller.zones else {
            return Ok(());
        };
        let zone = match params.get("z") {
            None => None,
            Some(segment) => {
                let zone = cascade_api::path::zone_of_segment(segment);
                Some(self.inner.backend.zone_name(&zone).await.unwrap_or(zone))
            }
        };
        guard::check_zone(route, zone.as_deref(), pattern)
    }

    /// Runs the call in a task of its own: a panic ends the task and not the connection, and a
    /// change that has begun is completed although the caller hangs up.
    async fn perform(
        &self,
        call: dispatch::Request,
        request_id: &str,
    ) -> Result<Response<Body>, Problem> {
        let route = call.route;
        let backend = Arc::clone(&self.inner.backend);
        let mut task =
            tokio::spawn(async move { dispatch::dispatch(backend.as_ref(), call).await });
        let bound = match route {
            Route {
                id: RouteId::HealthDeep,
                ..
            } => Some(DEEP_BOUND),
            Route {
                method: Method::Get,
                ..
            } => Some(ANSWER_BOUND),
            _ => None,
        };
        let joined = match bound {
            None => task.await,
            Some(bound) => match tokio::time::timeout(bound, &mut task).await {
                Ok(joined) => joined,
                Err(_) => {
                    task.abort();
                    return Err(Problem::new(
                        ProblemType::Timeout,
                        format!("{} took longer than {} s", route.path, bound.as_secs()),
                    )
                    .retry_after(1));
                }
            },
        };
        match joined {
            Ok(result) => result,
            Err(_) => {
                self.inner.backend.panicked(route, request_id);
                Err(Problem::new(
                    ProblemType::Bug,
                    format!("the daemon has a bug; the log has more under request {request_id}"),
                )
                .state("what the call changed is not known")
                .action("report it with the log lines of this request"))
            }
        }
    }

    /// A caller over TCP: by token, or anonymous.
    async fn tcp_caller(&self, parts: &Parts, transport: Transport) -> Result<Caller, Problem> {
        let peer = match transport {
            Transport::Tcp { peer, .. } => peer,
            Transport::Unix => IpAddr::from([127, 0, 0, 1]),
        };
        let Some(value) = parts.headers.get(header::AUTHORIZATION) else {
            return Ok(Caller {
                actor: "anonymous".to_string(),
                from: peer.to_string(),
                roles: cascade_api::Roles::NONE,
                zones: None,
                second: Default::default(),
            });
        };
        if let Some(secs) = self.inner.auth.lock().blocked(peer, Instant::now()) {
            return Err(Problem::new(
                ProblemType::NotAuthenticated,
                format!("too many failed authentications from {peer}"),
            )
            .retry_after(secs));
        }
        let token = value.to_str().ok().and_then(|v| {
            let (scheme, token) = v.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let known = match token {
            Some(token) => self.inner.backend.authenticate(token).await,
            None => None,
        };
        if let Some(identity) = known {
            return Ok(Caller {
                actor: format!("token:{}", identity.name),
                from: peer.to_string(),
                roles: identity.roles,
                zones: identity.zones,
                second: Default::default(),
            });
        }
        self.inner.auth.lock().failed(peer, Instant::now());
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err(Problem::new(
            ProblemType::NotAuthenticated,
            "the token is not known or has expired",
        )
        .action("cascade token add <name> --role <role>"))
    }
}

/// Also when the one who could say so is gone.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|s| *s).await;
}

/// A method that the path does not have; `OPTIONS` is answered wherever `GET` is.
fn other_method(parts: &Parts, methods: &[&'static str]) -> Result<Response<Body>, Problem> {
    let mut response = if parts.method == hyper::Method::OPTIONS && methods.contains(&"GET") {
        answer::empty(204)
    } else {
        let detail = format!("{} is not possible at '{}'", parts.method, parts.uri.path());
        let problem = Problem::new(ProblemType::MethodNotAllowed, detail)
            .action(format!("possible are {}", router::allow(methods)))
            .instance(parts.uri.path());
        answer::problem(&problem)
    };
    answer::set(&mut response, header::ALLOW, &router::allow(methods));
    Ok(response)
}

async fn read_body(body: Incoming, method: Method, max: usize) -> Result<bytes::Bytes, Problem> {
    if !method.changes() {
        return Ok(bytes::Bytes::new());
    }
    let read = tokio::time::timeout(READ_BOUND, Limited::new(body, max).collect()).await;
    match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(Problem::new(
            ProblemType::TooLarge,
            format!("the body has more than {max} bytes"),
        )),
        Ok(Err(_)) => Err(Problem::new(
            ProblemType::MalformedRequest,
            "the body could not be read",
        )),
        Err(_) => Err(Problem::new(
            ProblemType::MalformedRequest,
            "the body came too slowly",
        )),
    }
}

/// A listener of either kind.
trait Listen: Send + Sync {
    type Stream: Peer;
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// A stream that can say who is at its other end.
trait Peer: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The caller, when the transport itself tells; `None` in all: the peer is gone.
    fn identify(
        &self,
        admins: &Admins,
    ) -> impl Future<Output = Option<(Transport, Option<Caller>)>> + Send;
    /// Answers 503 without reading anything.
    fn turn_away(self);
}

impl Peer for UnixStream {
    async fn identify(&self, admins: &Admins) -> Option<(Transport, Option<Caller>)> {
        let peer = self.peer_cred().ok()?;
        Some((
            Transport::Unix,
            Some(caller::over_socket(&peer, admins).await),
        ))
    }

    fn turn_away(self) {
        let _ = self.try_write(BUSY.as_bytes());
    }
}

impl Peer for TcpStream {
    async fn identify(&self, _: &Admins) -> Option<(Transport, Option<Caller>)> {
        let _ = self.set_nodelay(true);
        let local = self.local_addr().ok()?.ip();
        let peer = self.peer_addr().ok()?.ip();
        Some((Transport::Tcp { local, peer }, None))
    }

    fn turn_away(self) {
        let _ = self.try_write(BUSY.as_bytes());
    }
}

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
    content-type: application/problem+json\r\nconnection: close\r\ncontent-length: 158\r\n\r\n\
    {\"type\":\"urn:cascade:problem:busy\",\"title\":\"Too busy\",\"status\":503,\
    \"detail\":\"too many connections\",\"state\":\"nothing changed\",\"retry_after_secs\":1,\"errors\":[]}";

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_fixed_answer_is_well_formed() {
        let (head, body) = BUSY.split_once("\r\n\r\n").unwrap();
        let p: Problem = serde_json::from_str(body).unwrap();
        assert_eq!(p.kind, ProblemType::Busy);
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
    }
}
