//! Answers from what an agent has in force, with its kernel's verdict beside them.

use std::time::Duration;

use super::group::Answers;
use super::kernel::Questions;
use crate::agent;
use crate::input::Input;

/// How often a difference has to be seen: while a change is on its way to the kernel, the two may differ for a moment.
const TIMES: u32 = 3;

/// How long a change may take, between these.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) fn answers(args: &super::Args) -> anyhow::Result<Answers> {
    let mut seen = 0;
    loop {
        let answers = once(args)?;
        seen += 1;
        if seen == TIMES || !answers.kernel_differs() {
            return Ok(answers);
        }
        std::thread::sleep(PAUSE);
    }
}

fn once(args: &super::Args) -> anyhow::Result<Answers> {
    let socket = &args.socket;
    let failed = |error| agent::failure(socket, &error);
    let mut client = agent::connect(socket).map_err(|error| {
        error.context("without -f PATH, an agent on this node is asked for what is in force")
    })?;
    let status = client.status().map_err(failed)?;
    let mut input = Input::of_agent(&client.world().map_err(failed)?);
    // To compile takes time, and the agent does not wait for long.
    drop(client);
    let mut answers = super::answers(args, &mut input)?;
    let mut questions = Questions::of(&input.compiler, &status, &answers);
    let mut client = agent::connect(socket)?;
    questions.put(&mut client).map_err(failed)?;
    questions.beside(&mut answers);
    Ok(answers)
}
