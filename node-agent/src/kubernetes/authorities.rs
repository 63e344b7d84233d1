//! The secrets a cluster is made of: three authorities, the key of service account tokens, the key of secrets at rest. Made once,
//! kept below one folder that only root may enter, never logged.

use crate::durable::replace;
use anyhow::Context as _;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use ingot_pki::{Ca, Certificate, PrivateKey, Validity};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Years an authority lives, in days.
const LIFETIME_DAYS: u32 = 3650;

/// Folder of the authorities, below the cluster's.
const FOLDER: &str = "pki";

/// The controller and whoever asks for a kubeconfig right after a bootstrap: an authority that both made would be two.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// All of them.
pub(crate) struct Authorities {
    /// Of API server, kubelets and people.
    pub(crate) cluster: Ca,
    /// Of etcd and who may speak with it.
    pub(crate) etcd: Ca,
    /// Of the API server when it speaks for others.
    pub(crate) front_proxy: Ca,
    /// Signs the tokens of service accounts.
    pub(crate) service_account: PrivateKey,
    /// Encrypts secrets in etcd: 32 bytes in base64.
    pub(crate) encryption: String,
}

impl Authorities {
    /// Reads them, and makes those that are not there.
    ///
    /// # Errors
    /// When one cannot be read or written. One that is damaged is never replaced: everything that it signed would be lost.
    pub(crate) fn ensure(cluster: &Path, now: SystemTime) -> anyhow::Result<Self> {
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = cluster.join(FOLDER);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("create {}", folder.display()))?;
        let authority = |file: &str, name: &str| authority(&folder.join(file), name, now);
        Ok(Self {
            cluster: authority("cluster-ca.pem", "kubernetes-ca")?,
            etcd: authority("etcd-ca.pem", "etcd-ca")?,
            front_proxy: authority("front-proxy-ca.pem", "front-proxy-ca")?,
            service_account: kept(
                &folder.join("service-account.pem"),
                || Ok(PrivateKey::generate()?.to_pem().to_string()),
                |text| Ok(PrivateKey::from_pem(text)?),
            )?,
            encryption: kept(&folder.join("encryption.key"), random_key, |text| {
                Ok(text.trim().to_owned())
            })?,
        })
    }
}

fn authority(path: &Path, name: &str, now: SystemTime) -> anyhow::Result<Ca> {
    let make = || {
        let ca = Ca::generate(name, Validity::starting(now, Validity::days(LIFETIME_DAYS)))?;
        Ok(format!("{}{}", ca.certificate().to_pem(), ca.key().to_pem().as_str()))
    };
    kept(path, make, |text| {
        let (certificate, key) = split(text).context("it holds no certificate and key")?;
        Ok(Ca::from_pem(certificate, key)?)
    })
}

/// Certificate and key of a file with both.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    let start = text.find("-----BEGIN CERTIFICATE-----")?;
    let key = text.find("-----BEGIN PRIVATE KEY-----")?;
    Some((text.get(start..key)?, text.get(key..)?))
}

/// Reads a file, or writes what is made and reads that.
fn kept<T>(
    path: &Path,
    make: impl FnOnce() -> anyhow::Result<String>,
    parse: impl FnOnce(&str) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let made = make()?;
            replace(path, made.as_bytes(), 0o600, None)
                .with_context(|| format!("write {}", path.display()))?;
            made
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    parse(&text).with_context(|| format!("{} is damaged", path.display()))
}

fn random_key() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("no random bytes"))?;
    Ok(BASE64_STANDARD.encode(bytes))
}

/// Whether a certificate will do for longer than this from now on.
pub(crate) fn lasts(certificate: &Certificate, now: SystemTime, more: std::time::Duration) -> bool {
    certificate
        .info()
        .is_ok_and(|info| info.validity.not_before <= now && info.validity.not_after > now + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_made_once_and_a_damaged_one_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let first = Authorities::ensure(folder.path(), now).unwrap();
        let again = Authorities::ensure(folder.path(), now).unwrap();
        assert_eq!(first.cluster.certificate(), again.cluster.certificate());
        assert_eq!(first.encryption, again.encryption);
        assert_eq!(first.encryption.len(), 44, "32 bytes");
        assert_ne!(first.cluster.certificate(), first.etcd.certificate());
        let file = folder.path().join("pki/etcd-ca.pem");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&file, "-----BEGIN").unwrap();
        let error = Authorities::ensure(folder.path(), now).err().expect("refused");
        assert!(format!("{error:#}").contains("etcd-ca.pem is damaged"), "{error:#}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "-----BEGIN");
    }

    #[test]
    fn whoever_asks_at_the_same_time_gets_the_same_ones() {
        let folder = tempfile::tempdir().unwrap();
        let ask = || {
            let authorities = Authorities::ensure(folder.path(), SystemTime::now()).unwrap();
            authorities.cluster.certificate().fingerprint()
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
    }
}
