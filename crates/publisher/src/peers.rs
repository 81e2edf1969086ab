//! What the two tasks that talk to other servers by datagrams share.

use std::net::SocketAddr;

use tokio::net::UdpSocket;

/// A datagram from a socket that there may not be; without one, never.
pub(crate) async fn receive(
    socket: &Option<UdpSocket>,
    buf: &mut [u8],
) -> std::io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(buf).await,
        None => std::future::pending().await,
    }
}

/// The same peer has the same form, over whichever socket it answers.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
