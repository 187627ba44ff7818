//! A program on a device: it is attached, frames go by and it runs; it is detached and runs no more.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::tc::{NlOptions, TcAttachOptions, TcError, qdisc_add_clsact};
use aya::programs::{LinkOrder, Program, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::util::KernelVersion;

use crate::frames;
use crate::report::{Outcome, Report};
use crate::veth::{NEAR, Pair};

/// The first kernel with tcx.
const TCX: KernelVersion = KernelVersion::new(6, 6, 0);
/// A device that has just come up passes frames a moment later (`linkwatch`), under emulation much later.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two frames, and between the last one and the look at the count.
const PAUSE: Duration = Duration::from_millis(10);
/// Frames that must not be seen after a program has been detached.
const FRAMES_AFTER: usize = 5;

/// How a classifier is attached.
#[derive(Clone, Copy)]
enum Way {
    Tcx,
    Clsact,
}

/// Tries every way in which a program of this type can be attached.
pub(crate) fn everywhere(name: &str, program: &mut Program, pair: &Pair, report: &mut Report) {
    match program {
        Program::SchedClassifier(program) => classifier(name, program, pair, report),
        Program::Xdp(program) => {
            for (step, mode) in [("xdp generic", XdpMode::Skb), ("xdp driver", XdpMode::Driver)] {
                report.add(name, step, &outcome(xdp(program, mode, pair)));
            }
        }
        // `program::load` has refused every other type.
        _ => {}
    }
}

fn classifier(name: &str, program: &mut SchedClassifier, pair: &Pair, report: &mut Report) {
    // A kernel that does not say its version is taken for one with tcx: then the attempt tells.
    let has_tcx = KernelVersion::current().map_or(true, |version| version >= TCX);
    for (step, way, side) in [
        ("tcx ingress", Way::Tcx, TcAttachType::Ingress),
        ("tcx egress", Way::Tcx, TcAttachType::Egress),
        ("clsact ingress", Way::Clsact, TcAttachType::Ingress),
        ("clsact egress", Way::Clsact, TcAttachType::Egress),
    ] {
        let outcome = match way {
            Way::Tcx if !has_tcx => Outcome::Skipped("tcx came with kernel 6.6".to_owned()),
            way => outcome(traffic_control(program, way, side, pair)),
        };
        report.add(name, step, &outcome);
    }
}

fn outcome(runs: Result<u64>) -> Outcome {
    match runs {
        Ok(runs) => Outcome::Passed(format!("runs: {runs} while attached, 0 after")),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

fn traffic_control(program: &mut SchedClassifier, way: Way, side: TcAttachType, pair: &Pair) -> Result<u64> {
    let options = match way {
        Way::Tcx => TcAttachOptions::TcxOrder(LinkOrder::default()),
        Way::Clsact => {
            add_clsact()?;
            TcAttachOptions::Netlink(NlOptions::default())
        }
    };
    let send = match side {
        TcAttachType::Egress => Pair::send_out,
        _ => Pair::send_in,
    };
    let before = program.info()?.run_count();
    let link = program.attach_with_options(NEAR, side, options).context("it cannot be attached")?;
    let seen = seen(pair, send, || Ok(program.info()?.run_count() - before));
    program.detach(link).context("it cannot be detached")?;
    unseen(pair, send, || Ok(program.info()?.run_count()))?;
    seen
}

fn xdp(program: &mut Xdp, mode: XdpMode, pair: &Pair) -> Result<u64> {
    let before = program.info()?.run_count();
    let link = program.attach(NEAR, mode).context("it cannot be attached")?;
    let seen = seen(pair, Pair::send_in, || Ok(program.info()?.run_count() - before));
    program.detach(link).context("it cannot be detached")?;
    unseen(pair, Pair::send_in, || Ok(program.info()?.run_count()))?;
    seen
}

/// The queueing discipline that classifiers hang on; it stays for the next one.
fn add_clsact() -> Result<()> {
    match qdisc_add_clsact(NEAR) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result.with_context(|| format!("{NEAR} gets no clsact")),
    }
}

type Send = fn(&Pair, &[u8]) -> Result<()>;

/// Sends frames until the program has run, and gives how often it did.
fn seen(pair: &Pair, send: Send, runs: impl Fn() -> Result<u64>) -> Result<u64> {
    let (start, frame, mut sent) = (Instant::now(), frames::plain(), 0_usize);
    while start.elapsed() < PATIENCE {
        send(pair, &frame)?;
        sent += 1;
        thread::sleep(PAUSE);
        match runs()? {
            0 => {}
            runs => return Ok(runs),
        }
    }
    bail!("it was attached, {sent} frames were sent, and it did not run");
}

/// Sends frames, and fails if the program still runs.
fn unseen(pair: &Pair, send: Send, runs: impl Fn() -> Result<u64>) -> Result<()> {
    let before = runs()?;
    for _ in 0..FRAMES_AFTER {
        send(pair, &frames::plain())?;
    }
    thread::sleep(PAUSE);
    let after = runs()?;
    ensure!(before == after, "it was detached and still ran {} times", after - before);
    Ok(())
}
