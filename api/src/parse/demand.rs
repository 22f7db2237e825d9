//! Service → what it asks of the controller.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use herald_core::address::Family;
use herald_core::allocation::{Age, Demand, Families, Sharing, Wants};
use herald_core::name::ServiceId;
use herald_core::port::{Port, Protocol};
use herald_core::why::address::{RequestFault, Why};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServiceSpec};
use kube::ResourceExt;
use sha2::{Digest as _, Sha256};

use crate::annotation::{self, Prefix};
use crate::condition::AddressAllocated;

/// A Service, as far as the controller cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is ours to give addresses to.
    Ours(Box<Ours>),
    /// It is not.
    NotOurs(NotOurs),
}

/// A Service of ours, in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// What it asks for and has.
    pub demand: Demand,
    /// The version of the object that says so.
    pub version: Version,
    /// Whether its status' ingress is a list such as we write: addresses, each once, in VIP mode, and nothing else.
    pub plain: bool,
    /// Its terms of sharing, in the form in which `heraldlb.io/shared-as` records them; `None` when it shares with nobody.
    pub terms: Option<Box<str>>,
    /// The terms that are recorded with the addresses that it holds.
    pub recorded_terms: Option<Box<str>>,
    /// What it says of its own addresses.
    pub allocated: Option<AddressAllocated>,
    /// The deprecated annotation keys that it is read by, each once.
    pub deprecated: Vec<&'static str>,
}

/// Which object, in which version; what a write is conditional on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// The object's UID.
    pub uid: Arc<str>,
    /// Its `resourceVersion`.
    pub resource_version: Box<str>,
}

/// Why a Service is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOurs {
    /// Its class is another controller's; nothing of it is ever touched.
    OtherClass,
    /// It is no LoadBalancer.
    OtherType,
    /// It is no LoadBalancer any more: it still bears an annotation that says where its addresses came from or what they
    /// were given under, or the condition that says whether it has any. The API server has taken the addresses in the write that changed its type.
    Former(Version),
}

/// What `service` asks of a controller whose `--lb-class` is `class`: without one, only Services without a class are
/// ours; with one, only those that name it.
///
/// The type comes first: the API server takes the class from a Service that leaves the type, so one that was ours
/// would otherwise look like another's.
pub fn asked(service: &Service, class: Option<&str>) -> Asked {
    let none = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&none);
    if spec.type_.as_deref() != Some("LoadBalancer") {
        let marked = annotation::IP_ALLOCATED_FROM_POOL.find(service.annotations()).is_some()
            || service.annotations().contains_key(annotation::SHARED_AS)
            || allocated(service).is_some();
        let former = marked.then(|| NotOurs::Former(version(service)));
        return Asked::NotOurs(former.unwrap_or(NotOurs::OtherType));
    }
    if spec.load_balancer_class.as_deref() != class {
        return Asked::NotOurs(NotOurs::OtherClass);
    }
    let annotations = service.annotations();
    let ingress = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_deref())
        .unwrap_or_default();
    let (held, plain) = held(ingress);
    let version = version(service);
    let recorded = annotation::IP_ALLOCATED_FROM_POOL.find(annotations);
    let (sharing, ports) = (sharing(spec, annotations), ports(spec));
    let terms = sharing.as_ref().map(|sharing| terms(sharing, &ports));
    let recorded_terms = annotations.get(annotation::SHARED_AS).map(|text| text.as_str().into());
    let demand = Demand {
        id: ServiceId::new(service.namespace().unwrap_or_default(), service.name_any()),
        age: Age { created_s: super::created(&service.metadata), uid: version.uid.clone() },
        labels: service.labels().clone(),
        families: families(spec),
        wants: wants(spec, annotations),
        sharing,
        ports,
        held,
        recorded_pool: recorded.map(|found| found.value.into()),
        // What another controller gave was given under whatever terms there are.
        changed: recorded_terms.is_some() && recorded_terms != terms,
    };
    let (allocated, deprecated) = (allocated(service), deprecated(annotations));
    Asked::Ours(Box::new(Ours {
        demand,
        version,
        plain,
        terms,
        recorded_terms,
        allocated,
        deprecated,
    }))
}

fn allocated(service: &Service) -> Option<AddressAllocated> {
    AddressAllocated::find(service.status.as_ref()?.conditions.as_deref()?)
}

fn version(service: &Service) -> Version {
    Version {
        uid: service.metadata.uid.as_deref().unwrap_or_default().into(),
        resource_version: service.resource_version().unwrap_or_default().into(),
    }
}

/// The addresses of a status in its order, each once; and whether that is all there is.
fn held(ingress: &[LoadBalancerIngress]) -> (Vec<IpAddr>, bool) {
    let mut held: Vec<IpAddr> = Vec::with_capacity(ingress.len());
    for entry in ingress {
        let address = entry.ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
        if let Some(address) = address.map(|address| address.to_canonical())
            && !held.contains(&address)
        {
            held.push(address);
        }
    }
    let ours = |entry: &LoadBalancerIngress| {
        // The server adds `VIP` where nothing is said.
        entry.hostname.as_deref().is_none_or(str::is_empty)
            && entry.ip_mode.as_deref().is_none_or(|mode| mode == "VIP")
            && entry.ports.as_ref().is_none_or(Vec::is_empty)
    };
    let plain = held.len() == ingress.len() && ingress.iter().all(ours);
    (held, plain)
}

/// The families of the Service's own cluster IPs decide, not its policy: a cluster that gives it one family has no way
/// to serve it by another.
fn families(spec: &ServiceSpec) -> Result<Families, Why> {
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let texts = if listed.is_empty() { spec.cluster_ip.as_slice() } else { listed };
    let cluster_ips: Vec<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    let Some(first) = cluster_ips.first().map(|ip| Family::of(*ip)) else {
        return Err(Why::NoClusterIp);
    };
    let dual = cluster_ips.iter().any(|ip| Family::of(*ip) != first);
    match (spec.ip_family_policy.as_deref(), dual) {
        (Some("RequireDualStack"), false) => {
            Err(Why::NotEnoughClusterIps { cluster_ips: texts.to_vec() })
        }
        (_, false) => Ok(Families::Single(first)),
        (Some("PreferDualStack"), true) => {
            let primary = match spec.ip_families.iter().flatten().next().map(String::as_str) {
                Some("IPv4") => Family::V4,
                Some("IPv6") => Family::V6,
                _ => first,
            };
            Ok(Families::PreferDual { primary })
        }
        (_, true) => Ok(Families::RequireDual),
    }
}

fn wants(spec: &ServiceSpec, annotations: &BTreeMap<String, String>) -> Result<Wants, Why> {
    let listed = annotation::LOAD_BALANCER_IPS.find(annotations).filter(|f| !f.value.is_empty());
    let single = spec.load_balancer_ip.as_deref().filter(|text| !text.is_empty());
    let addresses = match (listed, single) {
        (Some(found), Some(_)) => {
            return Err(Why::RequestedTwice { annotation: found.key.to_owned() });
        }
        (Some(found), None) => addresses(found.key, found.value)?,
        (None, Some(text)) => vec![address("spec.loadBalancerIP", text, text)?],
        (None, None) => Vec::new(),
    };
    let pool = annotation::ADDRESS_POOL.find(annotations).filter(|found| !found.value.is_empty());
    Ok(Wants { pool: pool.map(|found| found.value.into()), addresses })
}

/// At most one address of each family, between commas, with or without blanks.
fn addresses(field: &str, text: &str) -> Result<Vec<IpAddr>, Why> {
    let parsed: Result<Vec<IpAddr>, Why> =
        text.split(',').map(|part| address(field, part.trim(), text)).collect();
    let parsed = parsed?;
    let fault = match parsed.as_slice() {
        [_] => return Ok(parsed),
        [a, b] if Family::of(*a) != Family::of(*b) => return Ok(parsed),
        [_, _] => RequestFault::SameFamily,
        _ => RequestFault::MoreThanTwo,
    };
    Err(Why::InvalidRequest { field: field.to_owned(), text: text.to_owned(), fault })
}

fn address(field: &str, part: &str, text: &str) -> Result<IpAddr, Why> {
    part.parse().map(|address: IpAddr| address.to_canonical()).map_err(|_| Why::InvalidRequest {
        field: field.to_owned(),
        text: text.to_owned(),
        fault: RequestFault::NotAnAddress,
    })
}

/// Under `externalTrafficPolicy: Local` only Services with the same selector have the same endpoints. One without a
/// selector shares by its key alone, as under MetalLB: which node answers for it is decided where endpoints are known.
fn sharing(spec: &ServiceSpec, annotations: &BTreeMap<String, String>) -> Option<Sharing> {
    let found = annotation::ALLOW_SHARED_IP.find(annotations)?;
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    let selector = spec.selector.iter().flatten().filter(|_| local);
    let pairs: Vec<String> = selector.map(|(key, value)| format!("{key}={value}")).collect();
    let (key, backend) = (found.value.into(), pairs.join(",").into());
    (!found.value.is_empty()).then_some(Sharing { key, backend })
}

/// Short, because nobody reads it: eight bytes of SHA-256 tell terms apart.
fn terms(sharing: &Sharing, ports: &BTreeSet<Port>) -> Box<str> {
    let mut hash = Sha256::new();
    // Its length first, so that no key runs into a backend.
    for text in [&sharing.key, &sharing.backend] {
        hash.update(format!("{}:{text}", text.len()));
    }
    for port in ports {
        hash.update(format!(" {port}"));
    }
    let digest = hash.finalize();
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

fn ports(spec: &ServiceSpec) -> BTreeSet<Port> {
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            // The API server admits no other.
            Some(_) => return None,
        };
        Some(Port { protocol, number: u16::try_from(port.port).ok()? })
    });
    ports.collect()
}

fn deprecated(annotations: &BTreeMap<String, String>) -> Vec<&'static str> {
    let read =
        [annotation::ADDRESS_POOL, annotation::LOAD_BALANCER_IPS, annotation::ALLOW_SHARED_IP];
    let found = read.iter().filter_map(|keys| keys.find(annotations));
    found.filter(|found| found.prefix == Prefix::Deprecated).map(|found| found.key).collect()
}

#[cfg(test)]
mod tests;
