//! A neighbour's view of the wire: sends frames and records what comes.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use herald_core::wire::{Mac, arp, ndp};
use herald_speaker::net::socket::{PacketSocket, Protocol};

use super::host::{Host, LAN};

/// A packet socket on a host's cable.
pub(crate) struct Prober {
    socket: Arc<PacketSocket>,
}

impl Prober {
    /// Opens one on `host`.
    pub(crate) fn open(host: &Host, protocol: Protocol) -> Self {
        let index = host.index(LAN);
        let socket = host.block(move || PacketSocket::open(index, protocol).unwrap());
        Self { socket: Arc::new(socket) }
    }

    /// Sends `frame`.
    pub(crate) fn send(&self, frame: &[u8]) {
        self.socket.try_send(frame).unwrap();
    }

    /// The next frame that comes, on `host`.
    pub(crate) fn next(&self, host: &Host) -> Vec<u8> {
        let socket = Arc::clone(&self.socket);
        host.run(async move {
            let mut frame = vec![0; 2048];
            let received = socket.recv(&mut frame).await.unwrap();
            frame.truncate(received.length);
            frame
        })
    }

    /// Asks who has `address`, as `host`, without saying who asks.
    pub(crate) fn ask(&self, host: &Host, address: &str) {
        match address.parse().unwrap() {
            IpAddr::V4(v4) => {
                self.send(&arp::Message::probe(v4, host.mac, Mac::BROADCAST).to_frame());
            }
            IpAddr::V6(v6) => {
                let from = Ipv6Addr::UNSPECIFIED;
                self.send(&ndp::Message::probe(v6, from, host.mac, None).to_frame());
            }
        }
    }

    /// The next claim of an address that comes: which one, and where it is said to be. Questions are passed over.
    pub(crate) fn next_claim(&self, host: &Host) -> (IpAddr, Mac) {
        loop {
            let frame = self.next(host);
            if let Ok(view) = arp::View::parse(&frame)
                && !view.sender().is_unspecified()
            {
                return (view.sender().into(), view.sender_mac());
            }
            if let Ok(view) = ndp::View::parse(&frame)
                && view.kind() != ndp::Kind::Solicitation
            {
                return (view.target().into(), view.link_layer().unwrap());
            }
        }
    }
}
