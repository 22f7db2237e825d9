//! Membership in the solicited-node groups of the addresses that are answered for.
//!
//! The packet sockets need no membership, but the network does: on a plain UDP socket's request the kernel reports it
//! by MLD, so that switches that snoop forward questions here, and opens the interface's own multicast filter.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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

/// A membership that could not be had. It is tried again when it is next wanted once more.
#[derive(Debug, thiserror::Error)]
#[error("cannot join {} on interface {}", membership.group, membership.index)]
pub struct JoinError {
    /// Which.
    pub membership: Membership,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// The memberships held, over as many sockets as the kernel's limit per socket (`optmem_max`) asks for. Several addresses
/// may want one: it is left when none does any more.
#[derive(Debug, Default)]
pub struct Groups {
    sockets: Vec<Socket>,
    wanted: HashMap<Membership, Wanted>,
}

/// How often a membership is wanted, and the socket that has it, unless the kernel refused.
#[derive(Debug, Default)]
struct Wanted {
    times: usize,
    socket: Option<usize>,
}

impl Groups {
    /// Wants each of `memberships` once more, and joins what is missing of them.
    ///
    /// # Errors
    /// Every one that could not be had. It is wanted all the same.
    pub fn want(
        &mut self,
        memberships: impl IntoIterator<Item = Membership>,
    ) -> Result<(), Vec<JoinError>> {
        let mut failed = Vec::new();
        for membership in memberships {
            let mut wanted = self.wanted.remove(&membership).unwrap_or_default();
            wanted.times += 1;
            if wanted.socket.is_none() {
                match self.join(membership) {
                    Ok(socket) => wanted.socket = Some(socket),
                    Err(source) => failed.push(JoinError { membership, source }),
                }
            }
            self.wanted.insert(membership, wanted);
        }
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    /// Wants each of `memberships` once less, and leaves what nobody wants any more.
    pub fn release(&mut self, memberships: impl IntoIterator<Item = Membership>) {
        for membership in memberships {
            let Entry::Occupied(mut entry) = self.wanted.entry(membership) else { continue };
            entry.get_mut().times -= 1;
            if entry.get().times > 0 {
                continue;
            }
            if let Some(socket) = entry.remove().socket {
                let Membership { index, group } = membership;
                // It fails only when the interface is gone, and the membership with it.
                let _ = self.sockets[socket].leave_multicast_v6(&group, index);
            }
        }
    }

    /// How many memberships are held.
    pub fn len(&self) -> usize {
        self.wanted.values().filter(|wanted| wanted.socket.is_some()).count()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
