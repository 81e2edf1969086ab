//! Start-up: configuration, log, sockets, certificate, identity; then [`serve`](crate::serve).

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use cascade_kmip::serve::listen;
use cascade_policy::{BridgeConfig, BridgeFile, LogTarget};
use cascade_program::fds;
use tokio::sync::Semaphore;

use crate::args::Args;
use crate::door::{Allowed, BridgeDoor};
use crate::serve::Bridge;
use crate::settings::{self, Become};
use crate::{capture, check, logging, managed, metrics, process, tls};

pub fn run(args: Args) -> ExitCode {
    let code = match &args.managed {
        Some(module) => managed::run(&args, module),
        None => begin(&args),
    };
    code.unwrap_or_else(|error| {
        eprintln!("Error: {error}");
        ExitCode::FAILURE
    })
}

/// # Errors
/// What is wrong before there is a log.
fn begin(args: &Args) -> Result<ExitCode, String> {
    let file = settings::read(&args.config)?;
    if args.fingerprint {
        println!("{}", tls::load(&file.config)?.fingerprint);
        return Ok(ExitCode::SUCCESS);
    }
    check_module(&file, args)?;
    process::with_environment(&file.config.module_env)?;
    if args.check_config {
        return check::run(&file, args);
    }
    let background = args.detach || file.config.daemonize;
    if background && settings::log_target(&file.config, args) == LogTarget::Stderr {
        return Err(
            "a program in the background has no standard error: log to syslog, journal or a file"
                .into(),
        );
    }
    if background && !process::is_detached() {
        return process::detach();
    }
    let parent = background.then(process::settle).transpose()?;
    let stderr = capture::keep_stderr()?;
    let log = logging::init(&file.config, args, &stderr)?;
    // In the background nothing of the terminal may stay open.
    drop(stderr);
    for warning in &file.warnings {
        tracing::warn!("{}", warning.one_line());
    }
    serve(file, args, log.clone(), parent).or_else(|error| {
        tracing::error!("{error}");
        log.flush();
        Ok(ExitCode::FAILURE)
    })
}

/// The module's file, as far as looking at it tells.
fn check_module(file: &BridgeFile, args: &Args) -> Result<(), String> {
    if let Some(found) = file.placeholder() {
        return Err(found.one_line());
    }
    if args.chroot.is_some() {
        return Ok(());
    }
    cascade_hsm::check_file(file.config.lib_path.as_std_path()).map_err(|e| {
        let found = file.refuse(
            "lib_path",
            e.to_string(),
            "name the PKCS#11 module of your HSM",
        );
        found.one_line()
    })
}

fn serve(
    file: BridgeFile,
    args: &Args,
    log: logging::Handle,
    parent: Option<OwnedFd>,
) -> Result<ExitCode, String> {
    let config = file.config.clone();
    let listeners = listeners(&config)?;
    let metrics = config.metrics_addr.map(|a| bind(a.0)).transpose()?;
    // Given files may be root's; the directory of our own certificate belongs to the user that we
    // become. Names are looked up before the root directory may change.
    let given = config.cert_path.is_some().then(|| tls::load(&config));
    let allowed = Allowed::resolve(&config.allowed_users);
    process::assume(&Become::of(&config, args))?;
    let tls = given.unwrap_or_else(|| tls::load(&config))?;
    tracing::info!(
        "{} certificate with SHA-256 fingerprint {}",
        if tls.self_signed {
            "self-signed"
        } else {
            "given"
        },
        tls.fingerprint
    );
    let door = Arc::new(BridgeDoor::new(tls.config, allowed.and_self()));
    capture::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Each connection may have one request with the token, and one check of its owner.
        .max_blocking_threads(2 * config.max_connections as usize + 16)
        .build()
        .map_err(|e| format!("threads: {e}"))?;
    let idle = config.idle_timeout;
    let path = args.config.display();
    let code = runtime.block_on(async {
        let mut bridge = Bridge::new(config.clone(), log, idle);
        bridge.test_hint = format!("; test with: kmip2pkcs11 --check-config --config {path}");
        let places = Arc::new(Semaphore::new(config.max_connections as usize));
        for listener in listeners {
            let at = listener.local_addr().map_err(|e| e.to_string())?;
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(|e| format!("listening on {at}: {e}"))?;
            tracing::info!("listening on {at}");
            let (service, stop) = (bridge.service.clone(), bridge.stop.subscribe());
            let door = door.clone();
            bridge
                .tasks
                .spawn(listen(listener, service, places.clone(), door, stop));
        }
        if let Some(listener) = metrics {
            let listener =
                tokio::net::TcpListener::from_std(listener).map_err(|e| format!("metrics: {e}"))?;
            let page = metrics::serve(listener, bridge.service.clone(), bridge.module.clone());
            tokio::spawn(page);
        }
        let path = args.config.clone();
        bridge.reload = Box::new(move || reload(&path, &door));
        let ready = || {
            if let Some(parent) = parent {
                process::tell_ready(parent);
            }
        };
        Ok::<_, String>(bridge.run(ready, std::future::pending()).await)
    })?;
    // Threads that hang in the module are not waited for.
    runtime.shutdown_background();
    Ok(code)
}

/// SIGHUP: TLS files and users are read again. What cannot be used leaves the former in force.
fn reload(path: &std::path::Path, door: &BridgeDoor) {
    let read = settings::read(path).and_then(|file| {
        let tls = tls::load(&file.config)?;
        let allowed = Allowed::resolve(&file.config.allowed_users);
        door.exchange(tls.config, allowed.and_self());
        Ok(tls.fingerprint)
    });
    match read {
        Ok(fingerprint) => {
            tracing::info!("TLS files and users read again; certificate {fingerprint}");
        }
        Err(error) => tracing::error!("not reloaded, the former settings stay in force: {error}"),
    }
}

/// The service manager's sockets if it passed any, else those of the configuration.
fn listeners(config: &BridgeConfig) -> Result<Vec<TcpListener>, String> {
    let help = |e: std::io::Error| format!("LISTEN_FDS: {e}; check the socket unit, or stop it");
    let passed: Vec<_> = sd_notify::listen_fds_with_names().map_err(help)?.collect();
    if !passed.is_empty() {
        return passed.into_iter().map(|(raw, _)| adopt(raw)).collect();
    }
    config.listen().into_iter().map(bind).collect()
}

fn adopt(raw: std::os::fd::RawFd) -> Result<TcpListener, String> {
    let bad = |e: &dyn std::fmt::Display| {
        format!("descriptor {raw} of the service manager is no listening TCP socket: {e}")
    };
    let fd = fds::own(raw).map_err(|e| bad(&e))?;
    let listens = nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::AcceptConn)
        .map_err(|e| bad(&e))?;
    let listener = TcpListener::from(fd);
    listener.local_addr().map_err(|e| bad(&e))?;
    if !listens {
        return Err(bad(&"it does not listen (Accept=yes is not possible)"));
    }
    listener.set_nonblocking(true).map_err(|e| bad(&e))?;
    Ok(listener)
}

fn bind(addr: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(addr).map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::AddrInUse => "; another kmip2pkcs11 may be running",
            std::io::ErrorKind::AddrNotAvailable => "; this host does not have the address",
            _ => "",
        };
        format!("cannot listen on {addr}: {e}{hint}")
    })?;
    listener
        .set_nonblocking(true)
        .map_err(|e| format!("listening on {addr}: {e}"))?;
    Ok(listener)
}
