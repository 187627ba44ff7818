//! The plugin: one command of a container runtime.
//!
//! | command | what it does |
//! |---|---|
//! | `ADD` | waits until the agent says that the pod's policy is in force; passes on the result of the plugins before it |
//! | `CHECK` | asks the same, without waiting |
//! | `DEL` | tells the agent; succeeds whatever comes of it, so that no pod is stuck for want of an agent |
//! | `STATUS` | asks whether there is an agent |
//! | `GC` | nothing: the agent sees interfaces go |

use std::env;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use agent_api::client::{Client, Error};
use agent_api::wait::Wait;

use crate::answer::{self, Code, Failure};
use crate::config::{Configuration, pod};

/// How often an agent that does not answer is tried again: it may be about to start.
const RETRY: Duration = Duration::from_millis(100);

/// The largest configuration that is read.
const LARGEST: u64 = 4 << 20;

/// What the runtime says.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// `CNI_COMMAND`.
    pub(crate) command: &'a str,
    /// `CNI_ARGS`.
    pub(crate) arguments: &'a str,
    /// Standard input.
    pub(crate) input: &'a str,
}

/// Answers the runtime on standard output.
pub(crate) fn main() -> ExitCode {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let (command, arguments) = (variable("CNI_COMMAND"), variable("CNI_ARGS"));
    let mut input = String::new();
    let read = std::io::stdin().take(LARGEST).read_to_string(&mut input);
    let answered = match read {
        Ok(_) => answer(&Call { command: &command, arguments: &arguments, input: &input }),
        Err(error) => {
            Err(Failure::new(Code::Input, "the network configuration cannot be read", error.to_string()))
        }
    };
    match answered {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{}", failure.json(&version(&input)));
            ExitCode::FAILURE
        }
    }
}

/// The version in which an error is told: the configuration's, as far as it can be read.
fn version(input: &str) -> String {
    let said = serde_json::from_str::<serde_json::Value>(input)
        .ok()
        .and_then(|configuration| Some(configuration.get("cniVersion")?.as_str()?.to_owned()));
    said.unwrap_or_else(|| answer::NEWEST.to_owned())
}

/// What goes to standard output.
pub(crate) fn answer(call: &Call<'_>) -> Result<String, Failure> {
    match call.command {
        "VERSION" => Ok(answer::versions().to_string()),
        "ADD" => add(call),
        "CHECK" => check(call).map(|()| String::new()),
        "DEL" => {
            del(call);
            Ok(String::new())
        }
        "STATUS" => status(call).map(|()| String::new()),
        "GC" => Configuration::read(call.input).map(|_| String::new()),
        other => Err(Failure::new(
            Code::Environment,
            "the command is not known",
            format!("CNI_COMMAND: found {other:?}, expected ADD, DEL, CHECK, STATUS, GC or VERSION"),
        )),
    }
}

fn add(call: &Call<'_>) -> Result<String, Failure> {
    let configuration = Configuration::read(call.input)?;
    let addresses = configuration.addresses()?;
    let pod = pod(call.arguments)?;
    let name = pod.to_string();
    let patience = configuration.patience();
    wait(&configuration.socket, &Wait { pod, addresses, patience_ms: 0 }, patience).map_err(|details| {
        Failure::new(
            Code::TryAgain,
            format!("the policy of {name} is not in force after {} s", patience.as_secs()),
            details,
        )
    })?;
    Ok(configuration.previous()?.to_string())
}

fn check(call: &Call<'_>) -> Result<(), Failure> {
    let configuration = Configuration::read(call.input)?;
    let addresses = configuration.addresses()?;
    let pod = pod(call.arguments)?;
    let name = pod.to_string();
    wait(&configuration.socket, &Wait { pod, addresses, patience_ms: 0 }, Duration::ZERO).map_err(|details| {
        Failure::new(Code::TryAgain, format!("the policy of {name} is not in force"), details)
    })
}

/// Asks until it is in force or time is up; the error says what was missing last.
fn wait(socket: &Path, wait: &Wait, patience: Duration) -> Result<(), String> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let asked = Wait { patience_ms, ..wait.clone() };
        let asked = Client::connect(socket).and_then(|mut client| client.wait(asked));
        let Err(error) = asked else { return Ok(()) };
        // It took its time and said why; or it will never do.
        let is_final = matches!(error, Error::Version { .. });
        if is_final || Instant::now() + RETRY >= deadline {
            return Err(error.to_string());
        }
        sleep(RETRY);
    }
}

/// A pod that cannot be taken down would be worse than an agent that is not told.
fn del(call: &Call<'_>) {
    let told = || -> Result<(), String> {
        let configuration = Configuration::read(call.input).map_err(|failure| failure.details)?;
        let pod = pod(call.arguments).map_err(|failure| failure.details)?;
        Client::connect(&configuration.socket)
            .and_then(|mut client| client.release(pod))
            .map_err(|error| error.to_string())
    };
    if let Err(why) = told() {
        // Runtimes log standard error.
        eprintln!("polder-cni: the agent was not told that a pod's network is taken down: {why}");
    }
}

fn status(call: &Call<'_>) -> Result<(), Failure> {
    let configuration = Configuration::read(call.input)?;
    let unavailable = |details: String| {
        Failure::new(Code::NotAvailable, "no pod can start: there is no agent to wait for", details)
    };
    Client::connect(&configuration.socket).map(|_| ()).map_err(|error| unavailable(error.to_string()))
}
