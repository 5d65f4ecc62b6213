//! Encryption: the PEM files of a rediss:// URL, read anew for every attempt to connect.

use std::path::Path;

use broker_core::{Error, ErrorKind, Result};
use redis::{Client, ClientTlsConfig, ConnectionInfo, TlsCertificates};

use crate::address::PemFiles;

pub(crate) async fn client(info: ConnectionInfo, files: PemFiles) -> Result<Client> {
    // Files may lie on a slow disk; the threads of the runtime do not wait for it.
    let built = tokio::task::spawn_blocking(move || build(info, &files)).await;
    built.map_err(|_| Error::new(ErrorKind::Other, "reading the TLS files was interrupted"))?
}

fn build(info: ConnectionInfo, files: &PemFiles) -> Result<Client> {
    let root_cert = files.ca.as_deref().map(|path| read("ca", path)).transpose()?;
    let client = files.client.as_ref().map(|(cert, key)| {
        Ok(ClientTlsConfig { client_cert: read("cert", cert)?, client_key: read("key", key)? })
    });
    let certificates = TlsCertificates { client_tls: client.transpose()?, root_cert };
    // The client's own text is left out: it may quote a line of the key file.
    Client::build_with_tls(info, certificates).map_err(|_| {
        let message = format!("one of the PEM files does not hold what it should: {files:?}");
        Error::new(ErrorKind::InvalidInput, message)
    })
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let message = format!("cannot read the PEM file {key}={}: {error}", path.display());
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
}
