//! A way to an API server that can be cut, or go silent: in the network namespace of a node, at the server's own address.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// How often it is looked whether it goes on.
const TICK: Duration = Duration::from_millis(20);

/// See the module. Ends with the value.
pub(crate) struct Relay {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    silent: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Takes connections from this listener, wherever that is, to the server, from here.
    pub(crate) fn start(listener: TcpListener, server: SocketAddr) -> Result<Self> {
        listener.set_nonblocking(true).context("the relay's listener")?;
        let shared = Arc::new(Shared::default());
        let relay = Self { shared: Arc::clone(&shared) };
        thread::spawn(move || {
            while !shared.ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => {
                        if let Err(error) = connect(&shared, client, server) {
                            // As a server that is away: the client sees its end.
                            eprintln!("relay: {error:#}");
                        }
                    }
                    Err(_) => thread::sleep(TICK),
                }
            }
        });
        Ok(relay)
    }

    /// Nothing goes through any more, and no connection ends.
    pub(crate) fn be_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::Relaxed);
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.cut();
    }
}

fn connect(shared: &Arc<Shared>, client: TcpStream, server: SocketAddr) -> Result<()> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect_timeout(&server, Duration::from_secs(1)).context("the server is away")?;
    for (from, to) in [(&client, &server), (&server, &client)] {
        to.set_nodelay(true)?;
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let shared = Arc::clone(shared);
        thread::spawn(move || copy(&shared, from, to));
    }
    shared.streams.lock().unwrap().extend([client, server]);
    Ok(())
}

fn copy(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while shared.silent.load(Ordering::Relaxed) && !shared.ended.load(Ordering::Relaxed) {
            thread::sleep(TICK);
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
