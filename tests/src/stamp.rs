//! What a prepared cluster was made from: when any of it changes, the cluster is made anew.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::{Context, ensure};

use crate::folders::project;

/// A text that differs when the server, the installed extension or the migrations differ.
pub(crate) fn stamp(bin_dir: &Path) -> anyhow::Result<String> {
    let mut text = format!("{}\n", bin_dir.display());
    let (extension, library) = is_installed(bin_dir)?;
    let mut files = vec![library, bin_dir.join("postgres")];
    files.extend(sql_files(&extension, "tasker--")?);
    files.extend(sql_files(&project()?.join("migrations"), "")?);
    for file in files {
        let metadata = file.metadata()?;
        let changed = metadata.modified()?.duration_since(UNIX_EPOCH)?;
        writeln!(
            text,
            "{} {} {}",
            file.display(),
            metadata.len(),
            changed.as_nanos()
        )?;
    }
    Ok(text)
}

/// Requires that the extension is installed in a PostgreSQL; gives the folder of its scripts, and its library.
pub(crate) fn is_installed(bin_dir: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let extension = installed_folder(bin_dir, "--sharedir")?.join("extension");
    let library = installed_folder(bin_dir, "--pkglibdir")?.join("tasker.so");
    ensure!(
        library.exists() && extension.join("tasker.control").exists(),
        "the extension isn't installed in {}: run pg_extension/install and the version of that PostgreSQL",
        bin_dir.display()
    );
    Ok((extension, library))
}

/// One of the folders that `pg_config` tells.
pub(crate) fn installed_folder(bin_dir: &Path, which: &str) -> anyhow::Result<PathBuf> {
    let output = Command::new(bin_dir.join("pg_config"))
        .arg(which)
        .output()
        .context("can't run pg_config")?;
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn sql_files(folder: &Path, prefix: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?
    {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(prefix) && path.extension().is_some_and(|extension| extension == "sql")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
