use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use herald_cluster::cache::{Dirty, follow};
use herald_cluster::client::Door;
use herald_cluster::events::recorder;
use herald_cluster::feed::{self, Feed};
use herald_cluster::leases::Relist;
use herald_core::name::ServiceId;
use herald_core::ownership::plan::{Candidacy, Candidates, Vip};
use herald_core::ownership::record::{LeaseEvent, Version};
use herald_core::why::announcement::Unfit;
use herald_core::wire::Mac;
use herald_telemetry::health::Health;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Config, ResourceExt as _};

use super::*;
use crate::metrics::{Figures, UnfitLabel};
use crate::net::links::Interface;
use crate::net::responder::Settings;

const NODE: &str = "a";

/// Ends of the channels that the test holds.
struct Wires {
    links: watch::Sender<Links>,
    _leases: mpsc::Sender<LeaseEvent>,
    _plans: watch::Sender<Option<Arc<Plan>>>,
    _stop: watch::Sender<bool>,
}

/// A speaker whose API server is nowhere.
fn speaker() -> (Speaker, Figures, Wires) {
    let nowhere = || Config::new("http://127.0.0.1:1".parse().expect("a URL"));
    let door = Door::to(nowhere()).expect("a door");
    let (responder, heard) = Responder::new(Settings::default());
    let client = kube::Client::try_from(nowhere()).expect("a client");
    let (recorder, _writer) = recorder(client, "metallb-speaker", NODE);
    let (figures, _) = Figures::new(NODE.into(), responder.counts(), recorder.dropped());
    let feed = Feed::new(door.clone(), Api::<Service>::all, feed::Settings::default());
    let key = |service: &Service| ServiceId::new("n", service.name_any());
    let (services, _keeper) = follow("Services", feed, key, |_| None, Dirty::new());
    let readiness = Arc::new(Mutex::default());
    let reporter = Reporter::new(NODE.into(), recorder, services, figures.clone(), readiness);
    let (leases_tx, events) = mpsc::channel(1);
    let (plans_tx, plans) = watch::channel(None);
    let (links_tx, links) = watch::channel(Links::default());
    let (stop_tx, stop) = watch::channel(false);
    let leases = LeaseWatch { events, relist: Relist::default() };
    let ears = Ears { leases, plans, links, heard, stop };
    let writer = || LeaseWriter::new(door.clone(), "n");
    let heartbeat = Health::new().main_loop("speaker", Duration::from_secs(10));
    let hands = Hands { responder, sessions: writer(), claims: writer(), reporter, heartbeat };
    let speaker = Speaker::new(Machine::new(NODE.into(), "s".into()), ears, hands);
    let wires = Wires { links: links_tx, _leases: leases_tx, _plans: plans_tx, _stop: stop_tx };
    (speaker, figures, wires)
}

/// A link that is up, and that no kernel knows.
fn unknown_link() -> Interface {
    Interface {
        index: 0x7fff_ffff,
        name: "lan".into(),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        up: true,
        carrier: true,
        broadcast: true,
        no_arp: false,
        enslaved: false,
        addresses: BTreeSet::new(),
        prefixes: BTreeSet::new(),
        link_local: None,
        gateways: BTreeSet::new(),
    }
}

fn plan(address: IpAddr) -> Arc<Plan> {
    let candidacy = Candidacy { score: 0, interfaces: Interfaces::Any, ready: true };
    let nodes = BTreeMap::from([(NODE.into(), candidacy)]);
    let vip = Vip {
        services: vec![ServiceId::new("n", "web")],
        first: address,
        siblings: [].into(),
        candidates: Arc::new(Candidates { nodes, scored: false }),
        unfit: None,
    };
    Arc::new(Plan {
        vips: BTreeMap::from([(address, vip)]),
        takes_part: true,
        node_uid: Some("u".into()),
        node_unfit: None,
    })
}

#[tokio::test]
async fn a_node_without_a_socket_on_any_link_is_no_candidate() {
    let (mut speaker, _figures, wires) = speaker();
    let address = IpAddr::from([192, 0, 2, 1]);
    wires.links.send_replace([unknown_link()].into_iter().collect());
    let now = speaker.now();
    speaker.take([Happened::Plan(plan(address))], now);
    speaker.take([Happened::Links], now);
    assert_eq!(speaker.shut, HashSet::from([0x7fff_ffff]));
    assert_eq!(speaker.machine.why_not(address), Some(Unfit::NoInterface));
}

#[tokio::test(start_paused = true)]
async fn a_link_without_a_socket_is_tried_again_each_second() {
    let (mut speaker, _figures, wires) = speaker();
    wires.links.send_replace([unknown_link()].into_iter().collect());
    speaker.take([Happened::Links], Moment(0));
    speaker.shut.clear();
    tokio::time::advance(Duration::from_millis(900)).await;
    speaker.look_around();
    assert!(speaker.shut.is_empty(), "not yet");
    tokio::time::advance(Duration::from_millis(100)).await;
    speaker.look_around();
    assert_eq!(speaker.shut, HashSet::from([0x7fff_ffff]));
}

#[tokio::test(start_paused = true)]
async fn why_a_node_is_no_candidate_is_counted_anew_within_a_second_of_a_report() {
    let (mut speaker, figures, _wires) = speaker();
    let unfit = |reason| figures.unfit.get_or_create(&UnfitLabel { reason }).get();
    speaker.take([Happened::Plan(plan(IpAddr::from([192, 0, 2, 1])))], Moment(0));
    tokio::time::advance(Duration::from_secs(1)).await;
    speaker.look_around();
    assert_eq!(unfit("NoInterface"), 1);
    let records = vec![herald_core::ownership::record::Link {
        name: "lan".into(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        prefixes: Vec::new(),
        carrier: true,
        deaf: false,
    }];
    speaker.take([Happened::Input(Input::Links(records))], Moment(0));
    speaker.take([Happened::Input(Input::Leases(LeaseEvent::Listed(vec![], vec![])))], Moment(0));
    assert!(!speaker.carry_out());
    let version = Version { uid: "u".into(), resource: "1".into() };
    let key = LeaseKey::Session(NODE.into());
    let stored = WriteOutcome::Stored(Some(version));
    speaker.take([Happened::Input(Input::Written(key, stored, Span::ZERO))], Moment(10));
    assert!(speaker.machine.is_open() && !speaker.carry_out());
    assert_eq!(unfit("NoInterface"), 1, "not yet");
    tokio::time::advance(Duration::from_secs(1)).await;
    speaker.look_around();
    assert_eq!((unfit("NoInterface"), unfit("NoSession")), (0, 0));
}
