//! TLS through the proxy: judged by name, passed on as it came.

use std::sync::Arc;
use std::time::Duration;

use proxy::fault::Fault;
use proxy::limits::Limits;
use proxy::log::Outcome;
use proxy::policy::Protocols;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::rig::{ALLOWS, DENIES, Rules, ends, proxy};

/// What OpenSSL 3.0 sends for `openssl s_client -servername NAME -tls1_2`, with fewer cipher suites and extensions.
fn client_hello(name: &str) -> Vec<u8> {
    let length =
        |octets: Vec<u8>| [&u16::try_from(octets.len()).unwrap().to_be_bytes()[..], &octets].concat();
    let names = length([&[0][..], &length(name.as_bytes().to_vec())].concat());
    let extensions = length([&[0, 0][..], &length(names), &[0, 23, 0, 0]].concat());
    let body = [&[3, 3][..], &[0x5a; 32], &[0, 0, 2, 0xc0, 0x2f, 1, 0], &extensions].concat();
    let message = [&[1, 0][..], &length(body)].concat();
    [&[22, 3, 1][..], &length(message)].concat()
}

struct Run {
    client: DuplexStream,
    server: DuplexStream,
    rules: Arc<Rules>,
    outcome: tokio::task::JoinHandle<Option<Outcome>>,
}

fn start(tls: bool) -> Run {
    let (client, near) = tokio::io::duplex(1 << 16);
    let (far, server) = tokio::io::duplex(1 << 16);
    let (proxy, keeper) = proxy(Limits::default());
    let rules = Arc::new(Rules::of(Protocols { http1: true, http2: false, tls }));
    let policy = Arc::clone(&rules);
    let outcome = tokio::spawn(async move {
        proxy.serve(near, ends(), &*policy, async { Ok(far) }).await;
        keeper.take().pop().map(|record| record.outcome)
    });
    Run { client, server, rules, outcome }
}

#[tokio::test(start_paused = true)]
async fn an_allowed_name_is_passed_on_as_it_came_split_anywhere() {
    let hello = client_hello("Good.Example");
    for at in 1..hello.len() {
        let mut run = start(true);
        run.client.write_all(&hello[..at]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        run.client.write_all(&hello[at..]).await.unwrap();
        let mut got = vec![0; hello.len()];
        run.server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, hello, "split at {at}");
        run.server.write_all(b"\x16answer").await.unwrap();
        let mut answer = [0; 7];
        run.client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"\x16answer");
        drop((run.client, run.server));
        assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Allowed(ALLOWS)));
    }
}

#[tokio::test(start_paused = true)]
async fn another_name_ends_the_connection_and_nothing_reaches_the_server() {
    let nonsense = [0x16, 3, 1, 0, 4, 2, 0, 0, 0];
    for (sent, outcome) in [
        (client_hello("evil.example"), Outcome::Denied(DENIES)),
        (client_hello("good.example.evil"), Outcome::Denied(DENIES)),
        (client_hello("good.example\0"), Outcome::Refused(Fault::TLS)),
        (client_hello(""), Outcome::Refused(Fault::TLS)),
        (nonsense.to_vec(), Outcome::Refused(Fault::TLS)),
    ] {
        let mut run = start(true);
        run.client.write_all(&sent).await.unwrap();
        assert_eq!(run.outcome.await.unwrap(), Some(outcome));
        let mut got = Vec::new();
        run.server.read_to_end(&mut got).await.unwrap();
        assert!(got.is_empty());
        let mut answer = Vec::new();
        run.client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn tls_on_a_port_without_rules_about_it_is_closed() {
    let mut run = start(false);
    run.client.write_all(&client_hello("good.example")).await.unwrap();
    assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Refused(Fault::PROTOCOL)));
    assert_eq!(run.server.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_does_not_come_is_not_waited_for() {
    let mut run = start(true);
    run.client.write_all(&client_hello("good.example")[..20]).await.unwrap();
    assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Refused(Fault::HEAD_SLOW)));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_no_longer_allowed_ends_its_connection() {
    let mut run = start(true);
    let hello = client_hello("good.example");
    run.client.write_all(&hello).await.unwrap();
    run.server.read_exact(&mut vec![0; hello.len()]).await.unwrap();
    run.rules.change(true);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!run.outcome.is_finished());
    run.rules.change(false);
    assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Withdrawn(ALLOWS)));
}

/// What a server says that asks for another hello (RFC 8446, section 4.1.4), shortened behind its random.
fn retry() -> Vec<u8> {
    let random = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
        0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ];
    [&[22, 3, 3, 0, 39, 2, 0, 0, 35, 3, 3][..], &random, &[0]].concat()
}

const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];
const EARLY_DATA: [u8; 9] = [23, 3, 3, 0, 4, 9, 9, 9, 9];

/// A handshake up to where the server has asked for another hello.
async fn asked_again() -> Run {
    let mut run = start(true);
    let hello = client_hello("good.example");
    run.client.write_all(&[&hello[..], &EARLY_DATA].concat()).await.unwrap();
    run.server.read_exact(&mut vec![0; hello.len()]).await.unwrap();
    let retry = retry();
    for octet in &retry {
        run.server.write_all(&[*octet]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut got = vec![0; retry.len()];
    run.client.read_exact(&mut got).await.unwrap();
    assert_eq!(got, retry);
    run.server.read_exact(&mut [0; EARLY_DATA.len()]).await.unwrap();
    run
}

#[tokio::test(start_paused = true)]
async fn a_second_hello_has_to_name_what_the_first_one_did() {
    let rest = [&CHANGE_CIPHER_SPEC[..], &client_hello("Good.example"), b"\x17anything"].concat();
    for at in 1..rest.len() {
        let mut run = asked_again().await;
        run.client.write_all(&rest[..at]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        run.client.write_all(&rest[at..]).await.unwrap();
        let mut got = vec![0; rest.len()];
        run.server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, rest, "split at {at}");
        drop((run.client, run.server));
        assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Allowed(ALLOWS)));
    }
    for other in
        [client_hello("evil.example"), client_hello("good.example\0"), vec![22, 3, 3, 0, 4, 11, 0, 0, 0]]
    {
        for at in 1..other.len() {
            let mut run = asked_again().await;
            run.client.write_all(&CHANGE_CIPHER_SPEC).await.unwrap();
            run.client.write_all(&other[..at]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            // It may have ended by now.
            let _written = run.client.write_all(&other[at..]).await;
            assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Refused(Fault::TLS)), "split at {at}");
            let mut got = Vec::new();
            run.server.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, CHANGE_CIPHER_SPEC, "nothing of it reaches the server");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_hello_that_nobody_asked_for_yet_is_read_when_somebody_does() {
    let (good, evil) = (client_hello("good.example"), client_hello("evil.example"));
    let mut run = start(true);
    run.client.write_all(&[&good[..], &evil].concat()).await.unwrap();
    run.client.shutdown().await.unwrap();
    run.server.read_exact(&mut vec![0; good.len()]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    run.server.write_all(&retry()).await.unwrap();
    assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Refused(Fault::TLS)));
    let mut got = Vec::new();
    run.server.read_to_end(&mut got).await.unwrap();
    assert!(got.is_empty(), "nothing of it reaches the server");
    // What has nothing more to say may listen.
    let mut run = start(true);
    run.client.write_all(&good).await.unwrap();
    run.client.shutdown().await.unwrap();
    run.server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, good);
    run.server.write_all(b"\x15answer").await.unwrap();
    run.server.shutdown().await.unwrap();
    let mut said = Vec::new();
    run.client.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"\x15answer");
    assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Allowed(ALLOWS)));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_ends_or_is_withdrawn_in_its_middle_is_over() {
    let mut run = asked_again().await;
    run.client.shutdown().await.unwrap();
    assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Failed(ALLOWS, Fault::TRUNCATED)));
    let mut run = asked_again().await;
    run.server.shutdown().await.unwrap();
    assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Failed(ALLOWS, Fault::UPSTREAM_ENDED)));
    let run = asked_again().await;
    run.rules.change(false);
    assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Withdrawn(ALLOWS)));
    // A server that says nothing, to a client that waits.
    let mut run = start(true);
    run.client.write_all(&client_hello("good.example")).await.unwrap();
    assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Failed(ALLOWS, Fault::STALLED)));
    // One that speaks another protocol, or ends: that is between the two.
    let mut run = start(true);
    run.client.write_all(&client_hello("good.example")).await.unwrap();
    run.server.write_all(b"no").await.unwrap();
    run.server.shutdown().await.unwrap();
    let mut said = Vec::new();
    run.client.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"no");
    drop((run.client, run.server));
    assert_eq!(run.outcome.await.unwrap(), Some(Outcome::Allowed(ALLOWS)));
}
