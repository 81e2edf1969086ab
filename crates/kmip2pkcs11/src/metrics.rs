//! Metrics for Prometheus: one page, over HTTP/1.1, on a loopback address.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cascade_kmip::serve::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::tokens::Module;

/// A request with its header is not longer.
const REQUEST_MAX: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 8;

/// Serves until the program ends.
pub async fn serve(listener: TcpListener, service: Arc<Service>, module: Arc<Module>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let page = page(&service, &module);
        tokio::spawn(async move {
            let _ = timeout(PATIENCE, answer(stream, page)).await;
            drop(place);
        });
    }
}

async fn answer(mut stream: TcpStream, page: String) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = stream.read(&mut buffer).await?;
        if n == 0 || request.len() + n > REQUEST_MAX {
            return Ok(());
        }
        request.extend_from_slice(buffer.get(..n).unwrap_or_default());
    }
    let (status, kind, body) = match request.starts_with(b"GET /metrics ") {
        true => (
            "200 OK",
            "text/plain; version=0.0.4; charset=utf-8",
            page.as_str(),
        ),
        false => ("404 Not Found", "text/plain", "There is /metrics only.\n"),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn page(service: &Service, module: &Module) -> String {
    let stats = service.stats();
    let mut out = String::new();
    let mut put = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "# HELP kmip2pkcs11_{name} {help}\n# TYPE kmip2pkcs11_{name} {kind}\n\
             kmip2pkcs11_{name} {value}\n"
        );
    };
    let read = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    let counters = [
        ("accepted_total", "Connections accepted.", &stats.accepted),
        ("refused_total", "Connections refused.", &stats.refused),
        ("requests_total", "Requests read.", &stats.requests),
        (
            "malformed_total",
            "Requests that are no KMIP.",
            &stats.malformed,
        ),
        (
            "operations_total",
            "Operations performed.",
            &stats.operations,
        ),
        (
            "failed_operations_total",
            "Operations that failed.",
            &stats.failed_operations,
        ),
        ("signatures_total", "Signatures made.", &stats.signatures),
    ];
    let gauge = "gauge";
    put(
        "connections",
        gauge,
        "Connections open.",
        read(&stats.connections),
    );
    for (name, help, value) in counters {
        put(name, "counter", help, read(value));
    }
    let hsm = module.get().ok();
    let tokens = hsm.as_ref().map(|h| h.tokens()).unwrap_or_default();
    let away = tokens.iter().filter(|t| t.away().is_some()).count();
    put(
        "module_loaded",
        gauge,
        "Whether the module is in use.",
        u64::from(hsm.is_some()),
    );
    put("tokens", gauge, "Tokens opened.", tokens.len() as u64);
    put(
        "tokens_away",
        gauge,
        "Tokens whose device does not answer.",
        away as u64,
    );
    out
}
