//! Requests that the API server has answered, as its own metrics tell.

use std::collections::BTreeMap;

use anyhow::Context;
use kube::Client;
use kube::api::{ListParams, Request};

/// Requests that the API server has answered, by verb and resource, as in `PATCH services/status`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requests(pub BTreeMap<String, f64>);

impl Requests {
    /// Those answered since it started, whatever the answer.
    pub async fn read(client: &Client) -> anyhow::Result<Self> {
        // A list of no kind is a plain GET.
        let request = Request::new("/metrics").list(&ListParams::default())?;
        let text = client.request_text(request).await.context("read the API server's metrics")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut requests = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let Some((labels, value)) = line.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let (_, rest) = labels.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value)
            };
            let (Some(verb), Some(resource)) = (label("verb"), label(",resource")) else {
                continue;
            };
            let subresource = label("subresource").filter(|name| !name.is_empty());
            let of = subresource.map(|name| format!("/{name}")).unwrap_or_default();
            let count = value.parse::<f64>().unwrap_or_default();
            *requests.entry(format!("{verb} {resource}{of}")).or_default() += count;
        }
        Self(requests)
    }

    /// Those answered after `before` was read: objects read, listed and written. Watches are none, as one brings the news
    /// of many objects; nor is what is no object, such as these metrics themselves.
    pub fn since(&self, before: &Self) -> Self {
        let lasting = ["WATCH ", "WATCHLIST ", "CONNECT "];
        let of_objects = self.0.iter().filter(|(key, _)| {
            !kind(key).is_empty() && !lasting.iter().any(|verb| key.starts_with(verb))
        });
        let new = of_objects.map(|(key, count)| (key.clone(), count - before.of(key)));
        Self(new.filter(|(_, count)| *count > 0.0).collect())
    }

    /// Those of [`Requests::since`] that read nothing only.
    pub fn writes_since(&self, before: &Self) -> Self {
        let mut writes = self.since(before);
        writes.0.retain(|key, _| !key.starts_with("GET ") && !key.starts_with("LIST "));
        writes
    }

    /// Those about objects of this kind, such as `services`, whatever was done to them.
    pub fn about(&self, objects: &str) -> f64 {
        let about = self.0.iter().filter(|(key, _)| kind(key) == objects);
        about.map(|(_, count)| count).sum()
    }

    /// Those of `key`.
    pub fn of(&self, key: &str) -> f64 {
        self.0.get(key).copied().unwrap_or_default()
    }

    /// All of them but those of `except`.
    pub fn all_but(&self, except: &[&str]) -> f64 {
        let counted = self.0.iter().filter(|(key, _)| !except.contains(&key.as_str()));
        counted.map(|(_, count)| count).sum()
    }
}

/// The kind of object that requests of this key are about; empty when it is none.
fn kind(key: &str) -> &str {
    let (_, resource) = key.split_once(' ').unwrap_or_default();
    resource.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = r#"
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="services",scope="resource",subresource="status",verb="PATCH",version="v1"} 7
apiserver_request_total{code="409",component="apiserver",dry_run="",group="",resource="services",scope="resource",subresource="status",verb="PATCH",version="v1"} 2
apiserver_request_total{code="0",component="apiserver",dry_run="",group="",resource="services",scope="cluster",subresource="",verb="WATCH",version="v1"} 3
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="services",scope="resource",subresource="",verb="GET",version="v1"} 5
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="",scope="",subresource="/metrics",verb="GET",version=""} 8
apiserver_request_total{code="201",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="POST",version="v1"} 1e+03
"#;

    #[test]
    fn writes_are_counted_by_verb_and_resource_whatever_their_answer() {
        let after = Requests::parse(METRICS);
        let before = Requests(BTreeMap::from([("POST leases".to_owned(), 400.0)]));
        let writes = after.writes_since(&before);
        let expected =
            [("PATCH services/status".to_owned(), 9.0), ("POST leases".to_owned(), 600.0)];
        assert_eq!(writes.0, BTreeMap::from(expected));
        assert_eq!(writes.all_but(&["POST leases"]), 9.0);
    }

    #[test]
    fn reads_of_objects_count_and_watches_and_metrics_do_not() {
        let all = Requests::parse(METRICS).since(&Requests::default());
        assert_eq!(all.of("GET services"), 5.0);
        assert_eq!(all.about("services"), 14.0);
        assert_eq!(all.all_but(&[]), 1014.0);
    }
}
