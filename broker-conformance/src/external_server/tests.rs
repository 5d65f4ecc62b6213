//! Tests of what the URL of an external server may be, and what becomes of it.

use super::*;
use broker_core::driver::Scheme;

/// Takes every URL with its scheme, and connects to nobody.
const SOME: Backend = Backend {
    name: "some",
    schemes: &[Scheme::plain("some", 4000, None)],
    open: |_| (broker_memory::BACKEND.open)(&BrokerUrl::parse("memory:")?),
};

#[tokio::test]
async fn only_a_url_of_one_resolvable_host_is_accepted() {
    for (url, part) in [
        ("memory:", "`memory`"),
        ("some://127.0.0.1,127.0.0.2", "one server"),
        ("some://host.invalid", "host.invalid:4000"),
        ("nothing", "no scheme"),
    ] {
        let error = ExternalServer::new(url, SOME).await.expect_err("refused");
        assert!(error.contains(part), "{url}: {error}");
    }
}

#[tokio::test]
async fn credentials_and_options_are_kept_and_the_prefix_is_replaced() {
    let url = "some://ada:s3cret@127.0.0.1:7000/?prefix=shop&heartbeat=2s";
    let server = ExternalServer::new(url, SOME).await.expect("a server");
    assert!(server.prefix().starts_with("conformance-"));
    let visit = server.visit();
    let url = visit.url_at(SocketAddr::from(([127, 0, 0, 1], 9)));
    assert_eq!(url, "some://ada:s3cret@127.0.0.1:9/?heartbeat=2s");
    assert!(visit.kill_server().await.is_err());
    assert_eq!(visit.lacked(), Some("kill the server"));
}
