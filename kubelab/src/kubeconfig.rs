//! Files that tell clients where the server is and who they are, and the questions of those who only wait.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::ByteString;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use crate::pki::{self, Authority};

/// How long one question to a server that is starting may take.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// Writes a kubeconfig that holds everything that its user needs, for the certificate of this name.
pub(crate) fn write(authority: &Authority, server: SocketAddr, certificate: &str, path: &Path) -> Result<()> {
    let read = |name: String| {
        let path = authority.file(&name);
        fs::read(&path).map(ByteString).with_context(|| format!("{} cannot be read", path.display()))
    };
    let user = json!({
        "client-certificate-data": read(format!("{certificate}.crt"))?,
        "client-key-data": read(format!("{certificate}.key"))?,
    });
    let cluster = json!({
        "server": format!("https://{server}"),
        "certificate-authority-data": read("ca.crt".to_owned())?,
    });
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubelab", "cluster": cluster}],
        "users": [{"name": certificate, "user": user}],
        "contexts": [{"name": "kubelab", "context": {"cluster": "kubelab", "user": certificate}}],
        "current-context": "kubelab",
    });
    pki::write(path, &format!("{text:#}\n"))
}

/// How a client of the server is set up that this kubeconfig describes.
pub(crate) async fn config(kubeconfig: &Path) -> Result<Config> {
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("{}: no kubeconfig", kubeconfig.display()))?;
    Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("{}: no usable kubeconfig", kubeconfig.display()))
}

/// Whether the server has something at a path; also to be called where an asynchronous runtime runs already.
pub(crate) fn answers(kubeconfig: &Path, path: &str) -> bool {
    thread::scope(|scope| scope.spawn(|| ask(kubeconfig, path)).join()).is_ok_and(|asked| asked.is_ok())
}

fn ask(kubeconfig: &Path, path: &str) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut config = config(kubeconfig).await?;
        (config.connect_timeout, config.read_timeout) = (Some(ASK_LIMIT), Some(ASK_LIMIT));
        let request = http_get(path)?;
        let client = Client::try_from(config)?;
        let answer = tokio::time::timeout(ASK_LIMIT, client.request_text(request));
        Ok(answer.await.map_err(|_| anyhow!("no answer in time"))??)
    })
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    http::Request::get(path).body(Vec::new()).with_context(|| format!("{path}: no path"))
}
