//! Where a relative path begins. Files that hold secrets begin in systemd's credentials folder when
//! there is one, so that `LoadCredential=hsm-pin:...` and `pin_file = "hsm-pin"` meet; everything
//! else begins in the folder of the configuration file, never in the working directory.

use std::path::{Path, PathBuf};

use super::Config;

/// Makes every path of the configuration absolute as far as `folder` is.
pub(super) fn resolve(config: &mut Config, folder: &Path, credentials: Option<&Path>) {
    let secrets = credentials.unwrap_or(folder);
    from(folder, &mut config.state_dir);
    from(folder, &mut config.hsm.module);
    from(secrets, &mut config.hsm.pin_file);
    for token in &mut config.token {
        token.resolve(&config.hsm, folder, secrets);
    }
    if let Some(profiles) = &mut config.hsm.profiles_dir {
        from(folder, profiles);
    }
    if let Some(tcp) = &mut config.tcp {
        from(folder, &mut tcp.certificate_file);
        from(secrets, &mut tcp.private_key_file);
        from(folder, &mut tcp.client_ca_file);
        if let Some(crl) = &mut tcp.client_crl_file {
            from(folder, crl);
        }
    }
    if let Some(unix) = &mut config.unix {
        from(folder, &mut unix.socket);
    }
}

/// Takes a relative path from `folder`; an absolute one stays (`Path::join`).
pub fn from(folder: &Path, path: &mut PathBuf) {
    *path = folder.join(&*path);
}
