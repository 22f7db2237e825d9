//! `herald-speaker`: flags and environment → what to run.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use herald_cluster::client::Options;
use herald_speaker::app::App;
use herald_telemetry::log::{self, Level};
use herald_telemetry::serve::Endpoints;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Answers ARP and NDP for the addresses of LoadBalancer Services, on exactly one node each.
///
/// Runs once on every node, as a DaemonSet with the capability NET_RAW and nothing else, or by hand.
#[derive(Debug, Parser)]
#[command(name = "herald-speaker", version)]
struct Flags {
    /// The name of the Node this speaker runs on
    #[arg(long, env = "METALLB_NODE_NAME")]
    node_name: String,
    /// The namespace of Herald's Leases and of the metallb.io objects; by default the pod's or the kubeconfig's own
    #[arg(long, env = "METALLB_NAMESPACE")]
    namespace: Option<String>,
    /// A kubeconfig file; by default KUBECONFIG, then ~/.kube/config, then the pod's account
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Announce Services of this loadBalancerClass only; by default those without a class
    #[arg(long)]
    lb_class: Option<String>,
    /// Announce also from nodes with the label node.kubernetes.io/exclude-from-external-load-balancers
    #[arg(long)]
    ignore_exclude_lb: bool,
    /// The port of /metrics, plain HTTP; 0 is off
    #[arg(long, default_value_t = 9120)]
    port: u16,
    /// The port of /healthz and /readyz; 0 is off
    #[arg(long, default_value_t = 17472)]
    health_probe_port: u16,
    /// The address that both ports are on; by default every address of the node
    #[arg(long, env = "METALLB_HOST")]
    host: Option<IpAddr>,
    /// all, debug, info, warn, error or none; RUST_LOG wins
    #[arg(long, default_value = "info")]
    log_level: Level,
    /// A YAML file whose `announcedInterfacesToExclude` lists regular expressions of interfaces to leave alone; without
    /// the file, a list of well-known virtual interfaces
    #[arg(long, default_value = "/etc/metallb/excludel2.yaml")]
    exclude_interfaces: PathBuf,
    #[command(flatten)]
    unused: Unused,
}

/// Flags of MetalLB's speaker that mean nothing here. They are taken, so that existing manifests keep working.
#[derive(Debug, clap::Args)]
struct Unused {
    #[arg(long, env = "METALLB_POD_NAME", hide = true)]
    pod_name: Option<String>,
    #[arg(long, hide = true)]
    ml_bindaddr: Option<String>,
    #[arg(long, hide = true)]
    ml_bindport: Option<String>,
    #[arg(long, hide = true)]
    ml_labels: Option<String>,
    #[arg(long, hide = true)]
    ml_secret_key_path: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    ml_wan_config: Option<String>,
    #[arg(long, hide = true)]
    pprof_bind_address: Option<String>,
    #[arg(long, hide = true)]
    frrk8s_namespace: Option<String>,
    #[arg(long, hide = true)]
    bgp_debounce_timeout: Option<String>,
    #[arg(long, hide = true)]
    metrics_cert_dir: Option<String>,
    #[arg(long, hide = true)]
    tls_min_version: Option<String>,
    #[arg(long, hide = true)]
    tls_cipher_suites: Option<String>,
    #[arg(long, hide = true)]
    tls_curve_preferences: Option<String>,
}

impl Unused {
    fn mention(&self) {
        let given = [
            ("--ml-bindaddr", &self.ml_bindaddr),
            ("--ml-bindport", &self.ml_bindport),
            ("--ml-labels", &self.ml_labels),
            ("--ml-secret-key-path", &self.ml_secret_key_path),
            ("--ml-wan-config", &self.ml_wan_config),
            ("--pprof-bind-address", &self.pprof_bind_address),
            ("--frrk8s-namespace", &self.frrk8s_namespace),
            ("--bgp-debounce-timeout", &self.bgp_debounce_timeout),
            ("--metrics-cert-dir", &self.metrics_cert_dir),
            ("--tls-min-version", &self.tls_min_version),
            ("--tls-cipher-suites", &self.tls_cipher_suites),
            ("--tls-curve-preferences", &self.tls_curve_preferences),
        ];
        for (flag, value) in given {
            if value.is_some() {
                tracing::info!(flag, "this flag of MetalLB means nothing here and is ignored");
            }
        }
    }
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    log::begin(flags.log_level)?;
    flags.unused.mention();
    let app = App {
        node: flags.node_name.into(),
        namespace: flags.namespace,
        options: Options { kubeconfig: flags.kubeconfig, context: None },
        class: flags.lb_class.filter(|class| !class.is_empty()),
        ignore_exclude_label: flags.ignore_exclude_lb,
        endpoints: Endpoints {
            host: flags.host,
            metrics_port: flags.port,
            health_port: flags.health_probe_port,
        },
        exclusion: flags.exclude_interfaces,
    };
    // Two threads: an answer on the wire must not wait until a large list is parsed.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(app.run())
}
