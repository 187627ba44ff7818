//! A packet of a flow that was judged here under this generation: one look-up.

use super::Kernel;
use crate::abi::Generation;
use crate::family::Family;
use crate::flow::{Flow, FlowKey, Side};
use crate::packet::{Headers, Readable};

/// An established flow, and which of its ends sent the packet.
pub(super) struct Established {
    pub(super) flow: Flow,
    pub(super) sender: Side,
}

/// Which end of a flow a hook speaks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    ForSender,
    ForReceiver,
}

/// The flow of a packet, if its end at this interface was judged under this generation and the packet is no beginning.
#[inline(always)]
pub(super) fn established<A: Readable, K: Kernel<A>>(
    kernel: &K,
    headers: &Headers<A>,
    interface: u32,
    generation: Generation,
    speaks: Speaks,
) -> Option<Established> {
    if headers.is_syn() {
        return None;
    }
    let (key, sender) = FlowKey::of(headers);
    let flow = kernel.flow(&key)?;
    let own = if speaks == Speaks::ForSender { sender } else { sender.other() };
    if !flow.is_judged(own, interface, generation) || flow.is_over(kernel.now()) {
        return None;
    }
    note(kernel, &key, &flow, sender, headers);
    Some(Established { flow, sender })
}

/// Writes down what a packet says of how long its flow lives, if that is news.
#[inline(always)]
pub(super) fn note<A: Family, K: Kernel<A>>(
    kernel: &K,
    key: &FlowKey<A>,
    flow: &Flow,
    sender: Side,
    headers: &Headers<A>,
) {
    let now = kernel.now();
    if flow.needs_note(sender, headers.tcp_flags, now) {
        let noted = flow.noted(sender, headers.protocol, headers.tcp_flags, now, kernel.settings());
        kernel.note(key, &noted);
    }
}
