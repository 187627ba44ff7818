//! Neighbours of a pod that was held, asked for in its name.
//!
//! While a pod is held its ARP and neighbour solicitations are dropped too: whose address it has is not known yet, so it
//! could claim any. Its kernel asks again after a second, for which it is silent although everything is open. So when it is
//! opened, the same questions are put once more as if they came from the pod, by frames that a program which lets
//! everything pass is run on (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18): they enter by the pod's interface and meet its
//! programs as its own would. Answers to what it never asked are ignored by its kernel (`arp_accept`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, OwnedFd};

use super::error::Error;
use super::interfaces::PodInterface;
use super::sys::live;

/// Somebody whom a pod may want to reach on its own link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its link address, if known: it alone is asked.
    pub mac: Option<[u8; 6]>,
}

/// What kernels that know no live frames say.
const UNKNOWN: [i32; 2] = [libc::EINVAL, libc::EOPNOTSUPP];

/// The program; none where the kernel has no such thing.
#[derive(Debug)]
pub(super) struct Neighbours {
    program: Option<OwnedFd>,
}

impl Neighbours {
    pub(super) fn new() -> Self {
        let program = live::load_pass();
        if let Err(error) = &program {
            tracing::info!(%error, "new pods ask for their neighbours again by themselves, after a second");
        }
        Self { program: program.ok() }
    }

    /// Asks; gives how many questions were put.
    pub(super) fn ask(&mut self, pod: &PodInterface, neighbours: &[Neighbour]) -> Result<usize, Error> {
        let Some(program) = &self.program else { return Ok(0) };
        let mut asked = 0;
        for neighbour in neighbours {
            let Some(frame) = question(pod, neighbour) else { continue };
            match live::run(program.as_fd(), &frame, pod.interface) {
                Ok(()) => asked += 1,
                Err(error) if error.raw_os_error().is_some_and(|number| UNKNOWN.contains(&number)) => {
                    tracing::info!(%error, "new pods ask for their neighbours again by themselves, after a second");
                    self.program = None;
                    return Ok(asked);
                }
                // The device may be gone again.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(asked),
                Err(error) => return Err(Error::Neighbours { interface: pod.interface, error }),
            }
        }
        Ok(asked)
    }
}

/// The frame by which the pod would ask for a neighbour; none if it has no address of that family.
fn question(pod: &PodInterface, neighbour: &Neighbour) -> Option<Vec<u8>> {
    match neighbour.address {
        IpAddr::V4(target) => Some(arp(pod.mac, pod.ipv4?, target, neighbour.mac.unwrap_or([0xff; 6]))),
        IpAddr::V6(target) => {
            let [.., a, b, c] = target.octets();
            let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
            // Always to the group: an answer to a question to one address may leave out the link address (RFC 4861 section
            // 7.2.4). The frame goes to one alone if that one is known (RFC 6085), else to the group (RFC 2464 section 7).
            let to = neighbour.mac.unwrap_or([0x33, 0x33, 0xff, a, b, c]);
            Some(solicitation(pod.mac, pod.ipv6?, target, group, to))
        }
    }
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16) -> Vec<u8> {
    [to.as_slice(), &from, &kind.to_be_bytes()].concat()
}

/// RFC 826.
fn arp(mac: [u8; 6], own: Ipv4Addr, target: Ipv4Addr, to: [u8; 6]) -> Vec<u8> {
    let mut frame = ethernet(to, mac, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(own.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// RFC 4861 section 4.3.
fn solicitation(mac: [u8; 6], own: Ipv6Addr, target: Ipv6Addr, to: Ipv6Addr, to_mac: [u8; 6]) -> Vec<u8> {
    const LENGTH: u8 = 32;
    const ICMP: u8 = 58;
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    // Its own link address.
    message.extend([1, 1]);
    message.extend(mac);
    let pseudo =
        [own.octets().as_slice(), &to.octets(), &[0, 0, 0, LENGTH, 0, 0, 0, ICMP], &message].concat();
    let sum = checksum(&pseudo).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let mut frame = ethernet(to_mac, mac, 0x86dd);
    frame.extend([0x60, 0, 0, 0, 0, LENGTH, ICMP, 255]);
    frame.extend(own.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: PodInterface = PodInterface {
        interface: 7,
        mac: [2, 0, 0, 0, 0, 2],
        ipv4: Some(Ipv4Addr::new(10, 0, 0, 2)),
        ipv6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
        link_local: None,
    };

    #[test]
    fn a_question_is_what_the_pod_itself_would_ask() {
        let gateway = Neighbour { address: Ipv4Addr::new(10, 0, 0, 1).into(), mac: None };
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 8, 6, // to all
            0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1,
        ];
        assert_eq!(question(&POD, &gateway).unwrap(), expected);
        let pod = Neighbour { address: Ipv4Addr::new(10, 0, 0, 3).into(), mac: Some([2, 0, 0, 0, 0, 3]) };
        assert_eq!(question(&POD, &pod).unwrap()[..6], [2, 0, 0, 0, 0, 3], "it alone is asked");
        let six = Neighbour { address: "fd00::11:2233".parse().unwrap(), mac: None };
        let frame = question(&POD, &six).unwrap();
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x11, 0x22, 0x33]);
        assert_eq!(frame[38..54], "ff02::1:ff11:2233".parse::<Ipv6Addr>().unwrap().octets());
        let one = Neighbour { mac: Some([2, 0, 0, 0, 0, 3]), ..six };
        assert_eq!(question(&POD, &one).unwrap()[6..], frame[6..], "but for whom the frame is for");
        let pseudo = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, 58], &frame[54..]].concat();
        assert_eq!((frame.len(), checksum(&pseudo)), (86, 0), "a right checksum sums up to nothing");
        assert_eq!(question(&PodInterface { ipv6: None, ..POD }, &six), None);
    }
}
