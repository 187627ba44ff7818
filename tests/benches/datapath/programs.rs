//! The programs under test, over the maps that the agent's dataplane wrote, and two of our own beside them.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{Map, MapData, ProgramArray, RingBuf};
use aya::programs::{ProgramFd, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use netlab::Family;

use crate::test_run;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Does nothing: what a run costs by itself.
    Empty,
    /// Packets from a pod.
    FromPod,
    /// Packets to a pod.
    ToPod,
}

/// Loaded programs.
pub(crate) struct Programs {
    empty: OwnedFd,
    hooks: [ProgramFd; 2],
    /// By hook, then by family.
    turning: [[OwnedFd; 2]; 2],
    /// What the kernel wrote for a reader.
    events: RingBuf<MapData>,
    /// Programs that jump through them need them.
    _jumps: [Jump; 2],
    _object: Ebpf,
}

impl Programs {
    /// Loads the object a second time, over maps that are pinned in a directory.
    pub(crate) fn load(object: &Path, maps: &Path) -> Result<Self> {
        let names = pins(maps)?;
        let mut loader = EbpfLoader::new();
        for name in &names {
            loader.map_pin_path(name.as_str(), maps.join(name));
        }
        let mut ebpf =
            loader.load_file(object).with_context(|| format!("{}: cannot be loaded", object.display()))?;
        let hooks = [hook(&mut ebpf, "polder_from_pod")?, hook(&mut ebpf, "polder_to_pod")?];
        let events = ebpf.take_map("events").context("the object has no map `events`")?;
        let jumps = [jump(&hooks[0])?, jump(&hooks[1])?];
        let turning = |jump: &Jump| -> Result<[OwnedFd; 2]> {
            Ok([turning(jump, Family::V4)?, turning(jump, Family::V6)?])
        };
        Ok(Self {
            empty: test_run::load(&EMPTY).context("the empty program cannot be loaded")?,
            turning: [turning(&jumps[0])?, turning(&jumps[1])?],
            hooks,
            events: RingBuf::try_from(events)?,
            _jumps: jumps,
            _object: ebpf,
        })
    }

    /// A program.
    pub(crate) fn plain(&self, entry: Entry) -> BorrowedFd<'_> {
        match entry {
            Entry::Empty => self.empty.as_fd(),
            Entry::FromPod => self.hooks[0].as_fd(),
            Entry::ToPod => self.hooks[1].as_fd(),
        }
    }

    /// A program behind another one that first counts up the packet's source port: every repetition is a new flow.
    pub(crate) fn turning(&self, entry: Entry, family: Family) -> BorrowedFd<'_> {
        let family = usize::from(family == Family::V6);
        match entry {
            Entry::Empty => self.empty.as_fd(),
            Entry::FromPod => self.turning[0][family].as_fd(),
            Entry::ToPod => self.turning[1][family].as_fd(),
        }
    }

    /// Where the source port is in a frame without options and tags.
    pub(crate) const fn source_port(family: Family) -> usize {
        match family {
            Family::V4 => 14 + 20,
            Family::V6 => 14 + 40,
        }
    }

    /// Reads all events and forgets them: how many.
    pub(crate) fn drain(&mut self) -> usize {
        std::iter::from_fn(|| self.events.next().map(drop)).count()
    }
}

fn pins(maps: &Path) -> Result<Vec<String>> {
    let listed = || -> std::io::Result<Vec<String>> {
        std::fs::read_dir(maps)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    listed().with_context(|| format!("{}: cannot list the pinned maps", maps.display()))
}

fn hook(ebpf: &mut Ebpf, name: &str) -> Result<ProgramFd> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program `{name}`"))?;
    let program: &mut SchedClassifier =
        program.try_into().with_context(|| format!("{name} is no classifier"))?;
    program.load().with_context(|| format!("{name}: the kernel refuses it"))?;
    Ok(program.fd()?.try_clone()?)
}

/// A table of one program to jump to, and its descriptor, which is open as long as it is there.
struct Jump {
    number: RawFd,
    _table: ProgramArray<MapData>,
}

fn jump(to: &ProgramFd) -> Result<Jump> {
    let kind = aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY as u32;
    let table = MapData::create(aya_obj::Map::new_from_params(kind, 4, 4, 1, 0), "bench_jump", None)?;
    let number = table.fd().as_fd().as_raw_fd();
    let mut table = ProgramArray::try_from(Map::ProgramArray(table))?;
    table.set(0, to, 0).context("the program cannot be jumped to")?;
    Ok(Jump { number, _table: table })
}

/// Counts the source port up and jumps. (The port is counted in the order of the machine: all that matters is that no two
/// packets have the same.)
fn turning(jump: &Jump, family: Family) -> Result<OwnedFd> {
    let port = i16::try_from(Programs::source_port(family))?;
    let program = [
        instruction(0xbf, 6, 1, 0, 0),                   // context = r1
        instruction(0x61, 2, 1, 76, 0),                  // data = context.data
        instruction(0x61, 3, 1, 80, 0),                  // end = context.data_end
        instruction(0xbf, 4, 2, 0, 0),                   // r4 = data
        instruction(0x07, 4, 0, 0, i32::from(port) + 2), // r4 += past the port
        instruction(0x2d, 4, 3, 8, 0),                   // if r4 > end, leave
        instruction(0x69, 5, 2, port, 0),                // r5 = the port
        instruction(0x07, 5, 0, 0, 1),                   // r5 += 1
        instruction(0x6b, 2, 5, port, 0),                // the port = r5
        instruction(0xbf, 1, 6, 0, 0),                   // r1 = context
        instruction(0x18, 2, 1, 0, jump.number),         // r2 = the table, in two halves
        instruction(0x00, 0, 0, 0, 0),
        instruction(0xb7, 3, 0, 0, 0),      // r3 = 0
        instruction(0x85, 0, 0, 0, 12),     // jump: bpf_tail_call
        instruction(0xb7, 0, 0, 0, FAILED), // not reached
        instruction(0x95, 0, 0, 0, 0),
    ];
    test_run::load(&program).context("the program that makes every packet a new flow cannot be loaded")
}

/// What a packet returns that could not jump.
const FAILED: i32 = 77;

/// Returns `TC_ACT_UNSPEC`, as programs do that let the next one decide.
const EMPTY: [u64; 2] = [instruction(0xb7, 0, 0, 0, -1), instruction(0x95, 0, 0, 0, 0)];

/// `struct bpf_insn`, on a little-endian machine.
const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    (immediate.cast_unsigned() as u64) << 32
        | (offset.cast_unsigned() as u64) << 16
        | (source as u64) << 12
        | (destination as u64) << 8
        | code as u64
}
