//! Frames from outside before the kernel makes packets of them (XDP): what cannot be allowed is dropped here at the
//! least cost. Whatever needs a closer look goes on to the pod's own hook.

use super::{Act, Arrival, Bench, Kernel, Work};
use crate::abi::{Direction, Endpoint};
use crate::family::{Ipv4, Ipv6};
use crate::flow::FlowKey;
use crate::lookup::Origin;
use crate::packet::{Frame, Readable, ether_type, protocol};

use super::judgement::{Asked, permitted, tell};

/// What happens to a frame that arrives at an uplink: dropped, if it would begin a flow to a local pod that policy denies.
#[inline(always)]
pub fn early<K4, K6, F, B>(four: &K4, six: &K6, frame: &F, arrival: &Arrival, mut bench: B) -> Act
where
    K4: Kernel<Ipv4>,
    K6: Kernel<Ipv6>,
    F: Frame,
    B: Bench,
{
    match arrival.ether_type {
        ether_type::IPV4 => bench.four().map_or(Act::Pass, |work| doomed(four, frame, arrival, work)),
        ether_type::IPV6 => bench.six().map_or(Act::Pass, |work| doomed(six, frame, arrival, work)),
        _ => Act::Pass,
    }
}

#[inline(never)]
fn doomed<A: Readable, K: Kernel<A>, F: Frame>(
    kernel: &K,
    frame: &F,
    arrival: &Arrival,
    work: &mut Work<A>,
) -> Act {
    let Some(headers) = A::common(frame) else { return Act::Pass };
    work.headers = headers;
    // In the middle of a connection: the flow's own hook knows best.
    if headers.protocol == protocol::TCP && !headers.is_syn() {
        return Act::Pass;
    }
    let number = kernel.local(headers.destination);
    let Some(own) = kernel.interface(number) else { return Act::Pass };
    let endpoint = own.endpoint.at(kernel.generation());
    if endpoint == Endpoint::HOLD || endpoint.rule_set(Direction::Ingress).is_none() {
        return Act::Pass;
    }
    if !headers.is_syn() && kernel.flow(&FlowKey::of(&headers).0).is_some() {
        return Act::Pass;
    }
    let (direction, origin) = (Direction::Ingress, Origin::Elsewhere);
    let (peer, port) = (headers.source, headers.destination_port);
    work.asked = Asked { number, direction, peer, port, origin, fresh: false };
    work.news = 0;
    match permitted(kernel, work) {
        Act::Drop => {
            tell(kernel, work, arrival);
            Act::Drop
        }
        // A rejection is sent from where there is a packet to answer, and told there.
        Act::Pass | Act::Reject | Act::Redirect => Act::Pass,
    }
}
