//! Many values in each direction, consumed at random: no sender is ever further ahead than its window.

use std::sync::{Arc, Mutex};

use futures_util::stream;
use serde_json::Value;

use crate::{
    Random, Server,
    proxy::{To, Verdict, Watch, client},
    within,
};

/// What each end may be ahead of the other's word.
#[derive(Default)]
struct Ahead {
    window: u64,
    sent: u64,
    told: u64,
    /// The furthest that it was.
    most: u64,
    violations: u64,
}

impl Ahead {
    fn sends(&mut self) {
        self.sent += 1;
        self.most = self.most.max(self.sent - self.told);
        self.violations += u64::from(self.sent > self.told + self.window);
    }
}

/// Counts what goes by. Both ends know less of each other than it does, so that what it finds too much was too much.
#[derive(Default)]
struct Counts {
    out: Ahead,
    input: Ahead,
}

impl Watch for Counts {
    fn frame(&mut self, to: To, text: &str) -> Verdict {
        // Fixed members: each end writes them in this order.
        if text.starts_with(r#"{"type":"msm","#) {
            let (is_input, ahead) = match to {
                To::Server => (true, &mut self.input),
                To::Client => (false, &mut self.out),
            };
            assert_eq!(text.contains(r#""p":"input""#), is_input, "{text}");
            ahead.sends();
            return Verdict::Passes;
        }
        let frame: Value = serde_json::from_str(text).unwrap();
        let data = &frame["data"];
        match frame["type"].as_str().unwrap() {
            "omsc" => self.out.window = data["x"]["w"].as_u64().unwrap(),
            "omsr" => self.input.window = data["x"]["w"]["input"].as_u64().unwrap(),
            "flow" => {
                let ahead = if to == To::Server { &mut self.out } else { &mut self.input };
                let got = data["got"].as_u64().unwrap();
                assert!(got <= ahead.sent, "{got} of {} were consumed", ahead.sent);
                ahead.told = ahead.told.max(got);
            }
            _ => {}
        }
        Verdict::Passes
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_end_is_further_ahead_than_its_window() {
    echo(30_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes: cargo test -p broker-streams-client --release --test stress -- --ignored million"]
async fn no_end_is_further_ahead_than_its_window_over_a_million_values_each_way() {
    echo(1_000_000).await;
}

/// Sends so many values, which come back.
async fn echo(count: i64) {
    let mut random = Random::new();
    let server = Server::start().await;
    let counts = Arc::new(Mutex::new(Counts::default()));
    let window = 1 + random.below(64) as u32;
    let client =
        client(&server.address, Arc::<Mutex<Counts>>::clone(&counts)).window(window).build().unwrap();
    let pace = random.split();
    let values = stream::unfold((0, pace), move |(number, mut pace)| async move {
        pace.dawdle().await;
        (number < count).then_some((number, (number + 1, pace)))
    });
    let call = client.call("test", "echo").input("input", values);
    let mut echoed = within(call.open::<i64>()).await.unwrap();
    for number in 0..count {
        assert_eq!(within(echoed.next()).await.unwrap().unwrap(), number);
        random.dawdle().await;
    }
    assert!(within(echoed.next()).await.is_none());
    let counts = counts.lock().unwrap();
    for (name, ahead, window) in [("out", &counts.out, u64::from(window)), ("input", &counts.input, 64)] {
        println!(
            "{name}: {} values, at most {} ahead of a window of {}",
            ahead.sent, ahead.most, ahead.window
        );
        assert_eq!((ahead.violations, ahead.window, ahead.sent), (0, window, count as u64), "{name}");
        // Else nothing held the sender back, and nothing was shown.
        assert_eq!(ahead.most, window, "{name} has filled its window");
    }
}
