//! The lab's control plane: real etcd and Kubernetes binaries, built once per version from `tests/controlplane`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, fs, process};

use anyhow::{Context, bail, ensure};

/// What the lab runs: the name of each program, and the Go package that is built to it.
const PROGRAMS: [(&str, &str); 5] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
];

/// The module whose version names the cache folder.
const KUBERNETES: &str = "k8s.io/kubernetes";

/// Builds what is missing, tells of it on stderr, and prints the folder alone on stdout.
pub(crate) fn run(workspace: &Path) -> anyhow::Result<()> {
    let folder = match env::var_os("KUBEBUILDER_ASSETS").filter(|path| !path.is_empty()) {
        Some(path) => given(PathBuf::from(path))?,
        None => built(&workspace.join("tests/controlplane"))?,
    };
    println!("{}", folder.display());
    Ok(())
}

/// The folder that the user named, if it holds every program.
fn given(folder: PathBuf) -> anyhow::Result<PathBuf> {
    let missing = missing(&folder);
    if missing.is_empty() {
        return Ok(folder);
    }
    let names: Vec<_> = missing.into_iter().map(|(name, _)| name).collect();
    bail!(
        "KUBEBUILDER_ASSETS={} lacks {}: put them there, or unset the variable to have them built",
        folder.display(),
        names.join(", ")
    )
}

/// The cache folder of the version that `module` asks for, after what it lacked was built.
fn built(module: &Path) -> anyhow::Result<PathBuf> {
    let go_mod = module.join("go.mod");
    let text = fs::read_to_string(&go_mod)
        .with_context(|| format!("read the control plane's versions from {}", go_mod.display()))?;
    let version = required_version(&text, KUBERNETES)
        .with_context(|| format!("{} does not require {KUBERNETES}", go_mod.display()))?;
    let folder = cache()?.join("herald").join(format!("controlplane-{version}"));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let missing = missing(&folder);
    for (position, (name, package)) in missing.iter().enumerate() {
        eprintln!(
            "controlplane: building {name} for Kubernetes {version} ({}/{})",
            position + 1,
            missing.len()
        );
        let began = Instant::now();
        build(module, package, &folder.join(name), version)?;
        eprintln!("controlplane: built {name} in {} s", began.elapsed().as_secs());
    }
    Ok(folder)
}

/// The programs that `folder` lacks.
fn missing(folder: &Path) -> Vec<(&'static str, &'static str)> {
    PROGRAMS.into_iter().filter(|(name, _)| !folder.join(name).is_file()).collect()
}

/// The version of `wanted` in the `require` blocks of a go.mod.
fn required_version<'a>(go_mod: &'a str, wanted: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let line = line.trim();
        let mut words = line.strip_prefix("require ").unwrap_or(line).split_whitespace();
        (words.next() == Some(wanted)).then(|| words.next())?.filter(|word| word.starts_with('v'))
    })
}

/// `$XDG_CACHE_HOME`, or `~/.cache`.
fn cache() -> anyhow::Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| Some(set("HOME")?.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME says where the control plane may be cached")
}

/// Builds `package` to `target`, which appears only when it is whole.
fn build(module: &Path, package: &str, target: &Path, version: &str) -> anyhow::Result<()> {
    let partial = target.with_extension(format!("partial-{}", process::id()));
    let status = Command::new("go")
        .current_dir(module)
        .args(["build", "-mod=readonly", "-trimpath", "-ldflags", &version_flags(version)?])
        .arg("-o")
        .arg(&partial)
        .arg(package)
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context(
            "run go, which builds the control plane: install Go (https://go.dev/doc/install)",
        )?;
    if !status.success() {
        // What go left of a failed build is of no use; that it may have left nothing is fine.
        fs::remove_file(&partial).ok();
        bail!("go build {package} in {}: {status}", module.display());
    }
    fs::rename(&partial, target)
        .with_context(|| format!("move {} to {}", partial.display(), target.display()))
}

/// Linker flags that tell Kubernetes its version: without it the server is v0.0.0 and its defaults are others.
fn version_flags(version: &str) -> anyhow::Result<String> {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next(), numbers.next());
    ensure!(major.is_some() && minor.is_some(), "{KUBERNETES} has the odd version {version}");
    let is = "-X k8s.io/component-base/version";
    Ok(format!(
        "-s -w {is}.gitVersion={version} {is}.gitMajor={} {is}.gitMinor={}",
        major.unwrap_or_default(),
        minor.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_comes_from_the_requirement_and_not_from_a_replacement() {
        let go_mod = "replace (\n\tk8s.io/kubernetes => ../k8s\n)\nrequire (\n\
                      \tk8s.io/kubernetes-x v1.0.0\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n";
        assert_eq!(required_version(go_mod, KUBERNETES), Some("v1.36.3"));
        assert_eq!(
            required_version("require k8s.io/kubernetes v1.2.3", KUBERNETES),
            Some("v1.2.3")
        );
        assert_eq!(required_version("module x\n", KUBERNETES), None);
    }

    #[test]
    fn linker_flags_carry_the_version_in_three_parts() {
        let flags = version_flags("v1.36.3").expect("a version");
        assert!(flags.contains("gitVersion=v1.36.3"), "{flags}");
        assert!(flags.contains("gitMajor=1 ") && flags.ends_with("gitMinor=36"), "{flags}");
        assert!(version_flags("v1").is_err());
    }

    #[test]
    fn a_folder_that_lacks_programs_is_refused_by_name() {
        let error = given(PathBuf::from("/nonexistent")).expect_err("nothing is there");
        let text = error.to_string();
        assert!(PROGRAMS.iter().all(|(name, _)| text.contains(name)), "{text}");
    }
}
