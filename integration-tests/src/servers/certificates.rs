//! Certificates: an authority, a server and a client certificate for the TLS cases, fresh for every test.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// A set of PEM files in a directory that goes with this value.
#[derive(Debug)]
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// Makes an authority and signs a certificate for a server on `localhost` and `127.0.0.1`, and one for
    /// a client.
    ///
    /// # Errors
    /// A key could not be made or a file not written.
    pub fn new() -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        write_all(dir.path()).map_err(|error| format!("certificates: {error}"))?;
        Ok(Self { dir })
    }

    /// The authority's certificate: what a client trusts.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("authority.pem")
    }

    /// The server's certificate.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.dir.path().join("server.pem")
    }

    /// The server's private key.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.dir.path().join("server.key")
    }

    /// The client's certificate.
    #[must_use]
    pub fn client(&self) -> PathBuf {
        self.dir.path().join("client.pem")
    }

    /// The client's private key.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.dir.path().join("client.key")
    }
}

fn write_all(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "broker test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(dir.join("authority.pem"), authority.pem())?;

    let kinds = [
        ("server", vec!["localhost".to_owned(), "127.0.0.1".to_owned()], ExtendedKeyUsagePurpose::ServerAuth),
        ("client", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth),
    ];
    for (name, hosts, usage) in kinds {
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, format!("broker test {name}"));
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        fs::write(dir.join(format!("{name}.pem")), params.signed_by(&key, &authority)?.pem())?;
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Certificates;

    #[test]
    fn every_file_is_pem_and_goes_with_the_value() {
        let certificates = Certificates::new().unwrap();
        let path = certificates.authority();
        for file in [certificates.authority(), certificates.server(), certificates.client()] {
            assert!(fs::read_to_string(file).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
        }
        for file in [certificates.server_key(), certificates.client_key()] {
            assert!(fs::read_to_string(file).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
        }
        drop(certificates);
        assert!(!path.exists());
    }
}
