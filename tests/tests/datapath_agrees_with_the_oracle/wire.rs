//! Values of `datapath`, as they lie in memory.
#![expect(
    unsafe_code,
    reason = "aya takes keys and values as plain bytes, and it is the caller who says that they are"
)]

use datapath::abi::{Halves, Identity, PortAtom, RuleKey, RuleRow};
use datapath::event::{Count, CounterKey};
use datapath::interface::Interface;
use datapath::settings::Settings;

/// What passes into the kernel as it lies in memory.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Wire<T>(pub(crate) T);

// SAFETY (all): numbers and arrays of numbers, of which every bit pattern is a valid value, and all padding is a field:
// `datapath` asserts that the sizes are the sums of the fields' sizes.
unsafe impl aya::Pod for Wire<Halves<Identity>> {}
unsafe impl aya::Pod for Wire<Halves<PortAtom>> {}
unsafe impl aya::Pod for Wire<RuleKey> {}
unsafe impl aya::Pod for Wire<RuleRow> {}
unsafe impl aya::Pod for Wire<Interface> {}
unsafe impl aya::Pod for Wire<Settings> {}
unsafe impl aya::Pod for Wire<CounterKey> {}
unsafe impl aya::Pod for Wire<Count> {}
