//! `tasker-ctl db`.

use serde::Serialize;
use tasker_client::Client;

use crate::failure::Failure;
use crate::options::DbCommand;
use crate::output::Output;

#[derive(Serialize)]
struct Prepared {
    version: String,
}

pub(crate) async fn run(
    command: DbCommand,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    match command {
        DbCommand::Init => init(client, output).await,
    }
}

async fn init(client: &Client, output: Output) -> Result<(), Failure> {
    tasker_client::init(client).await?;
    let prepared = Prepared {
        version: client.version().await?,
    };
    output.show(&prepared, || {
        format!("the database is ready: tasker {}", prepared.version)
    })
}
