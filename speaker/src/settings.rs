//! Flags and environment. Those that MetalLB has keep their names; those of its flags that mean nothing here are taken
//! and said to be without effect, so that an overlay written for MetalLB still starts.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use herald_cluster::client::Options;
use herald_cluster::configuration_state::Pod;
use herald_core::name::NodeName;
use herald_core::ownership::choices::{Choices, Periods, Unsafe};
use herald_core::time::Span;
use herald_telemetry::log::Level;
use herald_telemetry::serve::Endpoints;

use crate::net::exclusion;

/// What `main` hands to `app`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Node that this speaker is of.
    pub node: NodeName,
    /// Where the API server is.
    pub cluster: Options,
    /// The namespace of Leases and pools; `None`: that of the pod or of the kubeconfig's context.
    pub namespace: Option<String>,
    /// The class whose Services are ours; `None`: Services without one.
    pub class: Option<String>,
    /// Whether nodes that bear the exclude label announce all the same.
    pub ignore_exclude_label: bool,
    /// What the operator chose for all speakers.
    pub choices: Choices,
    /// The pod that it runs in, if it runs in one.
    pub pod: Option<Pod>,
    /// Where metrics and health are served.
    pub endpoints: Endpoints,
    /// MetalLB's file of interfaces to leave alone.
    pub exclusion: PathBuf,
}

/// Answers ARP and NDP for the addresses of Services of type LoadBalancer, each on exactly one node.
///
/// Runs once on every node, with the capability NET_RAW and no other: as a DaemonSet in the node's network, or by hand
/// with a kubeconfig.
#[derive(Debug, Parser)]
#[command(name = "herald-speaker", version, max_term_width = 100)]
pub struct Flags {
    /// The name of the Node that this speaker runs on.
    #[arg(long, value_name = "NAME", env = "METALLB_NODE_NAME")]
    pub node_name: String,

    /// A kubeconfig file. Without it: KUBECONFIG, ~/.kube/config, or the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The kubeconfig's context. Without it: its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// The namespace of the pools and of the speakers' Leases. Without it: the pod's own, or the context's.
    #[arg(long, value_name = "NAME", env = "METALLB_NAMESPACE")]
    pub namespace: Option<String>,

    /// Announce the Services of this loadBalancerClass. Without it: those that name no class.
    #[arg(long, value_name = "CLASS")]
    pub lb_class: Option<String>,

    /// Announce also from nodes labelled node.kubernetes.io/exclude-from-external-load-balancers.
    #[arg(long)]
    pub ignore_exclude_lb: bool,

    /// Give each address back to the first node in MetalLB's order when that can have it again. Without it an address
    /// stays where it is.
    #[arg(long)]
    pub failback: bool,

    /// Move one address at a time from the node with most to the one with least, while these differ by more than one.
    #[arg(long, conflicts_with = "failback")]
    pub rebalance: bool,

    /// Answer for an address also where another host was found to use it.
    #[arg(long)]
    pub ignore_conflicts: bool,

    /// How often a session is renewed; it lasts three times as long. 1s to 30s.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub session_period: Time,

    /// How often each of its two probers asks an owner whether it lives; after three silent answers it is replaced.
    /// 50ms to 2s.
    #[arg(long, value_name = "TIME", default_value = "150ms")]
    pub probe_interval: Time,

    /// How long everybody is asked before a silent owner is replaced, or an address that nobody owned is answered for.
    /// 20ms to 1s.
    #[arg(long, value_name = "TIME", default_value = "100ms")]
    pub ask_time: Time,

    /// Announce each address again so often though nothing has changed, for hosts and switches that forget. 10s or more.
    /// Without it that is not done.
    #[arg(long, value_name = "TIME")]
    pub announcement_refresh: Option<Time>,

    /// The pod that it runs in: with its uid, what it reports about itself goes with the pod.
    #[arg(long, value_name = "NAME", env = "METALLB_POD_NAME")]
    pub pod_name: Option<String>,

    /// That pod's uid.
    #[arg(long, value_name = "UID", env = "POD_UID")]
    pub pod_uid: Option<String>,

    /// The port of /metrics (plain HTTP); 0 for none.
    #[arg(long, value_name = "PORT", default_value_t = 9120)]
    pub port: u16,

    /// The port of /healthz and /readyz, on 127.0.0.1; 0 for none.
    #[arg(long, value_name = "PORT", default_value_t = 17472)]
    pub health_probe_port: u16,

    /// The address that metrics are served on. Without it: every address of the node.
    #[arg(long, value_name = "IP", env = "METALLB_HOST")]
    pub host: Option<IpAddr>,

    /// How much is logged: all, debug, info, warn, error or none. RUST_LOG, if set, wins.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,

    /// A YAML file whose announcedInterfacesToExclude lists regular expressions of interfaces to leave alone. Without
    /// the file: the virtual interfaces that MetalLB leaves alone.
    #[arg(long, value_name = "FILE", default_value = exclusion::FILE)]
    pub exclude_interfaces: PathBuf,

    #[command(flatten)]
    ignored: Ignored,
}

/// MetalLB's flags for what Herald does not have: memberlist, BGP, TLS, profiling.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Taken for the sake of MetalLB's manifests, without effect")]
struct Ignored {
    #[arg(long, value_name = "IP")]
    ml_bindaddr: Option<String>,
    #[arg(long, value_name = "PORT")]
    ml_bindport: Option<String>,
    #[arg(long, value_name = "LABELS")]
    ml_labels: Option<String>,
    #[arg(long, value_name = "DIR")]
    ml_secret_key_path: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ml_wan_config: Option<String>,
    #[arg(long, value_name = "NAME")]
    frrk8s_namespace: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    frrk8s_secret_passthrough: Option<String>,
    #[arg(long, value_name = "DURATION")]
    bgp_debounce_timeout: Option<String>,
    #[arg(long, value_name = "ADDRESS")]
    pprof_bind_address: Option<String>,
    #[arg(long, value_name = "VERSION")]
    tls_min_version: Option<String>,
    #[arg(long, value_name = "LIST")]
    tls_cipher_suites: Option<String>,
    #[arg(long, value_name = "LIST")]
    tls_curve_preferences: Option<String>,
    #[arg(long, value_name = "DIR")]
    metrics_cert_dir: Option<String>,
}

/// A length of time: a whole number with `ms` or `s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(Span);

impl FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| digits.parse::<u32>().ok().map(u64::from);
        let span = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(digits), _) => number(digits).map(Span::millis),
            (None, Some(digits)) => number(digits).map(Span::secs),
            (None, None) => None,
        };
        span.map(Self).ok_or("a whole number with its unit is wanted, such as 150ms or 2s")
    }
}

impl Flags {
    /// The typed settings.
    ///
    /// # Errors
    /// When what was chosen would not be safe.
    pub fn settings(&self) -> Result<Settings, Unsafe> {
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let choices = Choices {
            failback: self.failback,
            rebalance: self.rebalance,
            ignore_conflicts: self.ignore_conflicts,
            refresh: self.announcement_refresh.map(|time| time.0),
            periods: Periods {
                renew: self.session_period.0,
                probe: self.probe_interval.0,
                ask: self.ask_time.0,
            },
        };
        Ok(Settings {
            node: self.node_name.as_str().into(),
            cluster: Options { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() },
            namespace: filled(&self.namespace),
            class: filled(&self.lb_class),
            ignore_exclude_label: self.ignore_exclude_lb,
            choices: choices.checked()?,
            pod: filled(&self.pod_name)
                .zip(filled(&self.pod_uid))
                .map(|(name, uid)| Pod { name, uid }),
            endpoints: Endpoints {
                metrics_host: self.host,
                metrics_port: self.port,
                // In the node's network: only the node itself, and so its kubelet, has business there.
                health_host: Some(Ipv4Addr::LOCALHOST.into()),
                health_port: self.health_probe_port,
            },
            exclusion: self.exclude_interfaces.clone(),
        })
    }

    /// Logs each flag that was given and has no effect.
    pub fn warn_of_what_means_nothing(&self) {
        for flag in self.without_effect() {
            tracing::warn!(flag, "this flag of MetalLB's has no effect here");
        }
    }

    fn without_effect(&self) -> Vec<&'static str> {
        let given = &self.ignored;
        let flags = [
            ("--ml-bindaddr", &given.ml_bindaddr),
            ("--ml-bindport", &given.ml_bindport),
            ("--ml-labels", &given.ml_labels),
            ("--ml-secret-key-path", &given.ml_secret_key_path),
            ("--ml-wan-config", &given.ml_wan_config),
            ("--frrk8s-namespace", &given.frrk8s_namespace),
            ("--frrk8s-secret-passthrough", &given.frrk8s_secret_passthrough),
            ("--bgp-debounce-timeout", &given.bgp_debounce_timeout),
            ("--pprof-bind-address", &given.pprof_bind_address),
            ("--tls-min-version", &given.tls_min_version),
            ("--tls-cipher-suites", &given.tls_cipher_suites),
            ("--tls-curve-preferences", &given.tls_curve_preferences),
            ("--metrics-cert-dir", &given.metrics_cert_dir),
        ];
        flags.into_iter().filter(|(_, value)| value.is_some()).map(|(flag, _)| flag).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Flags {
        let all = ["herald-speaker", "--node-name=a"].into_iter().chain(arguments.iter().copied());
        Flags::try_parse_from(all).expect("every one of these is a flag")
    }

    #[test]
    fn an_overlay_made_for_metallb_starts_and_is_told_what_has_no_effect() {
        let flags = parse(&[
            "--port=7472",
            "--log-level=info",
            "--ml-bindport=7946",
            "--ml-wan-config",
            "--ignore-exclude-lb",
            "--lb-class=",
        ]);
        assert_eq!(flags.without_effect(), ["--ml-bindport", "--ml-wan-config"]);
        let settings = flags.settings().unwrap();
        assert_eq!((settings.endpoints.metrics_port, settings.class), (7472, None));
        assert!(settings.ignore_exclude_label);
    }

    #[test]
    fn health_is_told_to_the_node_alone_and_the_ports_are_metallbs() {
        let settings = parse(&[]).settings().unwrap();
        let expected = Endpoints {
            metrics_host: None,
            metrics_port: 9120,
            health_host: Some(IpAddr::from([127, 0, 0, 1])),
            health_port: 17472,
        };
        assert_eq!(settings.endpoints, expected);
        assert_eq!(settings.node, NodeName::from("a"));
        assert_eq!(settings.choices, Choices::default());
    }

    #[test]
    fn what_an_operator_chooses_is_what_the_machine_is_told() {
        let chosen = |arguments: &[&str]| parse(arguments).settings().map(|of| of.choices);
        let default = Choices::default();
        assert_eq!(chosen(&["--failback"]), Ok(Choices { failback: true, ..default }));
        assert_eq!(chosen(&["--rebalance"]), Ok(Choices { rebalance: true, ..default }));
        let ignoring = Choices { ignore_conflicts: true, ..default };
        assert_eq!(chosen(&["--ignore-conflicts"]), Ok(ignoring));
        let refreshing = Choices { refresh: Some(Span::secs(60)), ..default };
        assert_eq!(chosen(&["--announcement-refresh=60s"]), Ok(refreshing));
        assert_eq!(chosen(&["--announcement-refresh=9s"]), Err(Unsafe::Refresh));
        let both = ["herald-speaker", "--node-name=a", "--failback", "--rebalance"];
        assert!(Flags::try_parse_from(both).is_err());
    }

    #[test]
    fn periods_are_taken_with_their_unit_and_refused_where_they_are_not_safe() {
        let chosen = |arguments: &[&str]| parse(arguments).settings().map(|of| of.choices.periods);
        let periods =
            Periods { renew: Span::secs(3), probe: Span::millis(200), ask: Span::millis(80) };
        let flags = ["--session-period=3s", "--probe-interval=200ms", "--ask-time=80ms"];
        assert_eq!(chosen(&flags), Ok(periods));
        assert_eq!(chosen(&["--probe-interval=100ms"]), Err(Unsafe::FasterThanThePause));
        for nonsense in ["150", "1.5s", "-1s", "s", "1m"] {
            let flag = format!("--probe-interval={nonsense}");
            let parsed = Flags::try_parse_from(["herald-speaker", "--node-name=a", &flag]);
            assert!(parsed.is_err(), "{nonsense}");
        }
    }
}
