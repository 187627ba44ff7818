//! The ways to the server, and the node that they are on.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use netlab::{Cni, Host as _, Lab, Pod};
use tests::node::{Polder, Proxy, manifest};

use crate::BETWEEN;
use crate::load::pin;
use crate::web;

/// The server's ports: without rules about requests, with one, with 10,000.
const DIRECT: u16 = 8080;
const ONE: u16 = 8081;
const MANY: u16 = 8082;
/// Rules of the last: those of a policy, and policies. (A policy holds 100 rules of 16 requests.)
const REQUESTS: usize = 1600;
const POLICIES: usize = 7;
/// Where other proxies listen.
const PEER: u16 = 8080;

/// A way to the server.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// What is between, if there is something.
    pub(crate) worker: Option<i32>,
}

/// A node with all of it.
pub(crate) struct Bed {
    pub(crate) client: Pod,
    server: Pod,
    proxy: Proxy,
    peers: Vec<Peer>,
    _polder: Polder,
    _lab: Lab,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let lab = Lab::new("bench-l7").unwrap();
        let node = lab.node(Cni::Bridge { br_netfilter: false }, 1).unwrap();
        let [client, server, nginx, haproxy, alone] =
            ["client", "server", "nginx", "haproxy", "alone"].map(|name| node.pod(name).unwrap());
        let mut facts = manifest::namespace("shop") + &manifest::node(&node);
        for pod in [&client, &server, &nginx, &haproxy, &alone] {
            facts += &manifest::pod("shop", pod, &format!("app: {}", pod.name()));
        }
        let manifests = [("facts.yaml", facts), ("policies.yaml", policies())];
        // Connections that are over are remembered for ten seconds: more of them than a pod has anywhere else.
        let polder = Polder::start_with(&node, &manifests, &["--flow-share", "250000"]).unwrap();
        polder.enforces(&["shop/client", "shop/server"]).unwrap();
        let proxy = Proxy::start_with(&polder, &[]).unwrap();
        web::serve(&server, &[DIRECT, ONE, MANY]);
        let to = SocketAddr::from((server.ipv4(), DIRECT));
        let peers = [
            Peer::nginx(nginx, to),
            Peer::haproxy("haproxy", haproxy, (to, "always")),
            // As whoever keeps the client's address has to.
            Peer::haproxy("haproxy, no reuse", alone, (to, "never")),
        ];
        let peers = peers.into_iter().flatten().collect();
        for worker in proxy.workers() {
            pin(worker, BETWEEN);
        }
        Self { client, server, proxy, peers, _polder: polder, _lab: lab }
    }

    /// The first is the direct one.
    pub(crate) fn ways(&self) -> Vec<Way> {
        let at = |port| SocketAddr::from((self.server.ipv4(), port));
        let worker = self.proxy.workers().first().copied();
        let mut ways = vec![
            Way { name: "direct", address: at(DIRECT), worker: None },
            Way { name: "polder", address: at(ONE), worker },
            Way { name: "polder, 10,000", address: at(MANY), worker },
        ];
        ways.extend(self.peers.iter().map(|peer| Way {
            name: peer.name,
            address: (peer.pod.ipv4(), PEER).into(),
            worker: i32::try_from(peer.child.id()).ok(),
        }));
        ways
    }
}

/// What the server may be asked at its ports.
fn policies() -> String {
    let head = |name: &str| {
        format!(
            "---\napiVersion: polder.dev/v1alpha1\nkind: PolderPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  subject: {{podSelector: {{matchLabels: {{app: server}}}}}}\n  ingress:\n"
        )
    };
    let port = |port: u16| format!("protocols: [{{tcp: {{destinationPort: {{number: {port}}}}}}}]");
    let public = "http: [{methods: [GET], path: {prefix: /public}}]";
    let mut text = head("server");
    writeln!(text, "  - {{action: Allow, {}}}", port(DIRECT)).unwrap();
    writeln!(text, "  - {{action: Allow, {}, {public}}}", port(ONE)).unwrap();
    writeln!(text, "  - {{action: Allow, {}, {public}}}", port(MANY)).unwrap();
    for policy in 0..POLICIES {
        text += &head(&format!("many-{policy}"));
        for rule in 0..REQUESTS / 16 {
            let http: Vec<String> = (0..16)
                .map(|one| {
                    format!("{{methods: [GET], path: {{exact: /other/{policy}/{}}}}}", rule * 16 + one)
                })
                .collect();
            writeln!(text, "  - {{action: Allow, {}, http: [{}]}}", port(MANY), http.join(", ")).unwrap();
        }
    }
    text
}

/// Another proxy, in a pod of its own. It ends with this.
struct Peer {
    name: &'static str,
    pod: Pod,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Peer {
    fn nginx(pod: Pod, server: SocketAddr) -> Option<Self> {
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid FOLDER/pid;\nerror_log /dev/null;\nevents {{ worker_connections 1024; }}\n\
             http {{\n access_log off;\n upstream server {{ server {server}; keepalive 64; }}\n server {{\n  \
             listen {PEER} backlog=1024;\n  keepalive_requests 1000000000;\n  proxy_http_version 1.1;\n  \
             proxy_set_header Connection \"\";\n  location /public {{\n   limit_except GET {{ deny all; }}\n   \
             proxy_pass http://server;\n  }}\n  location / {{ return 403; }}\n }}\n}}\n"
        );
        Self::start(("nginx", "nginx"), pod, &configuration, &["-c"])
    }

    /// `reuse`: whether it uses a connection to the server for more than one client.
    fn haproxy(name: &'static str, pod: Pod, (server, reuse): (SocketAddr, &str)) -> Option<Self> {
        let configuration = format!(
            "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             frontend front\n  bind :{PEER} backlog 1024\n  acl read method GET\n  acl public path_beg /public\n  \
             http-request deny unless read public\n  default_backend back\nbackend back\n  http-reuse {reuse}\n  \
             server server {server}\n"
        );
        Self::start((name, "haproxy"), pod, &configuration, &["-db", "-f"])
    }

    fn start(
        (name, program): (&'static str, &str),
        pod: Pod,
        configuration: &str,
        arguments: &[&str],
    ) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("configuration");
        // nginx removes this file when it ends, so it has to be one of its own.
        fs::write(&file, configuration.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command.args(arguments).arg(&file).env("PATH", path).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = pod.run(|| Ok(command.spawn()?)) else {
            eprintln!("{program} is not here, and not measured");
            return None;
        };
        let peer = Self { name, pod, child, _folder: folder };
        for _ in 0..200 {
            let there =
                netlab::tcp_connect(&peer.pod, peer.pod.ipv4().into(), PEER, netlab::PATIENCE).unwrap();
            if there == netlab::Outcome::Connected {
                pin(i32::try_from(peer.child.id()).unwrap(), BETWEEN);
                return Some(peer);
            }
            thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{name} does not start, and is not measured");
        None
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("{}: {error}", self.name);
        }
    }
}
