//! What `datapath`'s hooks ask of the kernel, beyond the look-up.

use core::arch::asm;

use aya_ebpf::bindings::{BPF_EXIST, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_jiffies64;
use datapath::detour::{self, Detour};
use datapath::event::{Report, Subject};
use datapath::flow::{Flow, FlowKey, Fragment, FragmentKey};
use datapath::hook::{Kernel, Service, ServiceKey};
use datapath::interface::Interface;
use datapath::settings::Settings;

use crate::maps::{self, DETOURED, KernelMaps, SERVICES, SHARES, Stored};
use crate::report;

/// The clock, in ticks, cut to 32 bits.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_jiffies64() as u32 }
}

impl<A: Stored> Kernel<A> for KernelMaps<A> {
    #[inline(always)]
    fn settings(&self) -> &Settings {
        maps::settings()
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        now()
    }

    #[inline(always)]
    fn interface(&self, number: u32) -> Option<&Interface> {
        maps::interface(number)
    }

    #[inline(always)]
    fn number(&self, index: u16) -> u32 {
        maps::number(index)
    }

    #[inline(always)]
    fn local(&self, address: A) -> u32 {
        address.local()
    }

    #[inline(always)]
    fn is_node(&self, address: A) -> bool {
        address.is_node()
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<Service<A>> {
        // SAFETY: as in `Stored::exact`.
        let row = unsafe { SERVICES.get(key) }?;
        let address = A::from_row(&row.backend);
        let port = row.port;
        Some(Service { backend: if address.is_unspecified() { None } else { Some((address, port)) } })
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey<A>) -> Option<Flow> {
        let flow = A::flow(key)?;
        // SAFETY: the pointer is to a value of the map. Another CPU may change the value meanwhile: its fields are read
        // one by one, each is valid whatever it holds, and the judgement of an end is written with the whole entry only.
        Some(unsafe { *flow })
    }

    #[inline(never)]
    fn note(&self, key: &FlowKey<A>, flow: &Flow) {
        if let Some(there) = A::flow(key) {
            // SAFETY: as in `flow`. Only what says how long the entry lives is written: should the memory be another
            // flow's by now, that one lives a little longer or shorter, and nothing more.
            unsafe { (*there).copy_note(flow) };
        }
    }

    #[inline(always)]
    fn track(&self, key: &FlowKey<A>, flow: &Flow) -> bool {
        track(key, flow)
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey<A>) -> Option<Fragment> {
        A::fragment(key)
    }

    #[inline(always)]
    fn remember(&self, key: &FragmentKey<A>, fragment: &Fragment) {
        A::put_fragment(key, fragment);
    }

    #[inline(always)]
    fn detour(&self, key: &FlowKey<A>) -> Option<Detour> {
        A::detour(key)
    }

    #[inline(always)]
    fn set_detour(&self, key: &FlowKey<A>, detour: &Detour) -> bool {
        A::put_detour(key, detour)
    }

    #[inline(always)]
    fn detoured(&self, index: u16) -> u32 {
        DETOURED.get(u32::from(index)).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn note_detour(&self, index: u16) {
        if let Some(last) = DETOURED.get_ptr_mut(u32::from(index)) {
            let moment = detour::moment(now());
            // SAFETY: the pointer is to a value of an array, which stays while programs run. Other CPUs write much the same, and
            // each only what is not there yet: they would take the line from each other with every packet.
            unsafe {
                if last.read_volatile() != moment {
                    last.write_volatile(moment);
                }
            }
        }
    }

    #[inline(always)]
    fn report(&self, report: &Report, subject: &Subject) {
        report::report(report, subject);
    }
}

/// Writes a flow. A new one counts in its owner's share, until user space removes it.
#[inline(never)]
fn track<A: Stored>(key: &FlowKey<A>, flow: &Flow) -> bool {
    // Most flows that were answered are there, most others are not: one look-up for each is saved.
    if flow.is_answered() && A::put_flow(key, flow, u64::from(BPF_EXIST)) {
        return true;
    }
    let Some(share) = SHARES.get_ptr_mut(u32::from(flow.owner)) else { return false };
    // Two CPUs may both see the last free place: the share is then exceeded by one for each CPU at most.
    // SAFETY: the pointer is to a value of an array, which stays while programs run.
    let has_room = unsafe { share.read_volatile() } < u64::from(maps::settings().flow_share);
    if has_room && A::put_flow(key, flow, u64::from(BPF_NOEXIST)) {
        increment(share);
        return true;
    }
    // It is there, or there is no room.
    let Some(there) = A::flow(key) else { return false };
    // SAFETY: as in `flow`. An owner that is another flow's by now would count in its share until the entry is over.
    let owner = unsafe { (*there).owner };
    A::put_flow(key, &flow.owned_by(owner), u64::from(BPF_EXIST))
}

/// Adds one to a number that all CPUs share. `core` has no atomic addition for this target.
#[inline(always)]
fn increment(number: *mut u64) {
    // SAFETY: the only pointer that comes here is to a value of `SHARES`: eight bytes, aligned. The instruction (an atomic
    // addition without a result, which every kernel has) changes nothing else.
    unsafe { asm!("lock *(u64 *)({number} + 0) += {one}", number = in(reg) number, one = in(reg) 1_u64) };
}
