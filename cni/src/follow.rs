//! Staying behind the node's CNI, whatever others write.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::install::{Did, Place};

/// How often the files are looked at: a few small ones, so looking costs less than being told of changes.
const EVERY: Duration = Duration::from_secs(1);

/// Installs, and again whenever something changed, until told to stop. What is installed stays.
pub(crate) fn follow(place: &Place) -> Result<()> {
    let mut stop = signals()?;
    println!("{}", place.install_program()?);
    let mut last = String::new();
    loop {
        // Somebody may be in the middle of writing: what is wrong now may be right the next time.
        let now = match place.keep_program().and_then(|()| place.install_configuration()) {
            Ok(Did::Nothing(_)) => None,
            Ok(did) => Some(did.to_string()),
            Err(error) => Some(format!("error: {error:#}")),
        };
        if let Some(now) = now
            && now != last
        {
            println!("{now}");
            last = now;
        }
        sleep(EVERY);
        if stop.pending().next().is_some() {
            return Ok(());
        }
    }
}

/// Waits to be told to stop.
pub(crate) fn idle() -> Result<()> {
    println!("nothing is left to do on this node");
    signals()?.forever().next();
    Ok(())
}

/// A process that is the first of its namespace is not stopped by a signal that it does not handle.
fn signals() -> Result<Signals> {
    Signals::new([SIGTERM, SIGINT]).context("asking to be told when to stop")
}
