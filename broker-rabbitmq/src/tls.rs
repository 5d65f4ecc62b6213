//! Encryption: a connector with the PEM files of an amqps:// URL.

use broker_core::{
    Result,
    driver::{TlsFiles, UrlFile},
};
use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

pub(crate) async fn connector(files: &TlsFiles) -> Result<RustlsConnector> {
    // The client would trust the roots of the file beside Mozilla's; whoever names a root means that one only.
    let config = match &files.ca {
        Some(ca) => RustlsConnectorConfig::default().with_parsable_certificates(certificates(ca).await?),
        None => RustlsConnectorConfig::new_with_webpki_root_certs(),
    };
    let connector = match &files.client {
        None => config.connector_with_no_client_auth(),
        Some((cert, key)) => {
            let secret = PrivateKeyDer::from_pem_slice(&key.read().await?).map_err(|_| key.unusable())?;
            config.connector_with_single_cert(certificates(cert).await?, secret)
        }
    };
    // The client's own text is left out: it may quote a line of the key file.
    connector.map_err(|_| files.unusable())
}

async fn certificates(file: &UrlFile) -> Result<Vec<CertificateDer<'static>>> {
    let pem = file.read().await?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    certificates.ok().filter(|found| !found.is_empty()).ok_or_else(|| file.unusable())
}
