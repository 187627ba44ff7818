//! `AF_PACKET` sockets: the part of them that is needed here, with the unsafe calls it takes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Context, Result, anyhow, ensure};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::namespace::Namespace;
use crate::packet::Arrival;

/// Every ethertype (`ETH_P_ALL`), in network byte order as packet(7) wants it.
const ALL: u16 = 3_u16.to_be();

/// Large enough for a burst of a hundred thousand small frames while the reader waits for a CPU.
const RECEIVE_BUFFER: usize = 64 << 20;

/// A raw packet socket of one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket(Socket);

impl PacketSocket {
    /// A socket that receives every frame of an interface, both ways, or none and can only send.
    pub(crate) fn open(namespace: &Namespace, interface: &str, receive: bool) -> Result<Self> {
        namespace
            .run(|| Self::open_here(interface, receive))
            .with_context(|| format!("a packet socket on {interface} in {}", namespace.name()))
    }

    fn open_here(interface: &str, receive: bool) -> Result<Self> {
        let index =
            if_nametoindex(interface).with_context(|| format!("{interface}: there is no such interface"))?;
        // With protocol 0 nothing is received until bind names the interface and the protocol.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))
            .context("cannot make a packet socket: is this root?")?;
        socket.set_nonblocking(receive)?;
        let socket = Self(socket);
        if receive {
            let size = i32::try_from(RECEIVE_BUFFER).unwrap_or(i32::MAX);
            socket.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &size).context("SO_RCVBUFFORCE")?;
        }
        socket
            .0
            .bind(&link_address(index, if receive { ALL } else { 0 })?)
            .context("cannot bind to the interface")?;
        Ok(socket)
    }

    /// Receives one frame, if there is one.
    pub(crate) fn receive(&self, buffer: &mut Vec<u8>) -> Result<Option<Arrival>> {
        buffer.clear();
        match self.0.recv_from(buffer.spare_capacity_mut()) {
            Ok((length, from)) => {
                // SAFETY: `recv_from` wrote `length` bytes at the start of the spare capacity of a cleared vector, and
                // reports no more than fit there.
                unsafe { buffer.set_len(length) };
                Ok(Some(arrival(&from)))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            // Said once when the interface goes down or away; what arrived before was read before.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
            Err(error) => Err(error).context("cannot read a packet socket"),
        }
    }

    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        let sent =
            self.0.send(frame).with_context(|| format!("cannot send a frame of {} bytes", frame.len()))?;
        ensure!(sent == frame.len(), "{sent} of the {} bytes of a frame were sent", frame.len());
        Ok(())
    }

    /// Sends what is in the transmit ring, and waits until the kernel has taken it.
    pub(crate) fn send_ring(&self) -> Result<()> {
        self.0.send(&[]).map(drop).context("cannot send from the transmit ring")
    }

    /// How many frames the kernel could not deliver since this was asked last.
    pub(crate) fn take_lost(&self) -> Result<u32> {
        let mut statistics = MaybeUninit::<libc::tpacket_stats>::zeroed();
        let mut length = size::<libc::tpacket_stats>()?;
        // SAFETY: both pointers are valid for writes, `length` is the size of what the first points at, and the kernel
        // writes no more than that.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                statistics.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        ensure!(result == 0, "PACKET_STATISTICS: {}", io::Error::last_os_error());
        // SAFETY: two integers, for which every value is valid, the initial zeroes included.
        Ok(unsafe { statistics.assume_init() }.tp_drops)
    }

    /// Sets an option of `SOL_PACKET`.
    pub(crate) fn set_packet_option<T: Copy>(&self, option: i32, value: &T) -> Result<()> {
        self.set_option(libc::SOL_PACKET, option, value)
    }

    fn set_option<T: Copy>(&self, level: i32, option: i32, value: &T) -> Result<()> {
        let value = std::ptr::from_ref(value).cast();
        // SAFETY: the pointer comes from a reference to `T`, so that many bytes can be read; the kernel copies them
        // before it returns.
        let result = unsafe { libc::setsockopt(self.0.as_raw_fd(), level, option, value, size::<T>()?) };
        ensure!(result == 0, "option {option} of level {level}: {}", io::Error::last_os_error());
        Ok(())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn size<T>() -> Result<libc::socklen_t> {
    libc::socklen_t::try_from(size_of::<T>()).map_err(|_| anyhow!("an option of more than 4 GiB"))
}

fn link_address(index: u32, protocol: u16) -> Result<SockAddr> {
    let link = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: protocol,
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is one of the socket addresses that `sockaddr_storage` exists to hold: smaller, of no
    // greater alignment, and of integers only.
    *unsafe { storage.view_as::<libc::sockaddr_ll>() } = link;
    // SAFETY: the family is set, and the storage holds an address of that family and this length.
    Ok(unsafe { SockAddr::new(storage, size::<libc::sockaddr_ll>()?) })
}

fn arrival(from: &SockAddr) -> Arrival {
    // SAFETY: a packet socket reports a `sockaddr_ll`; storage is larger than that, aligned for it, and its bytes are
    // initialised, for which every value is valid in a struct of integers.
    let link = unsafe { from.as_ptr().cast::<libc::sockaddr_ll>().read() };
    match link.sll_pkttype {
        libc::PACKET_HOST => Arrival::Host,
        libc::PACKET_BROADCAST => Arrival::Broadcast,
        libc::PACKET_MULTICAST => Arrival::Multicast,
        libc::PACKET_OUTGOING => Arrival::Outgoing,
        _ => Arrival::OtherHost,
    }
}
