//! Opens that race with a revocation: none of them escapes.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use broker::Revocation;
use broker_streams::{Authenticated, Authenticator, Credentials, Endpoint, Failure, Out, Streams};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::{Raw, Server, open, soon};

const BATCH: usize = 32;

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

/// Everybody is who they say, once they are let go on.
#[derive(Clone)]
struct Held {
    began: Arc<AtomicUsize>,
    go_on: Arc<Semaphore>,
}

impl Authenticator for Held {
    async fn authenticate(&self, credentials: Credentials) -> Result<Option<Authenticated>, Failure> {
        self.began.fetch_add(1, SeqCst);
        self.go_on.acquire().await.map_err(Failure::internal)?.forget();
        Ok(Some(Authenticated::new(credentials.secret())))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_escapes_a_revocation_that_races_with_its_open() {
    let held = Held { began: Arc::default(), go_on: Arc::new(Semaphore::new(0)) };
    let broker = broker::connect("memory:").await.unwrap();
    let private = Endpoint::new("private").requires_login().method("forever", forever);
    let streams = Streams::builder(broker.clone()).authenticator(held.clone()).endpoint(private);
    let server = Server::serve(streams.build().unwrap(), "127.0.0.1:0").await;
    let (mut refused, mut revoked) = (0, 0);
    for batch in 0..10_000_usize.div_ceil(BATCH) {
        let (mut raw, _) = Raw::extended(&server.url).await;
        for number in 0..BATCH {
            let mut frame = open(u32::try_from(number).unwrap(), "private", "forever", &json!({}), &[]);
            frame["data"]["auth"] = json!("Bearer ada");
            raw.json(&frame).await;
        }
        soon("all authenticators began", async {
            while held.began.load(SeqCst) < (batch + 1) * BATCH {
                tokio::task::yield_now().await;
            }
        })
        .await;
        // Some are let go before, some while, some after.
        let early = batch % BATCH;
        held.go_on.add_permits(early);
        for _ in 0..batch % 5 {
            tokio::task::yield_now().await;
        }
        let revoking = broker.revoke(Revocation::user("ada"));
        let letting = async { held.go_on.add_permits(BATCH - early) };
        let (outcome, ()) = tokio::join!(revoking, letting);
        outcome.unwrap();
        let mut open = HashMap::new();
        let mut ended = 0;
        while ended < BATCH {
            let frame = raw.next().await;
            let call = frame["data"]["cid"].as_str().unwrap().to_owned();
            match (frame["type"].as_str().unwrap(), frame["data"]["res"].as_str()) {
                ("omsr", Some("success")) => drop(open.insert(call, ())),
                ("omsr", Some("authenticationFailed")) => (ended, refused) = (ended + 1, refused + 1),
                ("cmsc", _) => {
                    assert_eq!(frame["data"]["why"]["c"], "revoked");
                    open.remove(&call).expect("a call that was open");
                    (ended, revoked) = (ended + 1, revoked + 1);
                }
                _ => panic!("{frame}"),
            }
        }
    }
    println!("{refused} refused, {revoked} opened and revoked");
    assert!(refused > 0 && revoked > 0, "both happen: {refused}, {revoked}");
}
