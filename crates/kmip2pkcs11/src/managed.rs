//! Serving one parent over a Unix socket: no TCP, no TLS, no configuration file.
//!
//! Standard input is one end of a socket pair. A stream is the one connection; over a socket of
//! packets the parent passes as many connections as it likes, so that there is no name by which
//! anybody else could find this program. The PIN comes with each request, as from any client. The
//! program ends when the parent closes its end, or with the parent.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cascade_kmip::serve::Service;
use cascade_policy::BridgeConfig;
use cascade_program::fds;
use nix::sys::signal::Signal;
use nix::sys::socket::{self, SockaddrLike, sockopt};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::args::Args;
use crate::serve::Bridge;
use crate::{capture, logging};

/// The parent closes what it no longer needs.
const IDLE: Duration = Duration::from_secs(30 * 86_400);
/// Connections that were passed and are not yet served.
const PASSED: usize = 16;

/// What standard input is.
enum Given {
    /// The one connection.
    Connection(OwnedFd),
    /// A socket over which connections come.
    Passage(OwnedFd),
}

/// # Errors
/// Standard input is no Unix socket, the module's path is none, or the system refuses.
pub fn run(args: &Args, module: &Path) -> Result<ExitCode, String> {
    let config = config(module)?;
    cascade_hsm::check_file(module).map_err(|e| e.to_string())?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)
        .map_err(|e| format!("the end of the parent cannot be noticed: {e}"))?;
    let given = stdin_socket()?;
    let stderr = capture::keep_stderr()?;
    let log = logging::init(&config, args, &stderr)?;
    capture::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(config.max_connections as usize + 16)
        .build()
        .map_err(|e| format!("threads: {e}"))?;
    let code = runtime.block_on(async {
        let mut bridge = Bridge::new(config, log, IDLE);
        let (over, ended) = oneshot::channel::<()>();
        let (service, stop) = (bridge.service.clone(), bridge.stop.subscribe());
        match given {
            Given::Passage(fd) => {
                let (send, passed) = mpsc::channel(PASSED);
                let thread = std::thread::Builder::new().name("passage".into());
                let spawned = thread.spawn(move || follow(&fd, &send));
                spawned.map_err(|e| format!("threads: {e}"))?;
                bridge.tasks.spawn(accept(passed, service, stop, over));
            }
            Given::Connection(fd) => {
                let stream = usable(StdStream::from(fd))?;
                bridge.tasks.spawn(async move {
                    service.serve(stream, stop).await;
                    let _ = over.send(());
                });
            }
        }
        let over = async {
            // Dropped unsent when there are no connections to come: nothing more to do then, too.
            let _ = ended.await;
        };
        Ok::<_, String>(bridge.run(|| {}, over).await)
    })?;
    runtime.shutdown_background();
    Ok(code)
}

/// The defaults, with this module.
fn config(module: &Path) -> Result<BridgeConfig, String> {
    let mut config = BridgeConfig::default();
    let text = module.to_str().filter(|p| p.starts_with('/'));
    let text = text.ok_or("--managed takes the absolute path of a PKCS#11 module")?;
    config.lib_path = text.into();
    Ok(config)
}

fn usable(stream: StdStream) -> Result<UnixStream, String> {
    let done = stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream));
    done.map_err(|e| format!("a connection of the parent: {e}"))
}

fn stdin_socket() -> Result<Given, String> {
    let bad = |e: &dyn std::fmt::Display| {
        format!(
            "--managed is for a parent program that gives one end of a Unix socket pair as standard input: {e}"
        )
    };
    let stdin = std::io::stdin();
    let fd = stdin.as_fd().try_clone_to_owned().map_err(|e| bad(&e))?;
    let addr =
        socket::getsockname::<socket::SockaddrStorage>(fd.as_raw_fd()).map_err(|e| bad(&e))?;
    if addr.family() != Some(socket::AddressFamily::Unix) {
        return Err(bad(&"it is another kind of socket"));
    }
    let listens = socket::getsockopt(&fd, sockopt::AcceptConn).map_err(|e| bad(&e))?;
    match socket::getsockopt(&fd, sockopt::SockType).map_err(|e| bad(&e))? {
        socket::SockType::Stream if !listens => Ok(Given::Connection(fd)),
        socket::SockType::SeqPacket if !listens => Ok(Given::Passage(fd)),
        _ => Err(bad(&"it is another kind of socket")),
    }
}

/// Takes connections until the parent closes its end.
fn follow(passage: &OwnedFd, to: &mpsc::Sender<StdStream>) {
    loop {
        match fds::receive(passage) {
            Ok(Some(fd)) => {
                if to.blocking_send(StdStream::from(fd)).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(e) => {
                tracing::error!("no more connections from the parent: {e}");
                return;
            }
        }
    }
}

async fn accept(
    mut passed: mpsc::Receiver<StdStream>,
    service: Arc<Service>,
    mut stop: watch::Receiver<bool>,
    over: oneshot::Sender<()>,
) {
    let places = Arc::new(Semaphore::new(service.bounds().max_connections));
    let mut open = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            passed = passed.recv() => match passed {
                Some(stream) => stream,
                None => break,
            },
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
        };
        let (stream, place) = match (usable(stream), places.clone().try_acquire_owned()) {
            (Ok(stream), Ok(place)) => (stream, place),
            (Err(e), _) => {
                tracing::warn!("{e}");
                continue;
            }
            (_, Err(_)) => {
                tracing::warn!("too many connections; one was refused");
                continue;
            }
        };
        let (service, stop) = (service.clone(), stop.clone());
        open.spawn(async move {
            service.serve(stream, stop).await;
            drop(place);
        });
    }
    // Ends the program, which lets requests under way finish.
    let _ = over.send(());
    while open.join_next().await.is_some() {}
}
