//! The claims of speakers, as Leases that stand in the API server.

use std::collections::BTreeMap;

use anyhow::Context;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::world::SYSTEM;

/// The version of each claim.
#[derive(Debug)]
pub(crate) struct Claims(BTreeMap<String, Option<String>>);

/// Every claim of now.
pub(crate) async fn claims(client: &Client) -> anyhow::Result<Claims> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    // Names tell claims from sessions; the server need not send the rest.
    let all = leases.list_metadata(&ListParams::default()).await.context("list the Leases")?;
    let claims = all.items.iter().filter(|lease| lease.name_any().starts_with("vip-"));
    Ok(Claims(claims.map(|lease| (lease.name_any(), lease.resource_version())).collect()))
}

impl Claims {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// How many are other than they were, or new.
    pub(crate) fn changed_since(&self, before: &Self) -> usize {
        let changed =
            |(name, version): &(&String, &Option<String>)| before.0.get(*name) != Some(*version);
        self.0.iter().filter(changed).count()
    }
}
