//! What a client cannot have more of: time, memory, connections. Time is paused: it passes when everybody waits.

use std::sync::Arc;
use std::time::Duration;

use proxy::fault::Fault;
use proxy::limits::Limits;
use proxy::log::Outcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::rig::{ALLOWS, Keeper, Rules, ends, proxy};

const GET: &[u8] = b"GET /public/a HTTP/1.1\r\nHost: good\r\n\r\n";
const POST: &[u8] = b"POST /public/a HTTP/1.1\r\nHost: good\r\nContent-Length: 1000000\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn start(room: usize) -> (DuplexStream, DuplexStream, Arc<Keeper>, JoinHandle<()>) {
    let (client, near) = tokio::io::duplex(room);
    let (far, server) = tokio::io::duplex(room);
    let (proxy, keeper) = proxy(Limits::default());
    let running = tokio::spawn(async move {
        proxy.serve(near, ends(), &Rules::http1(), async { Ok(far) }).await;
    });
    (client, server, keeper, running)
}

async fn status(client: &mut DuplexStream) -> String {
    let mut answer = Vec::new();
    // What the proxy resets may end in an error; what came before counts.
    let _ = client.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).chars().take("HTTP/1.1 200".len()).collect()
}

fn outcome(keeper: &Keeper) -> Outcome {
    keeper.take().last().expect("a record").outcome
}

#[tokio::test(start_paused = true)]
async fn a_head_octet_by_octet_is_cut_off_after_its_time() {
    let (mut client, _server, keeper, _proxy) = start(1 << 16);
    let begin = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(&mut client);
    let sending = async {
        for octet in b"GET /public/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
            if writer.write_all(&[*octet]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    let mut answer = [0; 12];
    let receiving = async {
        reader.read_exact(&mut answer).await.unwrap();
        begin.elapsed()
    };
    let elapsed = tokio::select! {
        elapsed = receiving => elapsed,
        () = sending => panic!("not cut off"),
    };
    assert_eq!((&answer, elapsed), (b"HTTP/1.1 408", Limits::default().head_time));
    assert_eq!(outcome(&keeper), Outcome::Refused(Fault::HEAD_SLOW));
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_left_alone_for_a_while_and_then_closed() {
    let (mut client, _server, keeper, _proxy) = start(1 << 16);
    let begin = Instant::now();
    assert_eq!(status(&mut client).await, "");
    assert_eq!(begin.elapsed(), Limits::default().head_time);
    assert!(keeper.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connection_rests_for_so_long_between_requests() {
    let (mut client, mut server, _keeper, _proxy) = start(1 << 16);
    for _ in 0..3 {
        client.write_all(GET).await.unwrap();
        server.write_all(OK).await.unwrap();
        client.read_exact(&mut [0; 40]).await.unwrap();
        sleep(Duration::from_secs(59)).await;
    }
    let begin = Instant::now();
    assert_eq!(status(&mut client).await, "");
    assert_eq!(begin.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_cut_off_and_one_that_flows_is_not() {
    for (octets, survives) in [(10, false), (1000, true)] {
        let (mut client, mut server, keeper, _proxy) = start(1 << 21);
        client.write_all(POST).await.unwrap();
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            if client.write_all(&vec![b'a'; octets]).await.is_err() {
                break;
            }
        }
        if survives {
            server.write_all(OK).await.unwrap();
            client.read_exact(&mut [0; 40]).await.unwrap();
        } else {
            assert_eq!(status(&mut client).await, "HTTP/1.1 408");
            assert_eq!(outcome(&keeper), Outcome::Failed(ALLOWS, Fault::BODY_SLOW));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_may_think_and_not_for_ever() {
    let (mut client, mut server, keeper, _proxy) = start(1 << 16);
    client.write_all(GET).await.unwrap();
    sleep(Duration::from_secs(280)).await;
    server.write_all(OK).await.unwrap();
    client.read_exact(&mut [0; 40]).await.unwrap();
    client.write_all(GET).await.unwrap();
    let begin = Instant::now();
    assert_eq!(status(&mut client).await, "HTTP/1.1 504");
    let limits = Limits::default();
    assert!((limits.stall_time..=limits.stall_time + limits.pace_time).contains(&begin.elapsed()));
    assert_eq!(outcome(&keeper), Outcome::Failed(ALLOWS, Fault::STALLED));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off_and_holds_little() {
    let (mut client, mut server, keeper, proxy) = start(4096);
    client.write_all(GET).await.unwrap();
    server.read_exact(&mut [0; 38]).await.unwrap();
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await.unwrap();
    let mut taken = 0;
    while server.write_all(&[b'a'; 1024]).await.is_ok() {
        taken += 1024;
    }
    // Of these, two times 4096 are in the pipes.
    assert!(taken <= 64 * 1024, "{taken} octets were taken for a client that reads none");
    proxy.await.unwrap();
    assert_eq!(outcome(&keeper), Outcome::Failed(ALLOWS, Fault::READ_SLOW));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_read_holds_its_client_back() {
    let (mut client, _server, _keeper, _proxy) = start(4096);
    client.write_all(POST).await.unwrap();
    let mut taken = 0;
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), client.write_all(&[b'a'; 1024])).await
    {
        taken += 1024;
    }
    assert!(taken <= 64 * 1024, "{taken} octets were taken for a server that reads none");
}

#[tokio::test(start_paused = true)]
async fn requests_ahead_of_their_turn_are_bounded() {
    let (mut client, _server, _keeper, _proxy) = start(4096);
    let mut taken = 0;
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), client.write_all(GET)).await {
        taken += GET.len();
    }
    assert!(taken <= 64 * 1024, "{taken} octets of requests were taken while the first had no response");
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_a_client_can_send_so_much_and_no_more() {
    let (mut client, _server, _keeper, proxy) = start(1 << 16);
    client
        .write_all(b"POST /admin HTTP/1.1\r\nHost: good\r\nContent-Length: 100000000\r\n\r\n")
        .await
        .unwrap();
    let begin = Instant::now();
    let mut sent = 0;
    while client.write_all(&[b'a'; 1024]).await.is_ok() {
        sent += 1024;
    }
    proxy.await.unwrap();
    let limits = Limits::default();
    assert!(sent <= limits.linger + (1 << 16) + 16 * 1024, "{sent} octets");
    assert!(begin.elapsed() <= limits.linger_time);
    // It had all that time to read the answer.
    assert_eq!(status(&mut client).await, "HTTP/1.1 403");
}

#[tokio::test(start_paused = true)]
async fn an_address_has_so_many_connections() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let (proxy, keeper) = proxy(limits);
    let proxy = Arc::new(proxy);
    let open = || {
        let (client, near) = tokio::io::duplex(1024);
        let proxy = Arc::clone(&proxy);
        let running = tokio::spawn(async move {
            let connect = async { Err::<DuplexStream, _>(std::io::ErrorKind::ConnectionRefused.into()) };
            proxy.serve(near, ends(), &Rules::http1(), connect).await;
        });
        (client, running)
    };
    let (first, running) = open();
    let (_second, _) = open();
    tokio::task::yield_now().await;
    let (mut third, _) = open();
    assert_eq!(status(&mut third).await, "");
    assert_eq!(outcome(&keeper), Outcome::Refused(Fault::QUOTA));
    drop(first);
    running.await.unwrap();
    let (mut fourth, _) = open();
    fourth.write_all(b"\0").await.unwrap();
    assert_eq!(status(&mut fourth).await, "HTTP/1.1 400");
}
