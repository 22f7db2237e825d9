//! The Leases of Herald's speakers, as they stand in the API server.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, ensure};
use herald_api::lease::{Record, decode};
use herald_core::ownership::record::{Claim, Session};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::ListParams;

use super::Lab;
use super::node::Node;

impl Lab {
    /// The claim of each address that has one; an error if any Lease of a speaker cannot be read.
    pub async fn claims(&self) -> anyhow::Result<BTreeMap<IpAddr, Claim>> {
        let records = self.records().await?.into_iter();
        Ok(records
            .filter_map(|record| match record {
                Record::Claim(claim) => Some((claim.address, claim)),
                Record::Session(_) => None,
            })
            .collect())
    }

    /// The session of each node that has one, by the node's name; an error as by [`Lab::claims`].
    pub async fn sessions(&self) -> anyhow::Result<BTreeMap<String, Session>> {
        let records = self.records().await?.into_iter();
        Ok(records
            .filter_map(|record| match record {
                Record::Session(session) => Some((session.node.to_string(), session)),
                Record::Claim(_) => None,
            })
            .collect())
    }

    /// Fine when each of `nodes` has an open session that does not leave; else an error that says which has not.
    pub async fn check_sessions(&self, nodes: &[Node]) -> anyhow::Result<()> {
        let sessions = self.sessions().await?;
        for node in nodes {
            let session = sessions.get(node.name()).context("no session")?;
            ensure!(session.open_for.is_some() && !session.leaving, "{session:?}");
        }
        Ok(())
    }

    async fn records(&self) -> anyhow::Result<Vec<Record>> {
        let leases: Api<Lease> = Api::namespaced(self.client(), self.herald_namespace());
        let all = leases.list(&ListParams::default()).await.context("list the Leases")?;
        let decoded = all.items.iter().filter_map(decode);
        decoded
            .map(|lease| {
                ensure!(lease.problems.is_empty(), "{:?}: {:?}", lease.record, lease.problems);
                Ok(lease.record)
            })
            .collect()
    }
}
