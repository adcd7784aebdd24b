//! `tasker-ctl config`, and servers by name.

use anyhow::Context;
use serde_json::Value;
use tasker_tests::{ScratchFolder, TestDatabase, program_path};
use tokio::process::Command;

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs it with a file of settings, and nothing else from outside.
async fn ctl(
    folder: &ScratchFolder,
    variables: &[(&str, &str)],
    arguments: &[&str],
) -> anyhow::Result<Said> {
    let output = Command::new(program_path("tasker-ctl")?)
        .args(arguments)
        .env_clear()
        .env("XDG_CONFIG_HOME", folder.path())
        .envs(variables.iter().copied())
        .output()
        .await?;
    Ok(Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

fn settings(text: &str) -> anyhow::Result<ScratchFolder> {
    let folder = ScratchFolder::new()?;
    std::fs::create_dir(folder.path().join("tasker"))?;
    std::fs::write(folder.path().join("tasker/tasker.toml"), text)?;
    Ok(folder)
}

/// Where a setting comes from, and what it is.
async fn explained(
    folder: &ScratchFolder,
    variables: &[(&str, &str)],
    arguments: &[&str],
    name: &str,
) -> anyhow::Result<(String, String)> {
    let arguments: Vec<&str> = arguments
        .iter()
        .copied()
        .chain(["-o", "json", "config", "explain"])
        .collect();
    let said = ctl(folder, variables, &arguments).await?;
    let all: Vec<Value> = serde_json::from_str(&said.stdout).context(said.stderr)?;
    let origin = all
        .iter()
        .find(|origin| origin["name"] == name)
        .context("no such setting")?;
    let from = match &origin["from"] {
        Value::String(from) => from.clone(),
        from => from
            .as_object()
            .and_then(|from| from.keys().next().cloned())
            .unwrap_or_default(),
    };
    Ok((
        origin["value"].as_str().unwrap_or_default().to_owned(),
        from,
    ))
}

#[tokio::test]
async fn a_server_is_reached_by_its_name() -> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let folder = settings(&format!(
        "database_url = 'postgres://nobody@localhost:1/x'\n[ctl]\nprofile = 'away'\n[ctl.profiles.here]\ndatabase_url = '{}'\noutput = 'json'\n\
         [ctl.profiles.away]\ndatabase_url = 'postgres://nobody@localhost:1/x'\n",
        database.url()
    ))?;
    let said = ctl(&folder, &[], &["--profile", "here", "template", "list"]).await?;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(serde_json::from_str::<Value>(&said.stdout)?.is_array());
    // As a flag of one command, too, and in spite of the environment.
    let elsewhere = [("DATABASE_URL", "postgres://nobody@localhost:1/x")];
    let said = ctl(
        &folder,
        &elsewhere,
        &["template", "list", "--profile", "here", "-o", "table"],
    )
    .await?;
    assert!(
        said.stdout.starts_with("NAME") || said.stdout.contains("diamond_workflow"),
        "{}{}",
        said.stdout,
        said.stderr
    );
    let said = ctl(&folder, &[], &["template", "list"]).await?;
    assert_eq!(said.code, Some(6), "{}", said.stderr);
    let said = ctl(&folder, &[], &["--profile", "there", "template", "list"]).await?;
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("away, here"), "{}", said.stderr);
    Ok(())
}

#[tokio::test]
async fn each_setting_says_where_it_comes_from() -> anyhow::Result<()> {
    let folder = settings(
        "database_url = 'postgres://a:secret@top/x'\n[ctl]\noutput = 'wide'\n[ctl.profiles.p]\ndatabase_url = 'postgres://a@profile/x'\n"
            .replace("output = 'wide'\n", "")
            .as_str(),
    )?;
    let of = async |variables: &[(&str, &str)], arguments: &[&str]| {
        explained(&folder, variables, arguments, "database_url").await
    };
    let pair = |value: &str, from: &str| (value.to_owned(), from.to_owned());
    assert_eq!(of(&[], &[]).await?, pair("postgres://a:***@top/x", "file"));
    assert_eq!(
        of(&[], &["--profile", "p"]).await?,
        pair("postgres://a@profile/x", "file")
    );
    let environment = [("DATABASE_URL", "postgres://a@environment/x")];
    assert_eq!(
        of(&environment, &[]).await?,
        pair("postgres://a@environment/x", "variable")
    );
    let named = [environment[0], ("TASKER_PROFILE", "p")];
    assert_eq!(
        of(&named, &[]).await?,
        pair("postgres://a@environment/x", "variable")
    );
    assert_eq!(
        of(&named, &["--profile", "p"]).await?,
        pair("postgres://a@profile/x", "file")
    );
    let flag = ["--profile", "p", "--database-url", "postgres://a@flag/x"];
    assert_eq!(
        of(&named, &flag).await?,
        pair("postgres://a@flag/x", "flag")
    );
    assert_eq!(explained(&folder, &[], &[], "output").await?.1, "flag");
    Ok(())
}

#[tokio::test]
async fn a_file_is_checked_for_all_programs() -> anyhow::Result<()> {
    let good = "database_url = 'postgres://a@b/x'\n[server]\nlisten = '127.0.0.1:1'\n[worker]\nconcurrency = 3\n[ctl.profiles.p]\noutput = 'json'\n";
    let folder = settings(good)?;
    let said = ctl(&folder, &[], &["config", "check"]).await?;
    assert_eq!(
        said.stdout, "profile p: good\n[server]: good\n[worker]: good\n",
        "{}",
        said.stderr
    );
    for (good_part, bad_part, told) in [
        ("listen", "lissten", "Did you mean listen?"),
        ("concurrency = 3", "concurrency = 'x'", "concurrency"),
        ("output = 'json'", "output = 'xml'", "line 7"),
        ("[ctl.profiles.p]", "[ctl.profile.p]", "line"),
        ("[server]", "[sever]", "line 2"),
    ] {
        let folder = settings(&good.replace(good_part, bad_part))?;
        let said = ctl(&folder, &[], &["config", "check"]).await?;
        assert_eq!(
            said.code,
            Some(2),
            "{bad_part}: {}{}",
            said.stdout,
            said.stderr
        );
        assert!(
            said.stderr.contains(told) && said.stderr.contains("tasker.toml"),
            "{}",
            said.stderr
        );
    }
    let said = ctl(&folder, &[], &["config", "explain", "server"]).await?;
    assert!(
        said.stdout.contains("127.0.0.1:1") && said.stdout.contains("built in"),
        "{}{}",
        said.stdout,
        said.stderr
    );
    Ok(())
}
