//! Where RabbitMQ's programs are.

use std::path::{Path, PathBuf};

/// Where packages put what starts the broker as whoever calls it. The one that they put on the path refuses everybody but root and `rabbitmq`,
/// and brings the settings of the machine's own broker.
const PACKAGED: &str = "/usr/lib/rabbitmq/bin";
/// Not on the path of an ordinary user.
const FOR_ROOT: [&str; 2] = ["/usr/local/sbin", "/usr/sbin"];

/// What a broker needs.
#[derive(Debug, PartialEq)]
pub(super) struct Programs {
    pub(super) server: PathBuf,
    /// Erlang's directory of node names.
    pub(super) epmd: PathBuf,
}

impl Programs {
    /// None when RabbitMQ isn't installed.
    pub(super) fn find() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = vec![PathBuf::from(PACKAGED)];
        folders.extend(std::env::split_paths(&path));
        folders.extend(FOR_ROOT.map(PathBuf::from));
        Self::find_in(&folders)
    }

    fn find_in(folders: &[PathBuf]) -> Option<Self> {
        Some(Self {
            server: first(folders, "rabbitmq-server")?,
            epmd: first(folders, "epmd")?,
        })
    }
}

fn first(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    let mut paths = folders.iter().map(|folder| folder.join(name));
    paths.find(|path| Path::is_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_taken_from_the_first_folder_that_has_it() {
        let scratch = std::env::temp_dir().join(format!("tasker-bench-{}", std::process::id()));
        let [packaged, path] = ["packaged", "path"].map(|name| scratch.join(name));
        for folder in [&packaged, &path] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("rabbitmq-server"), "").unwrap();
        }
        let folders = [packaged.clone(), path.clone()];
        assert_eq!(Programs::find_in(&folders), None, "there is no epmd");
        std::fs::write(path.join("epmd"), "").unwrap();
        let found = Programs::find_in(&folders);
        std::fs::remove_dir_all(&scratch).unwrap();
        let expected = Programs {
            server: packaged.join("rabbitmq-server"),
            epmd: path.join("epmd"),
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn without_folders_nothing_is_installed() {
        assert_eq!(Programs::find_in(&[]), None);
    }
}
