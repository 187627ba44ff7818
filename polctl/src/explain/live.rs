//! Answers from what agents have in force, with the verdicts of their kernels beside them.
//!
//! ```text
//! the agent of this node ------------------------------------> documents -> answers -> its kernel
//! in the cluster: any agent -> documents -> answers -> the nodes of the pods in them -> their agents' kernels
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use agent_api::client::Client;
use policy_compiler::compiler::Compiler;
use policy_compiler::explain::Party;

use super::group::Answers;
use super::kernel::{Questions, local};
use crate::agent;
use crate::agents::Agents;
use crate::input::Input;

/// How often a difference has to be seen: while a change is on its way to the kernel, the two may differ for a moment.
const TIMES: u32 = 3;

/// How long a change may take, between these.
const PAUSE: Duration = Duration::from_millis(500);

/// The kernels of how many nodes are asked: a workload may have pods on many.
const MOST_NODES: usize = 16;

pub(super) fn answers(args: &super::Args) -> anyhow::Result<Answers> {
    let agents = if args.agent.is_remote() { Some(Agents::find(&args.agent.cluster)?) } else { None };
    let mut seen = 0;
    loop {
        let answers = match &agents {
            Some(agents) => of_cluster(args, agents)?,
            None => of_node(args)?,
        };
        seen += 1;
        if seen == TIMES || !answers.kernel_differs() {
            return Ok(answers);
        }
        std::thread::sleep(PAUSE);
    }
}

fn of_node(args: &super::Args) -> anyhow::Result<Answers> {
    let socket = args.agent.socket();
    let failed = |error| agent::failure(&socket.display(), &error);
    let mut client = agent::connect(socket).map_err(|error| {
        error.context(
            "without -f PATH, an agent on this node is asked for what is in force; with --node or --kubeconfig, those of \
             the cluster",
        )
    })?;
    let status = client.status().map_err(failed)?;
    let mut input = Input::of_agent(&client.world().map_err(failed)?);
    // To compile takes time, and the agent does not wait for long.
    drop(client);
    let mut answers = super::answers(args, &mut input)?;
    let mut questions = Questions::of(&input.compiler, &status, &BTreeSet::new(), &answers);
    let mut client = agent::connect(socket)?;
    questions.put(&mut client).map_err(failed)?;
    questions.beside(&mut answers);
    Ok(answers)
}

fn of_cluster(args: &super::Args, agents: &Agents) -> anyhow::Result<Answers> {
    let failed = |error| agent::failure(&"a node of the cluster", &error);
    let world = match &args.agent.node {
        Some(node) => agents.connect(node)?,
        None => any(agents)?,
    }
    .world()
    .map_err(failed)?;
    let mut input = Input::of_agent(&world);
    let mut answers = super::answers(args, &mut input)?;
    let nodes = match &args.agent.node {
        Some(node) => BTreeSet::from([node.clone()]),
        None => nodes(&input.compiler, &answers),
    };
    if nodes.len() > MOST_NODES {
        answers.notes.push(format!("only the kernels of {MOST_NODES} of {} nodes are asked", nodes.len()));
    }
    let mut asked = Vec::new();
    for node in nodes.iter().take(MOST_NODES) {
        match agents.connect(node) {
            Ok(mut client) => asked.push((client.status().map_err(failed)?, client)),
            Err(error) => answers.notes.push(format!("the kernel of node {node} is not asked: {error:#}")),
        }
    }
    let everywhere: BTreeSet<&str> = asked.iter().flat_map(|(status, _)| local(status)).collect();
    let questions: Vec<_> = asked
        .iter()
        .map(|(status, _)| Questions::of(&input.compiler, status, &everywhere, &answers))
        .collect();
    let clients = asked.iter_mut().map(|(_, client)| client);
    for (mut questions, client) in questions.into_iter().zip(clients) {
        questions.put(client).map_err(failed)?;
        questions.beside(&mut answers);
    }
    Ok(answers)
}

/// The first agent that answers: all of them know the same.
fn any(agents: &Agents) -> anyhow::Result<Client> {
    let mut first = None;
    for node in agents.nodes().take(MOST_NODES) {
        match agents.connect(node) {
            Ok(client) => return Ok(client),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| anyhow::anyhow!("no agent runs in this cluster")))
}

/// The nodes of the pods that answers are about.
fn nodes(compiler: &Compiler, answers: &Answers) -> BTreeSet<String> {
    let units = answers.answers.iter().flat_map(|answer| &answer.units);
    let ends = units.flat_map(|unit| [&unit.from, &unit.to]);
    let pods = ends.filter_map(|end| match end {
        Party::Pod(key, _) => compiler.cluster().pods.get(key),
        Party::Address(_) => None,
    });
    pods.filter_map(|pod| pod.node.as_deref()).map(str::to_owned).collect()
}
