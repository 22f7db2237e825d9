//! Who creates and deletes: eight at a time, each over a connection that is kept.

use std::time::SystemTime;

use anyhow::Context;
use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use crate::world::{self, Kind};

/// Requests under way at a time.
const CONNECTIONS: usize = 8;

/// Does `work` for each number below `count`, and returns what it gave, in the order of its ends.
async fn each<T>(
    count: usize,
    work: impl AsyncFn(usize) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<T>> {
    let work = &work;
    stream::iter(0..count)
        .map(|number| async move { work(number).await })
        .buffer_unordered(CONNECTIONS)
        .try_collect()
        .await
}

/// Creates the endpoints of `count` Services.
pub(crate) async fn back(client: &Client, count: usize, nodes: &[&str]) -> anyhow::Result<()> {
    let slices: Api<EndpointSlice> = Api::default_namespaced(client.clone());
    each(count, async |number| {
        let slice = serde_json::from_value(world::slice(number, nodes)).context("a slice")?;
        slices.create(&PostParams::default(), &slice).await.context("create an EndpointSlice")?;
        Ok(())
    })
    .await?;
    Ok(())
}

/// What creating took.
#[derive(Debug)]
pub(crate) struct Created {
    /// When each Service's creation was asked for, by its number.
    pub(crate) asked: Vec<SystemTime>,
    /// When the last was answered.
    pub(crate) ended: SystemTime,
}

impl Created {
    /// When the first was asked for.
    pub(crate) fn began(&self) -> SystemTime {
        self.asked.iter().min().copied().unwrap_or(self.ended)
    }

    /// Creations per second.
    pub(crate) fn rate(&self) -> f64 {
        let took = self.ended.duration_since(self.began()).unwrap_or_default();
        self.asked.len() as f64 / took.as_secs_f64()
    }
}

/// Creates `count` Services.
pub(crate) async fn create(client: &Client, kind: Kind, count: usize) -> anyhow::Result<Created> {
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let mut asked = each(count, async |number| {
        let service = serde_json::from_value(world::service(kind, number)).context("a Service")?;
        let asked = SystemTime::now();
        services.create(&PostParams::default(), &service).await.context("create a Service")?;
        Ok((number, asked))
    })
    .await?;
    let ended = SystemTime::now();
    asked.sort_unstable();
    Ok(Created { asked: asked.into_iter().map(|(_, at)| at).collect(), ended })
}

/// Deletes the same Services.
pub(crate) async fn delete(client: &Client, count: usize) -> anyhow::Result<()> {
    let services: Api<Service> = Api::default_namespaced(client.clone());
    each(count, async |number| {
        let deleted = services.delete(&world::name(number), &DeleteParams::default()).await;
        deleted.context("delete a Service")?;
        Ok(())
    })
    .await?;
    Ok(())
}
