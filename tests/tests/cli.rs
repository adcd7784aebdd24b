//! The command line: its templates, its errors with code and hint, and its exit codes.

use serde_json::json;
use tasker_tests::command::{ctl, ctl_on};
use tasker_tests::following::{completed, create};
use tasker_tests::{Program, ScratchFolder, TestDatabase};

const NOTHING: &str = "01890000-0000-7000-8000-000000000000";

fn example(name: &str) -> String {
    format!(
        "{}/../examples/templates/{name}.yaml",
        env!("CARGO_MANIFEST_DIR")
    )
}

#[tokio::test]
async fn templates_are_validated_without_a_database() -> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    let file = |name: &str, text: &str| -> anyhow::Result<String> {
        let path = scratch.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let ring = file(
        "ring.yaml",
        "{name: ring, version: 1.0.0, steps: [{name: a, handler: {callable: x}, dependencies: [b]}, {name: b, handler: {callable: x}, dependencies: [a]}]}",
    )?;
    let broken = file("broken.yaml", "name: x\nsteps: [\n")?;
    let nowhere = "postgres://nobody@127.0.0.1:1/nothing";

    let good = ctl_on(
        nowhere,
        &[
            "template",
            "validate",
            &example("linear_workflow"),
            &example("diamond_workflow"),
        ],
    )
    .await?;
    assert_eq!(good.code, Some(0), "{}", good.stdout);
    assert!(
        good.stdout.contains("linear_workflow.yaml: valid"),
        "{}",
        good.stdout
    );

    let bad = ctl_on(
        nowhere,
        &[
            "template",
            "validate",
            &ring,
            &broken,
            &example("linear_workflow"),
        ],
    )
    .await?;
    assert_eq!(bad.code, Some(5));
    assert!(
        bad.stdout.contains("ring.yaml") && bad.stdout.contains("error[CYCLE_DETECTED]"),
        "{}",
        bad.stdout
    );
    assert!(
        bad.stdout
            .contains("broken.yaml: error[SCHEMA_INVALID]: line "),
        "{}",
        bad.stdout
    );

    let for_programs = ctl_on(
        nowhere,
        &[
            "-o",
            "json",
            "template",
            "validate",
            &ring,
            &example("linear_workflow"),
        ],
    )
    .await?;
    assert_eq!(for_programs.code, Some(5));
    let files = for_programs.json()?;
    assert_eq!(
        (&files[0]["valid"], &files[1]["valid"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(files[0]["findings"][0]["code"], "CYCLE_DETECTED");

    let absent = ctl_on(nowhere, &["template", "validate", "/no/such/file.yaml"]).await?;
    assert_eq!(absent.code, Some(1));
    assert!(
        absent.stderr.contains("/no/such/file.yaml"),
        "{}",
        absent.stderr
    );
    Ok(())
}

#[tokio::test]
async fn templates_are_registered_listed_and_shown() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let (linear, diamond) = (example("linear_workflow"), example("diamond_workflow"));
    let first = ctl(&database, &["template", "register", &linear, &diamond]).await?;
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert_eq!(
        first.stdout.matches("registered").count(),
        2,
        "{}",
        first.stdout
    );
    let again = ctl(
        &database,
        &["template", "register", "--output", "json", &linear],
    )
    .await?;
    assert_eq!(again.json()?[0]["created"], false);

    let listed = ctl(
        &database,
        &["template", "list", "-n", "example", "-o", "json"],
    )
    .await?
    .json()?;
    let names: Vec<_> = listed
        .as_array()
        .into_iter()
        .flatten()
        .map(|template| template["name"].clone())
        .collect();
    assert_eq!(names, ["diamond_workflow", "linear_workflow"]);
    let table = ctl(&database, &["template", "list"]).await?.stdout;
    assert!(
        table.contains("NAMESPACE") && table.contains("diamond_workflow"),
        "{table}"
    );

    let shown = ctl(
        &database,
        &["template", "show", "linear_workflow", "-n", "example"],
    )
    .await?;
    assert!(
        shown.stdout.contains("example/linear_workflow 1.0.0")
            && shown.stdout.contains("callable: math.square"),
        "{}",
        shown.stdout
    );
    let shown = ctl(
        &database,
        &[
            "template",
            "show",
            "linear_workflow",
            "-n",
            "example",
            "--version",
            "1.0.0",
            "-o",
            "json",
        ],
    )
    .await?;
    assert_eq!(shown.json()?["steps_count"], 4);
    Ok(())
}

#[tokio::test]
async fn what_can_be_registered_is_and_the_rest_is_told() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let scratch = ScratchFolder::new()?;
    let path = scratch.path().join("changed.yaml");
    let text = std::fs::read_to_string(example("linear_workflow"))?;
    std::fs::write(&path, text.replace("math.square", "math.cube"))?;
    let changed = path.to_string_lossy().into_owned();
    let path = scratch.path().join("not_built.yaml");
    let undone = text.replace(
        "callable: math.square }",
        "callable: math.square }\n    compensate: { callable: \"sql:math.root\" }",
    );
    std::fs::write(&path, undone)?;
    let not_built = path.to_string_lossy().into_owned();
    let run = ctl(
        &database,
        &[
            "template",
            "register",
            &example("linear_workflow"),
            &changed,
            &not_built,
        ],
    )
    .await?;
    assert_eq!(run.code, Some(4), "the first failure decides: a conflict");
    assert!(run.stdout.contains("linear_workflow"), "{}", run.stdout);
    assert!(
        run.stderr.contains("error[TK014]") && run.stderr.contains("error[UNSUPPORTED_TYPE]"),
        "{}",
        run.stderr
    );
    Ok(())
}

#[tokio::test]
async fn errors_are_told_with_code_and_hint_and_end_with_the_documented_code() -> anyhow::Result<()>
{
    let database = TestDatabase::with_examples().await?;
    let client = database.client();
    let task_uuid = create(client, "example", "linear_workflow", &json!({}))
        .await?
        .to_string();
    let keyed = [
        "task",
        "create",
        "linear_workflow",
        "-n",
        "example",
        "--idempotency-key",
        "k",
    ];
    assert_eq!(ctl(&database, &keyed).await?.code, Some(0));
    for (arguments, code, words) in [
        (
            vec!["task", "get", NOTHING],
            3,
            vec!["error[TK001]", "hint: "],
        ),
        (vec!["task", "watch", NOTHING], 3, vec!["error[TK001]"]),
        (
            vec!["task", "create", "nothing"],
            3,
            vec!["error[TK003]", "hint: "],
        ),
        (vec!["template", "show", "nothing"], 3, vec!["error[TK003]"]),
        (
            [&keyed[..], &["-c", "{\"n\": 2}"]].concat(),
            4,
            vec!["error[TK013]", "detail: ", "hint: "],
        ),
        (
            vec![
                "task",
                "create",
                "linear_workflow",
                "-n",
                "example",
                "-c",
                "{\"n\": \"x\"}",
            ],
            5,
            vec!["error[TK021]", "detail: "],
        ),
        (
            vec![
                "task",
                "create",
                "linear_workflow",
                "-n",
                "example",
                "-c",
                "{n: 2",
            ],
            5,
            vec!["isn't JSON"],
        ),
        (
            vec![
                "task",
                "create",
                "linear_workflow",
                "-n",
                "example",
                "--priority",
                "101",
            ],
            5,
            vec!["error[22023]"],
        ),
        (vec!["task", "get", "no-uuid"], 2, vec!["no-uuid"]),
        (vec!["task", "fly"], 2, vec!["fly"]),
    ] {
        let run = ctl(&database, &arguments).await?;
        assert_eq!(run.code, Some(code), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{arguments:?}");
        for word in words {
            assert!(
                run.stderr.contains(word),
                "{arguments:?}: {word} is not in:\n{}",
                run.stderr
            );
        }
    }
    let _worker = Program::worker(database.url(), &[])?;
    completed(client, task_uuid.parse()?).await?;
    let late = ctl(&database, &["task", "cancel", &task_uuid]).await?;
    assert_eq!(late.code, Some(4));
    assert!(late.stderr.contains("error[TK010]"), "{}", late.stderr);
    Ok(())
}

#[tokio::test]
async fn a_database_that_is_away_or_not_prepared_is_told_from_a_bad_request() -> anyhow::Result<()>
{
    let away = ctl_on("postgres://nobody@127.0.0.1:1/nothing", &["task", "list"]).await?;
    assert_eq!(away.code, Some(6), "{}", away.stderr);
    let unreadable = ctl_on("not an address", &["task", "list"]).await?;
    assert_eq!(unreadable.code, Some(2), "{}", unreadable.stderr);
    let empty = TestDatabase::empty().await?;
    let unprepared = ctl(&empty, &["task", "list"]).await?;
    assert_eq!(unprepared.code, Some(1));
    assert!(
        unprepared.stderr.contains("tasker-ctl db init"),
        "{}",
        unprepared.stderr
    );
    Ok(())
}
