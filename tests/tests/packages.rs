//! What `make package` gives away: the files where Debian and systemd look for them, programs that run, a library that PostgreSQL loads; and the containers' files name what is there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use sqlx::Executor;
use tasker_tests::{ScratchFolder, TestDatabase, bin_dir, project_file};

const PROGRAMS: [&str; 3] = ["tasker-server", "tasker-worker", "tasker-ctl"];

fn run(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> anyhow::Result<String> {
    let program = program.as_ref();
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(arguments).output()?;
    ensure!(
        status.success(),
        "{} {arguments:?}: {}",
        program.display(),
        String::from_utf8_lossy(&stderr)
    );
    Ok(String::from_utf8(stdout)?.trim().to_owned())
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// All files below a folder, by their paths within it.
fn files(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(text(path.strip_prefix(root).unwrap()));
            }
        }
    }
    found
}

fn file(folder: &Path, begins: &str, ends: &str) -> anyhow::Result<PathBuf> {
    let mut entries = std::fs::read_dir(folder)?.filter_map(Result::ok);
    entries
        .find(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(begins) && name.ends_with(ends)
        })
        .map(|entry| entry.path())
        .with_context(|| format!("no {begins}…{ends} in {}", folder.display()))
}

/// The packages of what is built, in a folder.
fn packages(out: &Path, major: &str) -> anyhow::Result<()> {
    let build = project_file("packaging/build")?;
    let output = Command::new(build)
        .args(["--as-built", major])
        .env("TASKER_DIST", out)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[tokio::test]
async fn packages_hold_programs_that_run_and_a_library_that_loads() -> anyhow::Result<()> {
    let database = TestDatabase::new().await?;
    let mut session = database.session().await?;
    let major: String =
        sqlx::query_scalar("select (current_setting('server_version_num')::integer / 10000)::text")
            .fetch_one(&mut session)
            .await?;
    let scratch = ScratchFolder::new()?;
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755))?;
    let (out, programs, extension) = (
        scratch.path().join("dist"),
        scratch.path().join("programs"),
        scratch.path().join("extension"),
    );
    packages(&out, &major)?;

    let deb = file(&out, "tasker_", ".deb")?;
    run("dpkg-deb", &["-x", &text(&deb), &text(&programs)])?;
    let version = run("dpkg-deb", &["-f", &text(&deb), "Version"])?;
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert!(run("dpkg-deb", &["-f", &text(&deb), "Depends"])?.contains("libc6"));
    for program in PROGRAMS {
        let said = run(programs.join("usr/bin").join(program), &["--version"])?;
        assert_eq!(said, format!("{program} {version}"));
    }
    let held = files(&programs);
    for unit in ["tasker-server.service", "tasker-worker@.service"] {
        let unit = std::fs::read_to_string(programs.join("lib/systemd/system").join(unit))?;
        for line in unit.lines() {
            let named = ["ExecStart=/", "EnvironmentFile=/"];
            let named = named.iter().find_map(|setting| line.strip_prefix(setting));
            assert!(named.is_none_or(|path| held.contains(path)), "{line}");
        }
    }
    let secret = std::fs::metadata(programs.join("etc/tasker/server.env"))?;
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);
    for migration in files(&project_file("migrations")?) {
        let there = held.contains(&format!("usr/share/tasker/migrations/{migration}"));
        assert!(there || migration == "README.md", "{migration}");
    }

    let deb = file(&out, &format!("postgresql-{major}-tasker_"), ".deb")?;
    run("dpkg-deb", &["-x", &text(&deb), &text(&extension)])?;
    let installed = run(bin_dir()?.join("pg_config"), &["--sharedir"])?;
    let shipped = extension.join(format!("usr/share/postgresql/{major}/extension"));
    assert!(files(&shipped).contains(&format!("tasker--{version}.sql")));
    for name in files(&shipped) {
        let ours = std::fs::read(Path::new(&installed).join("extension").join(&name))?;
        assert_eq!(std::fs::read(shipped.join(&name))?, ours, "{name}");
    }
    let library = extension.join(format!("usr/lib/postgresql/{major}/lib/tasker.so"));
    session
        .execute(format!("load '{}'", library.display()).as_str())
        .await?;

    let archive = file(&out, "tasker-", ".tar.gz")?;
    let listed = run("tar", &["-tzf", &text(&archive)])?;
    for path in [
        "bin/tasker-ctl".to_owned(),
        format!("postgresql-{major}/lib/tasker.so"),
        "migrations/0001_pgmq.sql".to_owned(),
    ] {
        assert!(listed.contains(&path), "{path}");
    }
    run(
        "sh",
        &[
            "-c",
            &format!("cd '{}' && sha256sum -c SHA256SUMS", out.display()),
        ],
    )?;
    Ok(())
}

#[test]
fn what_the_containers_are_built_of_is_there() -> anyhow::Result<()> {
    let compose = std::fs::read_to_string(project_file("docker/compose.yaml")?)?;
    let mut dockerfiles = 0;
    for line in compose.lines() {
        if let Some(dockerfile) = line.trim().strip_prefix("dockerfile: ") {
            assert!(project_file(dockerfile)?.exists(), "{dockerfile}");
            dockerfiles += 1;
        }
    }
    assert_eq!(dockerfiles, 2);
    let manifest = std::fs::read_to_string(project_file("Cargo.toml")?)?;
    let extension = std::fs::read_to_string(project_file("pg_extension/Cargo.toml")?)?;
    for name in ["docker/postgres.Dockerfile", "docker/programs.Dockerfile"] {
        let dockerfile = std::fs::read_to_string(project_file(name)?)?;
        for line in dockerfile.lines() {
            let Some(copied) = line.strip_prefix("COPY ") else {
                continue;
            };
            if !copied.starts_with("--from=") {
                let source = copied.split_whitespace().next().unwrap();
                assert!(project_file(source)?.exists(), "{name}: {line}");
            }
        }
        let rust = manifest.split("rust-version = \"").nth(1).unwrap();
        let rust = rust.split('"').next().unwrap();
        assert!(
            dockerfile.contains(rust),
            "{name} builds with another Rust than {rust}"
        );
        let pgrx = extension.split("pgrx = \"").nth(1).unwrap();
        let pgrx = pgrx.split('"').next().unwrap();
        assert!(
            !dockerfile.contains("cargo-pgrx")
                || dockerfile.contains(&format!("--version {pgrx} ")),
            "{name} has another cargo-pgrx than pgrx {pgrx}"
        );
    }
    Ok(())
}
