//! TLS as every backend has it: the steps of those cases, for a server that the backend has set up.

use std::path::Path;

use broker::ErrorKind;
use broker_conformance::{case::Outcome, harness::Harness};

use super::backend_common::{connect, receive_from_each_other, receives_again_after, refusal, with_keys};
use crate::servers::certificates::Certificates;

/// Two nodes that trust this authority reach each other, also after `lose` has broken their links.
pub(super) async fn works_from_end_to_end(
    h: &dyn Harness,
    url: &str,
    ca: &Path,
    lose: impl Future<Output = Result<(), String>> + Send,
) -> Outcome {
    let url = with_keys(url, &[("ca", ca)]);
    let (one, two) = (connect(h, &url).await?, connect(h, &url.replace("127.0.0.1", "localhost")).await?);
    receive_from_each_other(&one, &two).await?;
    receives_again_after(&one, &two, lose).await
}

/// A node that trusts another authority, or only the public ones, is refused by an error that names the key.
pub(super) async fn another_authority_is_refused(h: &dyn Harness, url: &str, place: &str) -> Outcome {
    let others = Certificates::new()?;
    for url in [with_keys(url, &[("ca", &others.authority())]), url.to_owned()] {
        names_the_authority(h, &url, place).await?;
    }
    Ok(())
}

/// The error says that the key for the authority is wrong.
pub(super) async fn names_the_authority(h: &dyn Harness, url: &str, place: &str) -> Outcome {
    let error = refusal(h, url, place).await?;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{url}: {error}");
    assert!(error.message().contains("`ca`"), "{error}");
    Ok(())
}

/// A server that demands a certificate takes its own clients, and no others.
pub(super) async fn a_client_certificate_is_demanded(
    h: &dyn Harness,
    url: &str,
    place: &str,
    certificates: &Certificates,
) -> Outcome {
    let (ca, others) = (certificates.authority(), Certificates::new()?);
    let own = [("ca", &*ca), ("cert", &certificates.client()), ("key", &certificates.client_key())];
    let foreign = [("ca", &*ca), ("cert", &others.client()), ("key", &others.client_key())];
    for keys in [&own[..1], &foreign] {
        let error = refusal(h, &with_keys(url, keys), place).await?;
        assert!(matches!(error.kind(), ErrorKind::Misconfigured | ErrorKind::Unavailable), "{error}");
    }
    let url = with_keys(url, &own);
    let (one, two) = (connect(h, &url).await?, connect(h, &url).await?);
    Ok(receive_from_each_other(&one, &two).await?)
}

/// A node that begins with TLS where there is none, or without where there is, fails for good, and the error has the
/// remedy.
pub(super) async fn one_side_only_is_named(h: &dyn Harness, url: &str, place: &str, remedy: &str) -> Outcome {
    let error = refusal(h, url, place).await?;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{url}: {error}");
    assert!(!error.is_transient() && error.message().contains(remedy), "{remedy} is not in: {error}");
    Ok(())
}
