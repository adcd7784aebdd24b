//! The program `tasker-ctl`; everything it does is in the library beside it.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    tasker_cli::run().await
}
