//! The reference pages are what the code says. `TASKER_WRITE_REFERENCES=1 cargo test -p tasker-tests --test references` writes them anew.

use tasker_tests::references::{cli, compare, errors, grpc, rest, sql};
use tasker_tests::{Server, TestDatabase};

#[tokio::test]
async fn the_sql_reference_is_what_the_catalogue_says() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let page = sql(&mut database.session().await?).await?;
    compare("sql", &page)
}

#[test]
fn the_reference_of_the_command_line_is_what_it_says_itself() -> anyhow::Result<()> {
    compare("cli", &cli())
}

#[test]
fn the_list_of_errors_is_what_the_rules_say() -> anyhow::Result<()> {
    compare("errors", &errors()?)
}

#[tokio::test]
async fn the_references_of_rest_and_grpc_are_what_their_documents_say() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let server = Server::start(database.url(), &[]).await?;
    let document = server.get("/api-docs/openapi.json").await?;
    compare("rest", &rest(&document.body)?)?;
    compare("grpc", &grpc(&document.body)?)
}
