//! `tasker-ctl template new`: what it writes is valid, its tests pass, and in Rust its worker runs tasks to their end.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use tasker_tests::command::{Run, ctl, ctl_on};
use tasker_tests::tools::{node_modules, run_well_in};
use tasker_tests::{Program, ScratchFolder, TestDatabase, following, project_file};

const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/nothing";
/// What the steps wait for, and steps whose names are no names of functions.
const KINDS: [[&str; 2]; 6] = [
    ["--shape", "linear"],
    ["--shape", "diamond"],
    ["--shape", "decision"],
    ["--shape", "map"],
    ["--shape", "batch"],
    ["--steps", "class,for-each,for_each,2nd,Self"],
];

/// The name of the template of a kind.
fn name_of(kind: [&str; 2]) -> String {
    let [option, value] = kind;
    let last = if option == "--shape" { value } else { "named" };
    format!("scaffold_{last}")
}

async fn write(folder: &Path, language: &str, kind: [&str; 2]) -> anyhow::Result<PathBuf> {
    let name = name_of(kind);
    let written = folder.join(&name);
    let directory = written.to_string_lossy().into_owned();
    let source = project_file("")?.to_string_lossy().into_owned();
    let arguments = [
        "template",
        "new",
        &name,
        "--language",
        language,
        "--tasker",
        &source,
        "-d",
        &directory,
        "-n",
        "scaffolds",
    ];
    let run = ctl_on(NOWHERE, &[&arguments[..], &kind].concat()).await?;
    anyhow::ensure!(run.code == Some(0), "{}", run.stderr);
    let template = written
        .join(format!("{name}.yaml"))
        .to_string_lossy()
        .into_owned();
    let validated = ctl_on(NOWHERE, &["template", "validate", &template, "-o", "json"]).await?;
    assert_eq!(
        validated.json()?[0]["findings"],
        json!([]),
        "nothing is to be said of {name}"
    );
    Ok(written)
}

#[tokio::test]
async fn handlers_in_python_pass_their_tests() -> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    for kind in KINDS {
        let folder = write(scratch.path(), "python", kind).await?;
        let run = run_well_in(&folder, "python3", &["-m", "unittest"]).await?;
        assert!(run.stderr.contains("\nOK"), "{}", run.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn handlers_in_typescript_pass_their_tests() -> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    for kind in KINDS {
        let folder = write(scratch.path(), "typescript", kind).await?;
        std::os::unix::fs::symlink(node_modules()?, folder.join("node_modules"))?;
        let run = run_well_in(&folder, "npm", &["test"]).await?;
        assert!(
            run.stdout.contains("# fail 0") && !run.stdout.contains("# pass 0"),
            "{}",
            run.stdout
        );
    }
    Ok(())
}

#[tokio::test]
async fn handlers_in_ruby_pass_their_tests() -> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    for kind in KINDS {
        let folder = write(scratch.path(), "ruby", kind).await?;
        let run = run_well_in(&folder, "ruby", &["-w", "test_handlers.rb"]).await?;
        assert!(
            run.stdout.contains(" 0 failures, 0 errors"),
            "{}",
            run.stdout
        );
        assert_eq!(run.stderr, "", "nothing is warned of");
    }
    Ok(())
}

/// Cargo on what was written, with the project's own dependencies: nothing is downloaded, and little is built twice.
async fn cargo(folder: &Path, command: &str) -> anyhow::Result<Run> {
    let program = std::env::current_exe()?;
    let target = program
        .ancestors()
        .nth(3)
        .context("the test isn't where cargo builds")?;
    let target = target.to_string_lossy().into_owned();
    let profile = [
        "--config",
        "profile.dev.debug=\"line-tables-only\"",
        "--config",
        "profile.dev.package.\"*\".debug=false",
    ];
    let arguments = [
        &[command, "--offline", "--target-dir", &target][..],
        &profile,
    ]
    .concat();
    run_well_in(folder, env!("CARGO"), &arguments).await
}

#[tokio::test]
async fn a_worker_in_rust_passes_its_tests_and_runs_tasks_to_their_end() -> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    let database = TestDatabase::new().await?;
    for kind in KINDS {
        let name = name_of(kind);
        let folder = write(scratch.path(), "rust", kind).await?;
        std::fs::copy(project_file("Cargo.lock")?, folder.join("Cargo.lock"))?;
        let tests = cargo(&folder, "test").await?;
        assert!(!tests.stderr.contains("warning"), "{}", tests.stderr);
        cargo(&folder, "build").await?;

        let template = folder
            .join(format!("{name}.yaml"))
            .to_string_lossy()
            .into_owned();
        let registered = ctl(&database, &["template", "register", &template]).await?;
        assert_eq!(registered.code, Some(0), "{}", registered.stderr);
        let mut worker = Program::start(&format!("{name}_worker"), database.url(), &[])?;
        let task = following::create(database.client(), "scaffolds", &name, &json!({})).await?;
        following::completed(database.client(), task)
            .await
            .with_context(|| worker.log())?;
        if name == "scaffold_batch" {
            let result = following::result(database.client(), task, "add_up").await?;
            assert_eq!(result, json!({"rows": 10}));
        }
        let ended = worker.terminate(std::time::Duration::from_secs(30)).await?;
        assert!(ended.success(), "{}", worker.log());
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_written_over() -> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    let folder = scratch.path().join("mine");
    let directory = folder.to_string_lossy().into_owned();
    let new = [
        "template",
        "new",
        "mine",
        "--language",
        "python",
        "-d",
        &directory,
    ];
    std::fs::create_dir_all(folder.join(".git"))?;
    let first = ctl_on(NOWHERE, &[&new[..], &["-o", "json"]].concat()).await?;
    assert_eq!(
        first.code,
        Some(0),
        "a folder with nothing but a repository is empty: {}",
        first.stderr
    );
    assert_eq!(
        first.json()?["files"],
        json!([
            "README.md",
            "mine.yaml",
            "handlers.py",
            "test_handlers.py",
            ".gitignore"
        ])
    );
    std::fs::write(folder.join("handlers.py"), "mine")?;
    let second = ctl_on(NOWHERE, &new).await?;
    assert_eq!(second.code, Some(4));
    assert!(
        second.stderr.contains("error[ALREADY_EXISTS]") && second.stderr.contains("hint: "),
        "{}",
        second.stderr
    );
    assert_eq!(std::fs::read_to_string(folder.join("handlers.py"))?, "mine");

    let file = scratch.path().join("file");
    std::fs::write(&file, "mine")?;
    let on_a_file = [
        "template",
        "new",
        "mine",
        "--language",
        "ruby",
        "-d",
        &file.to_string_lossy(),
    ];
    assert_eq!(ctl_on(NOWHERE, &on_a_file).await?.code, Some(4));
    Ok(())
}

#[tokio::test]
async fn names_are_held_to_the_rules_of_templates() -> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    let folder = scratch.path().join("new");
    let directory = folder.to_string_lossy().into_owned();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["Order Sync"], 5, "error[NAME_INVALID]"),
        (&["../order"], 5, "error[NAME_INVALID]"),
        (&["order", "-n", "9shop"], 5, "error[NAME_INVALID]"),
        (&["order", "--steps", "a,,b"], 5, "error[NAME_INVALID]"),
        (
            &["order", "--steps", "a,b,a"],
            5,
            "error[DUPLICATE_STEP_NAME]",
        ),
        (
            &["order", "--steps", "a", "--shape", "map"],
            2,
            "cannot be used with",
        ),
        (
            &["order", "--tasker", "/dev"],
            2,
            "isn't the source of Tasker",
        ),
    ];
    for (given, code, said) in cases {
        let arguments = [
            &["template", "new", "--language", "rust", "-d", &directory],
            given,
        ]
        .concat();
        let run = ctl_on(NOWHERE, &arguments).await?;
        assert_eq!(run.code, Some(code), "{given:?}: {}", run.stderr);
        assert!(run.stderr.contains(said), "{given:?}: {}", run.stderr);
        assert!(!folder.exists(), "{given:?}");
    }
    Ok(())
}
