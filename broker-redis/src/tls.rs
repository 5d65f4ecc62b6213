//! Encryption: the PEM files of a rediss:// URL, read anew for every attempt to connect.

use std::path::{Path, PathBuf};

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
    let client_tls = match &files.client {
        None => None,
        Some((cert, key)) => {
            Some(ClientTlsConfig { client_cert: read("cert", cert)?, client_key: read("key", key)? })
        }
    };
    // The client's own text is left out: it may quote a line of the key file.
    Client::build_with_tls(info, TlsCertificates { client_tls, root_cert }).map_err(|_| {
        let named: Vec<_> = named(files).map(|(key, path)| format!("{key}={}", path.display())).collect();
        let message = format!("one of the files {} is not valid PEM", named.join(", "));
        Error::new(ErrorKind::InvalidInput, message)
    })
}

fn named(files: &PemFiles) -> impl Iterator<Item = (&'static str, &PathBuf)> {
    let client = files.client.iter().flat_map(|(cert, key)| [("cert", cert), ("key", key)]);
    files.ca.iter().map(|path| ("ca", path)).chain(client)
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let message = format!("cannot read the PEM file {key}={}: {error}", path.display());
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
}
