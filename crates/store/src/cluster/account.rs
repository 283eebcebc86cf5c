//! Who Postgres runs as: ourselves, or the user `postgres` if we are root, which it refuses to be.

use std::{fs, process::Command};

use super::ClusterError;

const USER: &str = "postgres";

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// `None` means ourselves.
    pub(super) fn for_postgres() -> Result<Option<Self>, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let listed = fs::read_to_string("/etc/passwd").ok().and_then(|text| find(&text, USER));
        let account = listed.or_else(from_name_service).ok_or(ClusterError::NoAccount { user: USER })?;
        Ok(Some(account))
    }
}

fn from_name_service() -> Option<Account> {
    let output = Command::new("getent").args(["passwd", USER]).output().ok()?;
    find(&String::from_utf8_lossy(&output.stdout), USER)
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { name: name.to_owned(), uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:7::/:/bin/sh\npostgres:x:101:104:,,,:/var/lib:/bin/bash\n";
        assert_eq!(find(passwd, "postgres"), Some(Account { name: "postgres".to_owned(), uid: 101, gid: 104 }));
        assert_eq!(find(passwd, "nobody"), None);
    }
}
