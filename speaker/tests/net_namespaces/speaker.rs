//! What the speaker's loop does with links and responder, reduced to these two.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use herald_speaker::net::count::Counts;
use herald_speaker::net::exclusion::Exclusion;
use herald_speaker::net::links::Watcher;
use herald_speaker::net::responder::{Heard, Reach, Responder, Settings};
use tokio::sync::mpsc;

use super::host::{Host, eventually};

/// A responder on a host, whose links follow the kernel's events.
pub(crate) struct Speaker {
    responder: Arc<Mutex<Responder>>,
    heard: mpsc::Receiver<Heard>,
    /// Its counts.
    pub(crate) counts: Arc<Counts>,
}

impl Speaker {
    /// Starts one on `host` that never stalls.
    pub(crate) fn start(host: &Host) -> Self {
        let stalled_after = std::time::Duration::MAX;
        Self::with(host, Settings { stalled_after, ..Settings::default() })
    }

    /// Starts one on `host`.
    pub(crate) fn with(host: &Host, settings: Settings) -> Self {
        let (responder, heard) = Responder::new(settings);
        let counts = responder.counts();
        let responder = Arc::new(Mutex::new(responder));
        let watched = Arc::clone(&responder);
        host.run(async move {
            let watcher = Watcher::open(Exclusion::default()).await.unwrap();
            let mut links = watcher.links();
            watched.lock().unwrap().set_links(&links.borrow_and_update()).unwrap();
            tokio::spawn(watcher.run());
            tokio::spawn(async move {
                while links.changed().await.is_ok() {
                    // A link may be gone again by now; the event that says so follows.
                    let _ = watched.lock().unwrap().set_links(&links.borrow_and_update());
                }
            });
        });
        Self { responder, heard, counts }
    }

    /// Does `work` with the responder on `host`, without a pause in which its tasks could run.
    pub(crate) fn at_once<T: Send + 'static>(
        &self,
        host: &Host,
        work: impl FnOnce(&mut Responder) -> T + Send + 'static,
    ) -> T {
        let responder = Arc::clone(&self.responder);
        host.block(move || work(&mut responder.lock().unwrap()))
    }

    /// Answers for `addresses`, too, on every link.
    pub(crate) fn answer(&self, host: &Host, addresses: &[&str]) {
        let addresses = everywhere(addresses);
        self.at_once(host, move |responder| responder.answer(addresses));
    }

    /// Answers for `addresses` no more.
    pub(crate) fn withdraw(&self, host: &Host, addresses: &[&str]) {
        let addresses = nowhere(addresses);
        self.at_once(host, move |responder| responder.answer(addresses));
    }

    /// Listens for claims to `addresses`.
    pub(crate) fn listen_for(&self, host: &Host, addresses: &[&str]) {
        let addresses: HashSet<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.at_once(host, move |responder| responder.listen_for(addresses));
    }

    /// Announces `address` on every link.
    pub(crate) fn announce(&self, host: &Host, address: &str, first: bool) {
        let address = address.parse().unwrap();
        self.at_once(host, move |responder| responder.announce(address, &Reach::Every, first));
    }

    /// The next claim that it hears.
    pub(crate) fn hears(&mut self) -> Heard {
        eventually("a claim is heard", || self.heard.try_recv().ok())
    }

    /// Waits until it answers on exactly `count` links.
    pub(crate) fn answers_on(&self, count: usize) {
        eventually("the links are as they should be", || {
            (self.responder.lock().unwrap().open_links().count() == count).then_some(())
        });
    }
}

/// `addresses`, each on every link.
pub(crate) fn everywhere(addresses: &[&str]) -> HashMap<IpAddr, Option<Reach>> {
    addresses.iter().map(|address| (address.parse().unwrap(), Some(Reach::Every))).collect()
}

/// `addresses`, on no link any more.
pub(crate) fn nowhere(addresses: &[&str]) -> HashMap<IpAddr, Option<Reach>> {
    addresses.iter().map(|address| (address.parse().unwrap(), None)).collect()
}
