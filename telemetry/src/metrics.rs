//! The registry of metrics, and what every process tells of itself.
//!
//! prometheus-client ends the name of every counter in `_total`. MetalLB's `metallb_k8s_client_updates_total` is
//! therefore a `Counter` registered as `k8s_client_updates`, and its counters without that ending, such as
//! `metallb_layer2_requests_received`, are encoded as [`Tally`].

use procfs::process::Process;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};

pub use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::{Registry, Unit};

/// The content type of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A count whose name stays as it is, for a `Collector`. OpenMetrics calls its type unknown: it has no counter without
/// `_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally(pub u64);

impl TypedMetric for Tally {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Tally {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&self.0)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A registry that tells of the process already: `process_cpu_seconds_total`, `process_resident_memory_bytes`,
/// `process_open_fds`, `process_start_time_seconds`, `process_threads`. MetalLB's metrics belong in its
/// `sub_registry_with_prefix("metallb")`, ours in `("herald")`.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(ThisProcess));
    registry
}

/// All metrics of `registry` in the OpenMetrics text format.
pub fn encode(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
struct ThisProcess;

impl Collector for ThisProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // Without /proc there is nothing to tell of: the other metrics still count.
        let Ok(reading) = read_process() else { return Ok(()) };
        let cpu = ConstCounter::new(reading.cpu_s);
        let help = "Processor time, user and system";
        let metric =
            encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type());
        cpu.encode(metric?)?;
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory", reading.resident_bytes),
            ("process_open_fds", "Open file descriptors", reading.open_fds),
            ("process_threads", "Threads", reading.threads),
            ("process_start_time_seconds", "Start, since the Unix epoch", reading.started_s),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

struct Reading {
    cpu_s: f64,
    resident_bytes: f64,
    open_fds: f64,
    threads: f64,
    started_s: f64,
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floats; none of these comes near 2^53")]
fn read_process() -> procfs::ProcResult<Reading> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = procfs::ticks_per_second() as f64;
    Ok(Reading {
        cpu_s: (stat.utime + stat.stime) as f64 / ticks,
        resident_bytes: (stat.rss * procfs::page_size()) as f64,
        open_fds: process.fd_count()? as f64,
        threads: stat.num_threads as f64,
        started_s: procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Wire;

    impl Collector for Wire {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
            let name = "metallb_layer2_requests_received";
            let mut metric = encoder.encode_descriptor(name, "Requests", None, Tally::TYPE)?;
            Tally(3).encode(metric.encode_family(&[("ip", "192.0.2.1")])?)
        }
    }

    #[test]
    fn metallbs_names_come_out_letter_by_letter() {
        let mut registry = Registry::default();
        let metallb = registry.sub_registry_with_prefix("metallb");
        let updates: Counter = Counter::default();
        metallb.register("k8s_client_updates", "Updates", updates.clone());
        let addresses: Gauge = Gauge::default();
        metallb.register("allocator_addresses_total", "Addresses", addresses.clone());
        registry.register_collector(Box::new(Wire));
        updates.inc();
        addresses.set(7);
        let text = encode(&registry).expect("a string takes everything");
        for line in [
            "# TYPE metallb_layer2_requests_received unknown",
            "metallb_layer2_requests_received{ip=\"192.0.2.1\"} 3",
            "metallb_k8s_client_updates_total 1",
            "metallb_allocator_addresses_total 7",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn the_process_tells_what_it_uses() {
        let text = encode(&registry()).expect("a string takes everything");
        let value = |name: &str| -> f64 {
            let found = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            found.unwrap_or_else(|| panic!("{name} in\n{text}")).parse().expect("a number")
        };
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_threads") >= 1.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let age_s = now.expect("after 1970").as_secs_f64() - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age_s), "started {age_s} s ago");
    }
}
