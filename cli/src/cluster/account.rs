//! The operating system's account that runs PostgreSQL: the caller's own, or an unprivileged one when the caller is root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::ClusterError;

/// The account that a cluster's programs run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    name: String,
    /// None: the caller's own account.
    switch_to: Option<Ids>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ids {
    user: u32,
    group: u32,
}

impl Account {
    /// The caller's account; for root `postgres`, else `nobody`, since PostgreSQL refuses to run as root.
    pub fn choose() -> Result<Self, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            let name = std::env::var("USER").unwrap_or_else(|_| "yours".to_owned());
            return Ok(Self {
                name,
                switch_to: None,
            });
        }
        let table = std::fs::read_to_string("/etc/passwd")
            .map_err(ClusterError::io("read", "/etc/passwd"))?;
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| {
                ids_of(&table, name).map(|ids| Self {
                    name: name.to_owned(),
                    switch_to: Some(ids),
                })
            })
            .ok_or(ClusterError::NoAccount)
    }

    /// A command that runs as this account.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(ids) = self.switch_to {
            command.uid(ids.user).gid(ids.group);
        }
        command
    }

    /// Makes a folder that belongs to this account.
    pub(crate) fn own_folder(&self, folder: &Path) -> Result<(), ClusterError> {
        std::fs::create_dir_all(folder).map_err(ClusterError::io("make the folder", folder))?;
        if let Some(ids) = self.switch_to {
            chown(folder, Some(ids.user), Some(ids.group))
                .map_err(ClusterError::io("give away", folder))?;
        }
        Ok(())
    }

    /// Fails when this account can't use the path in the given way (`-w`: write, `-x`: run or enter).
    pub(crate) fn check_reach(&self, way: &'static str, path: &Path) -> Result<(), ClusterError> {
        let reached = self
            .command(Path::new("test"))
            .arg(way)
            .arg(path)
            .current_dir("/")
            .stdin(Stdio::null())
            .status()
            .map_err(ClusterError::io("look at", path))?
            .success();
        if reached {
            Ok(())
        } else {
            Err(ClusterError::OutOfReach {
                account: self.name.clone(),
                path: path.to_owned(),
            })
        }
    }
}

/// The ids of a user in the text of `/etc/passwd` (name:password:user:group:…).
fn ids_of(table: &str, name: &str) -> Option<Ids> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        Some(Ids {
            user: fields.nth(1)?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{Ids, ids_of};

    const TABLE: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\npostgres:x:106:113:,,,:/var/lib/postgresql:/bin/bash\n";

    #[test]
    fn the_ids_of_a_user_are_read_from_the_table() {
        assert_eq!(
            ids_of(TABLE, "postgres"),
            Some(Ids {
                user: 106,
                group: 113
            })
        );
        assert_eq!(
            ids_of(TABLE, "nobody"),
            Some(Ids {
                user: 65534,
                group: 65534
            })
        );
    }

    #[test]
    fn an_unknown_or_broken_user_has_no_ids() {
        assert_eq!(ids_of(TABLE, "post"), None);
        assert_eq!(ids_of("postgres:x:abc:1:", "postgres"), None);
    }
}
