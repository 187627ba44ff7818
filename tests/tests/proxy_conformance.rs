//! What h2spec, which others wrote, finds of RFC 9113 and RFC 7541 where the proxy is a server of HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use kubelab::programs::H2SPEC;
use prometheus_client::registry::Registry;
use proxy::connection::Proxy;
use proxy::limits::Limits;
use proxy::log::{Ends, Observer, Record};
use proxy::policy::{Head, Policy, Protocols, RuleId, Verdict};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

/// However slow the machine is: it takes seconds.
const PATIENCE: Duration = Duration::from_mins(2);

/// Allows everything: h2spec says what it likes in the place of a host.
#[derive(Debug)]
struct Anything;

impl Policy for Anything {
    fn generation(&self) -> u64 {
        1
    }

    fn protocols(&self) -> Protocols {
        Protocols { http1: false, http2: true, tls: false }
    }

    fn judge(&self, _: &Head<'_>) -> Verdict {
        Verdict::Allow { rule: RuleId(1) }
    }

    fn judge_name(&self, _: Option<&[u8]>) -> Verdict {
        Verdict::Allow { rule: RuleId(1) }
    }

    fn names_header(&self, _: &[u8]) -> bool {
        false
    }
}

/// Hears nothing.
#[derive(Debug)]
struct Nobody;

impl Observer for Nobody {
    fn record(&self, _: &Record<'_>) {}
}

/// A server that takes what it is sent and says a word; to `/wait` it says nothing.
async fn serve(stream: DuplexStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted?;
        tokio::spawn(async move {
            let (parts, mut body) = request.into_parts();
            if parts.uri.path() == "/wait" {
                return std::future::pending().await;
            }
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
            let is_bare = parts.method == Method::HEAD;
            let mut stream = respond.send_response(Response::new(()), is_bare)?;
            if is_bare { Ok(()) } else { stream.send_data(Bytes::from_static(b"yes"), true) }
        });
    }
    Ok(())
}

/// The one test that needs a server that leaves streams open.
const CONCURRENCY: &str = "http2/5.1.2";

#[tokio::test]
async fn h2spec_finds_what_the_rfcs_say() {
    let Ok(program) = H2SPEC.find() else {
        assert_ne!(std::env::var("POLDER_STRICT").as_deref(), Ok("1"), "h2spec is not here");
        println!("h2spec is not here: the proxy is not asked by it");
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let proxy = Arc::new(Proxy::new(Limits::default(), Arc::new(Nobody), &mut Registry::default()));
    tokio::spawn(async move {
        while let Ok((client, from)) = listener.accept().await {
            let ends = Ends { client: from, server: from };
            let proxy = Arc::clone(&proxy);
            let (near, far) = tokio::io::duplex(1 << 20);
            tokio::spawn(serve(far));
            tokio::spawn(async move { proxy.serve(client, ends, &Anything, async { Ok(near) }).await });
        }
    });
    let ask = async |arguments: &[&str]| {
        let mut command = Command::new(&program);
        let output = command.args(["--port", &port]).args(arguments).kill_on_drop(true).output();
        let output = timeout(PATIENCE, output).await.expect("in time").unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = ask(&["--path", "/say"]).await;
    let (_, failures) = said.split_once("\nFailures:").unwrap_or_default();
    // A server that answers at once may have ended some streams before there are too many.
    let failed: Vec<&str> = failures
        .lines()
        .filter(|line| line.contains('\u{d7}') && !line.contains("stream limit to be exceeded"))
        .collect();
    assert!(failed.is_empty(), "{failures}");
    assert!(said.contains("\n145 tests, "), "{said}");
    let said = ask(&["--path", "/wait", CONCURRENCY]).await;
    assert!(said.contains("\n1 tests, 1 passed, 0 skipped, 0 failed"), "{said}");
}
