//! Account: the user as whom PostgreSQL runs. It refuses to run as root; the package has made a user for it.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

/// The user that the package makes.
const USER: &str = "postgres";

/// Another user than this process's, where that is root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account(Option<(u32, u32)>);

impl Account {
    /// The one that can run the programs.
    ///
    /// # Errors
    /// This process is root's, and there is no user for them.
    pub(crate) fn find() -> Result<Self, String> {
        let own = fs::metadata("/proc/self").map_err(|error| format!("/proc/self: {error}"))?;
        if own.uid() != 0 {
            return Ok(Self(None));
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
        let found = users.lines().find_map(ids);
        found.map(|ids| Self(Some(ids))).ok_or_else(|| {
            format!(
                "postgres does not run as root, and there is no user `{USER}`: install the package postgresql"
            )
        })
    }

    /// Runs a program as this user.
    pub(crate) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // A message of the server is looked for, so it has to be in English.
        command.env("LC_ALL", "C");
        if let Self(Some((user, group))) = self {
            // The directory of the test may be closed to that user.
            command.uid(user).gid(group).current_dir("/");
        }
        command
    }

    /// Gives a file or a directory to this user.
    pub(crate) fn own(self, path: &Path) -> Result<(), String> {
        let Self(Some((user, group))) = self else { return Ok(()) };
        chown(path, Some(user), Some(group)).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// The numbers in the line of that user.
fn ids(line: &str) -> Option<(u32, u32)> {
    let mut parts = line.split(':');
    let name = parts.next()?;
    let (user, group) = (parts.nth(1)?.parse().ok()?, parts.next()?.parse().ok()?);
    (name == USER).then_some((user, group))
}

#[cfg(test)]
mod tests {
    use super::ids;

    #[test]
    fn the_numbers_are_those_of_the_user() {
        let line = "postgres:x:103:111:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash";
        assert_eq!(ids(line), Some((103, 111)));
        assert_eq!(ids("root:x:0:0:root:/root:/bin/bash"), None);
        assert_eq!(ids("postgres"), None);
    }
}
