//! Membership in the solicited-node groups of the addresses that are answered for.
//!
//! The packet sockets need no membership, but the network does: on a plain UDP socket's request the kernel reports it
//! by MLD, so that switches that snoop forward questions here, and opens the interface's own multicast filter.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::Ipv6Addr;

use socket2::{Domain, Socket, Type};

/// A group on an interface, by the interface's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Membership {
    /// The interface's index.
    pub index: u32,
    /// The group.
    pub group: Ipv6Addr,
}

/// A membership that could not be had. It is tried again with the next [`Groups::set`].
#[derive(Debug, thiserror::Error)]
#[error("cannot join {} on interface {}", membership.group, membership.index)]
pub struct JoinError {
    /// Which.
    pub membership: Membership,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// The memberships held, over as many sockets as the kernel's limit per socket (`optmem_max`) asks for.
#[derive(Debug, Default)]
pub struct Groups {
    sockets: Vec<Socket>,
    joined: HashMap<Membership, usize>,
}

impl Groups {
    /// Leaves what is not in `desired` and joins what is missing.
    ///
    /// # Errors
    /// Every membership that could not be had; all others are.
    pub fn set(&mut self, desired: &HashSet<Membership>) -> Result<(), Vec<JoinError>> {
        let sockets = &self.sockets;
        self.joined.retain(|membership, socket| {
            let keep = desired.contains(membership);
            if !keep {
                // It fails only when the interface is gone, and the membership with it.
                let _ = sockets[*socket].leave_multicast_v6(&membership.group, membership.index);
            }
            keep
        });
        let mut failed = Vec::new();
        for &membership in desired {
            if self.joined.contains_key(&membership) {
                continue;
            }
            match self.join(membership) {
                Ok(socket) => drop(self.joined.insert(membership, socket)),
                Err(source) => failed.push(JoinError { membership, source }),
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    /// How many memberships are held.
    pub fn len(&self) -> usize {
        self.joined.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty()
    }

    /// Joins by the first socket that has room, or by a new one.
    fn join(&mut self, membership: Membership) -> io::Result<usize> {
        for (position, socket) in self.sockets.iter().enumerate().rev() {
            match join_by(socket, membership) {
                Err(e) if is_full(&e) => {}
                outcome => return outcome.map(|()| position),
            }
        }
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None)?;
        join_by(&socket, membership)?;
        self.sockets.push(socket);
        Ok(self.sockets.len() - 1)
    }
}

fn join_by(socket: &Socket, Membership { index, group }: Membership) -> io::Result<()> {
    match socket.join_multicast_v6(&group, index) {
        // The socket still has it from before the interface lost its IPv6; the interface itself does not.
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            socket.leave_multicast_v6(&group, index)?;
            socket.join_multicast_v6(&group, index)
        }
        outcome => outcome,
    }
}

/// Whether the socket has as many memberships as the kernel lets it have.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS))
}
