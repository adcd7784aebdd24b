//! Settings from a file: below flags and the environment, checked like them, and each told with where it comes from.

use serde_json::json;
use tasker_tests::{Program, ScratchFolder, Server, TestDatabase};

const PROGRAMS: [(&str, &str); 2] = [("tasker-server", "server"), ("tasker-worker", "worker")];

struct File {
    folder: ScratchFolder,
}

impl File {
    fn new(text: &str) -> anyhow::Result<Self> {
        let folder = ScratchFolder::new()?;
        std::fs::write(folder.path().join("tasker.toml"), text)?;
        Ok(Self { folder })
    }

    fn path(&self) -> String {
        self.folder
            .path()
            .join("tasker.toml")
            .to_string_lossy()
            .into_owned()
    }
}

#[tokio::test]
async fn the_server_takes_its_settings_from_a_file_and_shows_them_without_secrets()
-> anyhow::Result<()> {
    let database = TestDatabase::with_examples().await?;
    let file = File::new(
        "database_url = 'postgres://nobody:secret@localhost:1/nowhere'\nlog_format = 'json'\n\
         [server]\nconcurrent_requests = 7\nrequest_timeout_seconds = 9\n[worker]\nconcurrency = 2\n",
    )?;
    let arguments = ["--config", &file.path(), "--request-timeout-seconds", "11"];
    // DATABASE_URL comes before the file's.
    let server = Server::start(database.url(), &arguments).await?;
    assert_eq!(server.get("/v1/templates").await?.status, 200);
    let answer = server.get("/config").await?;
    let setting = |name: &str| {
        let items = answer.body["items"].as_array()?;
        items.iter().find(|item| item["name"] == name).cloned()
    };
    let from_file = format!("file {}", file.path());
    for (name, value, from) in [
        ("concurrent_requests", "7", from_file.as_str()),
        ("log_format", "json", &from_file),
        (
            "request_timeout_seconds",
            "11",
            "flag --request-timeout-seconds",
        ),
        ("database_connections", "10", "built in"),
    ] {
        let expected = json!({"name": name, "value": value, "from": from});
        assert_eq!(setting(name), Some(expected), "{}", answer.body);
    }
    let url = setting("database_url").unwrap_or_default();
    assert_eq!(url["from"], "variable DATABASE_URL");
    assert!(
        server.program.log().starts_with('{'),
        "{}",
        server.program.log()
    );
    Ok(())
}

#[tokio::test]
async fn each_program_explains_its_settings_and_masks_passwords() -> anyhow::Result<()> {
    let file = File::new("[server]\nlisten = '127.0.0.1:7'\n[worker]\nnamespaces = ['a', 'b']\n")?;
    for ((program, _), told) in PROGRAMS.into_iter().zip(["127.0.0.1:7", "a,b"]) {
        let url = "postgres://me:secret@localhost/x";
        let arguments = ["--config", &file.path(), "--explain-config"];
        let output = Program::run(program, url, &arguments).await?;
        let said = String::from_utf8(output.stdout)?;
        assert!(output.status.success());
        assert!(said.contains("postgres://me:***@localhost/x"), "{said}");
        assert!(!said.contains("secret"), "{said}");
        let line = said.lines().find(|line| line.contains(told));
        assert!(
            line.is_some_and(|line| line.ends_with(&format!("file {}", file.path()))),
            "{said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_a_file_may_not_say_ends_a_program_at_once_with_a_reason() -> anyhow::Result<()> {
    for (text, part) in [
        ("[{}]\nlissten = 'x'", "there is no setting lissten"),
        ("[servers]\nlisten = 'x'", "Did you mean server?"),
        ("[{}]\ndatabase_url = 3.5\nlog_format = 'xml'", "xml"),
        ("[{}", "isn't TOML: line 1"),
    ] {
        for (program, table) in PROGRAMS {
            let file = File::new(&text.replace("{}", table))?;
            let arguments = ["--config", &file.path()];
            let output = Program::run(program, "postgres://localhost/x", &arguments).await?;
            let said = String::from_utf8(output.stderr)?;
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(
                said.contains(part) && said.contains("tasker.toml"),
                "{said}"
            );
        }
    }
    let missing = ["--config", "/nowhere/tasker.toml"];
    let output = Program::run("tasker-server", "postgres://localhost/x", &missing).await?;
    let said = String::from_utf8(output.stderr)?;
    assert!(
        said.contains("/nowhere/tasker.toml can't be read"),
        "{said}"
    );
    Ok(())
}
