//! Where PostgreSQL's programs are.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::ClusterError;

/// The folder with `postgres`, `initdb`, `pg_ctl` and the rest.
///
/// Taken in this order: the given folder; the private install of the project that the caller stands in or that this program was built
/// in; `PG_CONFIG`'s; Debian's, newest version first.
pub fn find_bin_dir(given: Option<&Path>) -> Result<PathBuf, ClusterError> {
    let candidates = match given {
        Some(folder) => vec![folder.to_owned()],
        None => candidates(),
    };
    match candidates.iter().find(|folder| is_bin_dir(folder)) {
        // PostgreSQL finds its other folders relative to its program: without symbolic links in the path nothing is left to guess.
        Some(folder) => folder
            .canonicalize()
            .map_err(ClusterError::io("look at", folder)),
        None => Err(ClusterError::NoPostgres {
            searched: candidates,
        }),
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut found: Vec<_> = projects()
        .iter()
        .map(|project| project.join(".build/default-bin"))
        .collect();
    found.extend(
        std::env::var_os("PG_CONFIG").and_then(|pg_config| bin_dir_of(Path::new(&pg_config))),
    );
    for version in (15..=18).rev() {
        found.push(PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    }
    found
}

/// The folders above the working folder and above this program, nearest first: one of them may be the project.
fn projects() -> Vec<PathBuf> {
    let starts = [std::env::current_dir(), std::env::current_exe()];
    let folders = starts.iter().flatten().flat_map(|start| start.ancestors());
    folders
        .filter(|folder| folder.join("pg_extension/install").is_file())
        .map(Path::to_owned)
        .collect()
}

fn bin_dir_of(pg_config: &Path) -> Option<PathBuf> {
    let output = Command::new(pg_config).arg("--bindir").output().ok()?;
    output
        .status
        .success()
        .then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn is_bin_dir(folder: &Path) -> bool {
    ["postgres", "initdb", "pg_ctl", "createdb"]
        .iter()
        .all(|program| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ClusterError, find_bin_dir};

    #[test]
    fn a_given_folder_without_postgres_is_refused_and_named() {
        let Err(ClusterError::NoPostgres { searched }) = find_bin_dir(Some(Path::new("/nowhere")))
        else {
            panic!("a folder that isn't there was taken");
        };
        assert_eq!(searched, [Path::new("/nowhere")]);
    }
}
