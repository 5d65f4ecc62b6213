//! Cuts at frames of either direction, which arrive or are lost: a call goes on exactly.

use std::sync::{Arc, Mutex};

use broker_streams_client::{Event, Resumption, Status};
use futures_util::stream;

use crate::{
    Random, Server,
    proxy::{To, Verdict, Watch, client},
    within,
};

/// Cuts behind or before one of the next frames.
struct Cuts {
    random: Random,
    left: u64,
    cuts: u64,
    most: u64,
}

impl Watch for Cuts {
    fn connected(&mut self) {
        // The first frames are the greeting, and the question for the call.
        self.left = 1 + self.random.below(24);
    }

    fn frame(&mut self, _: To, text: &str) -> Verdict {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 || self.cuts == self.most || text.starts_with(r#"{"type":"omsc"#) {
            return Verdict::Passes;
        }
        self.cuts += 1;
        if self.random.below(2) == 0 { Verdict::CutBehind } else { Verdict::CutBefore }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_goes_on_exactly_over_ten_thousand_cuts_at_its_frames() {
    const CUTS: u64 = 10_000;
    let mut random = Random::new();
    let server = Server::start().await;
    let cuts = Arc::new(Mutex::new(Cuts { random: random.split(), left: 0, cuts: 0, most: 0 }));
    let client = client(&server.address, Arc::<Mutex<Cuts>>::clone(&cuts)).window(16).build().unwrap();
    let done = {
        let cuts = Arc::clone(&cuts);
        move || {
            let cuts = cuts.lock().unwrap();
            cuts.most > 0 && cuts.cuts == cuts.most
        }
    };
    // The input ends when all cuts are made, and with it the call.
    let values =
        stream::unfold(0_i64, move |number| std::future::ready((!done()).then_some((number, number + 1))));
    let call = client.call("test", "echo").resume().input("input", values);
    let mut events = within(call.open::<i64>()).await.unwrap().events();
    cuts.lock().unwrap().most = CUTS;
    // The next attempt is made at once, not after the wait that grows with attempts that were cut.
    let (mut changes, online) = (client.status_changes(), client.clone());
    let hurrying = tokio::spawn(async move {
        while let Some(status) = changes.next().await {
            if matches!(status, Status::Waiting { .. }) {
                online.report_online();
            }
        }
    });
    let (mut next, mut resumed) = (0, 0);
    while let Some(event) = within(events.next()).await {
        match event.unwrap() {
            Event::Value(value) => {
                assert_eq!(value, next);
                next += 1;
            }
            Event::Resumed(Resumption::Exact) => resumed += 1,
            other => panic!("{other:?} after {next}"),
        }
        random.dawdle().await;
    }
    hurrying.abort();
    println!("{next} values, {resumed} resumptions");
    assert_eq!(cuts.lock().unwrap().cuts, CUTS);
    assert!(next > 0 && resumed > CUTS / 8, "{resumed}");
    assert_eq!(server.streams.parked(), 0);
}
