//! The programs, loaded over pinned maps.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use aya::maps::Map as AyaMap;
use aya::programs::Program as AyaProgram;
use aya::{Ebpf, EbpfLoader};

use super::error::Error;
use super::log::Written;
use super::object::Object;
use super::sys;
use super::sys::map::{MMAPABLE, RawMap};

/// A hook of a packet's way, and so a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Packets from a pod: TC ingress of the near end of its veth.
    FromPod,
    /// Packets to a pod: TC egress of the near end of its veth.
    ToPod,
    /// Packets from outside: TC ingress of uplinks and tunnel devices.
    FromOutside,
    /// Packets that leave the node: TC egress of uplinks and tunnel devices.
    ToOutside,
    /// Frames from outside, before they are packets: XDP of uplinks.
    Early,
    /// Packets from a proxy: TC ingress of the near end of its veth.
    FromProxy,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 6] =
        [Self::FromPod, Self::ToPod, Self::FromOutside, Self::ToOutside, Self::Early, Self::FromProxy];

    /// The name of the program in the object.
    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::FromPod => "polder_from_pod",
            Self::ToPod => "polder_to_pod",
            Self::FromOutside => "polder_from_outside",
            Self::ToOutside => "polder_to_outside",
            Self::Early => "polder_early",
            Self::FromProxy => "polder_from_proxy",
        }
    }

    /// The name in pins and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from-pod",
            Self::ToPod => "to-pod",
            Self::FromOutside => "from-outside",
            Self::ToOutside => "to-outside",
            Self::Early => "early",
            Self::FromProxy => "from-proxy",
        }
    }
}

/// A loaded program.
#[derive(Debug)]
pub(super) struct Program {
    fd: OwnedFd,
    /// Its id in the kernel.
    pub(super) id: u32,
}

impl Program {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// To load a program takes a verifier a good part of a second on a busy machine; longer than this something is wrong.
const LOADED_IN: Duration = Duration::from_secs(10);

/// All programs.
#[derive(Debug)]
pub(super) struct Programs {
    object: Arc<Object>,
    maps: PathBuf,
    hooks: [Program; Hook::ALL.len()],
    /// See [`Self::other`].
    seconds: BTreeMap<Hook, Program>,
    /// Seconds that are being loaded.
    coming: Option<mpsc::Receiver<(Hook, Program)>>,
    /// Tells the time when it is run; never attached.
    pub(super) clock: Program,
    /// The buffer of events, until somebody reads it.
    pub(super) events: Option<AyaMap>,
    /// What programs that were built for debugging write down, until somebody reads it.
    pub(super) log: Option<Written>,
}

impl Programs {
    /// Loads all programs over the maps that are pinned in a directory; those that are missing are created.
    pub(super) fn load(object: Object, maps: &Path) -> Result<Self, Error> {
        let mut ebpf = parse(&object, maps)?;
        let mut load = |hook: Hook| load(&mut ebpf, hook.program());
        let hooks = [
            load(Hook::FromPod)?,
            load(Hook::ToPod)?,
            load(Hook::FromOutside)?,
            load(Hook::ToOutside)?,
            load(Hook::Early)?,
            load(Hook::FromProxy)?,
        ];
        let clock = self::load(&mut ebpf, "polder_clock")?;
        let events = ebpf.take_map("events");
        let log = Written::of(&mut ebpf)?;
        let (object, maps) = (Arc::new(object), maps.to_owned());
        Ok(Self { object, maps, hooks, seconds: BTreeMap::new(), coming: None, clock, events, log })
    }

    /// Has the seconds loaded by another thread, so that nobody waits for the verifier while a stranger is in front.
    pub(super) fn prepare(&mut self) {
        if self.coming.is_some() {
            return;
        }
        let (sender, coming) = mpsc::channel();
        let (object, maps) = (Arc::clone(&self.object), self.maps.clone());
        let spawned = thread::Builder::new().name("seconds".to_owned()).spawn(move || {
            let each = || {
                let mut ebpf = parse(&object, &maps)?;
                for hook in Hook::ALL.into_iter().filter(|hook| *hook != Hook::Early) {
                    // Nobody waits for them any more.
                    if sender.send((hook, load(&mut ebpf, hook.program())?)).is_err() {
                        break;
                    }
                }
                Ok::<(), Error>(())
            };
            if let Err(error) = each() {
                tracing::warn!(%error, "programs to come in front of others with are loaded when they are needed");
            }
        });
        match spawned {
            Ok(_ends_by_itself) => self.coming = Some(coming),
            Err(error) => {
                tracing::warn!(%error, "programs to come in front of others with are loaded when they are needed");
            }
        }
    }

    pub(super) fn hook(&self, hook: Hook) -> &Program {
        &self.hooks[hook as usize]
    }

    /// The same program, but not this one: the kernel lets no program be twice on one hook, so to stand in front of a
    /// stranger without a moment of standing nowhere takes two.
    pub(super) fn other(&mut self, hook: Hook, than: u32) -> Result<&Program, Error> {
        if self.hook(hook).id != than {
            return Ok(&self.hooks[hook as usize]);
        }
        while !self.seconds.contains_key(&hook)
            && let Some(Ok((of, program))) = self.coming.as_ref().map(|coming| coming.recv_timeout(LOADED_IN))
        {
            self.seconds.insert(of, program);
        }
        match self.seconds.entry(hook) {
            Entry::Occupied(there) => Ok(there.into_mut()),
            Entry::Vacant(free) => {
                Ok(free.insert(load(&mut parse(&self.object, &self.maps)?, hook.program())?))
            }
        }
    }

    /// Whether a program is one of ours for this hook.
    pub(super) fn is_ours(&self, hook: Hook, id: u32) -> bool {
        self.by_id(hook, id).is_some()
    }

    /// Our program of this hook with this id. (To open any program by its id takes `CAP_SYS_ADMIN`.)
    pub(super) fn by_id(&self, hook: Hook, id: u32) -> Option<&Program> {
        let ours = std::iter::once(self.hook(hook)).chain(self.seconds.get(&hook));
        ours.into_iter().find(|program| program.id == id)
    }
}

fn parse(object: &Object, maps: &Path) -> Result<Ebpf, Error> {
    create_shares(object, maps)?;
    let mut loader = EbpfLoader::new();
    for (name, shape) in &object.maps {
        loader.map_pin_path(name.as_str(), maps.join(name)).map_max_entries(name.as_str(), shape.max_entries);
    }
    let loaded = loader.load(object.bytes()).map_err(|error| Error::Load(chain(&error)))?;
    verify(object, maps)?;
    Ok(loaded)
}

/// Creates the one map that the object cannot ask for: with values that user space can map.
fn create_shares(object: &Object, maps: &Path) -> Result<(), Error> {
    let path = maps.join("shares");
    let failed = |operation, error| Error::Pin { path: path.clone(), operation, error };
    let Some(shape) = object.maps.get("shares") else {
        return Err(object.problem("has no map `shares`, which this agent needs".to_owned()));
    };
    if sys::pinned(&path).map_err(|error| failed("open", error))?.is_some() {
        return Ok(());
    }
    let fd =
        RawMap::create("shares", *shape, MMAPABLE, None).map_err(|error| failed("create the map", error))?;
    sys::pin(fd.as_fd(), &path).map_err(|error| failed("pin the map", error))
}

/// Whether what is pinned is what the object wants: aya takes pinned maps as they are.
fn verify(object: &Object, maps: &Path) -> Result<(), Error> {
    for (name, wanted) in &object.maps {
        let path = maps.join(name);
        let failed = |operation, error| Error::Pin { path: path.clone(), operation, error };
        let Some(fd) = sys::pinned(&path).map_err(|error| failed("open the pinned map", error))? else {
            return Err(failed("open the pinned map", std::io::ErrorKind::NotFound.into()));
        };
        let found = RawMap::new(fd, 1).map_err(|error| failed("ask what it is", error))?.shape();
        // A ring buffer has neither keys nor values, whatever the object says of them.
        if found != *wanted && !(name == "events" && found.max_entries == wanted.max_entries) {
            return Err(object.problem(format!("wants map {name} as {wanted:?}, but pinned is {found:?}")));
        }
    }
    Ok(())
}

fn load(ebpf: &mut Ebpf, name: &'static str) -> Result<Program, Error> {
    let problem = |problem: String| Error::Program { program: name, problem };
    let program = ebpf.program_mut(name).ok_or_else(|| problem("is not in the object".to_owned()))?;
    match program {
        AyaProgram::SchedClassifier(classifier) => classifier.load(),
        AyaProgram::Xdp(early) => early.load(),
        _ => return Err(problem("is neither a classifier nor an XDP program".to_owned())),
    }
    .map_err(|error| problem(format!("the kernel refuses it: {}", ends(&chain(&error)))))?;
    let fd = program.fd().map_err(|error| problem(chain(&error)))?;
    let fd = fd.as_fd().try_clone_to_owned().map_err(|error| problem(error.to_string()))?;
    let id = sys::program_id(fd.as_fd()).map_err(|error| problem(error.to_string()))?;
    Ok(Program { fd, id })
}

/// The first line of a text and the last few: a verifier says what it does not like at the end of up to 16 MiB.
fn ends(text: &str) -> String {
    const LAST: usize = 8;
    let lines: Vec<&str> = text.lines().collect();
    match lines.as_slice() {
        [first, middle @ .., _] if middle.len() > LAST => {
            let first: String = first.chars().take(200).collect();
            let last = lines.get(lines.len() - LAST..).unwrap_or(&[]);
            format!("{first}\n(...)\n{}", last.join("\n"))
        }
        _ => text.to_owned(),
    }
}

/// An error with all that is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        next = error.source();
    }
    text
}
