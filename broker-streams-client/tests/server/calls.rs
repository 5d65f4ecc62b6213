//! Calls of methods of every shape.

use std::sync::Arc;

use broker_streams_client::{Again, CallError, Cause, Client, Failure, OpenResult};
use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::{
    methods::{Mixed, NoSuchThing, SimpleData, nothing_like, server},
    within,
};

async fn all<T: broker_streams::Value>(
    call: broker_streams_client::CallBuilder,
) -> Vec<Result<T, CallError>> {
    within(async { call.open::<T>().await.unwrap().collect().await }).await
}

fn numbers(items: Vec<Result<i64, CallError>>) -> Vec<i64> {
    items.into_iter().map(Result::unwrap).collect()
}

fn ints_of(client: &Client, count: i64) -> broker_streams_client::CallBuilder {
    client.call("test", "ints").args(&json!({"count": count})).unwrap()
}

#[tokio::test]
async fn cl_1_many_calls_in_quick_succession_all_finish() {
    let (server, _) = server().await;
    for client in server.clients() {
        let calls = (0..100).map(|count| all::<i64>(ints_of(&client, count)));
        let all = within(futures_util::future::join_all(calls)).await;
        for (count, items) in (0..).zip(all) {
            assert_eq!(numbers(items), (0..count).collect::<Vec<_>>());
        }
        for _ in 0..100 {
            assert_eq!(numbers(all_of(&client).await), [0]);
        }
    }
}

async fn all_of(client: &Client) -> Vec<Result<i64, CallError>> {
    all(ints_of(client, 1)).await
}

#[tokio::test]
async fn cl_3_and_4_as_many_ints_as_the_argument_says_within_any_window() {
    let (server, _) = server().await;
    for window in [1, 2, 3, 64] {
        let client = server.client().window(window).build().unwrap();
        assert_eq!(numbers(all(ints_of(&client, 1000)).await), (0..1000).collect::<Vec<_>>());
    }
    let client = server.client().plain().build().unwrap();
    assert_eq!(numbers(all(ints_of(&client, 1000)).await), (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn cl_6_a_typed_failure_arrives_typed() {
    let (server, _) = server().await;
    for client in server.clients() {
        let items = all::<i64>(client.call("test", "failsTyped")).await;
        assert!(matches!(items[0], Ok(1)));
        let Err(CallError::Fault(fault)) = &items[1] else { panic!("{items:?}") };
        assert_eq!(fault.read::<NoSuchThing>().unwrap().unwrap(), nothing_like("two"));
        assert_eq!(items.len(), 2);
    }
}

#[tokio::test]
async fn cl_7_and_19_and_21_an_untyped_failure_is_an_error_without_its_text() {
    let (server, _) = server().await;
    for client in server.clients() {
        let items = all::<i64>(client.call("test", "failsFirst")).await;
        let single = client.call("test", "singleFails").input("input", stream::pending::<i64>());
        let void = client.call("test", "void").input("input", stream::iter([2_i64]));
        let errors = [
            items.into_iter().next().unwrap().unwrap_err(),
            within(single.single::<i64>()).await.unwrap_err(),
            within(void.void()).await.unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(error, CallError::Closed { why: None | Some(Cause::Internal), .. }),
                "{error:?}"
            );
            assert!(!format!("{error:?}{error}").contains("secret"));
        }
    }
}

#[tokio::test]
async fn cl_17_and_22_and_48_single_and_void_methods() {
    let (server, _) = server().await;
    for client in server.clients() {
        let call = client.call("test", "first").input("input", stream::iter([5_i64, 6]));
        assert_eq!(within(call.single::<i64>()).await.unwrap(), 5);
        let call = client.call("test", "void").input("input", stream::iter([3_i64]));
        within(call.void()).await.unwrap();
        let call = client.call("test", "void").input("input", stream::iter([1_i64]));
        let error = within(call.void()).await.unwrap_err();
        let CallError::Fault(fault) = error else { panic!("{error:?}") };
        assert_eq!(fault.read::<NoSuchThing>().unwrap().unwrap(), nothing_like("one"));
    }
}

#[tokio::test]
async fn a_method_without_streams_is_for_clients_of_the_extension() {
    let (server, _) = server().await;
    let [x1, plain] = server.clients();
    let call = |client: &Client| client.call("test", "plainCall").args(&json!({"count": 1})).unwrap();
    assert_eq!(within(call(&x1).single::<i64>()).await.unwrap(), 2);
    let refused = within(call(&plain).single::<i64>()).await;
    assert!(matches!(refused, Err(CallError::Refused(OpenResult::EndpointNotFound))));
}

#[tokio::test]
async fn cl_23_and_24_and_26_and_47_inputs_come_back() {
    let (server, _) = server().await;
    for client in server.clients() {
        let sent: Vec<_> = (0..500)
            .map(|num| if num % 2 == 0 { Mixed::Number(num) } else { Mixed::Simple(SimpleData { num }) })
            .collect();
        let call = client.call("test", "mixed").input("input", stream::iter(sent.clone()));
        let back: Vec<_> = all::<Mixed>(call).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(back, sent);
        let call = client
            .call("test", "union")
            .input("a", stream::iter(0..100_i64))
            .input("b", stream::iter(100..200_i64));
        let mut back = numbers(all(call).await);
        back.sort_unstable();
        assert_eq!(back, (0..200).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn cl_28_a_failure_of_an_input_is_seen_by_the_server_typed_or_not() {
    let (server, _) = server().await;
    for client in server.clients() {
        let untyped = stream::iter([Ok(1_i64), Err(Failure::internal("a secret of the client"))]);
        let call = client.call("test", "listens").try_input("input", untyped);
        assert_eq!(within(call.single::<String>()).await.unwrap(), "1 failed");
        let typed = stream::iter([Ok(1_i64), Err(nothing_like("two"))]);
        let call = client.call("test", "listens").try_input("input", typed);
        assert_eq!(within(call.single::<String>()).await.unwrap(), "1 no two failed");
        let panics = stream::iter([1_i64, 2])
            .map(|number| if number == 2 { panic!("an input panics") } else { number });
        let call = client.call("test", "listens").input("input", panics);
        assert_eq!(within(call.single::<String>()).await.unwrap(), "1 failed");
    }
}

#[tokio::test]
async fn cl_30_one_call_finished_and_another_still_transmits() {
    let (server, gate) = server().await;
    for client in server.clients() {
        let mut waiting = within(client.call("test", "waits").open::<i64>()).await.unwrap();
        assert_eq!(within(waiting.next()).await.unwrap().unwrap(), 1);
        assert_eq!(numbers(all(ints_of(&client, 3)).await), [0, 1, 2]);
        gate.notify_one();
        assert_eq!(within(waiting.next()).await.unwrap().unwrap(), 2);
        assert!(within(waiting.next()).await.is_none());
    }
}

#[tokio::test]
async fn cl_54_and_55_credentials_reach_the_server_unless_the_call_is_anonymous() {
    let (server, _) = server().await;
    for builder in [server.client(), server.client().plain()] {
        let client = builder.credentials(|| async { Some("Bearer good".to_owned()) }).build().unwrap();
        within(client.call("closed", "who").void()).await.unwrap();
        let refused = within(client.call("closed", "who").anonymous().void()).await;
        assert!(matches!(refused, Err(CallError::Refused(OpenResult::AuthenticationFailed))));
    }
}

#[tokio::test]
async fn cookies_of_the_upgrade_are_shown_for_calls_that_are_not_anonymous() {
    let (server, _) = server().await;
    let with_cookie = |sid: &str| server.client().header("cookie", &format!("sid={sid}")).cookies();
    for builder in [with_cookie("good"), with_cookie("good").plain()] {
        let client = builder.build().unwrap();
        within(client.call("closed", "who").void()).await.unwrap();
        let refused = within(client.call("closed", "who").anonymous().void()).await;
        assert!(matches!(refused, Err(CallError::Refused(OpenResult::AuthenticationFailed))));
    }
    let refused = within(with_cookie("bad").build().unwrap().call("closed", "who").void()).await;
    assert!(matches!(refused, Err(CallError::Refused(OpenResult::AuthenticationFailed))));
}

#[test]
fn a_header_that_cannot_be_sent_is_named_without_its_value() {
    for (name, value) in [("sec-websocket-key", "s3cret"), ("a b", "s3cret"), ("cookie", "s3cret\n")] {
        let error = Client::builder("ws://localhost/").header(name, value).build().unwrap_err().to_string();
        assert!(error.contains(name) && !error.contains("s3cret"), "{error}");
    }
    let builder = Client::builder("ws://localhost/").header("cookie", "s3cret");
    let shown = format!("{builder:?}");
    assert!(!format!("{shown} {:?}", builder.build().unwrap()).contains("s3cret"));
}

#[tokio::test]
async fn a_revocation_ends_the_calls_of_its_user_alone_and_says_to_sign_in() {
    let (server, gate) = server().await;
    for (builder, is_x1) in [(server.client(), true), (server.client().plain(), false)] {
        let client = builder.credentials(|| async { Some("Bearer good".to_owned()) }).build().unwrap();
        // To be resumed, but not without a new login.
        let mut revoked = within(client.call("closed", "waits").resume().open::<i64>()).await.unwrap();
        let mut other = within(client.call("test", "waits").anonymous().open::<i64>()).await.unwrap();
        for stream in [&mut revoked, &mut other] {
            assert_eq!(within(stream.next()).await.unwrap().unwrap(), 1);
        }
        within(server.broker.revoke(broker::Revocation::user("anna"))).await.unwrap();
        let error = within(revoked.next()).await.unwrap().unwrap_err();
        let (why, again) = if is_x1 { (Some(Cause::Revoked), Again::SignIn) } else { (None, Again::Never) };
        assert!(
            matches!(&error, CallError::Closed { why: w, again: a } if (*w, *a) == (why, again)),
            "{error:?}"
        );
        gate.notify_one();
        assert_eq!(within(other.next()).await.unwrap().unwrap(), 2);
    }
}

#[tokio::test]
async fn ws_80_a_server_that_stops_ends_its_calls_and_a_call_to_the_next_works() {
    let (first, _) = server().await;
    let (second, _) = server().await;
    let address = Arc::new(std::sync::Mutex::new(first.address.clone()));
    let current = Arc::clone(&address);
    let connect = move || {
        let address = (*current.lock().unwrap()).clone();
        async move { tokio::net::TcpStream::connect(address).await }
    };
    let client = Client::builder("ws://server/v1/websocket").connector(connect).build().unwrap();
    let mut waiting = within(client.call("test", "waits").open::<i64>()).await.unwrap();
    assert_eq!(within(waiting.next()).await.unwrap().unwrap(), 1);
    within(first.streams.close()).await;
    let error = within(waiting.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::SocketLost | CallError::Closed { .. }), "{error:?}");
    (*address.lock().unwrap()).clone_from(&second.address);
    assert_eq!(numbers(all_of(&client).await), [0]);
}

#[tokio::test]
async fn neither_a_dropped_call_nor_one_whose_deadline_is_over_keeps_the_socket() {
    let (server, _) = server().await;
    let client = server.client().build().unwrap();
    drop(within(client.call("test", "waits").open::<i64>()).await.unwrap());
    let call = client.call("test", "waits").deadline(std::time::Duration::from_millis(200));
    let items = all::<i64>(call).await;
    let error = items.into_iter().next_back().unwrap().unwrap_err();
    assert!(matches!(error, CallError::Closed { why: Some(Cause::Deadline), .. }), "{error:?}");
    drop(client);
    within(async {
        while server.streams.sockets() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
