//! The first admin: made at the first start, with a password that is given, or one that only the node's own user can read.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{Identity, StartError, secret};
use crate::{database::users::NewUser, settings::Secret};

const NAME: &str = "admin";
/// In the data directory.
const FILE: &str = "admin.password";

/// Makes the first admin, unless the database has one.
pub(super) async fn make(identity: &Identity, data: &Path) -> Result<(), StartError> {
    if identity.database.has_admin().await? {
        return Ok(());
    }
    let path = data.join(FILE);
    let (password, written) = match &identity.settings.admin_password {
        Some(given) => (given.clone(), None),
        // Before the admin exists: a crash between the two leaves a password that nobody has yet.
        None => {
            (in_file(&path).map_err(|error| StartError::File { path: path.clone(), error })?, Some(&path))
        }
    };
    let hash = identity.passwords.hash(&password, None).await?;
    let new = NewUser { name: NAME, email: None, password: &hash, admin: true, auditor: false };
    if identity.database.create_first_admin(&new).await? {
        if let Some(path) = written {
            // Once, and whatever is logged: without it nobody could log in.
            let _ = writeln!(
                io::stderr(),
                "roadstead: the first user is {NAME}; the password is in {}",
                path.display()
            );
        }
    } else if let Some(path) = written {
        // Another node made it meanwhile, with a password of its own.
        drop(fs::remove_file(path));
    }
    Ok(())
}

/// The password in a file that is there, or a new one in a new file that is on disk.
fn in_file(path: &PathBuf) -> io::Result<Secret> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(Secret::from(text.trim().to_owned())),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let password = secret::for_admin();
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", password.expose())?;
    file.sync_all()?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(password)
}
