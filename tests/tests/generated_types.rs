//! `tasker-ctl generate types`: what it writes is what `tests/golden/types/` holds, and each language reads documents with it.
//! `TASKER_WRITE_GOLDEN=1 cargo test -p tasker-tests --test generated_types` writes it anew.

use std::path::PathBuf;

use serde_json::{Value, json};
use tasker_tests::command::{Run, ctl, ctl_on};
use tasker_tests::tools::{node_modules, run_well_in};
use tasker_tests::{ScratchFolder, TestDatabase, project_file};

/// As it is written.
#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, unreachable_pub)]
#[path = "../golden/types/everything.rs"]
mod types;

const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/nothing";
/// The languages, with the files that hold what is to be written in them.
const LANGUAGES: [(&str, &str); 4] = [
    ("rust", "everything.rs"),
    ("python", "everything.py"),
    ("typescript", "everything.ts"),
    ("ruby", "everything.rb"),
];

fn golden(name: &str) -> anyhow::Result<PathBuf> {
    project_file(&format!("tests/golden/types/{name}"))
}

fn context() -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(golden("context.json")?)?)
}

/// The context without what is null: types don't tell that from what is missing.
fn without_nulls() -> anyhow::Result<Value> {
    let mut context: Value = serde_json::from_str(&context()?)?;
    if let Value::Object(fields) = &mut context {
        fields.retain(|_, value| !value.is_null());
    }
    Ok(context)
}

async fn generate(language: &str) -> anyhow::Result<Run> {
    let template = golden("template.yaml")?.to_string_lossy().into_owned();
    ctl_on(
        NOWHERE,
        &["generate", "types", &template, "--language", language],
    )
    .await
}

#[tokio::test]
async fn the_types_are_what_the_golden_files_hold() -> anyhow::Result<()> {
    for (language, file) in LANGUAGES {
        let run = generate(language).await?;
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        if std::env::var_os("TASKER_WRITE_GOLDEN").is_some() {
            std::fs::write(golden(file)?, &run.stdout)?;
        }
        let golden = std::fs::read_to_string(golden(file)?)?;
        let differs = golden
            .lines()
            .zip(run.stdout.lines())
            .find(|(one, other)| one != other);
        assert!(golden == run.stdout, "{file} differs: {differs:?}");
    }
    Ok(())
}

#[test]
fn rust_reads_a_document_from_text_and_from_json_and_writes_it_again() -> anyhow::Result<()> {
    let text = context()?;
    let from_text: types::Context = serde_json::from_str(&text)?;
    let from_json: types::Context = serde_json::from_value(serde_json::from_str(&text)?)?;
    assert_eq!(from_text, from_json);
    assert!(matches!(
        from_text.payment,
        types::ContextPayment::Transfer(_)
    ));
    assert_eq!(from_text.note, Some(types::ContextNote::List(vec![1, 2])));
    assert_eq!(
        from_text
            .customer
            .boss
            .as_ref()
            .map(|boss| boss.name.as_str()),
        Some("Eve")
    );
    let mut expected = without_nulls()?;
    expected["payment"]["amount"] = json!(12.5);
    assert_eq!(serde_json::to_value(&from_text)?, expected);
    Ok(())
}

#[test]
fn rust_refuses_what_the_schema_refuses() -> anyhow::Result<()> {
    for (field, value) in [
        ("priority", json!("highest")),
        ("quantity", json!(-1)),
        ("payment", json!({"kind": "cash"})),
        ("note", json!(1.5)),
        ("unknown", json!(1)),
    ] {
        let mut context = without_nulls()?;
        context[field] = value;
        let read = serde_json::from_value::<types::Context>(context);
        assert!(read.is_err(), "{field}");
    }
    Ok(())
}

#[test]
fn rust_reads_a_type_of_itself() -> anyhow::Result<()> {
    let tree: types::Tree = serde_json::from_str(r#"{"a": {"b": {}}, "c": {}}"#)?;
    assert_eq!(tree.0["a"].0.len(), 1);
    Ok(())
}

#[tokio::test]
async fn python_knows_every_type_and_documents_fit() -> anyhow::Result<()> {
    let folder = project_file("tests/golden/types")?;
    // Without a cache of what was compiled: the folder is the project's.
    let run = run_well_in(&folder, "python3", &["-B", "-W", "error", "check.py"]).await?;
    assert_eq!(run.stdout.trim(), "all fit");
    Ok(())
}

#[tokio::test]
async fn typescript_takes_documents_that_fit_and_no_others() -> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    std::fs::copy(
        golden("everything.ts")?,
        scratch.path().join("everything.ts"),
    )?;
    let uses = format!(
        "import type {{ Context, EachLineInputs, Tree }} from \"./everything.js\";\n\
         export const context: Context = {};\n\
         export const tree: Tree = {{ a: {{ b: {{}} }} }};\n\
         // @ts-expect-error: there is no such priority\n\
         export const priority: Context[\"priority\"] = \"highest\";\n\
         // @ts-expect-error: a part is missing\n\
         export const inputs: EachLineInputs = {{ index: 0, total: 1 }};\n",
        context()?
    );
    std::fs::write(scratch.path().join("uses.ts"), uses)?;
    let compiler = node_modules()?
        .join("typescript/bin/tsc")
        .to_string_lossy()
        .into_owned();
    let options = ["--noEmit", "--strict", "--module", "nodenext", "uses.ts"];
    run_well_in(
        scratch.path(),
        "node",
        &[&[compiler.as_str()], &options[..]].concat(),
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn ruby_reads_a_document_and_writes_it_again() -> anyhow::Result<()> {
    const SCRIPT: &str = r#"
        require "json"
        require "./everything"
        context = EverythingTypes::Context.from_document(JSON.parse(File.read("context.json")))
        raise "no person" unless context.customer.friends.first.name == "Bob"
        raise "no such priority" unless EverythingTypes::ContextPriority.include?(context.priority)
        puts JSON.generate(context.to_document)
    "#;
    let folder = project_file("tests/golden/types")?;
    run_well_in(&folder, "ruby", &["-wc", "everything.rb"]).await?;
    let run = run_well_in(&folder, "ruby", &["-w", "-Eutf-8", "-e", SCRIPT]).await?;
    assert_eq!(run.stderr, "", "nothing is warned of");
    let mut expected = without_nulls()?;
    expected["payment"]["amount"] = json!(12.5);
    expected["limits"]["most"] = json!(2.5);
    expected["odd"]["a"] = json!(1.1);
    assert_eq!(run.json()?, expected);
    Ok(())
}

#[tokio::test]
async fn a_registered_template_has_the_types_of_its_file() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let template = golden("template.yaml")?.to_string_lossy().into_owned();
    let registered = ctl(&database, &["template", "register", &template]).await?;
    assert_eq!(registered.code, Some(0), "{}", registered.stderr);
    for (language, _) in LANGUAGES {
        let of_file = generate(language).await?;
        let run = ctl(
            &database,
            &[
                "generate",
                "types",
                "example/everything@1.0.0",
                "-l",
                language,
            ],
        )
        .await?;
        assert_eq!(run.stdout, of_file.stdout, "{language}");
    }
    let missing = ctl(
        &database,
        &["generate", "types", "example/nothing", "-l", "ruby"],
    )
    .await?;
    assert_eq!(missing.code, Some(3));
    Ok(())
}

#[tokio::test]
async fn a_file_is_written_over_only_when_it_was_written_by_this_command() -> anyhow::Result<()> {
    let scratch = ScratchFolder::new()?;
    let template = golden("template.yaml")?.to_string_lossy().into_owned();
    let file = scratch.path().join("types");
    let path = file.to_string_lossy().into_owned();
    let generate = async |language: &str, path: &str| {
        let arguments = [
            "generate", "types", &template, "-l", language, "--file", path,
        ];
        ctl_on(NOWHERE, &arguments).await
    };
    for (language, name) in LANGUAGES.iter().chain(&LANGUAGES) {
        let run = generate(language, &path).await?;
        assert_eq!(run.code, Some(0), "{language}: {}", run.stderr);
        assert_eq!(run.stdout.trim(), path);
        assert_eq!(
            std::fs::read_to_string(&file)?,
            std::fs::read_to_string(golden(name)?)?
        );
    }
    std::fs::write(&file, "mine = 1\n")?;
    let refused = generate("python", &path).await?;
    assert_eq!(refused.code, Some(4));
    assert!(
        refused.stderr.contains("error[ALREADY_EXISTS]"),
        "{}",
        refused.stderr
    );
    assert_eq!(std::fs::read_to_string(&file)?, "mine = 1\n");
    assert_eq!(
        generate("python", "/no/such/folder/types.py").await?.code,
        Some(1)
    );
    Ok(())
}
