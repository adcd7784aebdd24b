//! `tasker-ctl template`: retired, drawn and compared, from files and from what is registered.

use serde_json::json;
use tasker_tests::command::{Run, ctl, ctl_on};
use tasker_tests::{ScratchFolder, TestDatabase};

const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/nothing";

fn example(name: &str) -> String {
    format!(
        "{}/../examples/templates/{name}.yaml",
        env!("CARGO_MANIFEST_DIR")
    )
}

fn assert_done(run: &Run) {
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
}

#[tokio::test]
async fn a_template_is_retired_once() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let retire = ["template", "retire", "linear_workflow", "-n", "example"];
    let run = ctl(&database, &[&retire[..], &["-o", "json"]].concat()).await?;
    assert_done(&run);
    assert_eq!(
        run.json()?,
        json!({"namespace": "example", "name": "linear_workflow", "version": "1.0.0", "retired": true})
    );
    let newest = ctl(&database, &retire).await?;
    assert_eq!(
        newest.code,
        Some(3),
        "no version is left that isn't retired"
    );
    let again = ctl(&database, &[&retire[..], &["--version", "1.0.0"]].concat()).await?;
    assert_eq!(
        again.stdout.trim(),
        "example/linear_workflow 1.0.0 retired before"
    );
    Ok(())
}

#[tokio::test]
async fn a_file_is_drawn_without_a_database() -> anyhow::Result<()> {
    let file = example("diamond_workflow");
    let rows = ctl_on(NOWHERE, &["template", "visualize", &file]).await?;
    assert_done(&rows);
    assert_eq!(rows.stdout.lines().count(), 4, "{}", rows.stdout);
    assert!(!rows.stdout.contains("created"), "{}", rows.stdout);
    let chart = ctl_on(NOWHERE, &["template", "visualize", &file, "--mermaid"]).await?;
    assert!(
        chart.stdout.starts_with("flowchart TD") && chart.stdout.contains("s1 --> s3"),
        "{}",
        chart.stdout
    );
    let picture = ctl_on(NOWHERE, &["template", "visualize", &file, "--svg"]).await?;
    assert!(
        picture.stdout.starts_with("<svg") && picture.stdout.contains("diamond_branch_b"),
        "{}",
        picture.stdout
    );
    let steps = ctl_on(NOWHERE, &["template", "visualize", &file, "-o", "json"]).await?;
    assert_eq!(steps.json()?[0]["name"], "diamond_start");
    Ok(())
}

#[tokio::test]
async fn what_is_registered_is_drawn_and_compared_with_a_file() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let registered = "example/linear_workflow@1.0.0";
    let chart = ctl(
        &database,
        &["template", "visualize", registered, "--mermaid"],
    )
    .await?;
    assert!(chart.stdout.contains("linear_step_4"), "{}", chart.stdout);
    let file = example("linear_workflow");
    let same = ctl(&database, &["template", "diff", registered, &file]).await?;
    assert_done(&same);
    assert!(same.stdout.contains("no difference"), "{}", same.stdout);

    let scratch = ScratchFolder::new()?;
    let path = scratch.path().join("next.yaml");
    let text = std::fs::read_to_string(&file)?
        .replace("linear_step_4", "last_step")
        .replace("1.0.0", "1.1.0");
    std::fs::write(&path, text)?;
    let next = path.to_string_lossy().into_owned();
    let diff = ctl(
        &database,
        &[
            "template",
            "diff",
            "example/linear_workflow",
            &next,
            "-o",
            "json",
        ],
    )
    .await?;
    let diff = diff.json()?;
    assert_eq!(
        (
            &diff["to"],
            &diff["added_steps"],
            &diff["removed_steps"],
            &diff["changed_steps"]
        ),
        (
            &json!("example/linear_workflow 1.1.0"),
            &json!(["last_step"]),
            &json!(["linear_step_4"]),
            &json!([])
        )
    );
    Ok(())
}

#[tokio::test]
async fn a_template_that_is_not_there_or_not_valid_is_neither_drawn_nor_compared()
-> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let draw = async |reference: &str| ctl(&database, &["template", "visualize", reference]).await;
    assert_eq!(draw("example/lineer_workflow").await?.code, Some(3));
    assert_eq!(draw("/no/such/file.yaml").await?.code, Some(1));
    assert_eq!(draw("a/b/c").await?.code, Some(2));
    let scratch = ScratchFolder::new()?;
    let path = scratch.path().join("odd.yaml");
    std::fs::write(
        &path,
        "{name: odd, version: 1.0.0, steps: [{name: a, handler: {callable: x}, dependencies: [b]}]}",
    )?;
    let odd = draw(&path.to_string_lossy()).await?;
    assert_eq!(odd.code, Some(5));
    assert!(
        odd.stderr.contains("error[MISSING_DEPENDENCY]"),
        "{}",
        odd.stderr
    );
    Ok(())
}
