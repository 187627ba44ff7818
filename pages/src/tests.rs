use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

struct Two;

impl Answers for Two {
    async fn page(&self, path: &str) -> Page {
        match path {
            "/lines" => {
                let lines = futures::stream::iter([Bytes::from_static(b"1\n"), Bytes::from_static(b"2\n")]);
                Page::lines(futures::StreamExt::chain(lines, futures::stream::pending()))
            }
            _ => Page::text(StatusCode::NOT_FOUND, "there is /lines\n".to_owned()),
        }
    }
}

async fn asked(request: &str) -> TcpStream {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::new(Two)));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn whole(request: &str) -> String {
    let mut text = String::new();
    asked(request).await.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_page_is_sent_whole_and_the_connection_ends() {
    let page = whole("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(page.starts_with("HTTP/1.1 404") && page.ends_with("\r\n\r\nthere is /lines\n"), "{page}");
    let page = whole("POST /x HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(page.starts_with("HTTP/1.1 405"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn lines_come_at_once_and_have_all_the_time_in_the_world() {
    let mut stream = asked("GET /lines HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut text = String::new();
    while !text.contains("2\n") {
        let mut part = [0; 512];
        let count = stream.read(&mut part).await.unwrap();
        text.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("application/jsonl"), "{text}");
    assert!(timeout(PATIENCE * 3, stream.read_u8()).await.is_err(), "it goes on");
}
