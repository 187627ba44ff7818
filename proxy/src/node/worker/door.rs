//! Connections as they come: accepted, vouched for by the kernel's flow table, and served.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proxy::connection::Proxy;
use proxy::log::Ends;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::counts::Counts;
use super::upstream;
use super::warden::{Tribunal, Warden};
use crate::kernel::tables::Tables;

/// How long nothing is accepted after a failure, which is most likely one of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(crate) struct House {
    pub(crate) proxy: Proxy,
    pub(crate) tribunal: Arc<Tribunal<Tables>>,
    pub(crate) counts: Counts,
    /// How many connections are open.
    pub(crate) open: AtomicUsize,
}

/// The listener that the keeper holds, too: so connections wait in it while no worker lives. What is accepted inherits its
/// options.
pub(crate) fn listener(fd: OwnedFd) -> io::Result<TcpListener> {
    upstream::tune(&SockRef::from(&fd))?;
    // Already non-blocking: the keeper made it so.
    TcpListener::from_std(fd.into())
}

/// Accepts for ever.
pub(crate) async fn accept(listener: &TcpListener, house: &Arc<House>) {
    let mut pause = PAUSE;
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                pause = PAUSE;
                house.counts.accepted.inc();
                tokio::spawn(serve(stream, client, Guest::new(Arc::clone(house))));
            }
            Err(error) => {
                house.counts.failed_accepts.inc();
                tracing::warn!(%error, "accepting a connection");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn serve(stream: TcpStream, client: SocketAddr, guest: Guest) {
    let house = &*guest.0;
    let Admitted { ends, warden, segment } = match admit(&stream, client, house) {
        Ok(admitted) => admitted,
        Err(error) => {
            tracing::debug!(%error, %client, "a connection is reset");
            // Otherwise it would look as if the server had ended it.
            if let Err(error) = SockRef::from(&stream).set_linger(Some(Duration::ZERO)) {
                tracing::debug!(%error, "a connection that is reset will look as if it had ended");
            }
            return;
        }
    };
    let connect = async {
        let stream = upstream::connect(ends, segment).await.inspect_err(|error| {
            if matches!(
                error.kind(),
                ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable | ErrorKind::PermissionDenied
            ) {
                house.counts.failed_binds.inc();
            }
            tracing::debug!(%error, client = %ends.client, server = %ends.server, "connecting as the client");
        })?;
        warden.confirm()?;
        Ok(stream)
    };
    house.proxy.serve(stream, ends, &warden, connect).await;
}

/// A connection that something may pass.
struct Admitted {
    ends: Ends,
    warden: Warden<Tables>,
    segment: u32,
}

fn admit(stream: &TcpStream, client: SocketAddr, house: &House) -> io::Result<Admitted> {
    let ends = Ends { client: plain(client), server: plain(stream.local_addr()?) };
    let warden = Warden::new(Arc::clone(&house.tribunal), ends)
        .map_err(|closed| io::Error::other(format!("nothing may pass it: {closed:?}")))?;
    Ok(Admitted { ends, warden, segment: upstream::segment(stream)? })
}

/// The listener is one of both families, to which IPv4 is a part of IPv6 (RFC 4291 section 2.5.5.2).
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A connection that is counted as open, and whose end is noticed, be it a panic.
struct Guest(Arc<House>);

impl Guest {
    fn new(house: Arc<House>) -> Self {
        house.open.fetch_add(1, Ordering::Relaxed);
        Self(house)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        if std::thread::panicking() {
            self.0.counts.panics.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_accepted_has_the_options_of_the_listener() {
        let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        bound.set_nonblocking(true).unwrap();
        let listener = listener(bound.into()).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let options = |socket: SockRef<'_>| {
            let times = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
            let retries = socket.tcp_keepalive_retries().unwrap();
            (socket.tcp_nodelay().unwrap(), socket.keepalive().unwrap(), times, retries)
        };
        let tuned = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        upstream::tune(&SockRef::from(&tuned)).unwrap();
        assert_eq!(options(SockRef::from(&accepted)), options(SockRef::from(&tuned)));
        assert!(accepted.nodelay().unwrap());
    }
}
