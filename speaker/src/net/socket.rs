//! Packet sockets: whole Ethernet frames on one link, with the kernel's time of their arrival.
//!
//! The one module of the house with `unsafe` code: three calls that no crate wraps.
#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::filter;

/// Bytes of frames that the kernel may keep for one socket; more are dropped and counted in [`Received::lost`].
const RECEIVE_BUFFER: usize = 256 * 1024;

/// What a socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// ARP requests and replies, to us or to all.
    Arp,
    /// Neighbour solicitations and advertisements, to us or to a group that the link listens to.
    Ndp,
}

impl Protocol {
    const fn ether_type(self) -> u16 {
        match self {
            Self::Arp => 0x0806,
            Self::Ndp => 0x86dd,
        }
    }
}

/// A packet socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {step} the packet socket for {protocol:?} on interface {index} (needs CAP_NET_RAW)"
)]
pub struct OpenError {
    /// What was tried.
    pub step: &'static str,
    /// For what.
    pub protocol: Protocol,
    /// The interface's index.
    pub index: u32,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// A frame that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its length in the buffer; a longer frame is cut to the buffer's length.
    pub length: usize,
    /// When the kernel received it, on the wall clock.
    pub at: SystemTime,
    /// How many frames the socket has lost since it was opened because its buffer was full.
    pub lost: u32,
}

/// A packet socket of one protocol on one link. It sees no frame that leaves this host.
#[derive(Debug)]
pub struct PacketSocket {
    socket: AsyncFd<Socket>,
}

impl PacketSocket {
    /// Opens one on the link with `index`. Must be called within a tokio runtime, and is bound to the network
    /// namespace of the calling thread.
    ///
    /// # Errors
    /// Says which step failed: without `CAP_NET_RAW` the first, on a link that is gone the last but one.
    pub fn open(index: u32, protocol: Protocol) -> Result<Self, OpenError> {
        let failed = |step| move |source| OpenError { step, protocol, index, source };
        // With protocol 0 it receives nothing until it is bound, and so nothing that the filter has not seen.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)
            .map_err(failed("open"))?;
        let program = match protocol {
            Protocol::Arp => filter::arp(index),
            Protocol::Ndp => filter::ndp(index),
        };
        socket.attach_filter(&program).map_err(failed("filter"))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER).map_err(failed("bound the buffer of"))?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)
            .map_err(|e| failed("time-stamp")(e.into()))?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)
            .map_err(|e| failed("count losses of")(e.into()))?;
        ignore_outgoing(&socket).map_err(failed("deafen to our own frames"))?;
        let address = link_address(index, protocol).map_err(failed("address"))?;
        socket.bind(&address).map_err(failed("bind"))?;
        // SAFETY: the socket owns its open descriptor, and nothing here replaces or closes it before `AsyncFd` is
        // dropped.
        let registered = unsafe { AsyncFd::register(socket) };
        let socket = registered.map_err(|e| failed("register")(e.into()))?;
        Ok(Self { socket })
    }

    /// Waits for the next frame and writes it to `buffer`. Frames that are ready come one by one without waiting,
    /// but tokio's budget ends a batch in favour of other tasks.
    ///
    /// # Errors
    /// The kernel's; `ENETDOWN` once when the link goes down, after which frames come again when it is up.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut control = nix::cmsg_space!(TimeSpec, u32);
        self.socket
            .async_io(Interest::READABLE, |socket| receive(socket, buffer, &mut control))
            .await
    }

    /// Sends `frame` as it stands, at once or not at all.
    ///
    /// # Errors
    /// The kernel's; [`io::ErrorKind::WouldBlock`] when the socket's buffer is full.
    pub fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.get_ref().send(frame).map(|_| ())
    }

    /// Sends `frame` when there is room for it.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.when_writable(|socket| socket.try_send(frame)).await
    }

    /// Does `send` again whenever there is room, until it returns something other than
    /// [`io::ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// What `send` returns.
    pub async fn when_writable<R>(
        &self,
        mut send: impl FnMut(&Self) -> io::Result<R>,
    ) -> io::Result<R> {
        self.socket.async_io(Interest::WRITABLE, |_| send(self)).await
    }
}

fn receive(socket: &Socket, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Received> {
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(control), MsgFlags::empty())?;
    let mut received = Received { length: message.bytes, at: SystemTime::UNIX_EPOCH, lost: 0 };
    for part in message.cmsgs()? {
        match part {
            ControlMessageOwned::ScmTimestampns(time) => received.at = wall_clock(time),
            ControlMessageOwned::RxqOvfl(lost) => received.lost = lost,
            _ => {}
        }
    }
    Ok(received)
}

/// `time` since the epoch; one before it, which no clock in use shows, is the epoch.
fn wall_clock(time: TimeSpec) -> SystemTime {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}

/// Spares the kernel a copy of each frame that leaves, which the filter would only refuse.
fn ignore_outgoing(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("four bytes");
    // SAFETY: `on` is a live `c_int`, which this option takes, and `length` is its size; the kernel only reads it.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            length,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The link `index`, for `protocol`, as the kernel's `sockaddr_ll`.
fn link_address(index: u32, protocol: Protocol) -> io::Result<SockAddr> {
    let index = i32::try_from(index).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    let family = libc::sa_family_t::try_from(libc::AF_PACKET).expect("a small constant");
    // SAFETY: the storage that `try_init` hands over is zeroed, aligned for and larger than every socket address; it
    // is written as a `sockaddr_ll`, whose zero bytes are valid, and its length is set to that type's size.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = family;
            (*link).sll_protocol = protocol.ether_type().to_be();
            (*link).sll_ifindex = index;
            *length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("20 bytes");
            Ok(())
        })
    }?;
    Ok(address)
}
