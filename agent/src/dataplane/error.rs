//! What can go wrong between the agent and the kernel.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::hooks::Place;

/// An operation on a map failed.
#[derive(Debug)]
pub struct MapError {
    /// The map's name.
    pub map: &'static str,
    /// The key, if it is about one.
    pub key: Option<String>,
    /// What was tried.
    pub operation: &'static str,
    /// What the kernel said.
    pub error: io::Error,
}

/// A map has no room for what it is to hold. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The map's name.
    pub map: &'static str,
    /// How many entries there would be.
    pub needed: usize,
    /// For how many there is room.
    pub size: usize,
}

/// Why the dataplane did not do what it was asked to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// This agent was built without the BPF object, and none was named.
    NoObject,
    /// The object cannot be read.
    Object {
        /// Where it comes from.
        from: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The process may not do what has to be done. Nothing was tried.
    Privileges {
        /// The capabilities that it has not.
        missing: Vec<&'static str>,
    },
    /// The place for pins is none.
    Place {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// Another agent has the place for pins.
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// Something about a pin or file failed.
    Pin {
        /// The path.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel refused to load the programs. What was attached before stays.
    Load(String),
    /// The same for one program.
    Program {
        /// Its name.
        program: &'static str,
        /// What was tried, and what the kernel or its verifier said.
        problem: String,
    },
    /// An operation on a map failed.
    Map(MapError),
    /// A map is too small. Nothing was written.
    Capacity(Capacity),
    /// A program could not be attached, replaced or taken off.
    Hook {
        /// Where.
        place: Place,
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// A program that is attached lets pass what it has to drop.
    Open {
        /// Where it is attached.
        place: Place,
        /// What it returned for a frame at an interface of which it knows nothing.
        returned: u32,
    },
    /// The neighbours of a pod cannot be asked for in its name: it asks itself, after a second.
    Neighbours {
        /// The pod's interface.
        interface: u32,
        /// What the kernel said.
        error: io::Error,
    },
    /// The clock of the programs cannot be read.
    Clock(String),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "map {}: {}", self.map, self.operation)?;
        if let Some(key) = &self.key {
            write!(f, " {key}")?;
        }
        write!(f, ": {}", self.error)
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { map, needed, size } = self;
        write!(f, "map {map} has room for {size} entries and would need {needed}: nothing was written")?;
        match self.option() {
            Some(option) => write!(f, "; start the agent with {option} {needed} or more"),
            None => Ok(()),
        }
    }
}

impl Capacity {
    /// By which option of the agent the map is made larger.
    fn option(&self) -> Option<&'static str> {
        match self.map {
            "rules" => Some("--rules"),
            "addresses4" | "addresses6" => Some("--addresses"),
            "prefixes4" | "prefixes6" => Some("--prefixes"),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoObject => f.write_str(
                "this agent was built without the BPF object: build one with `cargo xtask bpf` and name it with \
                 --bpf-object PATH, or build the agent with POLDER_BPF_OBJECT=PATH",
            ),
            Self::Object { from, problem } => write!(f, "BPF object {from}: {problem}"),
            Self::Place { path, problem } => write!(f, "bpffs directory {}: {problem}", path.display()),
            Self::Privileges { missing } => write!(
                f,
                "capabilities: this process has no {}; expected CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
                missing.join(", ")
            ),
            Self::Taken { path } => write!(
                f,
                "bpffs directory {}: another agent has it; expected one agent to a directory: end that one first, or name \
                 another directory with --bpffs",
                path.display()
            ),
            Self::Pin { path, operation, error } => write!(f, "{}: {operation}: {error}", path.display()),
            Self::Load(problem) => write!(f, "the BPF object cannot be loaded: {problem}"),
            Self::Program { program, problem } => write!(f, "BPF program {program}: {problem}"),
            Self::Map(error) => error.fmt(f),
            Self::Capacity(error) => error.fmt(f),
            Self::Hook { place, operation, error } => write!(f, "{place}: {operation}: {error}"),
            Self::Open { place, returned } => write!(
                f,
                "{place}: the program attached there returned {returned} for a packet of an unknown interface, where it has to \
                 return 2 (drop)"
            ),
            Self::Neighbours { interface, error } => {
                write!(f, "interface {interface}: asking for the pod's neighbours in its name: {error}")
            }
            Self::Clock(problem) => write!(f, "clock of the BPF programs: {problem}"),
        }
    }
}

impl std::error::Error for MapError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl std::error::Error for Capacity {}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Pin { error, .. } | Self::Hook { error, .. } | Self::Neighbours { error, .. } => {
                Some(error)
            }
            Self::Map(error) => Some(error),
            Self::Capacity(error) => Some(error),
            _ => None,
        }
    }
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl From<Capacity> for Error {
    fn from(error: Capacity) -> Self {
        Self::Capacity(error)
    }
}
