//! Flags and environment. Those that MetalLB has keep their names; those of its flags that mean nothing here are taken
//! and said to be without effect, so that an overlay written for MetalLB still starts.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use herald_cluster::client::Options;
use herald_telemetry::log::Level;
use herald_telemetry::serve::Endpoints;

/// What `main` hands to `app`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the API server is.
    pub cluster: Options,
    /// The namespace of the pools and of the Lease; `None`: that of the pod or of the kubeconfig's context.
    pub namespace: Option<String>,
    /// The class whose Services are ours; `None`: Services without one.
    pub class: Option<String>,
    /// This replica's name, as the Lease and the Events tell it; `None`: the host's name.
    pub name: Option<String>,
    /// The uid of the pod that it runs in, if it runs in one.
    pub pod_uid: Option<String>,
    /// Where metrics and health are served.
    pub endpoints: Endpoints,
}

/// Gives Services of type LoadBalancer their addresses, from the IPAddressPools (metallb.io) of one namespace.
///
/// Runs in a pod, or anywhere with a kubeconfig. Of several replicas one works and the others stand by.
#[derive(Debug, Parser)]
#[command(name = "herald-controller", version, max_term_width = 100)]
pub struct Flags {
    /// A kubeconfig file. Without it: KUBECONFIG, ~/.kube/config, or the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The kubeconfig's context. Without it: its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// The namespace of the pools and of the leader's Lease. Without it: the pod's own, or the context's.
    #[arg(long, value_name = "NAME", env = "METALLB_NAMESPACE")]
    pub namespace: Option<String>,

    /// Serve the Services of this loadBalancerClass. Without it: those that name no class.
    #[arg(long, value_name = "CLASS")]
    pub lb_class: Option<String>,

    /// This replica's name in the Lease and in Events. Without it: the host's name.
    #[arg(long, value_name = "NAME", env = "METALLB_POD_NAME")]
    pub pod_name: Option<String>,

    /// The uid of the pod that it runs in: what it reports about itself goes with the pod.
    #[arg(long, value_name = "UID", env = "POD_UID")]
    pub pod_uid: Option<String>,

    /// The port of /metrics (plain HTTP); 0 for none.
    #[arg(long, value_name = "PORT", default_value_t = 9120)]
    pub port: u16,

    /// The port of /healthz and /readyz; 0 for none.
    #[arg(long, value_name = "PORT", default_value_t = 17472)]
    pub health_probe_port: u16,

    /// The address that both ports listen on. Without it: every address.
    #[arg(long, value_name = "IP")]
    pub listen: Option<IpAddr>,

    /// How much is logged: all, debug, info, warn, error or none. RUST_LOG, if set, wins.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,

    #[command(flatten)]
    ignored: Ignored,
}

/// MetalLB's flags for what Herald does not have: webhooks, their certificates, memberlist's secret, TLS, profiling.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Taken for the sake of MetalLB's manifests, without effect")]
struct Ignored {
    #[arg(long, value_name = "NAME", env = "METALLB_ML_SECRET_NAME", hide_env = true)]
    ml_secret_name: Option<String>,
    #[arg(long, value_name = "NAME", env = "METALLB_DEPLOYMENT", hide_env = true)]
    deployment: Option<String>,
    #[arg(long, value_name = "ADDRESS")]
    pprof_bind_address: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_cert_rotation: Option<String>,
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<String>,
    #[arg(long, value_name = "NAME")]
    cert_service_name: Option<String>,
    #[arg(long, value_name = "MODE")]
    webhook_mode: Option<String>,
    #[arg(long, value_name = "NAME")]
    webhook_secret: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    webhook_http2: Option<String>,
    #[arg(long, value_name = "VERSION")]
    tls_min_version: Option<String>,
    #[arg(long, value_name = "LIST")]
    tls_cipher_suites: Option<String>,
    #[arg(long, value_name = "LIST")]
    tls_curve_preferences: Option<String>,
    #[arg(long, value_name = "DIR")]
    metrics_cert_dir: Option<String>,
}

impl Flags {
    /// The typed settings.
    pub fn settings(self) -> Settings {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Settings {
            cluster: Options { kubeconfig: self.kubeconfig, context: self.context },
            namespace: filled(self.namespace),
            class: filled(self.lb_class),
            name: filled(self.pod_name),
            pod_uid: filled(self.pod_uid),
            endpoints: Endpoints {
                metrics_host: self.listen,
                metrics_port: self.port,
                health_host: self.listen,
                health_port: self.health_probe_port,
            },
        }
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
            ("--ml-secret-name", &given.ml_secret_name),
            ("--deployment", &given.deployment),
            ("--pprof-bind-address", &given.pprof_bind_address),
            ("--disable-cert-rotation", &given.disable_cert_rotation),
            ("--cert-dir", &given.cert_dir),
            ("--cert-service-name", &given.cert_service_name),
            ("--webhook-mode", &given.webhook_mode),
            ("--webhook-secret", &given.webhook_secret),
            ("--webhook-http2", &given.webhook_http2),
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
        let all = std::iter::once("herald-controller").chain(arguments.iter().copied());
        Flags::try_parse_from(all).expect("every one of these is a flag")
    }

    #[test]
    fn an_overlay_made_for_metallb_starts_and_is_told_what_has_no_effect() {
        let flags = parse(&[
            "--port=7472",
            "--log-level=debug",
            "--webhook-mode=disabled",
            "--webhook-http2",
            "--disable-cert-rotation=true",
            "--tls-min-version=VersionTLS12",
            "--lb-class=",
        ]);
        let expected =
            ["--disable-cert-rotation", "--webhook-mode", "--webhook-http2", "--tls-min-version"];
        assert_eq!(flags.without_effect(), expected);
        let settings = flags.settings();
        assert_eq!((settings.endpoints.metrics_port, settings.class), (7472, None));
    }

    #[test]
    fn without_a_flag_the_ports_are_metallbs() {
        let settings = parse(&[]).settings();
        let Endpoints { metrics_port, health_port, metrics_host, health_host } = settings.endpoints;
        assert_eq!((metrics_port, health_port), (9120, 17472));
        assert_eq!((metrics_host, health_host), (None, None));
    }
}
