//! `polctl test`

/// x
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: crate::input::Args,
}

pub(crate) fn run(args: &Args) -> crate::Answer {
    let input = crate::input::Input::load(&args.input);
    let _ = (input.compiler, input.objects, input.replicas);
    anyhow::bail!("not written yet")
}
