//! Descriptors that are known by number only, as the service manager and parents pass them.
//!
//! Safe code cannot own such a descriptor. The number is therefore sent through a socket pair to
//! ourselves (`SCM_RIGHTS`): what the kernel hands out is owned.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket as nsocket;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

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
    let owned = receive(&from).map_err(|e| e.to_string())?;
    nix::unistd::close(raw).map_err(err)?;
    owned.ok_or_else(|| "it did not come back from the kernel".into())
}

/// Both ends of a socket over which descriptors are passed, one in each message.
///
/// # Errors
/// As the system says.
pub fn passage() -> io::Result<(OwnedFd, OwnedFd)> {
    let pair = nsocket::socketpair(
        nsocket::AddressFamily::Unix,
        nsocket::SockType::SeqPacket,
        None,
        nsocket::SockFlag::SOCK_CLOEXEC,
    );
    Ok(pair?)
}

/// Passes a descriptor on; the receiver owns a duplicate. Does not wait.
///
/// # Errors
/// The other end is gone, or takes none at the moment ([`io::ErrorKind::WouldBlock`]).
pub fn send(over: impl AsFd, fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(over, &[IoSlice::new(b"f")], &mut control, flags)?;
    Ok(())
}

/// Waits for the next descriptor; `None` once the other end is closed.
///
/// # Errors
/// As the system says, or a message without a descriptor.
pub fn receive(over: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    let got = loop {
        let mut parts = [IoSliceMut::new(&mut byte)];
        match recvmsg(&over, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            got => break got?,
        }
    };
    let fd = control.drain().find_map(|m| match m {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match (fd, got.bytes) {
        (Some(fd), _) => Ok(Some(fd)),
        (None, 0) => Ok(None),
        (None, _) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message without a descriptor",
        )),
    }
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

    #[test]
    fn descriptors_pass_until_an_end_closes() {
        let (here, there) = passage().unwrap();
        let s = UdpSocket::bind("127.0.0.1:0").unwrap();
        send(&here, s.as_fd()).unwrap();
        let fd = receive(&there).unwrap().unwrap();
        let same = UdpSocket::from(fd).local_addr().unwrap();
        assert_eq!(same, s.local_addr().unwrap());
        drop(here);
        assert!(receive(&there).unwrap().is_none());
        let e = send(&there, s.as_fd()).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::BrokenPipe);
    }
}
