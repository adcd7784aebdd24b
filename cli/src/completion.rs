//! `tasker-ctl completion`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::options::Options;
use crate::output;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tasker-ctl completion bash > ~/.local/share/bash-completion/completions/tasker-ctl"
)]
pub(crate) struct CompletionOptions {
    /// The shell
    shell: Shell,
}

/// Written to memory first: the generator ends the program when its reader is gone.
pub(crate) fn run(options: &CompletionOptions) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command = Options::command();
    clap_complete::generate(options.shell, &mut command, "tasker-ctl", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())
}
