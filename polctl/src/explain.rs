//! `polctl explain`: why one connection is allowed or denied, and the smallest change that would allow it.
//!
//! ```text
//! FROM, TO -> party (names) -> units (pods x pods x families) -> group (equal answers) -> text, JSON; exit code
//! -f: files                                                         +- live, without -f: agents' documents in
//!                                                                      place of files, and their kernels' verdicts
//!                                                                      beside each answer
//! ```

pub(crate) mod ask;
mod group;
mod kernel;
mod live;
pub(crate) mod request;
mod text;
pub(crate) mod units;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::agent;
use crate::input::Input;
use crate::party;
use crate::print;
use units::Asked;

/// Why a connection is allowed or denied, rule by rule, and what would change that
#[derive(Debug, clap::Args)]
#[command(after_long_help = LONG_HELP)]
pub(crate) struct Args {
    /// Who opens the connection: NAMESPACE/NAME, NAME, TYPE/NAME, NAMESPACE/TYPE/NAME, or an address
    from: String,
    /// Who is called: the same, or a service
    to: String,
    /// The namespace of names that say none
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The port: NUMBER or NAME, with /udp or /sctp if it is not TCP; all ports if absent
    #[arg(short, long, value_name = "PORT", value_parser = ask::port)]
    port: Option<ask::Port>,
    /// A protocol without ports: icmp, esp, gre, or its number
    #[arg(long, value_name = "PROTOCOL", value_parser = ask::protocol, conflicts_with = "port")]
    protocol: Option<u8>,
    #[command(flatten)]
    request: request::Words,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// A directory (read recursively), a file, or `-` for standard input; may be repeated. Without it, agents are
    /// asked for what is in force: that of this node, or with --kubeconfig, --context or as a plugin of kubectl those of
    /// the pods' nodes
    #[arg(short = 'f', long = "filename", value_name = "PATH", conflicts_with_all = ["agent", "cluster"])]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    agent: agent::Args,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A walk through the tiers
    Text,
    /// See docs/reference/explain.md
    Json,
}

const LONG_HELP: &str = "\
Names are looked for as pod, workload, service and node, in this order; TYPE is kubectl's (pod, deploy, sts, ds, rs, \
job, cronjob, svc, node). A workload stands for all its pods. A service stands for its backends: policy is judged \
there, never at the address of the service. Without -f, the manifests are those that the agent on this node has in
force, and its kernel is asked for its own verdict: `kernel: agrees` or `kernel: DIFFERS`. `kubectl polder explain`
asks the agents of the nodes of both ends, from anywhere.

Examples:
  polctl explain shop/frontend shop/cart --port http -f deploy/
  polctl explain -n shop deploy/frontend svc/cart -f deploy/
  polctl explain 10.0.0.7 shop/cart --port 9102 -f - < all.yaml
  polctl explain shop/cart 1.1.1.1 --port 53/udp -o json -f deploy/
  polctl explain shop/cart shop/db --protocol icmp -f deploy/
  polctl explain shop/frontend shop/cart --port 8080 --http 'POST /v1/items' --host cart.shop -f deploy/
  polctl explain shop/frontend shop/cart --port 9090 --grpc shop.v1.Cart/Add -f deploy/
  polctl explain shop/cart 1.1.1.1 --port 443 --tls api.example.com -f deploy/
  polctl explain shop/frontend shop/cart --port http
  kubectl polder explain shop/frontend shop/cart --port http

Exit codes:
  0  allowed; without --port: something is
  1  denied, at least for one pair of pods; without --port: everything is
  2  cannot say: an unknown name, manifests that are refused, an agent that cannot be reached, or rules about requests that
     decide, and no request was named
  3  without -f: the kernel's verdict is another one than that of the policies";

pub(crate) fn run(args: &Args) -> crate::Answer {
    let answers = if args.filename.is_empty() {
        live::answers(args)?
    } else {
        let input = crate::input::Args { filename: args.filename.clone() };
        answers(args, &mut Input::load(&input))?
    };
    match args.output {
        Output::Text => print::stdout(&text::text(&answers))?,
        Output::Json => {
            let json = serde_json::to_string_pretty(&answers)?;
            print::stdout(&format!("{}\n", crate::clean::clean_json(&json)))?;
        }
    }
    if answers.kernel_differs() {
        anstream::eprintln!(
            "error: the kernel does not do what the policies say (`kernel: DIFFERS`); `polctl verify` compares all of \
             it, `polctl verify --resync` has it put right"
        );
        return Ok(ExitCode::from(3));
    }
    Ok(match (answers.allowed, answers.depends_on_request()) {
        (true, _) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(1),
        (false, true) => ExitCode::from(2),
    })
}

fn answers(args: &Args, input: &mut Input) -> anyhow::Result<group::Answers> {
    if !input.accepted() {
        anyhow::bail!("some objects are refused, so that what they would allow or deny cannot be said");
    }
    let from = party::find(input.compiler.cluster(), &args.from, &args.namespace)?;
    let to = party::find(input.compiler.cluster(), &args.to, &args.namespace)?;
    let asked = match (&args.port, args.protocol) {
        (Some(port), _) => Asked::Port(port.clone()),
        (None, Some(number)) => Asked::Protocol(number),
        (None, None) => Asked::All,
    };
    let any = matches!(asked, Asked::All);
    let units = units::units(input, from, to, &asked)?;
    let request = args.request.request().map_err(anyhow::Error::msg)?;
    Ok(group::answer(&input.compiler, units, request.as_ref(), any))
}

#[cfg(test)]
mod tests;
