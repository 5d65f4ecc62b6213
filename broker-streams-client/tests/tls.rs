//! TLS: a server whose certificate is signed by no known root is refused.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use broker_streams_client::{CallError, Client};
use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};
use tokio_rustls::{TlsAcceptor, rustls};

#[tokio::test]
async fn a_certificate_that_nobody_has_signed_is_refused_and_nothing_is_said_to_its_server() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        match acceptor.accept(stream).await {
            Ok(mut stream) => stream.read(&mut [0; 16]).await.unwrap_or_default(),
            Err(_) => 0,
        }
    });
    let client = Client::builder(&format!("wss://localhost:{port}/v1/websocket")).build().unwrap();
    let refused = timeout(Duration::from_secs(60), client.call("a", "b").void()).await.unwrap();
    assert!(
        matches!(&refused, Err(CallError::ConnectFailed(why)) if why.contains("certificate")),
        "{refused:?}"
    );
    assert_eq!(timeout(Duration::from_secs(60), serving).await.unwrap().unwrap(), 0);
}
