//! A cluster's certificate authority, the certificates it gives, and the files in which programs read them.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// Who a certificate is for: Kubernetes takes the common name for the user, and organizations for groups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) user: &'a str,
    pub(crate) group: Option<&'a str>,
}

impl<'a> Subject<'a> {
    pub(crate) const fn user(user: &'a str) -> Self {
        Self { user, group: None }
    }

    /// One who may do everything.
    pub(crate) const fn master(user: &'a str) -> Self {
        Self { user, group: Some("system:masters") }
    }
}

/// A certificate authority that keeps everything in one folder.
#[derive(Debug)]
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes the authority, its folder, and the key that signs the tokens of service accounts; or reads what an earlier
    /// call made.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let key_file = folder.join("ca.key");
        if !key_file.exists() {
            let key = KeyPair::generate().context("no key can be made")?;
            let certificate = authority()?.self_signed(&key).context("the authority cannot sign itself")?;
            write(&folder.join("ca.crt"), &certificate.pem())?;
            let accounts = KeyPair::generate().context("no key can be made")?;
            write(&folder.join("accounts.key"), &accounts.serialize_pem())?;
            write(&folder.join("accounts.pub"), &accounts.public_key_pem())?;
            // Last: it says that the others are there.
            write(&key_file, &key.serialize_pem())?;
        }
        let pem = fs::read_to_string(&key_file)
            .with_context(|| format!("{} cannot be read", key_file.display()))?;
        let key =
            KeyPair::from_pem(&pem).with_context(|| format!("{}: no private key", key_file.display()))?;
        Ok(Self { folder: folder.to_owned(), issuer: Issuer::new(authority()?, key) })
    }

    /// Makes `NAME.crt` and `NAME.key`, for a client and for a server that is known by these names and addresses.
    pub(crate) fn issue(
        &self,
        name: &str,
        subject: Subject<'_>,
        names: &[&str],
        addresses: &[IpAddr],
    ) -> Result<()> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters =
            CertificateParams::new(names).with_context(|| format!("{name}: a name is invalid"))?;
        parameters.subject_alt_names.extend(addresses.iter().map(|&address| SanType::IpAddress(address)));
        parameters.distinguished_name.push(DnType::CommonName, subject.user);
        if let Some(group) = subject.group {
            parameters.distinguished_name.push(DnType::OrganizationName, group);
        }
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let (parameters, key) = (valid(parameters), KeyPair::generate().context("no key can be made")?);
        let signed = parameters.signed_by(&key, &self.issuer);
        let certificate = signed.with_context(|| format!("{name}: the certificate cannot be signed"))?;
        write(&self.file(&format!("{name}.crt")), &certificate.pem())?;
        write(&self.file(&format!("{name}.key")), &key.serialize_pem())
    }

    /// A file in the authority's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// What the authority's own certificate says; the same each time, so that its key alone brings it back.
fn authority() -> Result<CertificateParams> {
    let mut parameters = CertificateParams::new(Vec::new()).context("no certificate can be made")?;
    parameters.distinguished_name.push(DnType::CommonName, "kubelab");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(valid(parameters))
}

/// Wide enough for a machine whose clock is wrong; the keys are gone long before.
fn valid(mut parameters: CertificateParams) -> CertificateParams {
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2100, 1, 1);
    parameters
}

/// Writes a file that its owner alone can read.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let options = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    options
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn an_authority_that_is_opened_again_signs_with_the_same_key() {
        let folder = Scratch::create("pki").unwrap();
        let path = folder.path().join("pki");
        let first = Authority::open(&path).unwrap();
        let certificate = fs::read_to_string(first.file("ca.crt")).unwrap();
        let again = Authority::open(&path).unwrap();
        assert_eq!(again.issuer.key().public_key_pem(), first.issuer.key().public_key_pem());
        assert_eq!(fs::read_to_string(again.file("ca.crt")).unwrap(), certificate);
        again.issue("admin", Subject::master("admin"), &["localhost"], &[[127, 0, 0, 1].into()]).unwrap();
        assert!(
            fs::read_to_string(again.file("admin.crt")).unwrap().starts_with("-----BEGIN CERTIFICATE-----")
        );
    }
}
