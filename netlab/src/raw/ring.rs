//! A transmit ring shared with the kernel (`PACKET_TX_RING`): what is sent from it is a non-linear packet.
//!
//! The kernel copies only the link header into the packet's linear part, and leaves the rest in the ring's own pages:
//! a program that reads headers without pulling them first sees 14 bytes.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::packet_socket::PacketSocket;

/// One frame of this size is one block: a ring of one frame, which is enough for a sender that waits.
const SIZE: u32 = 128 << 10;

/// Where a frame's bytes begin: behind the header, in the place where a received frame would have its address
/// (`tpacket_parse_header` in `net/packet/af_packet.c`).
const DATA: usize = libc::TPACKET2_HDRLEN - size_of::<libc::sockaddr_ll>();

/// A mapped ring of one frame.
#[derive(Debug)]
pub(super) struct Ring {
    memory: NonNull<libc::c_void>,
    length: NonZeroUsize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and `Ring` is its only owner; it is not `Sync`, so the
// frame is written by one thread at a time.
unsafe impl Send for Ring {}

impl Ring {
    /// Gives a socket a transmit ring.
    pub(super) fn map(socket: &PacketSocket) -> Result<Self> {
        let version = i32::try_from(libc::tpacket_versions::TPACKET_V2 as u32)?;
        socket.set_packet_option(libc::PACKET_VERSION, &version).context("PACKET_VERSION")?;
        let request =
            libc::tpacket_req { tp_block_size: SIZE, tp_block_nr: 1, tp_frame_size: SIZE, tp_frame_nr: 1 };
        socket.set_packet_option(libc::PACKET_TX_RING, &request).context("PACKET_TX_RING")?;
        let length = NonZeroUsize::new(usize::try_from(SIZE)?).context("a ring has a size")?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses the place, so no memory that is in use is replaced; the length is the ring's.
        let memory = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, socket.as_fd(), 0) };
        Ok(Self { memory: memory.context("cannot map the transmit ring")?, length })
    }

    /// Sends one frame, and waits until the kernel has let go of it.
    pub(super) fn send(&mut self, socket: &PacketSocket, frame: &[u8]) -> Result<()> {
        ensure!(
            DATA + frame.len() <= self.length.get(),
            "a frame of {} bytes does not fit a ring of {}",
            frame.len(),
            self.length
        );
        let header = self.memory.cast::<libc::tpacket2_hdr>();
        // SAFETY: the mapping is page-aligned, lives as long as `self`, and is longer than the header; the kernel reads
        // and writes this word too, which is why it is only touched as an atomic.
        let status = unsafe { AtomicU32::from_ptr(&raw mut (*header.as_ptr()).tp_status) };
        let before = status.load(Ordering::Acquire);
        ensure!(
            before == libc::TP_STATUS_AVAILABLE,
            "the transmit ring's frame has the status {before}, not 0"
        );
        // SAFETY: in the state "available" the frame is ours alone until the status changes; header and bytes lie within
        // the mapping, as was checked above, and no reference to them exists.
        unsafe {
            (&raw mut (*header.as_ptr()).tp_len).write(u32::try_from(frame.len())?);
            let data = self.memory.cast::<u8>().as_ptr().add(DATA);
            ptr::copy_nonoverlapping(frame.as_ptr(), data, frame.len());
        }
        status.store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        let sent = socket.send_ring();
        if status.load(Ordering::Acquire) & libc::TP_STATUS_WRONG_FORMAT != 0 {
            bail!("the kernel refuses a frame of {} bytes in the transmit ring", frame.len());
        }
        sent
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping that `map` made, and nothing can refer to it any more.
        if let Err(errno) = unsafe { munmap(self.memory, self.length.get()) } {
            eprintln!("netlab: cannot unmap a transmit ring: {errno}");
        }
    }
}
