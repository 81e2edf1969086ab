//! Serving one parent over a Unix socket: no TCP, no TLS, no configuration file (hsm.md §8).
//!
//! Standard input is the socket: connected, for a single connection, or listening, for as many as
//! the parent makes. The PIN comes with each request, as from any client. The program ends with its
//! parent.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cascade_kmip::serve::Service;
use cascade_policy::BridgeConfig;
use nix::sys::signal::Signal;
use nix::sys::socket::{self, SockaddrLike, sockopt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::args::Args;
use crate::serve::Bridge;
use crate::{capture, logging};

/// The parent closes what it no longer needs.
const IDLE: Duration = Duration::from_secs(30 * 86_400);

/// # Errors
/// Standard input is no Unix socket, the module's path is none, or the system refuses.
pub fn run(args: &Args, module: &Path) -> Result<ExitCode, String> {
    let config = config(module)?;
    cascade_hsm::check_file(module).map_err(|e| e.to_string())?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)
        .map_err(|e| format!("the end of the parent cannot be noticed: {e}"))?;
    let (fd, listens) = stdin_socket()?;
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
        match listens {
            true => {
                let listener = std::os::unix::net::UnixListener::from(fd);
                let listener = nonblocking(listener.set_nonblocking(true))
                    .and_then(|()| nonblocking(UnixListener::from_std(listener)))?;
                bridge.tasks.spawn(accept(listener, service, stop, over));
            }
            false => {
                let stream = std::os::unix::net::UnixStream::from(fd);
                let stream = nonblocking(stream.set_nonblocking(true))
                    .and_then(|()| nonblocking(UnixStream::from_std(stream)))?;
                bridge.tasks.spawn(async move {
                    service.serve(stream, stop).await;
                    let _ = over.send(());
                });
            }
        }
        let over = async {
            // Dropped unsent when the listener fails: then, too, there is nothing more to do.
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

fn nonblocking<T>(done: std::io::Result<T>) -> Result<T, String> {
    done.map_err(|e| format!("the socket at standard input: {e}"))
}

/// The socket, and whether it listens.
fn stdin_socket() -> Result<(OwnedFd, bool), String> {
    let bad = |e: &dyn std::fmt::Display| {
        format!(
            "--managed is for a parent program that gives a Unix stream socket as standard input: {e}"
        )
    };
    let stdin = std::io::stdin();
    let fd = stdin.as_fd().try_clone_to_owned().map_err(|e| bad(&e))?;
    let addr =
        socket::getsockname::<socket::SockaddrStorage>(fd.as_raw_fd()).map_err(|e| bad(&e))?;
    let stream = socket::getsockopt(&fd, sockopt::SockType).map_err(|e| bad(&e))?;
    if addr.family() != Some(socket::AddressFamily::Unix) || stream != socket::SockType::Stream {
        return Err(bad(&"it is another kind of socket"));
    }
    let listens = socket::getsockopt(&fd, sockopt::AcceptConn).map_err(|e| bad(&e))?;
    Ok((fd, listens))
}

async fn accept(
    listener: UnixListener,
    service: Arc<Service>,
    mut stop: watch::Receiver<bool>,
    over: oneshot::Sender<()>,
) {
    let places = Arc::new(Semaphore::new(service.bounds().max_connections));
    let own = nix::unistd::Uid::effective().as_raw();
    let mut open = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::error!("no more connections: {e}");
                break;
            }
        };
        // The socket's name may be in reach of others.
        let peer = stream.peer_cred().map(|c| c.uid());
        if !matches!(peer, Ok(uid) if uid == own || uid == 0) {
            tracing::warn!("a connection of another user was refused");
            continue;
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!("too many connections; one was refused");
            continue;
        };
        let (service, stop) = (service.clone(), stop.clone());
        open.spawn(async move {
            service.serve(stream, stop).await;
            drop(place);
        });
    }
    while open.join_next().await.is_some() {}
    drop(over);
}
