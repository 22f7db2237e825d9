//! What operators read off the controller.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::stage::{HEALTHY, METRICS, READY, SETTLE, Stage, of};

/// Resident, idle, built for release.
const MEMORY: u64 = 20_000_000;

/// The series of the pool `gold`, and their values once four Services are served.
const GOLD: [(&str, u64); 7] = [
    ("metallb_allocator_addresses_total", 16),
    ("metallb_allocator_ipv4_addresses_total", 8),
    ("metallb_allocator_ipv6_addresses_total", 8),
    ("metallb_allocator_addresses_in_use_total", 4),
    ("metallb_allocator_ipv4_addresses_in_use_total", 3),
    ("metallb_allocator_ipv6_addresses_in_use_total", 1),
    ("metallb_allocator_services_allocated_total", 4),
];

fn lines() -> Vec<String> {
    let gold = GOLD.iter().map(|(name, value)| format!("{name}{{pool=\"gold\"}} {value}"));
    let others = [
        "metallb_allocator_addresses_total{pool=\"iron\"} 254",
        "metallb_allocator_addresses_in_use_total{pool=\"iron\"} 0",
        "metallb_k8s_client_config_loaded_bool 1",
        "metallb_k8s_client_config_stale_bool 0",
        "herald_controller_leading 1",
        "herald_controller_services_lacking{reason=\"UnknownPool\"} 1",
        "herald_controller_services_untouched 0",
    ];
    gold.chain(others.into_iter().map(str::to_owned)).collect()
}

pub(crate) async fn what_is_shown_is_true(stage: &Stage<'_>) -> anyhow::Result<()> {
    let iron = json!({
        "addresses": ["192.168.113.0/24"],
        "autoAssign": false,
        "avoidBuggyIPs": true,
    });
    let gold = of(&["192.168.112.0/29", "fd00:99::112:0/125"]);
    stage.configure(&[("gold", gold), ("iron", iron)]).await?;
    let dual = json!({ "spec": {
        "ipFamilyPolicy": "RequireDualStack",
        "ipFamilies": ["IPv4", "IPv6"],
    } });
    let shares = |port: u16| {
        json!({
            "metadata": { "annotations": { "metallb.io/allow-shared-ip": "us" } },
            "spec": { "ports": [{ "port": port }] },
        })
    };
    let asks =
        [("one", json!({})), ("dual", dual), ("shares", shares(80)), ("shares-too", shares(443))];
    for (name, more) in asks {
        stage.ask(name, more).await?;
        stage.has_any(name).await?;
    }
    let lost = json!({ "metadata": { "annotations": { "metallb.io/address-pool": "tin" } } });
    stage.ask("lost", lost).await?;
    stage
        .lab
        .await_condition("every series is true", SETTLE, async || {
            let (_, text) = stage.reads(0, METRICS).await?;
            for line in lines() {
                ensure!(text.lines().any(|shown| shown == line), "no {line} in:\n{text}");
            }
            Ok(())
        })
        .await?;
    let updates = stage.series(0, "metallb_k8s_client_updates_total").await?;
    ensure!(updates >= 5.0, "{updates} objects were read");
    let errors = stage.series(0, "metallb_k8s_client_update_errors_total").await?;
    let writes = async |result: &str| {
        let series = format!("herald_controller_writes_total{{result=\"{result}\"}}");
        // There is none until one ended so.
        stage.series(0, &series).await.unwrap_or_default()
    };
    let (refused, unclear) = (writes("refused").await, writes("unclear").await);
    ensure!(refused < 0.5, "{refused} writes were refused");
    // One may be unclear on a slow machine; it counts as failed then.
    ensure!((errors - unclear).abs() < 0.5, "{errors} writes failed, {unclear} were unclear");
    for endpoint in [HEALTHY, READY] {
        let (status, text) = stage.reads(0, endpoint).await?;
        ensure!(status == 200 && text.contains("[+]planner ok"), "{status} {text}");
    }
    stage.unpool("iron").await?;
    stage
        .lab
        .await_condition("a pool that is gone has no series", SETTLE, async || {
            let (_, text) = stage.reads(0, METRICS).await?;
            ensure!(!text.contains("iron"), "{text}");
            Ok(())
        })
        .await?;
    memory(stage)
}

/// Only what is built for release is measured by what an operator pays.
fn memory(stage: &Stage<'_>) -> anyhow::Result<()> {
    let process = stage.running(0)?;
    let binary = fs::read_link(format!("/proc/{}/exe", process.pid())).context("its binary")?;
    let folder = binary.parent().and_then(Path::file_name);
    let resident = process.resident_bytes()?;
    eprintln!("{}: {:.1} MB resident", binary.display(), bytes_as_mb(resident));
    let release = folder.is_some_and(|folder| folder == "release");
    ensure!(!release || resident <= MEMORY, "{resident} bytes are resident");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn bytes_as_mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
