//! What people and Prometheus read of a speaker: its log, its metrics, its health, its Events.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_tests::lab::Lab;
use herald_tests::lab::http::{self, Answer};
use herald_tests::lab::node::Node;
use herald_tests::lab::process::Process;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

pub(crate) const METRICS: u16 = 9120;
pub(crate) const HEALTH: u16 = 17472;
const PATIENCE: Duration = Duration::from_secs(5);

/// GETs `path` from the speaker of `node`, as a neighbour on the node itself.
pub(crate) async fn read(node: &Node, port: u16, path: &'static str) -> anyhow::Result<Answer> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let get = node.namespace().spawn(async move { http::get(server, path, PATIENCE).await });
    get.await?.with_context(|| format!("GET {path} from the speaker of {}", node.name()))
}

/// One page of `/metrics`.
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub(crate) async fn read(node: &Node) -> anyhow::Result<Self> {
        let answer = read(node, METRICS, "/metrics").await?;
        ensure!(answer.status == 200, "{answer:?}");
        let series = answer.body.lines().filter(|line| !line.starts_with('#'));
        let parsed = series.map(|line| {
            let (name, value) = line.rsplit_once(' ').context("a name and a value")?;
            anyhow::Ok((name.to_owned(), value.parse()?))
        });
        Ok(Self(parsed.collect::<anyhow::Result<_>>()?))
    }

    /// The value of the series `name`, which is written with its labels; an error when there is none.
    pub(crate) fn value(&self, name: &str) -> anyhow::Result<f64> {
        let value = self.0.get(name).copied();
        value.with_context(|| format!("no {name} among {:?}", self.0.keys()))
    }

    /// The series of the metric `name`, with their labels, and their values.
    pub(crate) fn of<'m>(&'m self, name: &'m str) -> impl Iterator<Item = (&'m str, f64)> {
        let of = move |series: &str| series.split('{').next() == Some(name);
        self.0.iter().filter(move |(series, _)| of(series)).map(|(name, value)| (&**name, *value))
    }
}

/// A line of a speaker's log.
pub(crate) struct Line {
    pub(crate) at: SystemTime,
    pub(crate) fields: Value,
}

impl Line {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// What `process` has logged so far.
pub(crate) fn log(process: &Process) -> anyhow::Result<Vec<Line>> {
    let text = fs::read_to_string(process.log())?;
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| {
            let fields: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let at = fields.get("timestamp").and_then(Value::as_str).context("a timestamp")?;
            let at: Timestamp = at.parse().with_context(|| line.to_owned())?;
            Ok(Line { at: at.into(), fields })
        })
        .collect()
}

/// The Events `nodeAssigned` of the Service `name`, the oldest first.
pub(crate) async fn assignments(lab: &Lab, name: &str) -> anyhow::Result<Vec<Event>> {
    let events: Api<Event> = Api::default_namespaced(lab.client());
    let of = format!("involvedObject.name={name},involvedObject.kind=Service,reason=nodeAssigned");
    let mut found = events.list(&ListParams::default().fields(&of)).await?.items;
    found.sort_by_key(|event| event.metadata.creation_timestamp.clone());
    Ok(found)
}
