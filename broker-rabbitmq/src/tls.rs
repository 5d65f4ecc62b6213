//! Encryption: the PEM files of an amqps:// URL, read anew for every attempt to connect.

use std::path::Path;

use broker_core::{Error, ErrorKind, Result};
use futures_util::{AsyncRead, AsyncWrite};
use lapin::{
    AsyncTcpStream,
    tcp::{RustlsConnector, RustlsConnectorConfig},
    uri::AMQPScheme,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::address::{Address, PemFiles};

/// Speaks TLS on a fresh connection, if the scheme asks for it.
pub(crate) async fn encrypt<S>(stream: AsyncTcpStream<S>, address: &Address) -> Result<AsyncTcpStream<S>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if address.uri.scheme != AMQPScheme::AMQPS {
        return Ok(stream);
    }
    let files = address.files.clone();
    // Files may lie on a slow disk; the threads of the runtime do not wait for it.
    let built = tokio::task::spawn_blocking(move || connector(&files)).await;
    let connector =
        built.map_err(|_| Error::new(ErrorKind::Other, "reading the TLS files was interrupted"))??;
    let encrypted = stream.into_rustls(&connector, &address.uri.authority.host).await;
    encrypted.map_err(|error| address.peer.io(&error))
}

fn connector(files: &PemFiles) -> Result<RustlsConnector> {
    // The client would trust the roots of the file beside Mozilla's; whoever names a root means that one only.
    let config = match &files.ca {
        Some(path) => RustlsConnectorConfig::default().with_parsable_certificates(certificates("ca", path)?),
        None => RustlsConnectorConfig::new_with_webpki_root_certs(),
    };
    let connector = match &files.client {
        None => config.connector_with_no_client_auth(),
        Some((cert, key)) => {
            let key = PrivateKeyDer::from_pem_slice(&read("key", key)?).map_err(|_| no_pem("key", key))?;
            config.connector_with_single_cert(certificates("cert", cert)?, key)
        }
    };
    // The client's own text is left out: it may quote a line of the key file.
    connector.map_err(|_| {
        let message = format!("the PEM files do not fit each other: {files:?}");
        Error::new(ErrorKind::InvalidInput, message)
    })
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(key, path)?)
        .collect::<Result<_, _>>()
        .map_err(|_| no_pem(key, path))?;
    if certificates.is_empty() { Err(no_pem(key, path)) } else { Ok(certificates) }
}

fn no_pem(key: &str, path: &Path) -> Error {
    let message = format!("the PEM file {key}={} does not hold what it should", path.display());
    Error::new(ErrorKind::InvalidInput, message)
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let message = format!("cannot read the PEM file {key}={}: {error}", path.display());
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
}
