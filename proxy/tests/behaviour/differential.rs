//! The corpus through the proxy to servers that others wrote: whatever they make of what is forwarded, none of them is ever
//! asked for what is forbidden, and all of them are asked for what is not.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proxy::limits::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::corpus::{ATTACKS, CLEAN, Case, cases, statuses};
use crate::rig::{Rules, ends, proxy};

/// What a server was asked, as it understood it: method and decoded path.
type Asked = Arc<Mutex<Vec<String>>>;

/// A server of somebody else's, which ends with this.
struct Server {
    address: SocketAddr,
    asked: Asked,
    child: Option<Child>,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Asked to end, as a server that is killed leaves its workers behind.
            Command::new("kill").arg(child.id().to_string()).status().ok();
            child.wait().ok();
        }
    }
}

/// `None` if the program is not here, which `POLDER_STRICT=1` does not accept.
fn start(program: &str, command: impl FnOnce(&std::path::Path, u16) -> Command) -> Option<Server> {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = format!("{}:/usr/sbin:/usr/local/go/bin", std::env::var("PATH").unwrap_or_default());
    if !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        assert_ne!(std::env::var("POLDER_STRICT").as_deref(), Ok("1"), "{program} is not here");
        println!("{program} is not here: the proxy is not tried before it");
        return None;
    }
    let mut command = command(folder.path(), port);
    command.env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let asked = Asked::default();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (listens, listening) = std::sync::mpsc::channel();
    let record = Arc::clone(&asked);
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            // Of what it refuses itself, haproxy says that much and no more.
            if let Some(request) =
                line.strip_prefix("asked ").filter(|request| !request.starts_with("<BADREQ>"))
            {
                record.lock().unwrap().push(request.to_owned());
            } else if let Some(port) = line.strip_prefix("listens ") {
                listens.send(port.parse().unwrap()).ok();
            }
        }
    });
    // Those that do not choose a port for themselves were told one.
    let named = matches!(program, "nginx" | "haproxy" | "gunicorn");
    let port = if named { port } else { listening.recv_timeout(Duration::from_mins(2)).unwrap() };
    let server =
        Server { address: ([127, 0, 0, 1], port).into(), asked, child: Some(child), _folder: folder };
    for _ in 0..200 {
        if std::net::TcpStream::connect(server.address).is_ok() {
            return Some(server);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{program} does not start");
}

fn nginx() -> Option<Server> {
    start("nginx", |folder, port| {
        let file = folder.join("nginx.conf");
        let configuration = format!(
            "daemon off; master_process off; pid {0}/pid; error_log /dev/null;
             events {{}}
             http {{ log_format asked 'asked $request_method $uri'; access_log /dev/stdout asked;
             client_body_temp_path {0}; large_client_header_buffers 8 32k;
             server {{ listen 127.0.0.1:{port}; keepalive_requests 100000; location / {{ return 200; }} }} }}",
            folder.display()
        );
        std::fs::write(&file, configuration).unwrap();
        let mut command = Command::new("nginx");
        command.args(["-e", "/dev/null", "-c"]).arg(file);
        command
    })
}

fn haproxy() -> Option<Server> {
    start("haproxy", |folder, port| {
        let file = folder.join("haproxy.cfg");
        let configuration = format!(
            "global\n  log stdout format raw local0\n  tune.bufsize 65536\n  tune.maxrewrite 1024\ndefaults\n  mode http\n  log global\n  \
             timeout client 30s\n  timeout http-request 30s\nfrontend f\n  bind 127.0.0.1:{port}\n  \
             log-format \"asked %HM %HPO\"\n  http-request wait-for-body time 10s\n  http-request return status 200\n"
        );
        std::fs::write(&file, configuration).unwrap();
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(file);
        command
    })
}

fn go() -> Option<Server> {
    start("go", |folder, _| {
        let program = folder.join("server");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/server.go");
        let path = format!("{}:/usr/local/go/bin", std::env::var("PATH").unwrap_or_default());
        let built =
            Command::new("go").env("PATH", path).args(["build", "-o"]).arg(&program).arg(source).status();
        assert!(built.unwrap().success(), "the server does not build");
        Command::new(program)
    })
}

fn node() -> Option<Server> {
    start("node", |_, _| {
        let mut command = Command::new("node");
        // Its own limit is smaller than the proxy's.
        command
            .arg("--max-http-header-size=65536")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/server.js"));
        command
    })
}

fn gunicorn() -> Option<Server> {
    start("gunicorn", |folder, port| {
        let mut command = Command::new("gunicorn");
        command.args(["--bind", &format!("127.0.0.1:{port}"), "--worker-tmp-dir"]).arg(folder);
        // One thread for each connection that is kept open. Its own limits are smaller than the proxy's.
        command.args(["--threads", "4", "--limit-request-line", "0", "--limit-request-field_size", "0"]);
        command.args([
            "--pythonpath",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers"),
            "server:answer",
        ]);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    })
}

async fn hyper() -> Server {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let record = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let record = Arc::clone(&record);
            let service = service_fn(move |request: Request<Incoming>| {
                let record = Arc::clone(&record);
                async move {
                    let (parts, body) = request.into_parts();
                    record.lock().unwrap().push(format!("{} {}", parts.method, parts.uri.path()));
                    body.collect().await?;
                    Ok::<_, hyper::Error>(Response::new(Empty::<bytes::Bytes>::new()))
                }
            });
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { serving.await.ok() });
        }
    });
    Server { address, asked, child: None, _folder: tempfile::tempdir().unwrap() }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let near = near.unwrap();
    near.set_nodelay(true).unwrap();
    (near, far.unwrap().0)
}

/// Sends the parts through the proxy, and gives the statuses that came back.
async fn through(server: SocketAddr, parts: &[&[u8]], responses: usize) -> Vec<u16> {
    let (mut client, near) = pair().await;
    let (proxy, _keeper) = proxy(Limits::default());
    let serving = tokio::spawn(async move {
        proxy.serve(near, ends(), &Rules::http1(), TcpStream::connect(server)).await;
    });
    for part in parts {
        if client.write_all(part).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // What is refused behind its head is answered by the end of the connection or by a status: neither takes long.
    while responses == 0 || statuses(&answer).len() < responses {
        match tokio::time::timeout(Duration::from_secs(10), client.read(&mut buffer)).await {
            Ok(Ok(count @ 1..)) => answer.extend_from_slice(&buffer[..count]),
            _ => break,
        }
    }
    drop(client);
    serving.await.unwrap();
    statuses(&answer)
}

fn is_forbidden(asked: &str) -> bool {
    let path = asked.split_once(' ').map_or("", |(_, path)| path);
    !path.starts_with("/public/") || path.contains("/../") || asked.contains("admin")
}

async fn ask_directly(server: &Server, path: &str) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: good\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
}

/// What was asked until now; a server may say it a moment later than it answers.
async fn asked(server: &Server, marker: &str) -> Vec<String> {
    ask_directly(server, marker).await;
    for _ in 0..200 {
        let mut asked = server.asked.lock().unwrap().clone();
        if asked.last().is_some_and(|last| last.ends_with(marker)) {
            server.asked.lock().unwrap().clear();
            asked.pop();
            return asked;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the server does not say that it was asked for {marker}");
}

async fn try_before(name: &str, server: &Server) {
    // That it would be noticed: asked directly, the server says so.
    ask_directly(server, "/admin").await;
    assert!(
        asked(server, "/control").await.iter().any(|asked| is_forbidden(asked)),
        "{name}: nothing would be noticed"
    );
    for case in cases(ATTACKS) {
        let whole = [&case.send[..]];
        let middle = case.send.split_at(case.send.len() / 2);
        let halves = [middle.0, middle.1];
        for parts in [&whole[..], &halves[..]] {
            through(server.address, parts, case.status.len()).await;
        }
    }
    let attacked = asked(server, "/after-attacks").await;
    let leaked: Vec<&String> = attacked.iter().filter(|asked| is_forbidden(asked)).collect();
    assert!(leaked.is_empty(), "{name} was asked for {leaked:?}");
    for case in cases(CLEAN) {
        let got = through(server.address, &[&case.send], case.status.len()).await;
        check_clean(name, &case, &got, &asked(server, "/after-clean").await);
    }
}

/// A server may refuse what the proxy passes on, and then it is not for the proxy that the rest is not answered.
fn check_clean(name: &str, case: &Case, got: &[u16], asked: &[String]) {
    let proxy_refuses =
        |status: &u16| [400, 403, 408, 414, 417, 431, 501, 502, 503, 504, 505].contains(status);
    let same = got.len() == case.status.len() && !got.iter().any(proxy_refuses);
    // TRACE, asterisks and the like are the server's own to refuse.
    let servers_own = got.first().is_some_and(|status| [405, 501].contains(status));
    assert!(same || servers_own, "{name}: {}: answered {got:?}", case.name);
    assert!(servers_own || asked.len() == case.forwarded.len(), "{name}: {}: asked {asked:?}", case.name);
}

#[tokio::test]
async fn hyper_is_never_asked_for_what_is_forbidden() {
    try_before("hyper", &hyper().await).await;
}

#[tokio::test]
async fn nginx_is_never_asked_for_what_is_forbidden() {
    if let Some(server) = nginx() {
        try_before("nginx", &server).await;
    }
}

#[tokio::test]
async fn haproxy_is_never_asked_for_what_is_forbidden() {
    if let Some(server) = haproxy() {
        try_before("haproxy", &server).await;
    }
}

#[tokio::test]
async fn go_is_never_asked_for_what_is_forbidden() {
    if let Some(server) = go() {
        try_before("Go", &server).await;
    }
}

#[tokio::test]
async fn node_is_never_asked_for_what_is_forbidden() {
    if let Some(server) = node() {
        try_before("Node", &server).await;
    }
}

#[tokio::test]
async fn gunicorn_is_never_asked_for_what_is_forbidden() {
    if let Some(server) = gunicorn() {
        try_before("gunicorn", &server).await;
    }
}
