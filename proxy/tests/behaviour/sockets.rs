//! What is long, over real sockets: there the kernel moves it, and must move neither more nor less than belongs together.

use std::time::Duration;

use proxy::limits::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::rig::{Rules, ends, proxy};

/// Many pipes full, and no multiple of any buffer.
const LONG: usize = 3_000_001;
const GET: &[u8] = b"GET /public/a HTTP/1.1\r\nHost: good\r\n\r\n";
const GOT: &[u8] = b"GET /public/a HTTP/1.1\r\nhost: good\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// No two places look alike for long.
fn long() -> Vec<u8> {
    (0..LONG).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

async fn start() -> (TcpStream, TcpStream, JoinHandle<()>) {
    let (client, near) = pair().await;
    let (far, server) = pair().await;
    let (proxy, _) = proxy(Limits::default());
    let running = tokio::spawn(async move {
        proxy.serve(near, ends(), &Rules::http1(), async { Ok(far) }).await;
    });
    (client, server, running)
}

async fn gets(stream: &mut TcpStream, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    timeout(Duration::from_secs(30), stream.read_exact(&mut got)).await.expect("in time").unwrap();
    assert!(
        got == expected,
        "something else came than {}",
        expected[..expected.len().min(80)].escape_ascii()
    );
}

#[tokio::test]
async fn a_long_response_comes_whole_and_the_next_request_is_one() {
    let (mut client, mut server, _proxy) = start().await;
    let response =
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n").as_bytes(), &long()].concat();
    for _ in 0..2 {
        client.write_all(GET).await.unwrap();
        gets(&mut server, GOT).await;
        let (sent, ()) = tokio::join!(server.write_all(&response), gets(&mut client, &response));
        sent.unwrap();
        client.write_all(GET).await.unwrap();
        gets(&mut server, GOT).await;
        server.write_all(OK).await.unwrap();
        gets(&mut client, OK).await;
    }
}

#[tokio::test]
async fn a_long_request_comes_whole_and_what_follows_is_judged() {
    let (mut client, mut server, _proxy) = start().await;
    let body = long();
    let head = format!("POST /public/a HTTP/1.1\r\nHost: good\r\nContent-Length: {LONG}\r\n\r\n");
    let forbidden = b"GET /admin HTTP/1.1\r\nHost: good\r\n\r\n";
    let request = [head.as_bytes(), &body, forbidden].concat();
    let got =
        [head.to_lowercase().replace("post", "POST").replace("http", "HTTP").as_bytes(), &body].concat();
    let (sent, ()) = tokio::join!(client.write_all(&request), gets(&mut server, &got));
    sent.unwrap();
    server.write_all(OK).await.unwrap();
    gets(&mut client, OK).await;
    gets(&mut client, b"HTTP/1.1 403 Forbidden\r\n").await;
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "the server got {}", rest.escape_ascii());
}

#[tokio::test]
async fn a_long_response_that_is_cut_off_is_seen_to_be() {
    let (mut client, mut server, _proxy) = start().await;
    client.write_all(GET).await.unwrap();
    gets(&mut server, GOT).await;
    let sending = async move {
        server
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", LONG + 1).as_bytes())
            .await
            .unwrap();
        server.write_all(&long()).await.unwrap();
    };
    let mut got = Vec::new();
    let ((), ended) = tokio::join!(sending, client.read_to_end(&mut got));
    assert_eq!(ended.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_tunnel_moves_much_both_ways_at_once_and_ends_side_by_side() {
    let (mut client, mut server, proxy) = start().await;
    let upgrade =
        b"GET /public/a HTTP/1.1\r\nHost: good\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(upgrade).await.unwrap();
    let got = b"GET /public/a HTTP/1.1\r\nhost: good\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    gets(&mut server, got).await;
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    server.write_all(switched).await.unwrap();
    gets(&mut client, switched).await;
    let body = long();
    let (mut from_client, mut to_server) = client.split();
    let (mut from_server, mut to_client) = server.split();
    let up = async {
        to_server.write_all(&body).await.unwrap();
        to_server.shutdown().await.unwrap();
    };
    let down = async {
        to_client.write_all(&body).await.unwrap();
        to_client.shutdown().await.unwrap();
    };
    let (mut above, mut below) = (Vec::new(), Vec::new());
    let all = async {
        tokio::join!(up, down, from_server.read_to_end(&mut above), from_client.read_to_end(&mut below))
    };
    let ((), (), got, heard) = timeout(Duration::from_secs(30), all).await.expect("in time");
    assert_eq!((got.unwrap(), heard.unwrap()), (LONG, LONG));
    assert!(above == body && below == body);
    timeout(Duration::from_secs(5), proxy).await.expect("the tunnel ends").unwrap();
}
