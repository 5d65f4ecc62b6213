//! Cases about PostgreSQL alone: pieces of a frame, a server without room for more, and a listener that holds the queue.

use std::{net::SocketAddr, time::Duration};

use broker::{ErrorKind, Event, Scope};
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    steps::{post, receives},
    wait::{LIMIT, eventually, fence, next_event, next_message, until, within},
};
use broker_core::{BrokerUrl, driver::Inspection};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    cases::backend_common::{connect, open, refusal},
    harness::postgres::PostgresHarness,
    servers::postgres::{self, Postgres, config::PostgresConfig},
};

pub(super) const CASES: &[Case] = &[
    case!(equal_pieces_of_a_payload_arrive_all, [1, 11]),
    case!(a_server_without_a_connection_left_is_unavailable_until_there_is_one, [6, 10])
        .needs(&[Need::Process]),
    case!(a_listener_that_does_not_read_is_ended_and_frees_the_queue, [4, 5]).needs(&[Need::Process]),
    case!(a_queue_that_is_held_is_reported, [10]).needs(&[Need::Process]),
    case!(a_full_queue_fails_posts_for_certain_and_loses_nothing_in_silence, [4, 6]),
    case!(an_applications_transaction_may_be_rolled_back_beside_ours, [2]),
];

/// The server delivers one of two equal notifications of a transaction; two frames of a batch, and the pieces within
/// each, are equal here but for their counters.
async fn equal_pieces_of_a_payload_arrive_all(h: &dyn Harness) -> Outcome {
    let (one, two) = (h.node().await?, h.node().await?);
    let mut received = two.subscribe("news").await?;
    let zeros = vec![0_u8; 100_000];
    let posts = (0..4).map(|_| one.publish("news", zeros.clone(), Scope::Global));
    for outcome in within("the posts", futures_util::future::join_all(posts)).await? {
        outcome?;
    }
    for n in 0..4 {
        let message = next_message(&mut received).await?;
        let payload = message.payload()?;
        assert!(payload == zeros, "post {n} has {} bytes", payload.len());
    }
    fence(&one, &mut received).await?;
    // By another program, in one transaction too.
    h.publish_raw("news", &zeros).await?;
    h.publish_raw("news", &zeros).await?;
    for _ in 0..2 {
        // It is no frame of ours; that it is there is enough.
        let other = next_event(&mut received).await?;
        assert!(matches!(other, Event::Malformed(_)), "{other:?}");
    }
    Ok(())
}

async fn a_server_without_a_connection_left_is_unavailable_until_there_is_one(h: &dyn Harness) -> Outcome {
    let config = PostgresConfig::default()
        .setting("max_connections", "6")
        .setting("superuser_reserved_connections", "3")
        .setting("max_wal_senders", "0");
    let server = postgres::start(config).await?;
    let url = server.url_at(server.addr());
    let first = connect(h, &url).await?;
    let error = refusal(h, &url, &server.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_transient() && error.message().contains("max_connections"), "{error}");
    let second = open(h, &url)?;
    until("two attempts", || second.health().failures >= 2).await?;
    let mut received = first.subscribe("news").await?;
    fence(&first, &mut received).await?;
    assert_eq!(first.health().links, 1);
    first.close().await;
    within("the second link", second.ready()).await??;
    Ok(())
}

/// A queue of which less is used is empty.
const FREE: f64 = 0.000_5;

/// How much of the queue is used.
async fn usage(server: &dyn Postgres) -> Result<f64, String> {
    let usage = server.control().ask("app", "SELECT pg_notification_queue_usage()").await?;
    usage.parse().map_err(|_| format!("no number: {usage}"))
}

/// Carries one kind of connections to a server until they are held: then it reads nothing more, and closes
/// nothing.
async fn holding(server: SocketAddr, hold: watch::Receiver<bool>) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    let addr = listener.local_addr().map_err(|error| error.to_string())?;
    // Ends with the case's runtime.
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut hold = hold.clone();
            tokio::spawn(async move {
                let Ok(mut upstream) = TcpStream::connect(server).await else { return };
                tokio::select! {
                    biased;
                    _ = hold.wait_for(|hold| *hold) => {}
                    _ = copy_bidirectional(&mut socket, &mut upstream) => return,
                }
                std::future::pending::<()>().await;
            });
        }
    });
    Ok(addr)
}

/// It would hold the queue of all for ever; the driver has the server give it half a minute.
async fn a_listener_that_does_not_read_is_ended_and_frees_the_queue(h: &dyn Harness) -> Outcome {
    let server = postgres::start(PostgresConfig::default()).await?;
    let (hold, held) = watch::channel(false);
    let slow = connect(h, &server.url_at(holding(server.addr(), held).await?)).await?;
    let _received = slow.subscribe("news").await?;
    let control = server.control();
    let listening = "SELECT pid FROM pg_stat_activity WHERE application_name = 'broker receive'";
    let pid = control.ask("app", listening).await?;
    let quick = connect(h, &server.url_at(server.addr())).await?;
    hold.send_replace(true);
    // More than fits into what the operating system keeps for it.
    for _ in 0..60 {
        quick.publish("news", vec![7; 500_000], Scope::Global).await?;
    }
    let used = usage(&*server).await?;
    assert!(used > FREE, "nothing holds the queue: {used}");
    let there = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    eventually("the server to end the connection that is not read", 2 * LIMIT, || async {
        let count = control.ask("app", &there).await?;
        if count == "0" { Ok(()) } else { Err("it is there".to_owned()) }
    })
    .await?;
    eventually("the queue to be empty", LIMIT, || async {
        post(&quick, "other", "x").await?;
        let used = usage(&*server).await?;
        if used < FREE { Ok(()) } else { Err(format!("{used}")) }
    })
    .await?;
    assert!(quick.health().is_connected());
    Ok(())
}

/// A session of another program that listens, and is in a transaction, holds the queue of all.
async fn a_queue_that_is_held_is_reported(h: &dyn Harness) -> Outcome {
    let server = postgres::start(PostgresConfig::default()).await?;
    let url = server.url_at(server.addr());
    let (client, connection) =
        tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    // Two calls: statements of one call are one transaction, and LISTEN would wait for its end.
    client.batch_execute("LISTEN anything").await?;
    client.batch_execute("BEGIN; SELECT 1").await?;
    // A third of a gigabyte of eight: in one transaction it takes seconds.
    let fill =
        "SELECT count(pg_notify('unused', lpad(n::text, 7900, 'x'))) FROM generate_series(1, 60000) AS n";
    server.control().run("app", fill).await?;
    let used = usage(&*server).await?;
    assert!(used >= 0.05, "{used}");
    let parsed = BrokerUrl::parse(&url)?;
    let driver = (h.backend().open)(&parsed)?;
    let report = Inspection::of(&*driver, &h.options()).await?;
    let queue = report.warnings.iter().find(|warning| warning.what.contains("queue of notifications"));
    assert!(queue.is_some(), "{report:?}");
    client.batch_execute("COMMIT").await?;
    let node = connect(h, &url).await?;
    eventually("the warning to go", Duration::from_secs(60), || async {
        post(&node, "news", "x").await?;
        let report = Inspection::of(&*driver, &h.options()).await.map_err(|error| error.to_string())?;
        if report.warnings.is_empty() { Ok(()) } else { Err(format!("{:?}", report.warnings)) }
    })
    .await?;
    Ok(())
}

/// Lets every commit with a notification fail as with a full queue, once it [is full](FILL): after its statement has
/// succeeded. The real queue has eight gigabytes. It has to be there before a link is, which prepares its statements.
const BOUNDED: &str = "
ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_with_room;
CREATE TABLE public.posted ();
CREATE TABLE public.full_queue ();
CREATE FUNCTION public.check_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM public.full_queue) THEN
    RAISE 'too many notifications in the NOTIFY queue' USING ERRCODE = '54000';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON public.posted DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION public.check_room();
CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE sql SECURITY DEFINER AS
  'INSERT INTO public.posted DEFAULT VALUES; SELECT pg_catalog.pg_notify_with_room($1, $2)';
GRANT SELECT ON public.full_queue TO PUBLIC";
const FILL: &str = "INSERT INTO public.full_queue DEFAULT VALUES";
const MAKE_ROOM: &str = "TRUNCATE public.full_queue";

async fn a_full_queue_fails_posts_for_certain_and_loses_nothing_in_silence(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    postgres.run(BOUNDED).await?;
    let (one, two) = (h.node().await?, h.node().await?);
    let mut received = two.subscribe("news").await?;
    fence(&one, &mut received).await?;
    postgres.run(FILL).await?;
    for n in 0..3 {
        let error =
            within("an answer", one.publish("news", format!("no room {n}"), Scope::Global)).await?.err();
        let error = error.ok_or("a post that the queue has no room for succeeded")?;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.is_transient() && error.message().contains("queue of notifications"), "{error}");
    }
    postgres.run(MAKE_ROOM).await?;
    // The first message after them: what failed was not sent, no gap says that it may have been, and the links are the same.
    post(&one, "news", "room").await?;
    receives(&mut received, "room").await?;
    fence(&two, &mut received).await?;
    assert_eq!((one.health().links, two.health().links), (1, 1));
    Ok(())
}

/// What others notify in the same database, on channels of the same names or not, is not ours.
async fn an_applications_transaction_may_be_rolled_back_beside_ours(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let node = h.node().await?;
    let mut received = node.subscribe("news").await?;
    let all =
        (0..64).map(|n| format!("SELECT pg_notify('broker_{n}', 'hello')")).collect::<Vec<_>>().join("; ");
    postgres.run(&format!("BEGIN; {all}; ROLLBACK; {all}; NOTIFY news, 'hello'")).await?;
    fence(&node, &mut received).await?;
    // A link that was given up would not confirm this.
    let mut other = node.subscribe("other").await?;
    fence(&node, &mut other).await?;
    fence(&node, &mut received).await?;
    assert!(node.health().is_connected() && node.health().links == 1);
    Ok(())
}
