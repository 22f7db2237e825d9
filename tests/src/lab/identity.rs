//! Who may do what in a lab's cluster: one token and one kubeconfig per component.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;

/// A component, as the API server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The kubeconfig's file name, and the secret half of the token.
    file: String,
    user: String,
    groups: Vec<String>,
}

impl Identity {
    /// A person who may do everything.
    pub fn admin() -> Self {
        Self::new("admin", "lab-admin", &["system:masters"])
    }

    /// kube-controller-manager. Its controllers use its own rights, so it has all of them.
    pub fn controller_manager() -> Self {
        let user = "system:kube-controller-manager";
        Self::new("kube-controller-manager", user, &["system:masters"])
    }

    /// kube-proxy, with the rights that Kubernetes' own bootstrap gives it.
    pub fn proxy() -> Self {
        Self::new("kube-proxy", "system:kube-proxy", &[])
    }

    /// The ServiceAccount `name` of `namespace`, as its pods' tokens name it.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        let group = format!("system:serviceaccounts:{namespace}");
        Self::new(&format!("{namespace}-{name}"), &user, &["system:serviceaccounts", &group])
    }

    fn new(file: &str, user: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Self { file: file.to_owned(), user: user.to_owned(), groups }
    }

    /// Tokens guard nothing here: the API server is reached from the lab's namespaces and this machine's loopback.
    fn token(&self) -> String {
        format!("{}-token", self.file)
    }

    /// Its line in the API server's token file.
    fn line(&self) -> String {
        format!("{},{},{},\"{}\"", self.token(), self.user, self.user, self.groups.join(","))
    }
}

/// Writes the API server's token file for `identities`.
pub(super) fn write_tokens(path: &Path, identities: &[Identity]) -> anyhow::Result<()> {
    let lines: Vec<_> = identities.iter().map(Identity::line).collect();
    fs::write(path, lines.join("\n") + "\n").with_context(|| format!("write {}", path.display()))
}

/// The name that the API server's certificate bears; the door on loopback has another.
const SERVER_NAME: &str = "kubernetes.default.svc";

/// Where and how an API server is reached.
#[derive(Clone, Debug)]
pub(super) struct Door {
    /// `https://host:port`.
    pub server: String,
    /// PEM file that holds the authority of its certificate.
    pub authority: PathBuf,
}

/// Writes a kubeconfig for `identity` into `folder`, and returns its path.
pub(super) fn write_kubeconfig(
    folder: &Path,
    door: &Door,
    identity: &Identity,
) -> anyhow::Result<PathBuf> {
    let cluster = json!({
        "server": door.server,
        "certificate-authority": door.authority,
        "tls-server-name": SERVER_NAME,
    });
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": identity.user, "user": {"token": identity.token()}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": identity.user}}],
        "current-context": "lab",
    });
    let path = folder.join(format!("{}.kubeconfig", identity.file));
    // JSON is YAML.
    let text = format!("{config:#}\n");
    // One that is there may be read at this moment by a process that was just started: it must not become empty.
    if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(path);
    }
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_bears_the_groups_that_its_token_would() {
        let line = Identity::service_account("herald-system", "herald-speaker").line();
        let user = "system:serviceaccount:herald-system:herald-speaker";
        let groups = "\"system:serviceaccounts,system:serviceaccounts:herald-system\"";
        let expected = format!("herald-system-herald-speaker-token,{user},{user},{groups}");
        assert_eq!(line, expected);
    }
}
