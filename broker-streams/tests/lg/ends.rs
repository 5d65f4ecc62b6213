//! Ends: of a connection by its client, and of all when the server stops.

use std::time::Duration;

use broker_streams::{Any, Endpoint, Failure, Peer, StreamingEndpoint, StreamsBuilder};
use serde_json::json;

use crate::{
    server::{Notes, Test, echoed, say},
    support::soon,
};

#[tokio::test]
async fn lg_11_a_client_that_goes_is_cleaned_up_behind() {
    for leaves_a_word in [true, false] {
        let test = Test::start().await;
        let mut raw = test.connect("ada").await;
        echoed(&mut raw, "login", 1).await;
        // Who holds a session for longer than its connection does not keep it open.
        for endpoint in ["test", "login"] {
            say(&mut raw, endpoint, "keep").await;
        }
        echoed(&mut raw, "login", 2).await;
        if leaves_a_word {
            raw.0.close(None).await.unwrap();
            while raw.next_text().await.is_some() {}
        }
        drop(raw);
        for endpoint in ["test", "login", "module.test"] {
            for note in ["closed, sends: false", "dropped", "session over"] {
                test.notes.wait(&format!("{endpoint} {note}")).await;
            }
        }
        soon("the end", test.server.streams.close()).await;
        assert_eq!(test.notes.count("admin closed, sends: false"), 0);
        assert_eq!(test.notes.count("login closed, sends: false"), 1);
        assert_eq!(test.notes.count("login dropped"), 1);
    }
}

#[tokio::test]
async fn the_anonymous_session_of_a_connection_ends_with_it() {
    let test = Test::start().await;
    let mut raw = test.connect("").await;
    say(&mut raw, "test", "keep").await;
    echoed(&mut raw, "test", 1).await;
    drop(raw);
    test.notes.wait("test session over").await;
}

#[tokio::test]
async fn what_a_client_has_sent_before_it_went_is_handled() {
    let test = Test::start().await;
    let mut raw = test.connect("").await;
    say(&mut raw, "test", "wait").await;
    test.notes.wait("waiting").await;
    for note in ["first", "second"] {
        say(&mut raw, "test", note).await;
    }
    raw.0.close(None).await.unwrap();
    while raw.next_text().await.is_some() {}
    test.open.send(true).unwrap();
    test.notes.wait("test closed, sends: false").await;
    let notes = test.notes.all();
    let place = |note: &str| notes.iter().position(|noted| noted == note);
    assert!(place("first") < place("second") && place("second") < place("test closed, sends: false"));
    assert!(place("first").is_some());
}

#[tokio::test]
async fn a_message_that_is_handled_for_ever_ends_with_its_client() {
    let test = Test::start().await;
    let mut raw = test.connect("").await;
    say(&mut raw, "test", "wait").await;
    test.notes.wait("waiting").await;
    drop(raw);
    test.notes.wait("test dropped").await;
    test.notes.wait("test session over").await;
}

#[tokio::test]
async fn lg_17_and_18_connections_are_closed_when_the_server_stops() {
    for count in [1, 5] {
        let test = Test::start().await;
        let mut raws = Vec::new();
        for _ in 0..count {
            let mut raw = test.connect("").await;
            echoed(&mut raw, "test", 1).await;
            raws.push(raw);
        }
        // One that is busy does not keep the server.
        say(&mut raws[0], "test", "wait").await;
        test.notes.wait("waiting").await;
        assert_eq!(test.server.streams.sockets(), count);
        let stop = soon("the drain", test.server.streams.drain(Duration::from_secs(2)));
        let closed = async {
            for raw in &mut raws {
                assert_eq!(raw.closed().await.map(|frame| u16::from(frame.code)), Some(1012));
            }
        };
        tokio::join!(stop, closed);
        assert_eq!(test.server.streams.sockets(), 0);
        assert_eq!(test.notes.count("test closed, sends: false"), count);
    }
}

#[tokio::test]
async fn a_broker_that_is_closed_ends_its_connections() {
    for key in ["", "ada"] {
        let test = Test::start().await;
        let mut raw = test.connect(key).await;
        echoed(&mut raw, "test", 1).await;
        test.broker.close().await;
        assert_eq!(raw.closed().await.map(|frame| u16::from(frame.code)), Some(1012), "{key}");
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a panic in `Drop`, as this test wants it");
    }
}

/// Holds what panics when it is dropped: for as long as the connection lives, or while it handles a message.
struct Explosive(Notes);

impl StreamingEndpoint for Explosive {
    type User = Option<Bomb>;

    async fn stream_opened(&self, _: &Peer) -> Result<Option<Bomb>, Failure> {
        Ok(None)
    }

    async fn handle_stream_message(
        &self,
        _: &Peer,
        kept: &mut Option<Bomb>,
        message: Any,
    ) -> Result<(), Failure> {
        let bomb = Bomb;
        if message.is::<String>() {
            self.0.add("exploding");
            std::future::pending::<()>().await;
        }
        *kept = Some(bomb);
        Ok(())
    }
}

#[tokio::test]
async fn what_panics_when_it_is_dropped_takes_the_end_from_no_other_endpoint() {
    for (value, by_client) in
        [(json!("held"), true), (json!("held"), false), (json!(1), true), (json!(1), false)]
    {
        let explosive = |streams: StreamsBuilder, notes: Notes| {
            streams.endpoint(Endpoint::new("explosive").streaming(Explosive(notes)))
        };
        let test = Test::with(explosive).await;
        let mut raw = test.connect("").await;
        say(&mut raw, "test", "keep").await;
        echoed(&mut raw, "test", 1).await;
        say(&mut raw, "explosive", value.clone()).await;
        if value.is_string() {
            test.notes.wait("exploding").await;
        } else {
            echoed(&mut raw, "test", 2).await;
        }
        if by_client {
            drop(raw);
        } else {
            test.broker.close().await;
            assert_eq!(raw.closed().await.map(|frame| u16::from(frame.code)), Some(1012), "{value}");
        }
        for note in ["closed, sends: false", "session over"] {
            test.notes.wait(&format!("test {note}")).await;
        }
        soon("the end", test.server.streams.close()).await;
    }
}

/// Takes for ever to close, and holds what panics when it is dropped then.
struct Endless;

impl StreamingEndpoint for Endless {
    type User = Bomb;

    async fn stream_opened(&self, _: &Peer) -> Result<Bomb, Failure> {
        Ok(Bomb)
    }

    async fn handle_stream_message(&self, _: &Peer, _: &mut Bomb, _: Any) -> Result<(), Failure> {
        Ok(())
    }

    async fn stream_closed(&self, _: &Peer, bomb: Bomb) {
        let _bomb = bomb;
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn what_panics_when_the_time_to_close_is_over_keeps_no_session_open() {
    let endless =
        |streams: StreamsBuilder, _: Notes| streams.endpoint(Endpoint::new("endless").streaming(Endless));
    let test = Test::with(endless).await;
    let mut raw = test.connect("ada").await;
    say(&mut raw, "test", "keep").await;
    echoed(&mut raw, "test", 1).await;
    drop(raw);
    test.notes.wait("test session over").await;
}
