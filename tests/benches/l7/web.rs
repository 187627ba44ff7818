//! The server: little to say of most things, and much of one.

use std::net::Ipv6Addr;
use std::sync::mpsc;

use netlab::{Host as _, Pod};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::OUTSIDE;
use crate::load::{LARGE, pin};

const SMALL: &[u8] = b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\nContent-Length: 64\r\n\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Serves at these ports of a pod, until the process ends.
pub(crate) fn serve(pod: &Pod, ports: &[u16]) {
    let ports = ports.to_vec();
    let (ready, started) = mpsc::channel();
    // It ends with the benchmark.
    let _task = pod
        .spawn(move || {
            pin(0, OUTSIDE);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, async move {
                for port in ports {
                    let listener = listener(port)?;
                    tokio::task::spawn_local(accept(listener));
                }
                ready.send(()).unwrap();
                std::future::pending::<()>().await;
                Ok(())
            })
        })
        .unwrap();
    started.recv().unwrap();
}

fn listener(port: u16) -> anyhow::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v6()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
    Ok(socket.listen(1024)?)
}

async fn accept(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::task::spawn_local(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) {
    let large = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
    let body = vec![b'x'; 1 << 16];
    let mut buffer = [0; 4096];
    let mut filled = 0;
    while let Ok(count @ 1..) = stream.read(&mut buffer[filled..]).await {
        filled += count;
        if !buffer[..filled].ends_with(b"\r\n\r\n") {
            continue;
        }
        let is_large = buffer.starts_with(b"GET /public/large");
        let is_last =
            buffer[..filled].windows(17).any(|words| words.eq_ignore_ascii_case(b"connection: close"));
        filled = 0;
        let sent = async {
            if !is_large {
                return stream.write_all(SMALL).await;
            }
            stream.write_all(large.as_bytes()).await?;
            for _ in 0..LARGE / body.len() {
                stream.write_all(&body).await?;
            }
            Ok(())
        };
        if sent.await.is_err() || is_last {
            return;
        }
    }
}
