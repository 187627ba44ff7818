//! `polctl flows`: what was just allowed and denied, connections and requests, and by which rule.
//!
//! ```text
//! agent --Flow, Lost--> line (text) | a JSON object each, as they come; until the end, Ctrl-C, or a reader that hangs up
//! ```

mod line;

use std::io::{self, Write};
use std::process::ExitCode;

use agent_api::flow::FlowVerdict;
use agent_api::reply::Reply;
use agent_api::request::{Flows, Request};
use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use crate::agent;
use crate::clean::{clean, clean_json};

/// What this node has allowed and denied, and why
///
/// One line for each new connection, for packets that were dropped, and for requests: when, from whom to whom, the verdict, at
/// whose ingress or egress, and the rule that decided. Requests that were allowed are told while somebody follows.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LONG_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    agent: agent::Args,

    /// Go on with flows as they come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// Only flows from or to this pod
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = pod)]
    pod: Option<String>,

    /// Only flows with this verdict
    #[arg(long, value_enum)]
    verdict: Option<Verdict>,

    /// Only flows since then: a time (2026-01-02T03:04:05Z), or how long ago (5m, 1h30m)
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// One line a flow
    Text,
    /// One list of objects; not with --follow, for a list has an end
    Json,
    /// One object a line, for programs
    Jsonl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Verdict {
    /// It went on
    Allowed,
    /// It was dropped
    Denied,
    /// It was dropped, and its sender told
    Rejected,
}

/// When what is asked for begins.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Since {
    At(Timestamp),
    Ago(SignedDuration),
}

const LONG_HELP: &str = "\
Without --follow, what the agent remembers; with it, what comes. --follow --since 5m is both.

Examples:
  polctl flows -f                                    everything, as it happens
  polctl flows -f --pod shop/cart --verdict denied   what is denied to and from one pod
  polctl flows --since 5m -o jsonl | jq .rule

Exit codes:
  0  the end of what the agent remembers, or Ctrl-C
  2  the agent cannot be reached, or is gone";

fn pod(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(text.to_owned())
        }
        _ => Err("expected a pod as NAMESPACE/NAME".to_owned()),
    }
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = text.parse() {
        return Ok(Since::At(time));
    }
    match text.parse::<SignedDuration>() {
        Ok(ago) if !ago.is_negative() => Ok(Since::Ago(ago)),
        _ => Err("expected how long ago (5m, 1h30m) or a time (2026-01-02T03:04:05Z)".to_owned()),
    }
}

/// What is asked of the agent, now.
fn request(args: &Args, now: Timestamp) -> anyhow::Result<Flows> {
    let since = match args.since {
        None => None,
        Some(Since::At(time)) => Some(time),
        // Longer ago than time goes back is since ever.
        Some(Since::Ago(ago)) => Some(now.checked_sub(ago).unwrap_or(Timestamp::MIN)),
    };
    if args.follow && args.output == Output::Json {
        bail!("-o json is a list, which has no end with --follow; expected -o jsonl: one object a line");
    }
    let verdict = args.verdict.map(|verdict| match verdict {
        Verdict::Allowed => FlowVerdict::Allowed,
        Verdict::Denied => FlowVerdict::Denied,
        Verdict::Rejected => FlowVerdict::Rejected,
    });
    Ok(Flows { follow: args.follow, since, pod: args.pod.clone(), verdict })
}

pub(crate) fn run(args: &Args) -> crate::Answer {
    let request = Request::Flows(request(args, Timestamp::now())?);
    let (mut client, place) = args.agent.connect()?;
    if args.follow {
        end_at_interrupt()?;
    }
    let mut out = Out { stdout: anstream::stdout(), output: args.output, written: 0 };
    let mut open = out.begin()?;
    for reply in client.request(&request).map_err(|error| agent::failure(&place, &error))? {
        if !open {
            return Ok(ExitCode::SUCCESS);
        }
        open = match reply {
            Ok(reply) => out.reply(&reply)?,
            Err(error) if args.follow => return Err(gone(&place, &error.to_string())),
            Err(error) => return Err(agent::failure(&place, &error)),
        };
    }
    out.end()?;
    if args.follow {
        return Err(gone(&place, "it has ended"));
    }
    Ok(ExitCode::SUCCESS)
}

fn gone(place: &agent::Place, why: &str) -> anyhow::Error {
    let said = format!("the agent at {place} is gone ({why}); flows after this are not seen");
    anyhow::anyhow!("{}", clean(&said))
}

/// Ctrl-C is how following ends, and no failure.
fn end_at_interrupt() -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT]).context("Ctrl-C cannot be caught")?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            std::process::exit(0);
        }
    });
    Ok(())
}

/// Flows on their way to standard output, each at once.
struct Out<W> {
    stdout: W,
    output: Output,
    written: u64,
}

impl<W: Write> Out<W> {
    fn begin(&mut self) -> anyhow::Result<bool> {
        if self.output == Output::Json { self.write("[") } else { Ok(true) }
    }

    /// Writes a reply; says whether anybody still reads.
    fn reply(&mut self, reply: &Reply) -> anyhow::Result<bool> {
        let text = match (self.output, reply) {
            (Output::Text, Reply::Flow(flow)) => format!("{}\n", line::flow(flow)),
            (Output::Text, Reply::Lost { lines }) => format!("{}\n", line::lost(*lines)),
            (_, Reply::Flow(flow)) => self.json(&serde_json::to_string(flow)?),
            (_, Reply::Lost { lines }) => self.json(&serde_json::json!({ "lost": lines }).to_string()),
            (_, other) => bail!("unexpected answer: found {other:?}; expected flows"),
        };
        self.written += 1;
        self.write(&text)
    }

    fn json(&self, object: &str) -> String {
        let object = clean_json(object);
        match self.output {
            Output::Json if self.written == 0 => format!("\n{object}"),
            Output::Json => format!(",\n{object}"),
            _ => format!("{object}\n"),
        }
    }

    fn end(&mut self) -> anyhow::Result<bool> {
        match (self.output, self.written) {
            (Output::Json, 0) => self.write("]\n"),
            (Output::Json, _) => self.write("\n]\n"),
            _ => Ok(true),
        }
    }

    fn write(&mut self, text: &str) -> anyhow::Result<bool> {
        match self.stdout.write_all(text.as_bytes()).and_then(|()| self.stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
