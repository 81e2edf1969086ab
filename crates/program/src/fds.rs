//! Descriptors that are known by number only, as the service manager and parents pass them.
//!
//! Safe code cannot own such a descriptor. The number is therefore sent through a socket pair to
//! ourselves (`SCM_RIGHTS`): what the kernel hands out is owned.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sys::socket as nsocket;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// An owned duplicate of the descriptor; the number itself is closed.
///
/// # Errors
/// No such descriptor, or none to spare.
pub fn own(raw: RawFd) -> Result<OwnedFd, String> {
    let err = |e: nix::Error| e.to_string();
    let (to, from) = nsocket::socketpair(
        nsocket::AddressFamily::Unix,
        nsocket::SockType::Datagram,
        None,
        nsocket::SockFlag::SOCK_CLOEXEC,
    )
    .map_err(err)?;
    let sent = [raw];
    nsocket::sendmsg::<()>(
        to.as_raw_fd(),
        &[IoSlice::new(b"f")],
        &[nsocket::ControlMessage::ScmRights(&sent)],
        nsocket::MsgFlags::empty(),
        None,
    )
    .map_err(err)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    recvmsg(
        &from,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(|e| e.to_string())?;
    let owned = control.drain().find_map(|m| match m {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    nix::unistd::close(raw).map_err(err)?;
    owned.ok_or_else(|| "it did not come back from the kernel".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::IntoRawFd;

    #[test]
    fn a_number_becomes_an_owned_descriptor() {
        let s = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = s.local_addr().unwrap();
        let fd = own(s.into_raw_fd()).unwrap();
        assert_eq!(UdpSocket::from(fd).local_addr().unwrap(), addr);
        assert!(own(-1).is_err());
    }
}
