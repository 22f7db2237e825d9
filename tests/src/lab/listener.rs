//! A host that asks nothing, and records what owners announce of themselves: of any number of addresses, and cheaply.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::Context;
use herald_speaker::net::socket::{PacketSocket, Protocol};
use tokio::task::JoinHandle;

use super::namespace::Namespace;
use super::network::Segment;
use super::prober::{FRAME, To, said_by_arp};

/// A running listener. Dropped, it stops.
#[derive(Debug)]
pub struct Listener {
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<anyhow::Result<()>>,
}

/// What a listener has heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// When the kernel received the first announcement of each address.
    pub first: BTreeMap<IpAddr, SystemTime>,
    /// Announcements in all.
    pub frames: u64,
    /// Frames that were lost because they came faster than they were read: a first one may be among them.
    pub lost: u32,
}

impl Heard {
    fn announced(&mut self, address: IpAddr, at: SystemTime) {
        self.first.entry(address).or_insert(at);
        self.frames += 1;
    }
}

impl Listener {
    /// Listens to gratuitous ARP on the LAN from `namespace`. It listens when this returns.
    pub(super) async fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        let open = async {
            let interface = Segment::Lan.interface();
            let index = nix::net::if_::if_nametoindex(interface)
                .with_context(|| format!("find the interface {interface}"))?;
            anyhow::Ok(PacketSocket::open(index, Protocol::Arp)?)
        };
        let socket = namespace.spawn(open).await.context("open the listener's socket")??;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let task = namespace.spawn(listen(socket, Arc::clone(&heard)));
        Ok(Self { heard, task })
    }

    /// What was heard so far; an error if it hears no more.
    pub async fn heard(&mut self) -> anyhow::Result<Heard> {
        if self.task.is_finished() {
            (&mut self.task).await.context("the listener's task")??;
        }
        Ok(lock(&self.heard).clone())
    }

    /// Forgets what was heard so far.
    pub fn forget(&self) {
        *lock(&self.heard) = Heard::default();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(socket: PacketSocket, heard: Arc<Mutex<Heard>>) -> anyhow::Result<()> {
    let mut frame = [0; FRAME];
    let mut lost = 0;
    loop {
        let received = socket.recv(&mut frame).await.context("receive ARP")?;
        let said = said_by_arp(&frame[..received.length.min(FRAME)]);
        let mut heard = lock(&heard);
        heard.lost += received.lost.wrapping_sub(lost);
        lost = received.lost;
        if let Some(said) = said.filter(|said| matches!(said.to, To::All(_))) {
            heard.announced(said.address, received.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_of_several_announcements_is_kept_and_all_are_counted() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let [a, b] = ["192.168.112.1", "192.168.112.2"].map(|a| a.parse().expect("an address"));
        let mut heard = Heard::default();
        for (address, seconds) in [(a, 1), (b, 2), (a, 3)] {
            heard.announced(address, at(seconds));
        }
        assert_eq!(heard.first, BTreeMap::from([(a, at(1)), (b, at(2))]));
        assert_eq!(heard.frames, 3);
    }
}
