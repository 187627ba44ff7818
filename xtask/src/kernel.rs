//! What this machine's kernel says to the BPF object: the verifier accepts it, and in `BPF_PROG_TEST_RUN` it gives the
//! verdicts that the same look-up gives on the host.
//!
//! Nothing is attached or pinned: when this process ends, the kernel forgets programs and maps.

mod frames;
mod tables;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use aya::Ebpf;
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use datapath::abi::Direction;
use datapath::lookup::{self, Query};

use self::tables::Tables;
use crate::process;

/// What came of the check.
pub(crate) enum Said {
    /// The kernel accepts the object and agrees with the host.
    Yes,
    /// The kernel was not asked, for this reason.
    NotAsked(String),
}

/// `TC_ACT_UNSPEC` and `TC_ACT_SHOT`, as `BPF_PROG_TEST_RUN` reports them.
const PASS: u32 = u32::MAX;
const DROP: u32 = 2;

/// `EPERM`: the kernel does not let this process use `bpf()`. (A verifier that refuses a program says `EACCES` or `EINVAL`.)
const EPERM: i32 = 1;

/// Loads the object, and compares its verdicts with the host's.
pub(crate) fn check(object: &Path) -> Result<Said> {
    if !process::is_root() {
        return Ok(Said::NotAsked("loading programs into the kernel needs root".to_owned()));
    }
    let mut ebpf = match Ebpf::load_file(object) {
        Ok(ebpf) => ebpf,
        Err(error) if is_forbidden(&error) => {
            return Ok(Said::NotAsked(format!("the kernel lets this process make no BPF maps: {error}")));
        }
        Err(error) => return Err(error).context("the object cannot be read or its maps cannot be made"),
    };
    for direction in Direction::ALL {
        verify(&mut ebpf, program_name(direction))?;
    }
    agree(&mut ebpf)?;
    Ok(Said::Yes)
}

fn program_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "polder_to_pod",
        Direction::Egress => "polder_from_pod",
    }
}

fn verify(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let program: &mut SchedClassifier =
        ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?.try_into()?;
    program.load().with_context(|| format!("the verifier refuses {name}"))?;
    let steps = program.info()?.verified_instruction_count();
    println!("kernel: {name} passes the verifier ({} instructions walked)", steps.unwrap_or_default());
    Ok(())
}

fn is_forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.raw_os_error() == Some(EPERM))
}

/// Compares kernel and host on empty tables, and on filled ones in both generations.
fn agree(ebpf: &mut Ebpf) -> Result<()> {
    let mut tables = Tables::default();
    let closed = compare(ebpf, &tables)?;
    ensure!(closed.allowed == 0, "an unknown endpoint must be closed, and {} packets passed", closed.allowed);
    tables = Tables::example();
    for generation in [0, 1] {
        tables.generation = generation;
        tables.write(ebpf)?;
        let count = compare(ebpf, &tables)?;
        // Otherwise the example proves nothing.
        ensure!(
            count.allowed > 0 && count.denied > 0,
            "the example tables allow and deny nothing: {count:?}"
        );
        println!(
            "kernel: generation {generation}: {} packets allowed and {} denied, as on the host",
            count.allowed, count.denied
        );
    }
    for (what, frame) in frames::unreadable() {
        for direction in Direction::ALL {
            ensure!(send(ebpf, direction, &frame)? == DROP, "{what} is not dropped ({direction:?})");
        }
    }
    println!("kernel: {} kinds of frames that cannot be read are dropped", frames::unreadable().len());
    Ok(())
}

#[derive(Debug, Default)]
struct Count {
    allowed: usize,
    denied: usize,
}

/// Sends a packet for every query, and fails at the first verdict that is not the host's.
fn compare(ebpf: &Ebpf, tables: &Tables) -> Result<Count> {
    let mut count = Count::default();
    for query in tables::queries() {
        let decision = lookup::judge(tables, &tables::INTERFACE, &query);
        let expected = if decision.verdict.is_allow() { PASS } else { DROP };
        let found = send_query(ebpf, &query)?;
        if found != expected {
            bail!("{query:?}: the kernel returns {found}, and the host decides {decision:?}");
        }
        if decision.verdict.is_allow() {
            count.allowed += 1;
        } else {
            count.denied += 1;
        }
    }
    Ok(count)
}

fn send_query(ebpf: &Ebpf, query: &Query) -> Result<u32> {
    let (transport, port) = query.port.context("the example asks only for protocols with ports")?;
    send(ebpf, query.direction, &frames::frame(query.direction, query.peer, transport, port))
}

fn send(ebpf: &Ebpf, direction: Direction, frame: &[u8]) -> Result<u32> {
    let name = program_name(direction);
    let program: &SchedClassifier = ebpf.program(name).context("the program is loaded")?.try_into()?;
    let result = program.test_run(TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() });
    Ok(result.with_context(|| format!("BPF_PROG_TEST_RUN of {name} fails"))?.return_value)
}
